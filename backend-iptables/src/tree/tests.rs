use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use svc_core::Protocol;

use super::*;

const MARKS: Marked = Marked { unserved: 0x8000 };

/// A chain, or one to four endpoints.
fn target(number: u32) -> Goal {
    match number % 5 {
        0 => Goal::Chain(ChainName::new(&format!("SVC-{number:08x}-t00080c")).unwrap()),
        count => Goal::Endpoints((0..count).map(|n| endpoint(number + 7 * n)).collect()),
    }
}

fn endpoint(number: u32) -> SocketAddr {
    (Ipv4Addr::from_bits(0x0a40_0000 + number), 8080).into()
}

fn entry(tree: Tree, family: IpFamily, address: u32, protocol: u8, port: u16) -> Entry {
    let node_port = matches!(tree, Tree::NodePort | Tree::Beside);
    let ip = match family {
        _ if node_port => unspecified(family),
        IpFamily::V4 => Ipv4Addr::from_bits(address).into(),
        IpFamily::V6 => {
            // Spreads the address over the upper and the lower half.
            let upper = u128::from(address & 0xffff_0000) << 64;
            Ipv6Addr::from_bits((0xfd10 << 112) | upper | u128::from(address & 0xffff)).into()
        }
    };
    let hairpin = tree == Tree::Hairpin;
    Entry {
        tree,
        ip,
        protocol: match hairpin {
            true => Protocol::Tcp,
            false => Protocol::ALL[usize::from(protocol % 3)],
        },
        port: if hairpin { 0 } else { port },
    }
}

/// Entries that crowd in places, so that trees get deep.
fn any_entry(family: IpFamily) -> impl Strategy<Value = Entry> {
    let address = prop_oneof![
        3 => (0u32..64).prop_map(|n| 0x0a60_0000 + n),
        3 => (0u32..2000).prop_map(|n| 0x0a60_0000 + n * 37),
        2 => any::<u32>(),
        1 => Just(0xc000_0232),
    ];
    let port = prop_oneof![3 => Just(80u16), 2 => any::<u16>(), 1 => 30000u16..30064];
    let tree = prop::sample::select(Tree::ALL.to_vec());
    (tree, address, 0u8..3, port)
        .prop_map(move |(tree, ip, protocol, port)| entry(tree, family, ip, protocol, port))
}

/// Entries to add or remove.
type Batch = Vec<(Entry, bool)>;

fn any_entries() -> impl Strategy<Value = (IpFamily, Vec<Entry>, Vec<Batch>)> {
    prop_oneof![Just(IpFamily::V4), Just(IpFamily::V6)].prop_flat_map(|family| {
        let start = prop::collection::vec(any_entry(family), 0..400);
        let changes = prop::collection::vec((any_entry(family), any::<bool>()), 0..60);
        (Just(family), start, prop::collection::vec(changes, 1..4))
    })
}

/// Follows a packet through a tree, as the kernel would. Chance sends it to all endpoints.
fn lookup(nodes: &Nodes, chain: ChainName, packet: &Entry, depth: u32) -> Option<Goal> {
    assert!(depth <= u32::from(MAX_DEPTH), "too deep");
    #[allow(clippy::wildcard_enum_match_arm, reason = "a tree has no others")]
    let matches = |m: &Match| match m {
        Match::Source(_, net) | Match::Destination(_, net) => net.contains(&packet.ip),
        Match::Protocol(protocol) => *protocol == packet.protocol,
        Match::Ports(_, first, last) => (*first..=*last).contains(&packet.port),
        Match::Random(_) => true,
        other => panic!("{other:?} in a tree"),
    };
    let mut endpoints = Vec::new();
    for (rule, _) in nodes.get(&chain)? {
        if !rule.matches().iter().all(matches) {
            continue;
        }
        if let Target::Dnat(endpoint) = rule.target() {
            endpoints.push(*endpoint);
            let random = |m: &Match| matches!(m, Match::Random(_));
            match rule.matches().iter().any(random) {
                true => continue,
                false => return Some(Goal::Endpoints(endpoints.into())),
            }
        }
        assert_eq!(endpoints, [], "chance runs out");
        let to = rule.callee()?;
        return match nodes.contains_key(&to) {
            true => lookup(nodes, to, packet, depth + 1),
            false => Some(Goal::Chain(to)),
        };
    }
    assert_eq!(endpoints, [], "chance runs out");
    None
}

