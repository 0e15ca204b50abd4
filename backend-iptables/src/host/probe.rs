//! What the kernel and the tools have, found out with a chain that no hook reaches.

use svc_core::IpFamily;

use super::exec::{Tools, run};
use super::ipset::destroy;
use crate::config::{AffinityBy, Config, Features, HairpinBy};
use crate::error::Error;
use crate::name;
use crate::rule::{Mark, Match, Probability, Rule, Sense, SourcePorts, States, Target};

/// A thing to find out.
struct Probe {
    /// Its name, for messages.
    feature: &'static str,
    table: &'static str,
    rule: Rule,
}

/// Finds out which form of each feature to use.
///
/// # Errors
/// Something is lacking that nothing can stand in for; the message names it.
pub(crate) fn features(tools: &Tools, config: &Config) -> Result<Features, Error> {
    // With iptables-legacy each input costs as much as all rules that an earlier run left, so
    // the usual host is asked once.
    if has_everything(tools, config)? {
        return Ok(Features::default());
    }
    let needed = needed(config);
    let all: Vec<&Probe> = needed.iter().collect();
    if let Err(error) = attempt(tools, &all) {
        // Which one? If none alone fails, the error stands for itself.
        for probe in &needed {
            if let Err(Error::Failed { message, .. }) = attempt(tools, &[probe]) {
                return Err(Error::Lacking {
                    feature: probe.feature,
                    message,
                });
            }
        }
        return Err(error);
    }
    let has = |probe| succeeds(attempt(tools, &[&probe]));
    let [bpf, recent, random] = optional(config);
    let affinity = match (has(recent)?, with_set(tools, &[])?) {
        (true, true) => AffinityBy::RecentThenSets,
        (true, false) => AffinityBy::Recent,
        (false, true) => AffinityBy::Sets,
        (false, false) => AffinityBy::Nothing,
    };
    Ok(Features {
        hairpin: match has(bpf)? {
            true => HairpinBy::Bpf,
            false => HairpinBy::Tree,
        },
        source_ports: match has(random)? {
            true => SourcePorts::Random,
            false => SourcePorts::Kept,
        },
        affinity,
    })
}

fn has_everything(tools: &Tools, config: &Config) -> Result<bool, Error> {
    let mut probes = needed(config);
    probes.extend(optional(config));
    with_set(tools, &probes)
}

fn succeeds(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(Error::Failed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What another form stands in for: bpf, recent, and random ports.
fn optional(config: &Config) -> [Probe; 3] {
    let nat = |feature, rule| Probe {
        feature,
        table: "nat",
        rule,
    };
    let random = Target::Masquerade(SourcePorts::Random);
    let recent = Match::Remember(name::PROBE);
    [
        nat("bpf", Rule::new([config.hairpin_match()], Target::Return)),
        nat("recent", Rule::new([recent], Target::Return)),
        nat("random-fully", Rule::always(random)),
    ]
}

fn needed(config: &Config) -> Vec<Probe> {
    let mark = Mark {
        value: config.marks.unserved(),
        mask: config.marks.both(),
    };
    let nat = |feature, matches: Vec<Match>, target| Probe {
        feature,
        table: "nat",
        rule: Rule::new(matches, target),
    };
    let port = |protocol| vec![Match::Protocol(protocol), Match::Ports(protocol, 1, 2)];
    let to = match config.family {
        IpFamily::V4 => ([127, 0, 0, 1], 1).into(),
        IpFamily::V6 => ([0, 0, 0, 0, 0, 0, 0, 1], 1).into(),
    };
    let tcp = svc_core::Protocol::Tcp;
    let chance = Probability::of(1, 2).map(Match::Random);
    vec![
        Probe {
            feature: "target REJECT",
            table: "filter",
            rule: Rule::always(Target::Reject),
        },
        nat(
            "match mark",
            vec![Match::Mark(Sense::Is, mark)],
            Target::Return,
        ),
        nat("target MARK", vec![], config.marks.set_drop()),
        nat("match tcp", port(tcp), Target::Return),
        nat("match udp", port(svc_core::Protocol::Udp), Target::Return),
        nat(
            "match statistic",
            chance.into_iter().collect(),
            Target::Return,
        ),
        nat(
            "match addrtype",
            vec![Match::DestinationIsLocal],
            Target::Return,
        ),
        nat(
            "match conntrack",
            vec![Match::States(Sense::Is, States::DNAT)],
            Target::Return,
        ),
        nat("target DNAT", vec![Match::Protocol(tcp)], Target::Dnat(to)),
        nat(
            "target MASQUERADE",
            vec![],
            Target::Masquerade(SourcePorts::Kept),
        ),
        nat("goto", vec![], Target::Goto(name::PROBE_TARGET)),
    ]
}

/// Writes rules into a scratch chain and takes the chain away again. Both need a commit: what is
/// never committed the kernel never sees.
fn attempt(tools: &Tools, probes: &[&Probe]) -> Result<(), Error> {
    let mut input = String::new();
    let mut cleanup = String::new();
    for table in ["filter", "nat"] {
        let rules = probes.iter().filter(|probe| probe.table == table);
        let rules: Vec<&Rule> = rules.map(|probe| &probe.rule).collect();
        if rules.is_empty() {
            continue;
        }
        let (chain, other) = (name::PROBE, name::PROBE_TARGET);
        input += &format!("*{table}\n:{other} - [0:0]\n:{chain} - [0:0]\n");
        for rule in rules {
            input += &format!("-A {chain} {rule}\n");
        }
        input += "COMMIT\n";
        cleanup += &format!(
            "*{table}\n:{chain} - [0:0]\n:{other} - [0:0]\n-X {chain}\n-X {other}\nCOMMIT\n"
        );
    }
    let result = tools.restore(&input);
    // One table may be written and the other not; what is left over would be a stray chain.
    tools.restore(&cleanup)?;
    result
}

/// Whether sets can be made and used, together with other things.
fn with_set(tools: &Tools, others: &[Probe]) -> Result<bool, Error> {
    let family = match tools.family {
        IpFamily::V4 => "inet",
        IpFamily::V6 => "inet6",
    };
    let set = name::PROBE.to_string();
    let create = [
        "-exist", "create", &set, "hash:ip", "family", family, "timeout", "0",
    ];
    if run("ipset", &create, None, &[]).is_err() {
        return Ok(false);
    }
    let rule = |matches: Vec<Match>, target| Probe {
        feature: "set",
        table: "nat",
        rule: Rule::new(matches, target),
    };
    let uses = [
        rule(vec![Match::InSet(name::PROBE)], Target::Return),
        rule(vec![], Target::AddToSet(name::PROBE, 1)),
    ];
    let all: Vec<&Probe> = others.iter().chain(&uses).collect();
    let result = attempt(tools, &all);
    match destroy([name::PROBE]) {
        // One that stays says nothing about what the host has, and is taken up by the next probe.
        Ok(()) | Err(Error::Failed { .. }) => succeeds(result),
        Err(error) => Err(error),
    }
}
