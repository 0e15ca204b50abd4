//! Keys and values as the kernel sees them: up to 64 bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Key, map value, comparison operand or mask: at most 64 bytes (`NFT_DATA_VALUE_MAXLEN`).
///
/// 24 bytes wide; up to 22 bytes need no allocation, which covers every IPv4 key and the two
/// per-endpoint maps of IPv6: there may be a million of these in memory. Orders as its bytes do.
#[derive(Clone)]
pub struct Bytes(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

/// More bytes than the kernel takes as one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes do not fit into one nf_tables value of at most {max}", max = Bytes::MAX_LEN)]
pub struct TooLong {
    /// Length of what was given.
    pub len: usize,
}

impl Bytes {
    /// Longest value the kernel takes.
    pub const MAX_LEN: usize = 64;

    /// Copies a value.
    ///
    /// # Errors
    /// [`TooLong`] above [`Bytes::MAX_LEN`].
    pub fn new(value: &[u8]) -> Result<Self, TooLong> {
        if value.len() > Self::MAX_LEN {
            return Err(TooLong { len: value.len() });
        }
        Ok(Self::short(value))
    }

    /// Joins the fields of a concatenated key or value, each padded with zeros to four bytes.
    ///
    /// # Errors
    /// [`TooLong`] if the whole is above [`Bytes::MAX_LEN`].
    pub fn concat(fields: &[&[u8]]) -> Result<Self, TooLong> {
        let len = fields
            .iter()
            .map(|field| field.len().next_multiple_of(4))
            .sum();
        let mut joined = [0; Self::MAX_LEN];
        let mut rest = joined.get_mut(..len).ok_or(TooLong { len })?;
        for field in fields {
            let (head, tail) = rest.split_at_mut(field.len().next_multiple_of(4));
            head[..field.len()].copy_from_slice(field);
            rest = tail;
        }
        Ok(Self::short(&joined[..len]))
    }

    /// A 32-bit number in the byte order of this machine, as marks are kept.
    pub fn host_u32(value: u32) -> Self {
        Self::short(&value.to_ne_bytes())
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Repr::Heap(bytes) => bytes,
        }
    }

    /// `value` is at most [`Bytes::MAX_LEN`] long.
    fn short(value: &[u8]) -> Self {
        match u8::try_from(value.len()) {
            Ok(len) if value.len() <= INLINE => {
                let mut bytes = [0; INLINE];
                bytes[..value.len()].copy_from_slice(value);
                Self(Repr::Inline { len, bytes })
            }
            Ok(_) | Err(_) => Self(Repr::Heap(Box::from(value))),
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::short(&[])
    }
}

impl TryFrom<&[u8]> for Bytes {
    type Error = TooLong;

    fn try_from(value: &[u8]) -> Result<Self, TooLong> {
        Self::new(value)
    }
}

macro_rules! from_array {
    ($($len:literal)*) => {$(
        impl From<[u8; $len]> for Bytes {
            fn from(value: [u8; $len]) -> Self {
                Self::short(&value)
            }
        }
    )*};
}
from_array!(1 2 4 8 12 16 20 24 28 32 36 40);

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const INLINE: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_three_words_wide() {
        assert_eq!(size_of::<Bytes>(), 24);
    }

    #[test]
    fn inline_and_heap_compare_alike() {
        let (short, long) = (Bytes::from([7; 20]), Bytes::from([7; 24]));
        assert!(short < long);
        assert_eq!(Bytes::new(&[7; 24]), Ok(long));
        assert_eq!(Bytes::new(&[0; 65]), Err(TooLong { len: 65 }));
    }

    #[test]
    fn concat_pads_each_field() {
        let key = Bytes::concat(&[&[10, 0, 0, 1], &[6], &[0, 80]]);
        assert_eq!(key, Ok(Bytes::from([10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0])));
        assert_eq!(
            Bytes::concat(&[&[0; 40], &[0; 25]]),
            Err(TooLong { len: 68 })
        );
    }
}
