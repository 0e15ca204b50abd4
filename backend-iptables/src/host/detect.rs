//! Which variant of iptables a host uses.
//!
//! Both variants may be installed, and rules of both are in force at once. So the rules that are
//! there count more than what the program `iptables` happens to be.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use svc_core::IpFamily;

use super::exec::{Tools, base, run};
use crate::error::Error;

/// The first version whose `iptables-restore` can wait for the lock.
const NEEDED: (u32, u32, u32) = (1, 6, 2);
const NEEDED_TEXT: &str = "1.6.2";

/// Chains of the kubelet that are there to tell which variant the host uses.
const HINTS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

/// Which half of the kernel the tools talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// ip_tables: a table is one piece, read and written whole.
    Legacy,
    /// nf_tables.
    Nft,
}

impl Variant {
    /// Both variants.
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Nft];

    /// The name, as the programs carry it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Nft => "nft",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Legacy => Self::Nft,
            Self::Nft => Self::Legacy,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was found out about the variants of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The variant to use.
    pub variant: Variant,
    /// Why, for people to read.
    pub evidence: String,
    /// What is odd, such as rules in both variants.
    pub warning: Option<String>,
    /// Whether the programs carry the variant in their names.
    named: bool,
}

impl Detected {
    pub(crate) fn tools(
        &self,
        family: IpFamily,
        lock_wait: Duration,
        lock_file: Option<PathBuf>,
    ) -> Tools {
        Tools {
            family,
            variant: self.variant,
            named: self.named,
            lock_wait,
            lock_file,
        }
    }
}

/// What one variant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stack {
    installed: bool,
    rules: usize,
    hinted: bool,
}

/// Finds out which variant to use, or checks that a given one can be used.
///
/// # Errors
/// No tools are installed, or they are too old.
pub fn detect(family: IpFamily, wanted: Option<Variant>) -> Result<Detected, Error> {
    let (default, version) = match version(base(family)) {
        Ok((variant, version)) => (Some(variant), version),
        Err(Error::Missing { .. }) => (None, String::new()),
        Err(error) => return Err(error),
    };
    let named = |variant: Variant| {
        let program = format!("{}-{}", base(family), variant.name());
        self::version(&program).is_ok()
    };
    let is_named = Variant::ALL.map(named);
    let stack = |variant: Variant, named: bool| {
        let mut stack = Stack {
            installed: named || default == Some(variant),
            ..Stack::default()
        };
        if named {
            look(family, variant, &mut stack);
        }
        stack
    };
    let [legacy, nft] = is_named;
    let stacks = [stack(Variant::Legacy, legacy), stack(Variant::Nft, nft)];
    let mut detected = decide(stacks, default, wanted).ok_or_else(|| Error::Missing {
        program: match wanted {
            Some(variant) => format!("{}-{variant}", base(family)),
            None => base(family).to_owned(),
        },
    })?;
    detected.named = match detected.variant {
        Variant::Legacy => legacy,
        Variant::Nft => nft,
    };
    let program = match detected.named {
        true => format!("{}-{}", base(family), detected.variant),
        false => base(family).to_owned(),
    };
    let version = match detected.named {
        true => self::version(&program)?.1,
        false => version,
    };
    match new_enough(&version) {
        true => Ok(detected),
        false => Err(Error::TooOld {
            program,
            found: version,
            needed: NEEDED_TEXT,
        }),
    }
}

