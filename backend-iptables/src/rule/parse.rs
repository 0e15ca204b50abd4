//! Reads what `iptables-save` prints and `iptables-restore` accepts, in the spellings of both
//! variants. Never fails: what is not known is kept as it was written.

use std::net::{IpAddr, SocketAddr};

use svc_core::{IpFamily, IpNet, Protocol};

use super::text::{SAME_V4, SAME_V6};
use super::{Mark, Match, Probability, Rule, Sense, SourcePorts, States, Target};
use crate::name::ChainName;

/// One line of `iptables-save`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `*nat`
    Table(&'a str),
    /// `:NAME policy [packets:bytes]`
    Chain(&'a str),
    /// `-A NAME …`, the rule not read yet.
    Append(&'a str, &'a str),
    /// `COMMIT`
    Commit,
    /// A comment, an empty line, or something else.
    Other,
}

/// Takes a line apart.
pub fn parse_line(line: &str) -> Line<'_> {
    // Counters in front of a rule, as `iptables-save -c` prints them.
    let line = match line.strip_prefix('[') {
        Some(rest) => rest.split_once("] ").map_or("", |(_, rest)| rest),
        None => line,
    };
    if let Some(rest) = line.strip_prefix("-A ") {
        let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
        return Line::Append(chain, rule);
    }
    if let Some(rest) = line.strip_prefix(':') {
        return Line::Chain(rest.split(' ').next().unwrap_or_default());
    }
    if let Some(table) = line.strip_prefix('*') {
        return Line::Table(table.trim_end());
    }
    match line.trim_end() == "COMMIT" {
        true => Line::Commit,
        false => Line::Other,
    }
}

impl Rule {
    /// Reads what follows `-A NAME`.
    ///
    /// A rule with a condition that is not known is one [`Match::Opaque`] with a known target.
    pub fn parse(text: &str) -> Self {
        let Some(tokens) = tokens(text) else {
            return Self::opaque(text);
        };
        let mut reader = Reader {
            tokens: &tokens,
            at: 0,
            matches: Vec::new(),
            target: None,
        };
        match reader.read() {
            Some(()) => Self::new(reader.matches, reader.target.unwrap_or(Target::Continue)),
            None => Self::opaque(text),
        }
    }

    /// A rule as it was written, but for the chain that it leads to, which is the last word.
    fn opaque(text: &str) -> Self {
        let text = text.trim();
        let led = text
            .rsplit_once(char::is_whitespace)
            .and_then(|(before, name)| {
                let chain = ChainName::new(name)?;
                let (conditions, jump) = before.rsplit_once(char::is_whitespace)?;
                match jump {
                    "-j" if chain.is_ours() => Some((conditions, Target::Jump(chain))),
                    "-g" => Some((conditions, Target::Goto(chain))),
                    _ => None,
                }
            });
        let (text, target) = led.unwrap_or((text, Target::Continue));
        Self::new([Match::Opaque(text.trim_end().into())], target)
    }
}

/// Splits at blanks, but not inside quotes; quotes are taken off. `None` if one is not closed.
fn tokens(text: &str) -> Option<Vec<&str>> {
    let mut tokens = Vec::with_capacity(16);
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (token, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = closing_quote(quoted)?;
                (quoted.get(..end)?, quoted.get(end + 1..)?)
            }
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Some(tokens)
}

