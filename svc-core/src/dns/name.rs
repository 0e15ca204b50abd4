use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt::{self, Write};
use core::hash::{Hash, Hasher};
use core::str::FromStr;

/// Most octets of a name: labels, their length octets and the root (RFC 1035 2.3.4).
pub const MAX_NAME: usize = 255;
/// Most octets of a label (RFC 1035 2.3.4).
pub const MAX_LABEL: usize = 63;

/// Why octets or a text are no DNS name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Two dots in a row, a dot at the start, or nothing at all.
    #[error("an empty label")]
    EmptyLabel,
    /// A label has more than 63 octets.
    #[error("a label of more than 63 octets")]
    LabelTooLong,
    /// The whole name has more than 255 octets.
    #[error("a name of more than 255 octets")]
    NameTooLong,
    /// A backslash is not followed by a character or three digits up to 255.
    #[error("a bad escape after a backslash")]
    BadEscape,
    /// The octets end before the name does, go on after it, or hold a compression pointer.
    #[error("not one whole uncompressed name")]
    NotOneName,
}

/// A borrowed absolute name: labels behind their length octets, closed by the root.
///
/// Names are octets, not text: whatever a query holds is compared as it is, with ASCII letters of
/// both cases equal (RFC 4343).
#[derive(Clone, Copy)]
pub struct NameRef<'a>(&'a [u8]);

/// An absolute name that is cheap to clone; keeps its spelling and compares without case.
#[derive(Clone)]
pub struct DnsName(Octets);

/// The octets of a name. Nearly all names of a cluster are short and lie in the record that they
/// are part of: a pointer would be one more miss for each answer that holds them.
#[derive(Clone)]
enum Octets {
    Short { length: u8, octets: [u8; SHORT] },
    Long(Arc<[u8]>),
}

/// Makes a name one line of memory, 64 octets.
const SHORT: usize = 62;

/// One label of a name, without its length octet; compares without case.
#[derive(Clone, Copy)]
pub struct Label<'a>(&'a [u8]);

/// Labels of a name from left to right, without the root.
#[derive(Clone, Debug)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> NameRef<'a> {
    /// The name that holds no label.
    pub const ROOT: NameRef<'static> = NameRef(&[0]);

    /// Takes octets that are one name and nothing else.
    ///
    /// # Errors
    /// [`NameError`] says what the octets are instead.
    pub fn from_octets(octets: &'a [u8]) -> Result<Self, NameError> {
        match Self::split_from(octets)? {
            (name, []) => Ok(name),
            (_, [_, ..]) => Err(NameError::NotOneName),
        }
    }

    /// Splits the name off the front of octets; compression pointers are not followed.
    ///
    /// # Errors
    /// [`NameError`] when the octets do not start with a name.
    pub fn split_from(octets: &'a [u8]) -> Result<(Self, &'a [u8]), NameError> {
        let mut at = 0;
        loop {
            let length = usize::from(*octets.get(at).ok_or(NameError::NotOneName)?);
            if length > MAX_LABEL {
                return Err(NameError::NotOneName);
            }
            at += 1 + length;
            if at > MAX_NAME {
                return Err(NameError::NameTooLong);
            }
            if length == 0 {
                let (name, rest) = octets.split_at(at);
                return Ok((Self(name), rest));
            }
        }
    }

    /// The octets, the root's zero included.
    pub fn octets(self) -> &'a [u8] {
        self.0
    }

    /// The labels from left to right.
    pub fn labels(self) -> Labels<'a> {
        Labels(self.0)
    }

    /// Whether there is no label.
    pub fn is_root(self) -> bool {
        self.0.len() == 1
    }

    /// An owned copy in the same spelling.
    pub fn to_name(self) -> DnsName {
        DnsName::of(self.0)
    }
}

