//! Which texts the API server accepts where a DNS name is made of them.

use super::name::MAX_LABEL;

/// The rule that a text of an object must obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameRule {
    /// `metadata.name` of a Service before KEP-5311: an RFC 1035 label, first a letter.
    StrictService,
    /// `metadata.name` of a Service with KEP-5311: an RFC 1123 label.
    Service,
    /// `metadata.name` of a Namespace: an RFC 1123 label.
    Namespace,
    /// `hostname` or `subdomain` of a Pod, `hostname` of an endpoint: an RFC 1123 label.
    Hostname,
    /// `name` of a port of a Service or EndpointSlice: an RFC 1123 label.
    ServicePort,
    /// `name` of a port of a container: an IANA service name, at most 15 octets.
    ContainerPort,
    /// `metadata.name` of a Pod: an RFC 1123 subdomain, whose labels have no limit of their own.
    Pod,
    /// `spec.externalName`: an RFC 1123 subdomain, one dot at the end is allowed.
    ExternalName,
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// There is no text, or two dots with nothing between them.
    #[error("must not be empty")]
    Empty,
    /// There are more octets than the rule allows.
    #[error("must be no more than {0} characters")]
    TooLong(usize),
    /// An octet is none of those that the rule allows.
    #[error("must consist of lower case letters, digits and '-'")]
    Character,
    /// The first or last character is a dash, or another one that may not stand there.
    #[error("must start and end with a letter or digit")]
    Edge,
    /// The rule wants a letter: at the start, or anywhere.
    #[error("must have a letter, at the start where the rule says so")]
    Letter,
    /// Two dashes stand side by side.
    #[error("must not contain '--'")]
    DoubleDash,
}

impl NameRule {
    /// Checks a text.
    ///
    /// # Errors
    /// The first [`NameProblem`] found.
    pub fn check(self, text: &str) -> Result<(), NameProblem> {
        match self {
            Self::StrictService => match text.as_bytes() {
                [b'0'..=b'9', ..] => Err(NameProblem::Letter),
                other => label(other, MAX_LABEL),
            },
            Self::Service | Self::Namespace | Self::Hostname | Self::ServicePort => {
                label(text.as_bytes(), MAX_LABEL)
            }
            Self::ContainerPort => container_port(text.as_bytes()),
            Self::Pod => subdomain(text),
            Self::ExternalName => subdomain(text.strip_suffix('.').unwrap_or(text)),
        }
    }
}

fn label(text: &[u8], most: usize) -> Result<(), NameProblem> {
    let (Some(first), Some(last)) = (text.first(), text.last()) else {
        return Err(NameProblem::Empty);
    };
    if text.len() > most {
        return Err(NameProblem::TooLong(most));
    }
    let allowed = |c: &u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !text.iter().all(allowed) {
        return Err(NameProblem::Character);
    }
    match *first == b'-' || *last == b'-' {
        true => Err(NameProblem::Edge),
        false => Ok(()),
    }
}

fn subdomain(text: &str) -> Result<(), NameProblem> {
    /// Most octets of an RFC 1123 subdomain in the API.
    const MOST: usize = 253;
    if text.len() > MOST {
        return Err(NameProblem::TooLong(MOST));
    }
    text.split('.')
        .try_for_each(|part| label(part.as_bytes(), MOST))
}

fn container_port(text: &[u8]) -> Result<(), NameProblem> {
    label(text, 15)?;
    if !text.iter().any(u8::is_ascii_lowercase) {
        return Err(NameProblem::Letter);
    }
    match text.windows(2).any(|pair| pair == b"--") {
        true => Err(NameProblem::DoubleDash),
        false => Ok(()),
    }
}