fn closing_quote(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return Some(at),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

struct Reader<'a> {
    tokens: &'a [&'a str],
    at: usize,
    matches: Vec<Match>,
    target: Option<Target>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let token = self.tokens.get(self.at).copied();
        self.at += 1;
        token
    }

    fn take(&mut self, wanted: &str) -> bool {
        let found = self.tokens.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn sense(&mut self) -> Sense {
        match self.take("!") {
            true => Sense::Not,
            false => Sense::Is,
        }
    }

    /// `None` if something is not known.
    fn read(&mut self) -> Option<()> {
        while self.at < self.tokens.len() {
            let sense = self.sense();
            let option = self.next()?;
            match option {
                "-s" => {
                    let net = network(self.next()?)?;
                    self.matches.push(Match::Source(sense, net));
                }
                "-d" => {
                    let net = network(self.next()?)?;
                    self.matches.push(Match::Destination(sense, net));
                }
                "-i" => {
                    let name = self.next().filter(|name| is_word(name))?;
                    self.matches.push(Match::Interface(sense, name.into()));
                }
                _ if sense == Sense::Not => return None,
                "-p" => {
                    let protocol = protocol(self.next()?)?;
                    self.matches.push(Match::Protocol(protocol));
                }
                "-m" => {
                    let module = self.next()?;
                    let found = self.module(module)?;
                    self.matches.push(found);
                }
                "-j" => {
                    let name = self.next()?;
                    self.target = Some(self.jump(name)?);
                }
                "-g" => self.target = Some(Target::Goto(ChainName::new(self.next()?)?)),
                _ => return None,
            }
        }
        Some(())
    }

    fn module(&mut self, module: &str) -> Option<Match> {
        let sense = self.sense();
        let option = self.next()?;
        if sense == Sense::Not && !matches!(module, "mark" | "conntrack") {
            return None;
        }
        match (module, option) {
            ("tcp" | "udp" | "sctp", "--dport") => {
                let range = self.next()?;
                let (first, last) = range.split_once(':').unwrap_or((range, range));
                let (first, last) = (first.parse().ok()?, last.parse().ok()?);
                Some(Match::Ports(protocol(module)?, first, last))
            }
            ("mark", "--mark") => Some(Match::Mark(sense, mark(self.next()?)?)),
            ("conntrack", "--ctstate") => Some(Match::States(sense, states(self.next()?)?)),
            ("addrtype", "--src-type") => self.take("LOCAL").then_some(Match::SourceIsLocal),
            ("addrtype", "--dst-type") => self.take("LOCAL").then_some(Match::DestinationIsLocal),
            ("statistic", "--mode") => {
                let random = self.take("random") && self.take("--probability");
                let value = random.then(|| self.next()).flatten()?.parse().ok()?;
                Probability::nearest(value).map(Match::Random)
            }
            ("recent", "--set" | "--update") => self.recent(option),
            ("set", "--match-set") => {
                let set = ChainName::new(self.next()?)?;
                self.take("src").then_some(Match::InSet(set))
            }
            ("bpf", "--bytecode") => match self.next()? {
                SAME_V4 => Some(Match::SameAddress(IpFamily::V4)),
                SAME_V6 => Some(Match::SameAddress(IpFamily::V6)),
                _ => None,
            },
            ("comment", "--comment") => Some(Match::Comment(unescaped(self.next()?).into())),
            _ => None,
        }
    }

    fn recent(&mut self, option: &str) -> Option<Match> {
        let (mut seconds, mut reap, mut list) = (None, false, None);
        loop {
            match self.tokens.get(self.at).copied() {
                Some("--seconds") => {
                    self.at += 1;
                    seconds = Some(self.next()?.parse().ok()?);
                }
                Some("--reap") => {
                    self.at += 1;
                    reap = true;
                }
                Some("--name") => {
                    self.at += 1;
                    list = Some(ChainName::new(self.next()?)?);
                }
                Some("--mask") => {
                    self.at += 1;
                    // Only whole addresses are remembered.
                    let mask = self.next()?;
                    let whole = ["255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"];
                    whole.contains(&mask).then_some(())?;
                }
                Some("--rsource") => self.at += 1,
                _ => break,
            }
        }
        match (option, seconds, reap) {
            ("--set", None, false) => Some(Match::Remember(list?)),
            ("--update", Some(seconds), true) => Some(Match::Remembered(list?, seconds)),
            _ => None,
        }
    }

    fn jump(&mut self, name: &str) -> Option<Target> {
        match name {
            "ACCEPT" => Some(Target::Accept),
            "DROP" => Some(Target::Drop),
            "RETURN" => Some(Target::Return),
            "REJECT" => {
                if !self.take("--reject-with") {
                    return Some(Target::Reject);
                }
                let with = self.next()?;
                let default = ["icmp-port-unreachable", "icmp6-port-unreachable"];
                default.contains(&with).then_some(Target::Reject)
            }
            "DNAT" => {
                let to = self.take("--to-destination").then(|| self.next())??;
                to.parse::<SocketAddr>().ok().map(Target::Dnat)
            }
            "MASQUERADE" => Some(Target::Masquerade(match self.take("--random-fully") {
                true => SourcePorts::Random,
                false => SourcePorts::Kept,
            })),
            "MARK" => {
                let set = self.take("--set-xmark").then(|| self.next())??;
                mark(set).map(Target::SetMark)
            }
            "SET" => {
                let set = self.take("--add-set").then(|| self.next())??;
                let rest = self.take("src") && self.take("--exist") && self.take("--timeout");
                let timeout = rest.then(|| self.next())??.parse().ok()?;
                Some(Target::AddToSet(ChainName::new(set)?, timeout))
            }
            _ if self.at == self.tokens.len() && !is_extension(name) => {
                ChainName::new(name).map(Target::Jump)
            }
            _ => {
                let rest = self.tokens.get(self.at - 2..)?.iter();
                let quoted = |token: &&str| match is_word(token) {
                    true => (*token).to_owned(),
                    false => format!("\"{token}\""),
                };
                let rest: Vec<String> = rest.map(quoted).collect();
                self.at = self.tokens.len();
                Some(Target::Opaque(rest.join(" ").into()))
            }
        }
    }
}

/// Whether a token needs no quotes.
fn is_word(token: &str) -> bool {
    !token.is_empty() && !token.starts_with('"') && !token.contains(char::is_whitespace)
}

/// Targets of the kernel that may stand without options; a chain cannot have such a name.
fn is_extension(name: &str) -> bool {
    const TARGETS: [&str; 9] = [
        "AUDIT", "CHECKSUM", "CONNMARK", "LOG", "NFLOG", "NFQUEUE", "NOTRACK", "QUEUE", "TRACE",
    ];
    TARGETS.contains(&name)
}

fn network(text: &str) -> Option<IpNet> {
    match text.contains('/') {
        true => text.parse().ok(),
        false => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "6" => Some(Protocol::Tcp),
        "17" => Some(Protocol::Udp),
        "132" => Some(Protocol::Sctp),
        _ => text.parse().ok(),
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn mark(text: &str) -> Option<Mark> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Some(Mark {
        value: number(value)?,
        mask: number(mask)?,
    })
}

fn states(text: &str) -> Option<States> {
    let mut states = States::default();
    for word in text.split(',') {
        let (state, _) = States::NAMES.into_iter().find(|(_, name)| *name == word)?;
        states = states.or(state);
    }
    Some(states)
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut escaped = false;
    for part in text.chars() {
        if part == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        plain.push(part);
    }
    plain
}

#[cfg(test)]
mod tests;
