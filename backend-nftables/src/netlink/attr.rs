//! Netlink attributes: length, type, value, padded to four bytes.

use super::wire::{NFGENMSG, nlmsg};

/// Appends messages and attributes to a buffer.
///
/// An attribute's length is 16 bits wide: what does not fit is remembered in `fits`, and the
/// message must then not be sent.
pub(super) struct Writer<'b> {
    buf: &'b mut Vec<u8>,
    fits: bool,
}

impl<'b> Writer<'b> {
    pub(super) fn new(buf: &'b mut Vec<u8>) -> Self {
        Self { buf, fits: true }
    }

    /// Whether every attribute so far fits into 16 bits of length.
    pub(super) fn fits(&self) -> bool {
        self.fits
    }

    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.begin(kind);
        self.buf.extend_from_slice(value);
        self.end(start);
    }

    /// A string with its final NUL.
    pub(super) fn string(&mut self, kind: u16, value: &str) {
        let start = self.begin(kind);
        self.buf.extend_from_slice(value.as_bytes());
        self.buf.push(0);
        self.end(start);
    }

    /// Attributes written elsewhere.
    pub(super) fn raw(&mut self, attrs: &[u8]) {
        self.buf.extend_from_slice(attrs);
    }

    pub(super) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// A number in network order, as all of nf_tables' are.
    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number in network order.
    pub(super) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn nest(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.begin(kind | NESTED);
        content(self);
        self.end(start);
    }

    /// Starts an attribute that [`close`] ends; for lists that grow over several calls.
    pub(super) fn open(&mut self, kind: u16) -> usize {
        self.begin(kind | NESTED)
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0, 0]);
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        self.fits &= close(self.buf, start);
        self.buf.resize(self.buf.len().next_multiple_of(ALIGN), 0);
    }
}

/// Writes the length of the attribute that starts at `start` and ends with the buffer; tells whether
/// it fits.
pub(super) fn close(buf: &mut [u8], start: usize) -> bool {
    let len = u16::try_from(buf.len() - start);
    if let (Ok(len), Some(place)) = (len, buf.get_mut(start..start + 2)) {
        place.copy_from_slice(&len.to_ne_bytes());
    }
    len.is_ok()
}

/// Header of one netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Message type: subsystem in the high byte for netfilter.
    pub(super) kind: u16,
    /// `NLM_F_*`.
    pub(super) flags: u16,
    /// Chosen by the sender of the request.
    pub(super) seq: u32,
    /// Port of the sender of the request.
    pub(super) port: u32,
}

/// Appends a message; `content` writes what follows the netfilter header.
pub(super) fn message(
    buf: &mut Vec<u8>,
    header: Header,
    family: u8,
    resource: u16,
    content: impl FnOnce(&mut Writer<'_>),
) -> bool {
    let start = buf.len();
    buf.extend_from_slice(&[0; 4]);
    buf.extend_from_slice(&header.kind.to_ne_bytes());
    buf.extend_from_slice(&header.flags.to_ne_bytes());
    buf.extend_from_slice(&header.seq.to_ne_bytes());
    buf.extend_from_slice(&header.port.to_ne_bytes());
    buf.extend_from_slice(&[family, 0]);
    buf.extend_from_slice(&resource.to_be_bytes());
    let mut writer = Writer::new(buf);
    content(&mut writer);
    let fits = writer.fits();
    close_message(buf, start) && fits
}

/// Writes the length of the message that starts at `start` and ends with the buffer.
pub(super) fn close_message(buf: &mut [u8], start: usize) -> bool {
    let len = u32::try_from(buf.len() - start);
    if let (Ok(len), Some(place)) = (len, buf.get_mut(start..start + 4)) {
        place.copy_from_slice(&len.to_ne_bytes());
    }
    len.is_ok()
}

/// One message of a received datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'b> {
    pub(super) header: Header,
    /// All after the netlink header.
    pub(super) body: &'b [u8],
}

impl<'b> Message<'b> {
    /// Family of the netfilter header; 0 if there is none.
    pub(super) fn family(&self) -> u8 {
        self.body.first().copied().unwrap_or_default()
    }

    /// Attributes after the netfilter header.
    pub(super) fn attrs(&self) -> Attrs<'b> {
        Attrs(self.body.get(NFGENMSG..).unwrap_or_default())
    }
}

