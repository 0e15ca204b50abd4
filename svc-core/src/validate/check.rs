//! Collects the errors of one object.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

use super::error::FieldError;
use crate::diagnostic::DiagnosticReason;
use crate::wire::quoted::quoted;
use crate::wire::{Field, Shape};

/// The errors so far.
#[derive(Default)]
pub(super) struct Check {
    pub(super) errors: Vec<FieldError>,
}

impl Check {
    pub(super) fn required(&mut self, field: impl Display, detail: &str) {
        self.push(field, DiagnosticReason::Required, None, detail);
    }

    pub(super) fn forbidden(&mut self, field: impl Display, detail: &str) {
        self.push(field, DiagnosticReason::Forbidden, None, detail);
    }

    pub(super) fn invalid(&mut self, field: impl Display, value: impl Shown, detail: &str) {
        self.push(
            field,
            DiagnosticReason::Invalid,
            Some(value.shown()),
            detail,
        );
    }

    pub(super) fn duplicate(&mut self, field: impl Display, value: impl Shown) {
        self.push(field, DiagnosticReason::Duplicate, Some(value.shown()), "");
    }

    pub(super) fn not_supported(&mut self, field: impl Display, value: &str, known: &[&str]) {
        let detail = format!("one of {}", known.join(", "));
        let reason = DiagnosticReason::NotSupported;
        self.push(field, reason, Some(value.shown()), &detail);
    }

    pub(super) fn too_many(&mut self, field: impl Display, count: usize, most: usize) {
        let detail = format!("at most {most}");
        let reason = DiagnosticReason::TooMany;
        self.push(field, reason, Some(count.to_string()), &detail);
    }

    pub(super) fn warning(&mut self, field: impl Display, detail: &str) {
        self.push(field, DiagnosticReason::Suspicious, None, detail);
    }

    /// A value of the right type; one of another type is an error.
    pub(super) fn value<'f, T: Shape>(
        &mut self,
        field: &'f Field<T>,
        path: impl Display,
    ) -> Option<&'f T> {
        if let Field::Wrong(found) = field {
            let detail = format!("must be {}", T::WORDS);
            let reason = DiagnosticReason::Invalid;
            self.push(path, reason, Some(found.to_string()), &detail);
        }
        field.value()
    }

    /// A text; empty when there is none.
    pub(super) fn text<'f>(&mut self, field: &'f Field<String>, path: impl Display) -> &'f str {
        self.value(field, path).map_or("", String::as_str)
    }

    /// The texts of a list; `null` among them is an empty one.
    pub(super) fn texts<'f>(
        &mut self,
        field: &'f Field<Vec<Field<String>>>,
        path: &str,
    ) -> Vec<&'f str> {
        let members = self.value(field, path).map_or(&[][..], Vec::as_slice);
        let members = members.iter().enumerate();
        members
            .map(|(i, member)| self.text(member, format_args!("{path}[{i}]")))
            .collect()
    }

    fn push(
        &mut self,
        field: impl Display,
        reason: DiagnosticReason,
        value: Option<String>,
        detail: &str,
    ) {
        self.errors.push(FieldError {
            field: field.to_string(),
            reason,
            value,
            detail: detail.into(),
        });
    }
}

/// A value that an error shows.
pub(super) trait Shown {
    /// The value as JSON, of bounded length.
    fn shown(&self) -> String;
}

impl Shown for &str {
    fn shown(&self) -> String {
        quoted(self).to_string()
    }
}

impl Shown for i64 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for &[&str] {
    fn shown(&self) -> String {
        let members: Vec<String> = self.iter().map(Shown::shown).collect();
        format!("[{}]", members.join(", "))
    }
}
