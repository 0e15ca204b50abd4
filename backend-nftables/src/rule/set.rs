//! Sets and maps, and the types of their keys and data.

use super::{Comment, SetFlags, SetName};

/// Type of one field, as nft knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum DataType {
    /// IPv4 address, 4 bytes.
    Ipv4Addr,
    /// IPv6 address, 16 bytes.
    Ipv6Addr,
    /// IP protocol number, 1 byte.
    InetProto,
    /// Port, 2 bytes, network order.
    InetService,
    /// 32-bit number, host order.
    Mark,
    /// Interface name, 16 bytes, zero padded.
    Ifname,
    /// `NFPROTO_*`, 1 byte.
    NfProto,
    /// A type this crate does not model, or a concatenation holding one.
    Other {
        /// nft's number of the type.
        id: u32,
        /// Bytes.
        len: u32,
    },
}

impl DataType {
    /// nft's number of the type.
    pub const fn id(self) -> u32 {
        match self {
            Self::NfProto => 2,
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::Mark => 19,
            Self::Ifname => 41,
            Self::Other { id, .. } => id,
        }
    }

    /// Bytes, without the padding of concatenations.
    pub const fn width(self) -> u32 {
        match self {
            Self::NfProto | Self::InetProto => 1,
            Self::InetService => 2,
            Self::Ipv4Addr | Self::Mark => 4,
            Self::Ipv6Addr | Self::Ifname => 16,
            Self::Other { len, .. } => len,
        }
    }

    /// As nft prints it; `None` for types this crate does not model.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::NfProto => Some("nf_proto"),
            Self::Ipv4Addr => Some("ipv4_addr"),
            Self::Ipv6Addr => Some("ipv6_addr"),
            Self::InetProto => Some("inet_proto"),
            Self::InetService => Some("inet_service"),
            Self::Mark => Some("mark"),
            Self::Ifname => Some("ifname"),
            Self::Other { .. } => None,
        }
    }

    fn from_id(id: u32) -> Option<Self> {
        [
            Self::NfProto,
            Self::Ipv4Addr,
            Self::Ipv6Addr,
            Self::InetProto,
            Self::InetService,
            Self::Mark,
            Self::Ifname,
        ]
        .into_iter()
        .find(|kind| kind.id() == id)
    }
}

/// Type of a key or of map data: one field, or several padded to four bytes each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Type(Box<[DataType]>);

impl Type {
    /// Most fields of a concatenation: nft packs six bits of type into 32.
    pub const MAX_FIELDS: usize = 5;

    /// A type of the given fields; fields after [`Type::MAX_FIELDS`] are left away.
    pub fn new(fields: &[DataType]) -> Self {
        Self(Box::from(fields.get(..Self::MAX_FIELDS).unwrap_or(fields)))
    }

    /// The fields.
    pub fn fields(&self) -> &[DataType] {
        &self.0
    }

    /// nft's number: six bits per field, the first field highest.
    pub fn id(&self) -> u32 {
        self.0
            .iter()
            .fold(0, |id, field| id << TYPE_BITS | field.id())
    }

    /// Bytes of a value.
    pub fn width(&self) -> u32 {
        match &*self.0 {
            [only] => only.width(),
            fields => fields.iter().map(|field| padded(*field)).sum(),
        }
    }

    /// Offset and length of each field within a value.
    pub fn layout(&self) -> impl Iterator<Item = (DataType, usize, usize)> + '_ {
        self.0.iter().scan(0, |offset, field| {
            let start = *offset;
            *offset += padded(*field) as usize;
            Some((*field, start, field.width() as usize))
        })
    }

    /// From nft's number and the length of a value.
    pub fn from_id(id: u32, len: u32) -> Self {
        let known = Self::known(id);
        known
            .filter(|known| known.width() == len)
            .unwrap_or_else(|| Self(Box::from([DataType::Other { id, len }])))
    }

    fn known(id: u32) -> Option<Self> {
        let mut fields = Vec::new();
        let mut rest = id;
        while rest != 0 {
            fields.insert(0, DataType::from_id(rest & TYPE_MASK)?);
            rest >>= TYPE_BITS;
        }
        (!fields.is_empty()).then(|| Self(fields.into_boxed_slice()))
    }
}

