//! One object in one line: what a difference is about.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use backend_nftables::rule::{Bytes, Data, Verdict};
use svc_core::IpFamily;

use crate::companion::{self, ElementValue, SetId, read_frontend};
use crate::key::{Key, Value};
use crate::text;

/// Shows one object of a family: virtual servers and destinations in the words of ipvsadm, objects
/// of the companion table in those of nft, as far as these reach.
#[derive(Clone, Copy, Debug)]
pub struct Line<'r>(pub IpFamily, pub &'r Key, pub &'r Value);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.1, self.2) {
            (Key::Link, _) => f.write_str("dummy link"),
            (Key::Address(ip), _) => write!(f, "address {ip}"),
            (Key::Server(id), Value::Server(server)) => {
                f.write_str(text::server_line(self.0, *id, server).trim_end())
            }
            (Key::Destination(id, at), Value::Destination(value)) => {
                f.write_str(text::destination_line(self.0, *id, *at, *value).trim_end())
            }
            (Key::Companion(key), Value::Companion(value)) => object(f, key, value),
            // A value that no key of the kind has.
            (Key::Server(_) | Key::Destination(..) | Key::Companion(_), value) => {
                write!(f, "{value:?}")
            }
        }
    }
}

fn object(
    f: &mut fmt::Formatter<'_>,
    key: &companion::Key,
    value: &companion::Value,
) -> fmt::Result {
    match (key, value) {
        (companion::Key::Table, _) => f.write_str("table"),
        (companion::Key::Set(id), _) => write!(f, "set {}", id.name()),
        (companion::Key::Chain(name) | companion::Key::BaseChain(name), value) => {
            let rules = match value {
                companion::Value::Chain(body) => body.rules.len(),
                companion::Value::Table(_)
                | companion::Value::Set(_)
                | companion::Value::Element(_) => 0,
            };
            write!(f, "chain {name} of {rules} rules")
        }
        (companion::Key::Element(id, key), companion::Value::Element(value)) => {
            let (set, key) = (id.name(), element_key(id, key));
            write!(f, "element {set} {{ {key}{} }}", ElementEnd(value))
        }
        (companion::Key::Element(id, _), _) => write!(f, "element {}", id.name()),
    }
}

fn element_key(id: &SetId, key: &Bytes) -> String {
    let words = match id {
        SetId::Addresses => address(key).map(|ip| ip.to_string()),
        SetId::Frontends
        | SetId::Masquerade
        | SetId::Firewalled
        | SetId::Outside
        | SetId::Inside
        | SetId::Marks => frontend(key),
        SetId::Hairpin => hairpin(key),
        SetId::Sources => sources(key),
        SetId::Saved | SetId::Foreign(_) => None,
    };
    words.unwrap_or_else(|| format!("{key:?}"))
}

fn frontend(key: &Bytes) -> Option<String> {
    let (ip, protocol, port) = read_frontend(key)?;
    Some(format!(
        "{}/{}",
        SocketAddr::new(ip, port),
        protocol.lower()
    ))
}

/// An endpoint's address twice, then what a front end has.
fn hairpin(key: &Bytes) -> Option<String> {
    let width = key.len().checked_sub(FIELDS)? / 2;
    frontend(&Bytes::new(key.get(width..)?).ok()?)
}

/// A front end and the first source of a range.
fn sources(key: &Bytes) -> Option<String> {
    let width = key.len().checked_sub(FIELDS)? / 2;
    let front = frontend(&Bytes::new(key.get(..width + FIELDS)?).ok()?)?;
    let source = address(&Bytes::new(key.get(width + FIELDS..)?).ok()?)?;
    Some(format!("{front} from {source}"))
}

fn address(bytes: &Bytes) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        _ => None,
    }
}

/// What an element holds beside its key.
struct ElementEnd<'a>(&'a ElementValue);

impl fmt::Display for ElementEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.data {
            Some(Data::Verdict(verdict)) => match verdict {
                Verdict::Jump(chain) | Verdict::Goto(chain) => {
                    write!(f, " : {} {chain}", verdict.name())?;
                }
                Verdict::Accept | Verdict::Drop | Verdict::Continue | Verdict::Return => {
                    write!(f, " : {}", verdict.name())?;
                }
            },
            Some(Data::Value(value)) => match value.first_chunk::<4>() {
                Some(word) if value.len() == 4 => {
                    write!(f, " : {:#x}", u32::from_ne_bytes(*word))?;
                }
                Some(_) | None => write!(f, " : {value:?}")?,
            },
            None => {}
        }
        match &self.0.comment {
            Some(comment) => write!(f, " comment {:?}", comment.as_str()),
            None => Ok(()),
        }
    }
}

/// Protocol and port, each a register wide.
const FIELDS: usize = 8;

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use svc_core::Render;
    use svc_core::testing::Scenario;

    use super::*;
    use crate::render::{Renderer, Settings};

    #[test]
    fn objects_of_a_service_in_words() {
        let scenario: Scenario = "
            config mode=ipvs cluster-cidr=10.64.0.0/11
            node n1 198.18.0.10
            service web type=LoadBalancer ip=10.96.0.1 port=80@30080 etp=Local affinity=600 range=203.0.113.0/24 vip=192.0.2.1
            slice web-1 web port=8080 10.64.1.1@n1 10.64.2.1@n2
        "
        .parse()
        .unwrap();
        let mut planner = scenario.planner();
        planner.delta();
        let plan = planner.plan(IpFamily::V4);
        let mut renderer = Renderer::new(Settings::default(), IpFamily::V4);
        let mut lines = Vec::new();
        for (name, port) in &plan.service_ports {
            for (key, value) in renderer.service_port(&plan.node, name, port) {
                lines.push(Line(IpFamily::V4, &key, &value).to_string());
            }
        }
        expect![[r#"
            element addresses { 10.96.0.1 }
            element addresses { 192.0.2.1 }
            element frontends { 10.96.0.1:80/tcp comment "default/web" }
            element frontends { 192.0.2.1:80/tcp comment "default/web" }
            element frontends { 198.18.0.10:30080/tcp comment "default/web" }
            element masquerade { 10.96.0.1:80/tcp : goto masquerade-node-outside }
            element masquerade { 192.0.2.1:80/tcp : goto masquerade-node }
            element masquerade { 198.18.0.10:30080/tcp : goto masquerade-node }
            element hairpin { 10.64.1.1:8080/tcp }
            element hairpin { 10.64.2.1:8080/tcp }
            element firewalled { 192.0.2.1:80/tcp }
            element sources { 192.0.2.1:80/tcp from 203.0.113.0 }
            element marks { 192.0.2.1:80/tcp : 0x53000004 comment "default/web" }
            element marks { 198.18.0.10:30080/tcp : 0x53000004 comment "default/web" }
            address 10.96.0.1
            address 192.0.2.1
            -A -f 1392508932 -s mh
            -A -t 10.96.0.1:80 -s rr -p 600
            -A -t 192.0.2.1:80 -s rr -p 600
            -A -t 198.18.0.10:30080 -s rr -p 600
            -a -f 1392508932 -r 10.64.1.1:8080 -m -w 1
            -a -f 1392508932 -r 10.64.2.1:8080 -m -w 1
            -a -t 10.96.0.1:80 -r 10.64.1.1:8080 -m -w 1
            -a -t 10.96.0.1:80 -r 10.64.2.1:8080 -m -w 1
            -a -t 192.0.2.1:80 -r 10.64.1.1:8080 -m -w 1
            -a -t 198.18.0.10:30080 -r 10.64.1.1:8080 -m -w 1"#]]
        .assert_eq(&lines.join("\n"));
    }
}
