//! Chains of kube-proxy, and of ourselves, in both variants of iptables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::thread;

use svc_core::IpFamily;

use super::UNDER_WAY;

/// Whose chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    KubeProxy,
    Ourselves,
}

impl Owner {
    /// Whether a chain is the owner's. Chains of the kubelet (B-271), and those of network policies
    /// of kube-router, begin alike, so kube-proxy's are known by their names.
    fn owns(self, chain: &str) -> bool {
        match self {
            Self::KubeProxy => chain.strip_prefix("KUBE-").is_some_and(|rest| {
                CHAINS.contains(&rest) || PER_SERVICE.iter().any(|start| rest.starts_with(start))
            }),
            Self::Ourselves => chain.starts_with("SVC-"),
        }
    }
}

/// Chains of kube-proxy in iptables mode and IPVS mode, without `KUBE-`.
const CHAINS: [&str; 14] = [
    "SERVICES",
    "EXTERNAL-SERVICES",
    "NODEPORTS",
    "POSTROUTING",
    "MARK-MASQ",
    "FORWARD",
    "PROXY-FIREWALL",
    "PROXY-CANARY",
    "NODE-PORT",
    "LOAD-BALANCER",
    "FIRE-WALL",
    "SOURCE-RANGES-FIREWALL",
    "IPVS-FILTER",
    "IPVS-OUT-FILTER",
];
/// How its chains for a Service or an endpoint begin, without `KUBE-`.
const PER_SERVICE: [&str; 6] = ["SVC-", "SVL-", "SEP-", "EXT-", "FW-", "XLB-"];

/// What `iptables-save` says: the chains and rules of each table.
#[derive(Debug, Default)]
pub(super) struct Saved {
    tables: BTreeMap<String, Table>,
}

#[derive(Debug, Default)]
struct Table {
    chains: BTreeSet<String>,
    /// Without the leading `-A`.
    rules: Vec<String>,
}

/// Why tables of iptables-legacy that are there cannot be read, if that is so.
///
/// That variant speaks through a raw socket, for which reading takes `CAP_NET_RAW` as well.
pub(super) fn unreadable(family: IpFamily) -> Option<String> {
    let names = match family {
        IpFamily::V4 => "ip_tables_names",
        IpFamily::V6 => "ip6_tables_names",
    };
    // Of the network namespace of this thread. Nobody but root may read it: then there may be tables.
    match fs::read_to_string(format!("/proc/thread-self/net/{names}")) {
        Ok(names) if names.trim().is_empty() => return None,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Ok(_) | Err(_) => {}
    }
    let program = program("legacy", family, "save");
    match is_missing(&program) {
        // Which is told by itself.
        true => None,
        false => run(&program, &[], "").err(),
    }
}

/// The rules of a variant; `None` if there is no such variant, or it cannot be read.
pub(super) fn save(variant: &str, family: IpFamily) -> Option<Saved> {
    run(&program(variant, family, "save"), &[], "")
        .ok()
        .map(|text| Saved::parse(&text))
}

impl Saved {
    fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                current = name.trim().to_owned();
                continue;
            }
            let table = saved.tables.entry(current.clone()).or_default();
            if let Some(chain) = line.strip_prefix(':') {
                table
                    .chains
                    .extend(chain.split(' ').next().map(str::to_owned));
            } else if let Some(rule) = line.strip_prefix("-A ") {
                table.rules.push(rule.to_owned());
            }
        }
        saved
    }

    pub(super) fn has_chains_of(&self, owner: Owner) -> bool {
        self.tables
            .values()
            .flat_map(|table| &table.chains)
            .any(|chain| owner.owns(chain))
    }

    /// The input that takes the chains of an owner off the hooks where connections get their
    /// addresses, and leaves those where packets under way are finished.
    fn unhook(&self, owner: Owner) -> String {
        let Some(nat) = self.tables.get("nat") else {
            return String::new();
        };
        let first = ["PREROUTING", "OUTPUT"];
        let jumps = nat.rules.iter().filter(|rule| {
            let target = target(rule);
            first.contains(&chain_of(rule)) && target.is_some_and(|to| owner.owns(to))
        });
        let lines: Vec<String> = jumps.map(|rule| format!("-D {rule}\n")).collect();
        match lines.is_empty() {
            true => String::new(),
            false => format!("*nat\n{}COMMIT\n", lines.concat()),
        }
    }

    /// The input that removes all chains of an owner; those that rules of others use stay.
    fn removal(&self, owner: Owner) -> String {
        let mut input = String::new();
        for (name, table) in &self.tables {
            let own: BTreeSet<&str> = table
                .chains
                .iter()
                .map(String::as_str)
                .filter(|chain| owner.owns(chain))
                .collect();
            if own.is_empty() {
                continue;
            }
            let foreign = table
                .rules
                .iter()
                .filter(|rule| !own.contains(chain_of(rule)));
            let mut pinned = BTreeSet::new();
            let mut lines = Vec::new();
            for rule in foreign {
                let Some(to) = target(rule).filter(|to| own.contains(to)) else {
                    continue;
                };
                match BUILT_IN.contains(&chain_of(rule)) {
                    true => lines.push(format!("-D {rule}")),
                    false => {
                        pinned.insert(to);
                    }
                }
            }
            // What a kept chain leads to is kept with it.
            loop {
                let led = table
                    .rules
                    .iter()
                    .filter(|rule| pinned.contains(chain_of(rule)));
                let led: Vec<&str> = led.filter_map(|rule| target(rule)).collect();
                let before = pinned.len();
                pinned.extend(led.into_iter().filter(|to| own.contains(to)));
                if pinned.len() == before {
                    break;
                }
            }
            let gone: Vec<&&str> = own
                .iter()
                .filter(|chain| !pinned.contains(**chain))
                .collect();
            // All are emptied before one is deleted: they refer to each other.
            lines.extend(gone.iter().map(|chain| format!(":{chain} - [0:0]")));
            lines.extend(gone.iter().map(|chain| format!("-X {chain}")));
            input += &format!("*{name}\n{}\nCOMMIT\n", lines.join("\n"));
        }
        input
    }
}