impl From<DataType> for Type {
    fn from(field: DataType) -> Self {
        Self::new(&[field])
    }
}

/// What the elements of a map carry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum SetData {
    /// Values.
    Value(Type),
    /// Verdicts.
    Verdict,
}

/// Byte order in which nft shows a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum ByteOrder {
    /// That of this machine.
    Host,
    /// Most significant byte first.
    Network,
}

/// A set, or a map if `data` is there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Set {
    /// Name within the table.
    pub name: SetName,
    /// Type of the keys.
    pub key: Type,
    /// What elements carry; `None` for a plain set.
    pub data: Option<SetData>,
    /// Use of the set. [`SetFlags::MAP`] follows from `data` and is added by itself.
    pub flags: SetFlags,
    /// Life of an element without its own, milliseconds.
    pub timeout: Option<u64>,
    /// Pause between collections of dead elements, milliseconds.
    pub gc_interval: Option<u32>,
    /// Most elements; on dynamic sets the kernel allocates for them at once.
    pub size: Option<u32>,
    /// Byte order of a single numeric key: without `Host`, nft lists a 32-bit host-order key with
    /// its bytes swapped. Concatenations need none.
    pub key_order: Option<ByteOrder>,
    /// Printed by nft 0.9.7 and later.
    pub comment: Option<Comment>,
}

impl Set {
    /// A plain set without flags.
    pub fn new(name: impl Into<SetName>, key: Type) -> Self {
        // Why: the only single host-order type here, and nft would list it swapped.
        let key_order = (key.fields() == [DataType::Mark]).then_some(ByteOrder::Host);
        Self {
            name: name.into(),
            key,
            data: None,
            flags: SetFlags::NONE,
            timeout: None,
            gc_interval: None,
            size: None,
            key_order,
            comment: None,
        }
    }

    /// A map of values without flags.
    pub fn map(name: impl Into<SetName>, key: Type, data: Type) -> Self {
        Self {
            data: Some(SetData::Value(data)),
            flags: SetFlags::MAP,
            ..Self::new(name, key)
        }
    }

    /// A map of verdicts without flags.
    pub fn verdict_map(name: impl Into<SetName>, key: Type) -> Self {
        Self {
            data: Some(SetData::Verdict),
            flags: SetFlags::MAP,
            ..Self::new(name, key)
        }
    }

    /// The same with more flags.
    #[must_use]
    pub fn with_flags(self, flags: SetFlags) -> Self {
        Self {
            flags: self.flags | flags,
            ..self
        }
    }

    /// The same with a comment.
    #[must_use]
    pub fn with_comment(self, comment: &str) -> Self {
        Self {
            comment: Some(Comment::new(comment)),
            ..self
        }
    }
}

fn padded(field: DataType) -> u32 {
    field.width().next_multiple_of(4)
}

const TYPE_BITS: u32 = 6;
const TYPE_MASK: u32 = (1 << TYPE_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenation_has_nft_number_and_padded_length() {
        let key = Type::new(&[
            DataType::Ipv4Addr,
            DataType::InetProto,
            DataType::InetService,
        ]);
        assert_eq!((key.id(), key.width()), (7 << 12 | 12 << 6 | 13, 12));
        assert_eq!(Type::from_id(key.id(), 12), key);
        assert_eq!(
            key.layout()
                .map(|(_, at, len)| (at, len))
                .collect::<Vec<_>>(),
            [(0, 4), (4, 1), (8, 2)]
        );
    }

    #[test]
    fn unknown_types_keep_number_and_length() {
        let odd = Type::from_id(7 << 6 | 40, 8);
        assert_eq!((odd.id(), odd.width()), (7 << 6 | 40, 8));
    }
}