fn decide(
    stacks: [Stack; 2],
    default: Option<Variant>,
    wanted: Option<Variant>,
) -> Option<Detected> {
    let [legacy, nft] = stacks;
    let of = |variant| match variant {
        Variant::Legacy => legacy,
        Variant::Nft => nft,
    };
    let (variant, evidence) = match (wanted, default) {
        (Some(variant), _) => (variant, "it was asked for".to_owned()),
        _ if legacy.installed != nft.installed => {
            let variant = if nft.installed {
                Variant::Nft
            } else {
                Variant::Legacy
            };
            (variant, "no other is installed".to_owned())
        }
        _ if legacy.hinted != nft.hinted => {
            let variant = if nft.hinted {
                Variant::Nft
            } else {
                Variant::Legacy
            };
            (variant, "the kubelet's chains are there".to_owned())
        }
        _ if legacy.rules != nft.rules => {
            let variant = match nft.rules > legacy.rules {
                true => Variant::Nft,
                false => Variant::Legacy,
            };
            let (more, fewer) = (of(variant).rules, of(variant.other()).rules);
            (
                variant,
                format!("it has {more} rules and the other {fewer}"),
            )
        }
        (None, Some(variant)) => (variant, "iptables is of this variant".to_owned()),
        (None, None) => (Variant::Nft, "both are installed and empty".to_owned()),
    };
    if !of(variant).installed {
        return None;
    }
    let other = variant.other();
    let warning = (of(other).rules > 0).then(|| {
        let rules = of(other).rules;
        format!("iptables-{other} has {rules} rules too, and both are in force; using {variant}: {evidence}")
    });
    Some(Detected {
        variant,
        evidence,
        warning,
        named: false,
    })
}

/// Counts the rules of a variant; what cannot be read counts as empty.
fn look(family: IpFamily, variant: Variant, stack: &mut Stack) {
    // Asking the legacy tools would create the tables.
    let tables = match family {
        IpFamily::V4 => "/proc/thread-self/net/ip_tables_names",
        IpFamily::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    let no_tables = || fs::read_to_string(Path::new(tables)).is_ok_and(|text| text.is_empty());
    if variant == Variant::Legacy && (no_tables() || !Path::new(tables).exists()) {
        return;
    }
    let program = format!("{}-{}-save", base(family), variant.name());
    let Ok(output) = run(&program, &[""; 0], None, &[]) else {
        return;
    };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if line.starts_with("-A ") {
            stack.rules += 1;
        }
        let chain = line
            .strip_prefix(':')
            .and_then(|rest| rest.split(' ').next());
        stack.hinted |= chain.is_some_and(|chain| HINTS.contains(&chain));
    }
}

/// Asks a program what it is: `iptables v1.8.9 (nf_tables)`.
fn version(program: &str) -> Result<(Variant, String), Error> {
    let output = run(program, &["--version"], None, &[])?;
    let said = String::from_utf8_lossy(&output.stdout);
    let variant = match said.contains("nf_tables") {
        true => Variant::Nft,
        // Before 1.8 there was no other.
        false => Variant::Legacy,
    };
    let version = said.split_whitespace().nth(1).unwrap_or_default();
    Ok((variant, version.trim_start_matches('v').to_owned()))
}

fn new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse::<u32>().ok())
    });
    let mut next = || numbers.next().flatten();
    let Some(major) = next() else { return false };
    (major, next().unwrap_or(0), next().unwrap_or(0)) >= NEEDED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(rules: usize, hinted: bool) -> Stack {
        Stack {
            installed: true,
            rules,
            hinted,
        }
    }

    fn chosen(legacy: Stack, nft: Stack, default: Option<Variant>) -> (Variant, bool) {
        let detected = decide([legacy, nft], default, None).unwrap();
        (detected.variant, detected.warning.is_some())
    }

    #[test]
    fn rules_count_more_than_the_default() {
        let default = Some(Variant::Nft);
        let none = Stack::default();
        assert_eq!(
            chosen(stack(9, false), stack(0, false), default),
            (Variant::Legacy, false)
        );
        assert_eq!(
            chosen(stack(9, false), stack(3, false), default),
            (Variant::Legacy, true)
        );
        assert_eq!(
            chosen(stack(9, false), stack(3, true), default),
            (Variant::Nft, true)
        );
        assert_eq!(
            chosen(stack(0, false), stack(0, false), default),
            (Variant::Nft, false)
        );
        assert_eq!(
            chosen(stack(0, false), none, None),
            (Variant::Legacy, false)
        );
        assert_eq!(decide([none, none], None, None), None);
        assert_eq!(
            decide([none, stack(0, false)], default, Some(Variant::Legacy)),
            None
        );
    }

    #[test]
    fn versions_are_compared_by_number() {
        for good in ["1.6.2", "1.8.9", "1.10", "2.0.1"] {
            assert!(new_enough(good), "{good}");
        }
        for bad in ["1.6.1", "1.4.21", "", "x"] {
            assert!(!new_enough(bad), "{bad}");
        }
    }
}
