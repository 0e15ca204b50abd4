//! The text of rules, as `iptables-restore` reads it and `iptables-save` prints it.

use std::fmt::{self, Display, Formatter, Write};
use std::net::{Ipv4Addr, SocketAddr};

use svc_core::{IpFamily, IpNet};

use super::{Mark, Match, Probability, Rule, Sense, SourcePorts, States, Target};

/// Classic BPF: loads the words of both addresses and compares them. Measured to be what the
/// kernel accepts and prints, see `tests`.
pub(super) const SAME_V4: &str = "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 1,6 0 0 0";
pub(super) const SAME_V6: &str = "18,32 0 0 8,7 0 0 0,32 0 0 24,29 0 13 0,32 0 0 12,7 0 0 0,32 0 0 28,29 0 9 0,32 0 0 16,7 0 0 0,32 0 0 32,29 0 5 0,32 0 0 20,7 0 0 0,32 0 0 36,29 0 1 0,6 0 0 1,6 0 0 0";

impl Rule {
    /// Writes the rule. A text is written directly where it can: a first load has tens of
    /// thousands of rules, and the machinery of `write!` costs more than everything else of them.
    pub(crate) fn write(&self, out: &mut impl Write) -> fmt::Result {
        let mut between = "";
        for condition in &self.matches {
            out.write_str(between)?;
            condition.write(out)?;
            between = " ";
        }
        match self.target {
            Target::Continue => Ok(()),
            Target::Jump(_)
            | Target::Goto(_)
            | Target::Accept
            | Target::Drop
            | Target::Return
            | Target::Reject
            | Target::Dnat(_)
            | Target::Masquerade(_)
            | Target::SetMark(_)
            | Target::AddToSet(..)
            | Target::Opaque(_) => {
                out.write_str(between)?;
                self.target.write(out)
            }
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl Match {
    fn write(&self, out: &mut impl Write) -> fmt::Result {
        match self {
            Self::Source(sense, net) => address(out, *sense, "-s ", net),
            Self::Destination(sense, net) => address(out, *sense, "-d ", net),
            Self::Interface(sense, name) => write!(out, "{sense}-i {name}"),
            Self::Protocol(protocol) => words(out, ["-p ", protocol.lower()]),
            Self::Ports(protocol, first, last) => {
                words(out, ["-m ", protocol.lower(), " --dport "])?;
                number(out, u32::from(*first))?;
                match first == last {
                    true => Ok(()),
                    false => write!(out, ":{last}"),
                }
            }
            Self::Mark(sense, mark) => write!(out, "-m mark {sense}--mark {mark}"),
            Self::States(sense, states) => write!(out, "-m conntrack {sense}--ctstate {states}"),
            Self::SourceIsLocal => out.write_str("-m addrtype --src-type LOCAL"),
            Self::DestinationIsLocal => out.write_str("-m addrtype --dst-type LOCAL"),
            Self::Random(probability) => {
                out.write_str("-m statistic --mode random --probability ")?;
                probability.write(out)
            }
            Self::Remember(list) => words(
                out,
                ["-m recent --set --name ", list.as_str(), " --rsource"],
            ),
            Self::Remembered(list, seconds) => write!(
                out,
                "-m recent --update --seconds {seconds} --reap --name {list} --rsource"
            ),
            Self::InSet(set) => words(out, ["-m set --match-set ", set.as_str(), " src"]),
            Self::SameAddress(family) => {
                let program = match family {
                    IpFamily::V4 => SAME_V4,
                    IpFamily::V6 => SAME_V6,
                };
                words(out, ["-m bpf --bytecode \"", program, "\""])
            }
            Self::Comment(text) => comment(out, text),
            Self::Opaque(text) => out.write_str(text),
        }
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl Target {
    fn write(&self, out: &mut impl Write) -> fmt::Result {
        match self {
            Self::Continue => Ok(()),
            Self::Jump(chain) => words(out, ["-j ", chain.as_str()]),
            Self::Goto(chain) => words(out, ["-g ", chain.as_str()]),
            Self::Accept => out.write_str("-j ACCEPT"),
            Self::Drop => out.write_str("-j DROP"),
            Self::Return => out.write_str("-j RETURN"),
            // Port unreachable is the default, in the words of either family (B-144).
            Self::Reject => out.write_str("-j REJECT"),
            Self::Dnat(SocketAddr::V4(to)) => {
                out.write_str("-j DNAT --to-destination ")?;
                v4(out, *to.ip())?;
                out.write_char(':')?;
                number(out, u32::from(to.port()))
            }
            Self::Dnat(to) => write!(out, "-j DNAT --to-destination {to}"),
            Self::Masquerade(SourcePorts::Kept) => out.write_str("-j MASQUERADE"),
            Self::Masquerade(SourcePorts::Random) => out.write_str("-j MASQUERADE --random-fully"),
            Self::SetMark(mark) => write!(out, "-j MARK --set-xmark {mark}"),
            Self::AddToSet(set, timeout) => {
                write!(
                    out,
                    "-j SET --add-set {set} src --exist --timeout {timeout}"
                )
            }
            Self::Opaque(text) => out.write_str(text),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

fn words<const N: usize>(out: &mut impl Write, words: [&str; N]) -> fmt::Result {
    words.into_iter().try_for_each(|word| out.write_str(word))
}

fn comment(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_str("-m comment --comment \"")?;
    for part in text.chars() {
        if matches!(part, '"' | '\\') {
            out.write_char('\\')?;
        }
        out.write_char(part)?;
    }
    out.write_char('"')
}

fn address(out: &mut impl Write, sense: Sense, option: &str, net: &IpNet) -> fmt::Result {
    if sense == Sense::Not {
        out.write_str("! ")?;
    }
    out.write_str(option)?;
    match net {
        IpNet::V4(net) => {
            v4(out, net.addr())?;
            out.write_char('/')?;
            number(out, u32::from(net.prefix_len()))
        }
        IpNet::V6(net) => write!(out, "{net}"),
    }
}

fn v4(out: &mut impl Write, ip: Ipv4Addr) -> fmt::Result {
    let [a, b, c, d] = ip.octets().map(u32::from);
    number(out, a)?;
    for part in [b, c, d] {
        out.write_char('.')?;
        number(out, part)?;
    }
    Ok(())
}

/// In decimal digits.
fn number(out: &mut impl Write, value: u32) -> fmt::Result {
    let mut above = 1;
    while above <= value / 10 {
        above *= 10;
    }
    digits(out, u64::from(value), u64::from(above))
}

/// As many digits as `highest`, a power of ten, has.
fn digits(out: &mut impl Write, value: u64, highest: u64) -> fmt::Result {
    let mut at = highest;
    while at > 0 {
        // One digit: the cast is exact.
        out.write_char(char::from(b'0' + (value / at % 10) as u8))?;
        at /= 10;
    }
    Ok(())
}

impl Display for Sense {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Is => "",
            Self::Not => "! ",
        })
    }
}

impl Display for Mark {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

impl Probability {
    /// With as many digits as give the same number of units back, and as iptables-save has them.
    fn write(self, out: &mut impl Write) -> fmt::Result {
        const DIGITS: u64 = 100_000_000_000;
        let units = u128::from(self.0) * u128::from(DIGITS);
        let one = u128::from(Self::ONE);
        let (whole, rest) = (units / one, units % one);
        // Half of the last digit goes to the even neighbour, as `printf` does.
        let up = rest > one / 2 || (rest == one / 2 && whole % 2 == 1);
        let value = u64::try_from(whole).unwrap_or(DIGITS) + u64::from(up);
        digits(out, value / DIGITS, 1)?;
        out.write_char('.')?;
        digits(out, value % DIGITS, DIGITS / 10)
    }
}

impl Display for Probability {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl Display for States {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (state, name) in Self::NAMES {
            if self.meets(state) {
                write!(f, "{between}{name}")?;
                between = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_those_of_the_standard_library(value: u32, bits in 0u32..32, ip: u32) {
            let of = |write: &dyn Fn(&mut String) -> fmt::Result| {
                let mut text = String::new();
                write(&mut text).unwrap();
                text
            };
            let value = value >> bits;
            prop_assert_eq!(of(&|out| number(out, value)), value.to_string());
            let ip = Ipv4Addr::from_bits(ip);
            prop_assert_eq!(of(&|out| v4(out, ip)), ip.to_string());
            let net: IpNet = svc_core::Ipv4Net::new(ip, (bits + 1) as u8).unwrap().into();
            let written = of(&|out| address(out, Sense::Not, "-d ", &net));
            prop_assert_eq!(written, format!("! -d {net}"));
            // Every number of units, and those that lie in the middle of two texts.
            for units in [value >> 1, (value | 1) << 19 & (Probability::ONE - 1), Probability::ONE] {
                let probability = Probability(units);
                prop_assert_eq!(probability.to_string(), format!("{:.11}", probability.value()));
            }
        }
    }
}