/// Removes kube-proxy's chains.
pub(super) fn remove_kube_proxy(variant: &str, family: IpFamily) -> Result<(), String> {
    unhook(variant, family, Owner::KubeProxy)?;
    // Read again, as the rules of the first step are gone.
    let Some(saved) = save(variant, family) else {
        return Ok(());
    };
    match saved.removal(Owner::KubeProxy) {
        input if input.is_empty() => Ok(()),
        input => restore(variant, family, &input),
    }
}

/// Sends no more packets into the chains of an owner, and waits until those that are in them have
/// left: a packet that was given an endpoint finds what gives it a source address behind it.
pub(super) fn unhook(variant: &str, family: IpFamily, owner: Owner) -> Result<(), String> {
    let unhook = save(variant, family).map(|saved| saved.unhook(owner));
    let unhook = unhook.unwrap_or_default();
    if !unhook.is_empty() {
        restore(variant, family, &unhook)?;
        thread::sleep(UNDER_WAY);
    }
    Ok(())
}

fn restore(variant: &str, family: IpFamily, input: &str) -> Result<(), String> {
    let program = program(variant, family, "restore");
    run(&program, &["--noflush", "-w", "5"], input).map(drop)
}

/// `iptables-legacy-save` and the like.
pub(super) fn program(variant: &str, family: IpFamily, part: &str) -> String {
    let base = match family {
        IpFamily::V4 => "iptables",
        IpFamily::V6 => "ip6tables",
    };
    format!("{base}-{variant}-{part}")
}

/// Whether there is no such program.
pub(super) fn is_missing(program: &str) -> bool {
    let tried = Command::new(program).arg("--version").output();
    tried.is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Runs a program in the network namespace of the calling thread; what it printed.
pub(super) fn run(program: &str, args: &[&str], input: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // Beside the reading of its output: a pipe holds little.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(failed)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program}: {}", said.trim().replace('\n', "; ")))
        }
    }
}

/// The chain that a rule stands in.
fn chain_of(rule: &str) -> &str {
    rule.split(' ').next().unwrap_or_default()
}

/// The chain that a rule leads to.
fn target(rule: &str) -> Option<&str> {
    let mut words = rule.split(' ');
    words.find(|word| matches!(*word, "-j" | "-g"))?;
    words.next()
}

const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:CNI-X - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A CNI-X -j KUBE-MARK-MASQ
-A KUBE-SERVICES -d 10.96.0.10/32 -j KUBE-SVC-A
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
COMMIT
*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-NWPLCY-DEFAULT - [0:0]
:KUBE-POD-FW-A - [0:0]
:KUBE-ROUTER-INPUT - [0:0]
-A INPUT -j KUBE-ROUTER-INPUT
-A INPUT -j KUBE-FIREWALL
COMMIT
";

    #[test]
    fn removal_leaves_the_kubelet_and_what_others_use() {
        let saved = Saved::parse(SAVED);
        assert!(saved.has_chains_of(Owner::KubeProxy));
        assert!(!saved.has_chains_of(Owner::Ourselves));
        expect_test::expect![[r#"
            *nat
            -D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            COMMIT
        "#]]
        .assert_eq(&saved.unhook(Owner::KubeProxy));
        expect_test::expect![[r#"
            *nat
            -D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            -D POSTROUTING -j KUBE-POSTROUTING
            :KUBE-POSTROUTING - [0:0]
            :KUBE-SERVICES - [0:0]
            :KUBE-SVC-A - [0:0]
            -X KUBE-POSTROUTING
            -X KUBE-SERVICES
            -X KUBE-SVC-A
            COMMIT
        "#]]
        .assert_eq(&saved.removal(Owner::KubeProxy));
    }
}
