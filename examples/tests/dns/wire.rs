//! A strict reader of DNS messages and a few queries, written apart from the server's.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A message, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) rcode: u16,
    pub(crate) question: Vec<u8>,
    /// Answer, authority, additional: owner, TTL, type and data in text.
    pub(crate) sections: [Vec<(String, u32, String, String)>; 3],
    pub(crate) opt: Option<u16>,
}

/// A query of class IN; `edns` is the size in its OPT record.
pub(crate) fn query(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    if let Some(size) = edns {
        out.extend([0, 0, 41]);
        out.extend(size.to_be_bytes());
        out.extend([0; 6]);
    }
    out
}

impl Message {
    /// Reads a whole message; anything odd is an error.
    pub(crate) fn read(octets: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { octets, at: 0 };
        let mut message = Self {
            id: reader.word()?,
            flags: reader.word()?,
            ..Self::default()
        };
        message.rcode = message.flags & 0xf;
        let counts = [
            reader.word()?,
            reader.word()?,
            reader.word()?,
            reader.word()?,
        ];
        for _ in 0..counts[0] {
            let start = reader.at;
            reader.name()?;
            reader.take(4)?;
            message.question.extend(&octets[start..reader.at]);
        }
        for (section, count) in counts[1..].iter().enumerate() {
            for _ in 0..*count {
                message.record(&mut reader, section)?;
            }
        }
        match reader.at == octets.len() {
            true => Ok(message),
            false => Err("octets after the last record".into()),
        }
    }

    fn record(&mut self, reader: &mut Reader<'_>, section: usize) -> Result<(), String> {
        let owner = reader.name()?;
        let (kind, class) = (reader.word()?, reader.word()?);
        let ttl = u32::from(reader.word()?) << 16 | u32::from(reader.word()?);
        let end = usize::from(reader.word()?) + reader.at;
        if kind == 41 {
            if section != 2 || owner != "." || self.opt.is_some() {
                return Err("OPT in the wrong place".into());
            }
            self.rcode |= u16::try_from(ttl >> 24).unwrap() << 4;
            self.opt = Some(class);
            reader.take(end - reader.at)?;
            return Ok(());
        }
        if class != 1 {
            return Err(format!("class {class}"));
        }
        let (kind, data) = reader.data(kind, end)?;
        if reader.at != end {
            return Err(format!("length of {kind} data"));
        }
        self.sections[section].push((owner, ttl, kind.into(), data));
        Ok(())
    }
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken = self.octets.get(self.at..self.at + count);
        self.at += count;
        taken.ok_or_else(|| format!("cut at {}", self.at))
    }

    fn word(&mut self) -> Result<u16, String> {
        let octets = self.take(2)?;
        Ok(u16::from_be_bytes([octets[0], octets[1]]))
    }

    fn name(&mut self) -> Result<String, String> {
        let (mut text, mut after, mut jumps) = (String::new(), None, 0);
        loop {
            let length = usize::from(self.take(1)?[0]);
            if length >= 0xc0 {
                let target = (length & 0x3f) << 8 | usize::from(self.take(1)?[0]);
                after = after.or(Some(self.at));
                self.at = target;
                jumps += 1;
                if jumps > 20 {
                    return Err("compression loop".into());
                }
                continue;
            }
            if length > 63 {
                return Err(format!("label type {length:#x}"));
            }
            if length == 0 {
                break;
            }
            text += &String::from_utf8_lossy(self.take(length)?);
            text.push('.');
        }
        self.at = after.unwrap_or(self.at);
        Ok(if text.is_empty() { ".".into() } else { text })
    }

    fn data(&mut self, kind: u16, end: usize) -> Result<(&'static str, String), String> {
        Ok(match kind {
            1 => {
                let octets: [u8; 4] = self.take(4)?.try_into().unwrap();
                ("A", Ipv4Addr::from(octets).to_string())
            }
            28 => {
                let octets: [u8; 16] = self.take(16)?.try_into().unwrap();
                ("AAAA", Ipv6Addr::from(octets).to_string())
            }
            2 => ("NS", self.name()?),
            5 => ("CNAME", self.name()?),
            12 => ("PTR", self.name()?),
            16 => {
                let length = usize::from(self.take(1)?[0]);
                let text = String::from_utf8_lossy(self.take(length)?).into_owned();
                ("TXT", format!("\"{text}\""))
            }
            33 => {
                let (priority, weight, port) = (self.word()?, self.word()?, self.word()?);
                (
                    "SRV",
                    format!("{priority} {weight} {port} {}", self.name()?),
                )
            }
            6 => {
                let mut data = format!("{} {}", self.name()?, self.name()?);
                for _ in 0..5 {
                    let number = u32::from(self.word()?) << 16 | u32::from(self.word()?);
                    data += &format!(" {number}");
                }
                ("SOA", data)
            }
            other => {
                self.take(end - self.at)?;
                return Err(format!("type {other}"));
            }
        })
    }
}
