//! A program for people, with the service ports that its rules are for.

use std::collections::BTreeMap;
use std::fmt;

use svc_core::{Fragment, IpFamily, ServicePortName};

use crate::key::{Entry, Key, Table, Value};
use crate::name::{ChainName, Class, classify};
use crate::program::Program;
use crate::rule::Rule;
use crate::tree::entry_of;

/// Prints a program as `iptables-save` would, without counters, and a comment in front of the rules of
/// each service port: `iptables-restore` passes comments over.
///
/// Comments in the kernel would cost it 288 bytes for each rule of iptables-legacy.
#[derive(Clone, Debug)]
pub struct Listing<'a> {
    program: &'a Program,
    family: IpFamily,
    chains: BTreeMap<(Table, ChainName), ServicePortName>,
    entries: BTreeMap<Entry, ServicePortName>,
}

impl<'a> Listing<'a> {
    /// A listing that names nobody yet.
    pub fn new(program: &'a Program, family: IpFamily) -> Self {
        Self {
            program,
            family,
            chains: BTreeMap::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Names the service port that objects are for.
    pub fn name(&mut self, name: &ServicePortName, objects: &Fragment<Key, Value>) {
        for (key, _) in objects {
            match key {
                Key::Chain(table, chain) => {
                    self.chains.insert((*table, *chain), name.clone());
                }
                Key::Entry(entry) => {
                    self.entries.insert(*entry, name.clone());
                }
                Key::Set(_) | Key::Jump(_) | Key::RouteLocalnet | Key::Stray(..) => {}
            }
        }
    }

    /// Whom a rule is for, if it is for one service port alone.
    fn owner(&self, table: Table, chain: &str, rule: &Rule) -> Option<&ServicePortName> {
        let chain = ChainName::new(chain)?;
        match classify(chain) {
            Class::Node(of) if table == Table::Nat => {
                self.entries.get(&entry_of(of, rule, self.family)?)
            }
            Class::Node(_) | Class::Service | Class::Fixed | Class::Unknown => {
                self.chains.get(&(table, chain))
            }
        }
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = |table, chain: &str, rule: &Rule| self.owner(table, chain, rule);
        self.program.write(f, owner)
    }
}

#[cfg(test)]
mod tests {
    use svc_core::testing::Scenario;
    use svc_core::{NamespacedName, Render, render};

    use super::*;
    use crate::config::Config;
    use crate::render::Renderer;

    const CLUSTER: &str = "
        config mode=iptables cluster-cidr=10.64.0.0/11
        node n1 198.18.0.10 pods=10.64.1.0/24
        service web ip=10.96.0.1 port=http:80
        slice web-4 web port=http:8080 10.64.1.1@n1 10.64.2.1@n2
        service ports type=NodePort ip=10.96.0.2 port=80@30080
        slice ports-4 ports port=80 10.64.1.2@n1
        service none ip=10.96.0.3 port=80
    ";

    /// The listing of a plan, and its program.
    fn listing(of: impl Fn(&ServicePortName) -> ServicePortName) -> (String, Program) {
        let plan = CLUSTER.parse::<Scenario>().unwrap().plan(IpFamily::V4);
        let config = Config::new(IpFamily::V4);
        let mut renderer = Renderer::new(config);
        let program = Program::of(&config, &render(&mut renderer, &plan));
        let mut listing = Listing::new(&program, IpFamily::V4);
        for (name, port) in &plan.service_ports {
            let objects = renderer.service_port(&plan.node, name, port);
            listing.name(&of(name), &objects);
        }
        (listing.to_string(), program)
    }

    #[test]
    fn every_rule_for_one_service_port_is_below_its_name() {
        let (text, program) = listing(Clone::clone);
        let (mut owner, mut ports) = ("", BTreeMap::new());
        for line in text.lines() {
            match line.strip_prefix("# ") {
                Some(name) => owner = name,
                None if line.starts_with("-A ") => {
                    *ports.entry(owner).or_insert(0) += 1;
                }
                None => {}
            }
            for (ip, name) in [
                ("10.96.0.1/", "default/web:http"),
                ("10.96.0.2/", "default/ports"),
                ("10.64.1.2:", "default/ports"),
                ("10.96.0.3/", "default/none"),
                ("SVC-SERVICES ", "no single Service"),
            ] {
                let appends = line.starts_with("-A SVC") && line.contains(ip);
                assert!(!appends || owner == name, "{line} of {owner}");
            }
        }
        // By the tree two endpoints; three rules in two chains and two in trees; one that refuses.
        assert_eq!(ports["default/web:http"], 2);
        assert_eq!(ports["default/ports"], 5);
        assert_eq!(ports["default/none"], 1);
        assert_eq!(Program::parse(&text), program);
    }

    #[test]
    fn a_name_is_one_line() {
        let (text, program) = listing(|name| ServicePortName {
            service: NamespacedName::new("a", "b\n-A INPUT -j ACCEPT"),
            ..name.clone()
        });
        assert!(text.contains("# a/b\\n-A INPUT -j ACCEPT"), "{text}");
        assert_eq!(Program::parse(&text), program);
    }
}
