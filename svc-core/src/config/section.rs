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
        let entries = match value {
            Some(Value::Map(entries)) => entries.as_slice(),
            None | Some(Value::Null) => &[],
            Some(other) => {
                let field = prefix.trim_end_matches('.').to_string();
                remarks.invalid(field, "an object", &other.words());
                &[]
            }
        };
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
        match self.field(key)? {
            Value::Bool(value) => Some(*value),
            other => {
                remarks.invalid(self.path(key), "true or false", &other.words());
                None
            }
        }
    }

    /// A number within bounds.
    pub(super) fn integer(
        &self,
        remarks: &mut Remarks,
        key: &str,
        bounds: core::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        match self.field(key)? {
            Value::Integer(value) if bounds.contains(value) => Some(*value),
            other => {
                let wanted = format!("{} to {}", bounds.start(), bounds.end());
                remarks.invalid(self.path(key), &wanted, &other.words());
                None
            }
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self, remarks: &mut Remarks, key: &str) -> Option<&'v str> {
        match self.field(key)? {
            Value::Text(text) => (!text.is_empty()).then_some(text),
            other => {
                remarks.invalid(self.path(key), "a string", &other.words());
                None
            }
        }
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
        let members = match self.field(key) {
            None => return Vec::new(),
            Some(Value::List(members)) => members,
            Some(other) => {
                remarks.invalid(self.path(key), "a list", &other.words());
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let path = format!("{}{key}[{index}]", self.prefix);
            match member {
                Value::Text(text) => texts.push((path, text.as_str())),
                other => remarks.invalid(path, "a string", &other.words()),
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