/// The messages of a datagram; ends at the first malformed one.
pub(super) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (header, _) = rest.split_at_checked(nlmsg::HEADER)?;
        let len = usize::try_from(ne_u32(header, 0)?).ok()?;
        let body = rest.get(nlmsg::HEADER..len)?;
        rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        let header = Header {
            kind: ne_u16(header, 4)?,
            flags: ne_u16(header, 6)?,
            seq: ne_u32(header, 8)?,
            port: ne_u32(header, 12)?,
        };
        Some(Message { header, body })
    })
}

/// The attributes in a piece of a message; ends at the first malformed one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attrs<'b>(pub(super) &'b [u8]);

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attr<'b> {
    /// Type without the flag bits.
    pub(super) kind: u16,
    /// Value without padding.
    pub(super) value: &'b [u8],
}

impl<'b> Attrs<'b> {
    /// The first attribute of a type.
    pub(super) fn find(self, kind: u16) -> Option<Attr<'b>> {
        let mut attrs = self;
        Iterator::find(&mut attrs, |attr| attr.kind == kind)
    }

    pub(super) fn u32(self, kind: u16) -> Option<u32> {
        self.find(kind)?.u32()
    }

    pub(super) fn u64(self, kind: u16) -> Option<u64> {
        self.find(kind)?.u64()
    }

    pub(super) fn string(self, kind: u16) -> Option<&'b str> {
        self.find(kind)?.string()
    }

    pub(super) fn nested(self, kind: u16) -> Option<Self> {
        self.find(kind).map(Attr::attrs)
    }
}

impl<'b> Iterator for Attrs<'b> {
    type Item = Attr<'b>;

    fn next(&mut self) -> Option<Attr<'b>> {
        let len = usize::from(ne_u16(self.0, 0)?);
        let kind = ne_u16(self.0, 2)? & KIND;
        let value = self.0.get(4..len)?;
        self.0 = self
            .0
            .get(len.next_multiple_of(ALIGN)..)
            .unwrap_or_default();
        Some(Attr { kind, value })
    }
}

impl<'b> Attr<'b> {
    pub(super) fn u8(self) -> Option<u8> {
        self.value.first().copied()
    }

    pub(super) fn u32(self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.value.first_chunk()?))
    }

    pub(super) fn u64(self) -> Option<u64> {
        Some(u64::from_be_bytes(*self.value.first_chunk()?))
    }

    /// Text before the first NUL; `None` if not UTF-8.
    pub(super) fn string(self) -> Option<&'b str> {
        let text = self.value.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()
    }

    pub(super) fn attrs(self) -> Attrs<'b> {
        Attrs(self.value)
    }
}

pub(super) fn ne_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn ne_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

const ALIGN: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// What the two flag bits leave of a type.
const KIND: u16 = 0x3fff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_length_is_patched_and_padding_is_not_part_of_it() {
        let mut buf = Vec::new();
        let mut writer = Writer::new(&mut buf);
        writer.nest(3, |inner| {
            inner.string(1, "ab");
            inner.u8(2, 7);
        });
        assert!(writer.fits());
        assert_eq!(buf.len(), 4 + 8 + 8);
        let mut attrs = Attrs(&buf).nested(3).unwrap();
        assert_eq!(attrs.string(1), Some("ab"));
        assert_eq!(attrs.next().unwrap().value, b"ab\0");
        assert_eq!(attrs.next().unwrap().u8(), Some(7));
        assert!(attrs.next().is_none());
    }

    #[test]
    fn too_long_attribute_is_noticed() {
        let mut buf = Vec::new();
        let mut writer = Writer::new(&mut buf);
        writer.bytes(1, &[0; 65_531]);
        assert!(writer.fits());
        writer.bytes(1, &[0; 65_532]);
        assert!(!writer.fits());
    }

    #[test]
    fn short_lengths_end_the_iteration() {
        assert_eq!(Attrs(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(Attrs(&[9, 0, 1, 0, 0]).count(), 0);
        assert_eq!(messages(&[15; 20]).count(), 0);
    }

    #[test]
    fn message_round_trip() {
        let header = Header {
            kind: 0x0a03,
            flags: 5,
            seq: 9,
            port: 0,
        };
        let mut buf = Vec::new();
        assert!(message(&mut buf, header, 2, 10, |writer| writer.u32(1, 77)));
        let all: Vec<_> = messages(&buf).collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].header, header);
        assert_eq!((all[0].family(), all[0].attrs().u32(1)), (2, Some(77)));
    }
}
