//! Joins the start of an answer, a chain of CNAMEs, with what a resolver says about its end.

use svc_core::dns::{MAX_NAME, NameRef};

use super::message::{HEADER, Query, skip_name};
use super::respond::Policy;
use super::writer::{Section, Writer, flag};

/// Builds the response to `query`: the records of `start`, then those of `rest`.
///
/// None when the resolver's message cannot be read.
pub(super) fn merge(
    query: &Query<'_>,
    start: &[u8],
    rest: &[u8],
    limit: usize,
    policy: &Policy,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(start.len() + rest.len());
    let question = Some((query.name, query.question));
    let edns = query.edns.as_ref();
    let mut writer = Writer::new(&mut out, limit, query.header, question, edns);
    let rest_flags = word(rest, 2)?;
    let mut flags = word(start, 2)? & !0xf | rest_flags & flag::TRUNCATED;
    let mut fits = true;
    for message in [start, rest] {
        for (section, record) in records(message)? {
            fits = fits && writer.raw(section, &record).is_ok();
        }
    }
    if !fits && limit < usize::from(u16::MAX) {
        flags |= flag::TRUNCATED;
    }
    writer.finish(flags, rest_flags & 0xf, edns.map(|e| (e, policy.max_udp)));
    Some(out)
}

/// The answers and authorities of a message, with names written out.
fn records(message: &[u8]) -> Option<Vec<(Section, Vec<u8>)>> {
    let mut at = HEADER;
    for _ in 0..word(message, 4)? {
        at = after_name(message, at)? + 4;
    }
    let mut records = Vec::new();
    for (section, count_at) in [(Section::Answer, 6), (Section::Authority, 8)] {
        for _ in 0..word(message, count_at)? {
            let mut record = Vec::new();
            at = copy_name(message, at, &mut record)?;
            let kind = word(message, at)?;
            record.extend_from_slice(message.get(at..at + 8)?);
            let length = usize::from(word(message, at + 8)?);
            let data = at + 10;
            at = data + length;
            message.get(data..at)?;
            let before = record.len();
            record.extend_from_slice(&[0, 0]);
            copy_data(message, kind, data, at, &mut record)?;
            let length = u16::try_from(record.len() - before - 2).ok()?;
            record[before..before + 2].copy_from_slice(&length.to_be_bytes());
            records.push((section, record));
        }
    }
    Some(records)
}

/// Copies data; names in it are written out for the types whose names may be compressed.
fn copy_data(
    message: &[u8],
    kind: u16,
    start: usize,
    end: usize,
    record: &mut Vec<u8>,
) -> Option<()> {
    // Octets before the names, and how many names there are (RFC 1035 3.3, RFC 2782, RFC 6672).
    let (fixed, names) = match kind {
        2 | 5 | 12 | 39 => (0, 1),
        6 => (0, 2),
        15 => (2, 1),
        33 => (6, 1),
        _ => (0, 0),
    };
    record.extend_from_slice(message.get(start..start + fixed)?);
    let mut at = start + fixed;
    for _ in 0..names {
        at = copy_name(message, at, record)?;
    }
    record.extend_from_slice(message.get(at..end)?);
    Some(())
}

/// Copies a name without compression; where the place after it is.
fn copy_name(message: &[u8], start: usize, out: &mut Vec<u8>) -> Option<usize> {
    let end = after_name(message, start)?;
    let before = out.len();
    let mut at = start;
    loop {
        let length = *message.get(at)?;
        if length >= 0xc0 {
            let target = usize::from(word(message, at)? & 0x3fff);
            // A pointer leads back: so a loop cannot last.
            if target >= at {
                return None;
            }
            at = target;
            continue;
        }
        let label = message.get(at..=at + usize::from(length))?;
        out.extend_from_slice(label);
        if length == 0 {
            break;
        }
        if out.len() - before > MAX_NAME {
            return None;
        }
        at += label.len();
    }
    NameRef::from_octets(out.get(before..)?).ok()?;
    Some(end)
}

fn after_name(message: &[u8], at: usize) -> Option<usize> {
    let (_, rest) = skip_name(message.get(at..)?)?;
    Some(message.len() - rest.len())
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    let octets = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([octets[0], octets[1]]))
}
