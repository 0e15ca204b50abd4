use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Arguments;
use core::net::IpAddr;
use core::str::FromStr;

use ipnet::IpNet;

use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::NamespacedName;
use crate::net::{Protocol, parse_cidr, parse_ip};
use crate::wire::field::{Field, Shape};
use crate::wire::quoted::quoted;

/// What was wrong with one object so far, and the readers of scalar fields that report it.
pub(super) struct Notes {
    kind: ObjectKind,
    pub(super) object: NamespacedName,
    list: Vec<Diagnostic>,
}

impl Notes {
    pub(super) fn new(kind: ObjectKind, object: NamespacedName) -> Self {
        Self {
            kind,
            object,
            list: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.list
    }

    pub(super) fn error(
        &mut self,
        field: Arguments<'_>,
        reason: DiagnosticReason,
        message: impl Into<String>,
    ) {
        let field = field.to_string();
        self.list.push(Diagnostic::error(
            self.kind,
            &self.object,
            field,
            reason,
            message,
        ));
    }

    pub(super) fn warning(
        &mut self,
        field: Arguments<'_>,
        reason: DiagnosticReason,
        message: impl Into<String>,
    ) {
        let field = field.to_string();
        let error = Diagnostic::error(self.kind, &self.object, field, reason, message);
        self.list.push(error.warning());
    }

    pub(super) fn required(&mut self, field: Arguments<'_>, message: &str) {
        self.error(field, DiagnosticReason::Required, message);
    }

    pub(super) fn invalid(&mut self, field: Arguments<'_>, wanted: &str, found: &str) {
        let message = format!("must be {wanted}, is {}", quoted(found));
        self.error(field, DiagnosticReason::Invalid, message);
    }

    pub(super) fn unsupported(&mut self, field: Arguments<'_>, known: &str, found: &str) {
        let message = format!("must be {known}, is {}", quoted(found));
        self.error(field, DiagnosticReason::NotSupported, message);
    }

    /// The value of a field; one of the wrong type is reported.
    pub(super) fn value<'f, T: Shape>(
        &mut self,
        field: &'f Field<T>,
        path: Arguments<'_>,
    ) -> Option<&'f T> {
        match field {
            Field::Value(value) => Some(value),
            Field::Unset => None,
            Field::Wrong(found) => {
                let message = format!("must be {}, is {found}", T::WORDS);
                self.error(path, DiagnosticReason::Invalid, message);
                None
            }
        }
    }

    /// A text that is not empty.
    pub(super) fn text<'f>(
        &mut self,
        field: &'f Field<String>,
        path: Arguments<'_>,
    ) -> Option<&'f str> {
        let text = self.value(field, path)?;
        (!text.is_empty()).then_some(text)
    }

    /// The members of a list with their positions; a missing or wrong one is reported.
    pub(super) fn members<'f, T: Shape>(
        &mut self,
        field: &'f Field<Vec<Field<T>>>,
        path: &str,
    ) -> Vec<(usize, &'f T)> {
        let Some(members) = self.value(field, format_args!("{path}")) else {
            return Vec::new();
        };
        let mut found = Vec::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            if matches!(member, Field::Unset) {
                let message = format!("must be {}, is null", T::WORDS);
                self.error(
                    format_args!("{path}[{index}]"),
                    DiagnosticReason::Invalid,
                    message,
                );
            }
            if let Some(value) = self.value(member, format_args!("{path}[{index}]")) {
                found.push((index, value));
            }
        }
        found
    }

    /// An address, in any form that clusters hold (B-053, B-054); blank ones are skipped (B-050).
    pub(super) fn ip(&mut self, text: &str, path: Arguments<'_>) -> Option<IpAddr> {
        if text.trim().is_empty() {
            return None;
        }
        let ip = parse_ip(text);
        if ip.is_none() {
            self.invalid(path, "an IP address", text);
        }
        ip
    }

    /// The addresses of a list that can be read.
    pub(super) fn ips(&mut self, field: &Field<Vec<Field<String>>>, path: &str) -> Vec<IpAddr> {
        let members = self.members(field, path);
        members
            .into_iter()
            .filter_map(|(i, text)| self.ip(text, format_args!("{path}[{i}]")))
            .collect()
    }

    /// A prefix; blanks around it are trimmed (B-052) and a blank one is skipped (B-050).
    pub(super) fn cidr(&mut self, text: &str, path: Arguments<'_>) -> Option<IpNet> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return None;
        }
        let cidr = parse_cidr(trimmed);
        if cidr.is_none() {
            self.invalid(path, "an address range such as 10.0.0.0/8", text);
        }
        cidr
    }

    /// The prefixes of a list that can be read.
    pub(super) fn cidrs(&mut self, field: &Field<Vec<Field<String>>>, path: &str) -> Vec<IpNet> {
        let members = self.members(field, path);
        members
            .into_iter()
            .filter_map(|(i, text)| self.cidr(text, format_args!("{path}[{i}]")))
            .collect()
    }

    /// A protocol, TCP when unset (B-029); `None` for an unknown one.
    pub(super) fn protocol(
        &mut self,
        field: &Field<String>,
        path: Arguments<'_>,
    ) -> Option<Protocol> {
        if let Field::Wrong(_) = field {
            self.value(field, path);
            return None;
        }
        let text = field.text();
        if text.is_empty() {
            return Some(Protocol::Tcp);
        }
        let Ok(protocol) = Protocol::from_str(text) else {
            self.unsupported(path, "TCP, UDP or SCTP", text);
            return None;
        };
        if protocol.to_string() != text {
            let message = format!("is read as {protocol}, is written {}", quoted(text));
            self.warning(path, DiagnosticReason::NotSupported, message);
        }
        Some(protocol)
    }
}