impl DnsName {
    /// Octets that are known to be one name.
    fn of(name: &[u8]) -> Self {
        let mut octets = [0; SHORT];
        match (octets.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(name);
                Self(Octets::Short { length, octets })
            }
            (_, _) => Self(Octets::Long(name.into())),
        }
    }

    /// Joins labels on the left to a name, in lower case as zones store names.
    ///
    /// # Errors
    /// [`NameError`] when a label is empty or too long, or the whole is.
    pub fn join<L: AsRef<[u8]>>(labels: &[L], parent: NameRef<'_>) -> Result<Self, NameError> {
        let mut octets = Vec::with_capacity(MAX_NAME);
        for label in labels {
            push_label(&mut octets, label.as_ref())?;
        }
        octets.extend_from_slice(parent.0);
        if octets.len() > MAX_NAME {
            return Err(NameError::NameTooLong);
        }
        octets.make_ascii_lowercase();
        Ok(Self::of(&octets))
    }

    /// The name, borrowed.
    pub fn as_ref(&self) -> NameRef<'_> {
        NameRef(self.octets())
    }

    /// The octets, the root's zero included.
    pub fn octets(&self) -> &[u8] {
        match &self.0 {
            // A length beyond the room is never made; the root is what is left of such a name.
            Octets::Short { length, octets } => octets
                .get(..usize::from(*length))
                .unwrap_or(NameRef::ROOT.0),
            Octets::Long(octets) => octets,
        }
    }
}

impl FromStr for DnsName {
    type Err = NameError;

    /// Reads the text form of RFC 1035 5.1: `\.` and `\DDD` escape; a dot at the end is optional.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "." {
            return Ok(NameRef::ROOT.to_name());
        }
        let mut octets = Vec::with_capacity(text.len() + 2);
        let mut label = Vec::with_capacity(MAX_LABEL);
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            rest = tail;
            match first {
                b'.' => {
                    push_label(&mut octets, &label)?;
                    label.clear();
                }
                b'\\' => label.push(unescape(&mut rest)?),
                _ => label.push(*first),
            }
        }
        if !label.is_empty() || octets.is_empty() {
            push_label(&mut octets, &label)?;
        }
        octets.push(0);
        match octets.len() > MAX_NAME {
            true => Err(NameError::NameTooLong),
            false => Ok(Self::of(&octets)),
        }
    }
}

impl<'a> Label<'a> {
    /// Stands for no label in tables of fixed size.
    pub(super) const EMPTY: Label<'static> = Label(&[]);

    /// The octets of the label.
    pub fn octets(self) -> &'a [u8] {
        self.0
    }

    /// What follows the underscore; none when there is no underscore or nothing behind it.
    pub(super) fn without_underscore(self) -> Option<Self> {
        match self.0 {
            [b'_', rest @ ..] if !rest.is_empty() => Some(Self(rest)),
            _ => None,
        }
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = Label<'a>;

    fn next(&mut self) -> Option<Label<'a>> {
        let (length, rest) = self.0.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        if label.is_empty() {
            return None;
        }
        self.0 = rest;
        Some(Label(label))
    }
}

impl PartialEq for NameRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        // Length octets are below 64 and letters above: folding both alike is safe.
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl Eq for NameRef<'_> {}

impl Ord for NameRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let fold = |octets: &'_ [u8]| octets.to_ascii_lowercase();
        fold(self.0).cmp(&fold(other.0))
    }
}

impl PartialOrd for NameRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for NameRef<'_> {
    /// Writes the absolute text form, with a dot at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_char('.');
        }
        self.labels().try_for_each(|label| write!(f, "{label}."))
    }
}

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for DnsName {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for DnsName {}

impl Ord for DnsName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}

impl PartialOrd for DnsName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for DnsName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.octets().to_ascii_lowercase().hash(state);
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), f)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Label<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl Eq for Label<'_> {}

impl PartialEq<str> for Label<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other.as_bytes())
    }
}

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| match octet {
            b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                write!(f, "\\{}", char::from(*octet))
            }
            0x21..=0x7e => f.write_char(char::from(*octet)),
            _ => write!(f, "\\{octet:03}"),
        })
    }
}

