//! The text of rules, as `iptables-restore` reads it and `iptables-save` prints it.

use std::fmt::{self, Display, Formatter};

use svc_core::IpFamily;

use super::{Mark, Match, Probability, Rule, Sense, SourcePorts, States, Target};

/// Classic BPF: loads the words of both addresses and compares them. Measured to be what the
/// kernel accepts and prints, see `tests`.
pub(super) const SAME_V4: &str = "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 1,6 0 0 0";
pub(super) const SAME_V6: &str = "18,32 0 0 8,7 0 0 0,32 0 0 24,29 0 13 0,32 0 0 12,7 0 0 0,32 0 0 28,29 0 9 0,32 0 0 16,7 0 0 0,32 0 0 32,29 0 5 0,32 0 0 20,7 0 0 0,32 0 0 36,29 0 1 0,6 0 0 1,6 0 0 0";

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for condition in &self.matches {
            write!(f, "{between}{condition}")?;
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
            | Target::Opaque(_) => write!(f, "{between}{}", self.target),
        }
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(sense, net) => write!(f, "{sense}-s {net}"),
            Self::Destination(sense, net) => write!(f, "{sense}-d {net}"),
            Self::Interface(sense, name) => write!(f, "{sense}-i {name}"),
            Self::Protocol(protocol) => write!(f, "-p {}", protocol.lower()),
            Self::Ports(protocol, first, last) => {
                write!(f, "-m {} --dport {first}", protocol.lower())?;
                match first == last {
                    true => Ok(()),
                    false => write!(f, ":{last}"),
                }
            }
            Self::Mark(sense, mark) => write!(f, "-m mark {sense}--mark {mark}"),
            Self::States(sense, states) => write!(f, "-m conntrack {sense}--ctstate {states}"),
            Self::SourceIsLocal => f.write_str("-m addrtype --src-type LOCAL"),
            Self::DestinationIsLocal => f.write_str("-m addrtype --dst-type LOCAL"),
            Self::Random(probability) => {
                write!(f, "-m statistic --mode random --probability {probability}")
            }
            Self::Remember(list) => write!(f, "-m recent --set --name {list} --rsource"),
            Self::Remembered(list, seconds) => write!(
                f,
                "-m recent --update --seconds {seconds} --reap --name {list} --rsource"
            ),
            Self::InSet(set) => write!(f, "-m set --match-set {set} src"),
            Self::SameAddress(family) => {
                let program = match family {
                    IpFamily::V4 => SAME_V4,
                    IpFamily::V6 => SAME_V6,
                };
                write!(f, "-m bpf --bytecode \"{program}\"")
            }
            Self::Comment(text) => {
                f.write_str("-m comment --comment \"")?;
                for part in text.chars() {
                    if matches!(part, '"' | '\\') {
                        f.write_str("\\")?;
                    }
                    write!(f, "{part}")?;
                }
                f.write_str("\"")
            }
            Self::Opaque(text) => f.write_str(text),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => Ok(()),
            Self::Jump(chain) => write!(f, "-j {chain}"),
            Self::Goto(chain) => write!(f, "-g {chain}"),
            Self::Accept => f.write_str("-j ACCEPT"),
            Self::Drop => f.write_str("-j DROP"),
            Self::Return => f.write_str("-j RETURN"),
            // Port unreachable is the default, in the words of either family (B-144).
            Self::Reject => f.write_str("-j REJECT"),
            Self::Dnat(to) => write!(f, "-j DNAT --to-destination {to}"),
            Self::Masquerade(SourcePorts::Kept) => f.write_str("-j MASQUERADE"),
            Self::Masquerade(SourcePorts::Random) => f.write_str("-j MASQUERADE --random-fully"),
            Self::SetMark(mark) => write!(f, "-j MARK --set-xmark {mark}"),
            Self::AddToSet(set, timeout) => {
                write!(f, "-j SET --add-set {set} src --exist --timeout {timeout}")
            }
            Self::Opaque(text) => f.write_str(text),
        }
    }
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

impl Display for Probability {
    /// With as many digits as give the same number of units back.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.11}", self.value())
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
