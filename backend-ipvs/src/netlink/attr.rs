//! Attributes: length, type, value, padding.

/// Appends an attribute.
pub(crate) fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // No value here has more than some tens of bytes.
    let len = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
    body.extend(len.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    pad(body);
}

/// Appends a text with its end.
pub(crate) fn put_text(body: &mut Vec<u8>, kind: u16, text: &str) {
    let bytes = [text.as_bytes(), &[0]].concat();
    put(body, kind, &bytes);
}

/// Appends an attribute of attributes.
pub(crate) fn nest(body: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    put(body, kind | NESTED, &inner);
}

/// The attributes of a body, as far as they make sense.
pub(crate) fn attributes(mut body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = (u16_at(body, 0)?, u16_at(body, 2)?);
        let value = body.get(HEADER..usize::from(len))?;
        body = body
            .get(usize::from(len).next_multiple_of(ALIGN)..)
            .unwrap_or_default();
        Some((kind & !NESTED, value))
    })
}

/// The value of the first attribute of a kind.
pub(crate) fn find(body: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(body).find_map(|(found, value)| (found == kind).then_some(value))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// The text up to its end.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default())
        .into_owned()
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(ALIGN), 0);
}

const HEADER: usize = 4;
const ALIGN: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