impl fmt::Debug for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A copy of a name in lower case, on the stack.
pub(super) struct Folded {
    octets: [u8; MAX_NAME],
    length: usize,
}

impl Folded {
    pub(super) fn new(name: NameRef<'_>) -> Self {
        let mut octets = [0; MAX_NAME];
        let length = name.0.len().min(MAX_NAME);
        octets[..length].copy_from_slice(&name.0[..length]);
        octets[..length].make_ascii_lowercase();
        Self { octets, length }
    }

    pub(super) fn as_ref(&self) -> NameRef<'_> {
        NameRef(&self.octets[..self.length])
    }
}

fn push_label(octets: &mut Vec<u8>, label: &[u8]) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    match u8::try_from(label.len()) {
        Ok(length) if label.len() <= MAX_LABEL => octets.push(length),
        Ok(_) | Err(_) => return Err(NameError::LabelTooLong),
    }
    octets.extend_from_slice(label);
    Ok(())
}

fn unescape(rest: &mut &[u8]) -> Result<u8, NameError> {
    match *rest {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', tail @ ..] => {
            *rest = tail;
            let digit = |d: u8| u32::from(d - b'0');
            u8::try_from(digit(*a) * 100 + digit(*b) * 10 + digit(*c))
                .map_err(|_| NameError::BadEscape)
        }
        [b'0'..=b'9', ..] | [] => Err(NameError::BadEscape),
        [other, tail @ ..] => {
            *rest = tail;
            Ok(*other)
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;

    fn text(input: &str) -> Result<String, NameError> {
        input.parse::<DnsName>().map(|name| name.to_string())
    }

    #[test]
    fn rfc1035_text_is_read_and_written() {
        assert_eq!(text("Web.shop"), Ok("Web.shop.".into()));
        assert_eq!(text("web.shop."), Ok("web.shop.".into()));
        assert_eq!(text("."), Ok(".".into()));
        assert_eq!(text(r"a\.b.c"), Ok(r"a\.b.c.".into()));
        assert_eq!(text(r"a\032b\200"), Ok(r"a\032b\200.".into()));
        assert_eq!(text(""), Err(NameError::EmptyLabel));
        assert_eq!(text("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(text(".a"), Err(NameError::EmptyLabel));
        assert_eq!(text(r"a\"), Err(NameError::BadEscape));
        assert_eq!(text(r"a\25"), Err(NameError::BadEscape));
        assert_eq!(text(r"a\256"), Err(NameError::BadEscape));
    }

    #[test]
    fn rfc1035_limits_hold() {
        assert!(text(&"a".repeat(63)).is_ok());
        assert_eq!(text(&"a".repeat(64)), Err(NameError::LabelTooLong));
        let long = ["a"; 127].join(".");
        assert!(text(&long).is_ok());
        assert_eq!(text(&["a"; 128].join(".")), Err(NameError::NameTooLong));
    }

    #[test]
    fn rfc4343_case_does_not_matter() {
        let (a, b): (DnsName, DnsName) = ("WEB.Shop".parse().unwrap(), "web.shop".parse().unwrap());
        assert_eq!(a, b);
        assert_eq!(a.cmp(&b), Ordering::Equal);
        assert_ne!(a.octets(), b.octets());
    }

    #[test]
    fn octets_must_be_one_whole_name() {
        let octets = b"\x03web\x04shop\0";
        let name = NameRef::from_octets(octets).unwrap();
        assert_eq!(name.to_string(), "web.shop.");
        for cut in 0..octets.len() {
            assert!(NameRef::from_octets(&octets[..cut]).is_err());
        }
        assert!(NameRef::from_octets(b"\x03web\xc0\x0c").is_err());
        assert!(NameRef::from_octets(b"\0\0").is_err());
    }
}
