//! One object of a configuration file, read field by field with remarks.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use ipnet::IpNet;

use super::duration;
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::NamespacedName;
use crate::net::{parse_cidr, parse_ip};
use crate::wire::Value;
use crate::wire::quoted::quoted;

/// Remarks about one configuration.
pub(super) struct Remarks {
    object: NamespacedName,
    pub(super) list: Vec<Diagnostic>,
}

/// An object of the file with the path that leads to it.
pub(super) struct Section<'v> {
    /// Empty, or `iptables.`.
    prefix: &'static str,
    entries: &'v [(String, Value)],
}

impl Remarks {
    pub(super) fn new() -> Self {
        Self {
            object: NamespacedName::new("", "kube-proxy"),
            list: Vec::new(),
        }
    }

    pub(super) fn error(&mut self, field: String, reason: DiagnosticReason, message: String) {
        let kind = ObjectKind::KubeProxyConfiguration;
        let error = Diagnostic::error(kind, &self.object, field, reason, message);
        self.list.push(error);
    }

    pub(super) fn invalid(&mut self, field: String, wanted: &str, found: &str) {
        let message = format!("must be {wanted}, is {found}");
        self.error(field, DiagnosticReason::Invalid, message);
    }

    pub(super) fn note(&mut self, field: String, reason: DiagnosticReason, message: &str) {
        self.error(field, reason, message.into());
        if let Some(last) = self.list.pop() {
            self.list.push(last.warning());
        }
    }
}

impl<'v> Section<'v> {
    /// Opens an object and reports its fields that are not known.
    pub(super) fn open(
        remarks: &mut Remarks,
        prefix: &'static str,
        value: Option<&'v Value>,
        known: &[&str],
    ) -> Self {
        let value = value.filter(|value| **value != Value::Null);
        let entries = value.and_then(Value::entries);
        if let (Some(other), None) = (value, entries) {
            let field = prefix.trim_end_matches('.').to_string();
            remarks.invalid(field, "an object", &other.words());
        }
        let entries = entries.unwrap_or_default();
        for (key, _) in entries
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
        {
            let reason = DiagnosticReason::UnknownField;
            remarks.note(
                format!("{prefix}{key}"),
                reason,
                "is not known and has no effect",
            );
        }
        Self { prefix, entries }
    }

    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A field; `null` counts as unset.
    pub(super) fn field(&self, key: &str) -> Option<&'v Value> {
        let (_, value) = self.entries.iter().find(|(k, _)| k == key)?;
        (*value != Value::Null).then_some(value)
    }

    pub(super) fn bool(&self, remarks: &mut Remarks, key: &str) -> Option<bool> {
        let value = self.field(key)?;
        let read = value.boolean();
        if read.is_none() {
            remarks.invalid(self.path(key), "true or false", &value.words());
        }
        read
    }

    /// A number within bounds.
    pub(super) fn integer(
        &self,
        remarks: &mut Remarks,
        key: &str,
        bounds: core::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.field(key)?;
        let read = value.integer().filter(|number| bounds.contains(number));
        if read.is_none() {
            let wanted = format!("{} to {}", bounds.start(), bounds.end());
            remarks.invalid(self.path(key), &wanted, &value.words());
        }
        read
    }

    /// A text that is not empty.
    pub(super) fn text(&self, remarks: &mut Remarks, key: &str) -> Option<&'v str> {
        let value = self.field(key)?;
        let read = value.text();
        if read.is_none() {
            remarks.invalid(self.path(key), "a string", &value.words());
        }
        read.filter(|text| !text.is_empty())
    }

    /// A duration of zero or more.
    pub(super) fn duration(&self, remarks: &mut Remarks, key: &str) -> Option<Duration> {
        let text = self.text(remarks, key)?;
        let nanoseconds = duration::nanoseconds(text).and_then(|n| u64::try_from(n).ok());
        if nanoseconds.is_none() {
            let wanted = "a duration such as 30s, not negative";
            remarks.invalid(self.path(key), wanted, &quoted(text).to_string());
        }
        nanoseconds.map(Duration::from_nanos)
    }

    /// A duration of which zero counts as unset, as the defaults of the file have it.
    pub(super) fn period(&self, remarks: &mut Remarks, key: &str) -> Option<Duration> {
        let duration = self.duration(remarks, key)?;
        (!duration.is_zero()).then_some(duration)
    }

    pub(super) fn ip(&self, remarks: &mut Remarks, key: &str) -> Option<IpAddr> {
        let text = self.text(remarks, key)?;
        let ip = parse_ip(text);
        if ip.is_none() {
            let found = quoted(text).to_string();
            remarks.invalid(self.path(key), "an IP address", &found);
        }
        ip
    }

    /// The texts of a list with their paths.
    pub(super) fn texts(&self, remarks: &mut Remarks, key: &str) -> Vec<(String, &'v str)> {
        let Some(value) = self.field(key) else {
            return Vec::new();
        };
        let Some(members) = value.members() else {
            remarks.invalid(self.path(key), "a list", &value.words());
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let path = format!("{}{key}[{index}]", self.prefix);
            match member.text() {
                Some(text) => texts.push((path, text)),
                None => remarks.invalid(path, "a string", &member.words()),
            }
        }
        texts
    }
}

/// The ranges among some texts; others are reported.
pub(super) fn cidrs(remarks: &mut Remarks, texts: Vec<(String, &str)>) -> Vec<IpNet> {
    let mut cidrs = Vec::new();
    for (path, text) in texts {
        match parse_cidr(text.trim()) {
            Some(cidr) => cidrs.push(cidr),
            None => {
                let wanted = "an address range such as 10.0.0.0/8";
                remarks.invalid(path, wanted, &quoted(text).to_string());
            }
        }
    }
    cidrs
}