fn numbered(list: &[Entry]) -> Entries {
    let pairs = (0..).zip(list);
    pairs.map(|(n, entry)| (*entry, target(n))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_entry_is_found_and_nothing_else((family, list, other) in any_entries()) {
        let entries = numbered(&list);
        let nodes = all_nodes(&entries, family, MARKS);
        let strangers = other.iter().flatten().map(|(entry, _)| entry);
        for packet in list.iter().chain(strangers) {
            let found = lookup(&nodes, name::root(packet.tree), packet, 0);
            prop_assert_eq!(found, entries.get(packet).cloned(), "{}", packet);
        }
        let mut read = Entries::new();
        for (chain, rules) in &nodes {
            let name::Class::Node(tree) = name::classify(*chain) else { continue };
            let rules: Vec<Rule> = rules.iter().map(|(rule, _)| rule.clone()).collect();
            for (entry, goal) in entries_of(tree, &rules, family) {
                prop_assert!(read.insert(entry, goal).is_none(), "{} is there twice", entry);
            }
        }
        prop_assert_eq!(read, entries);
    }

    #[test]
    fn changes_lead_where_a_fresh_tree_would_be((family, list, batches) in any_entries()) {
        let mut entries = numbered(&list);
        let mut nodes = all_nodes(&entries, family, MARKS);
        for (round, batch) in (1u32..).zip(&batches) {
            let change_of = |(n, (entry, added)): (u32, &(Entry, bool))| {
                (*entry, added.then(|| target(1000 * round + n)))
            };
            let mut changes: BTreeMap<_, _> = (0..).zip(batch).map(change_of).collect();
            // Some of those that are there go.
            changes.extend(entries.keys().step_by(3).map(|entry| (*entry, None)));
            let edits = change(&mut entries, &changes, family, MARKS);
            for name in &edits.removed {
                prop_assert!(nodes.remove(name).is_some(), "{} was not there", name);
            }
            for (name, rules) in edits.written {
                let old = nodes.insert(name, rules.clone());
                prop_assert_ne!(old, Some(rules), "{} is written in vain", name);
            }
            prop_assert_eq!(&nodes, &all_nodes(&entries, family, MARKS));
        }
    }

    #[test]
    fn covers_hold_every_address((family, list, _) in any_entries()) {
        let entries = numbered(&list);
        for tree in [Tree::Cluster, Tree::External] {
            let most = most_covers(tree);
            let nets = cover::covers(&entries, tree, family, most);
            prop_assert!(nets.len() <= most);
            prop_assert!(nets.is_sorted());
            for entry in entries.keys().filter(|entry| entry.tree == tree) {
                let holding = nets.iter().filter(|net| net.contains(&entry.ip)).count();
                prop_assert_eq!(holding, 1, "{} in {:?}", entry, nets);
            }
        }
    }
}

/// Ten thousand Services with three endpoints each, at random addresses of a /12 and one after
/// the other.
#[test]
fn a_full_range_compares_few_rules() {
    let places: [fn(u32) -> u32; 2] = [|n| n.wrapping_mul(2_654_435_761) % (1 << 20), |n| n + 1];
    for place in places {
        let list: Vec<Entry> = (0..10_000)
            .map(|n| entry(Tree::Cluster, IpFamily::V4, 0x0a60_0000 + place(n), 0, 80))
            .collect();
        let three = Goal::Endpoints((0..3).map(endpoint).collect());
        let entries = list.iter().map(|entry| (*entry, three.clone())).collect();
        let nodes = all_nodes(&entries, IpFamily::V4, MARKS);
        let (mean, most) = mean_and_most(&compared(&nodes, &list));
        println!(
            "{} nodes, {mean:.1} and at most {most} rules compared",
            nodes.len()
        );
        assert!(mean < 32.0, "{mean} rules on average");
        assert!(most < 60, "{most} rules at most");
        assert!(nodes.len() < 3_000, "{} nodes", nodes.len());
    }
}

/// With how many rules a packet to each front end is compared, at most: chance takes the last.
fn compared(nodes: &Nodes, list: &[Entry]) -> Vec<usize> {
    let mut reached = BTreeMap::new();
    follow(nodes, name::CLUSTER_IPS, 0, &mut reached);
    list.iter().map(|entry| reached[entry]).collect()
}

fn follow(nodes: &Nodes, chain: ChainName, before: usize, reached: &mut BTreeMap<Entry, usize>) {
    for (index, (rule, entry)) in (1..).zip(&nodes[&chain]) {
        match (entry, rule.callee()) {
            (Some(entry), _) => drop(reached.insert(*entry, before + index)),
            (None, Some(to)) => follow(nodes, to, before + index, reached),
            (None, None) => panic!("{rule} in a tree"),
        }
    }
}

fn mean_and_most(compared: &[usize]) -> (f64, usize) {
    let sum: usize = compared.iter().sum();
    let most = compared.iter().max().copied().unwrap_or(0);
    (sum as f64 / compared.len() as f64, most)
}

#[test]
fn one_change_writes_one_node() {
    let list: Vec<Entry> = (0..10_000u32)
        .map(|n| entry(Tree::Cluster, IpFamily::V4, 0x0a60_0000 + n * 50, 0, 80))
        .collect();
    let mut entries = numbered(&list);
    let changes = BTreeMap::from([(list[5_000], Some(target(77_777)))]);
    let edits = change(&mut entries, &changes, IpFamily::V4, MARKS);
    assert_eq!((edits.written.len(), edits.removed.len()), (1, 0));
}
