//! Packet-flow cases: what a proxy makes of one new connection, with the objects and the
//! configuration that it has then.
//!
//! A file of them names its objects and configurations once (`fixtures`, `configs`); a case refers
//! to these by name or holds objects of its own, and expects one verdict per backend.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_json::Value as Json;
use svc_core::config::{self, ModeChoice, ProxyMode};
use svc_core::{Flow, Masquerade, Name, NodeConfig, Planner, Target, Verdict, wire};

use crate::cli::explain::{Destination, NoDestination};
use crate::cluster::{Cluster, feed};
use crate::manifest::{Manifests, Problem, Source, read_with_stdin};

/// One case.
#[derive(Debug)]
pub struct FlowCase {
    /// Short name, unique in its file.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// The node that the packet comes by.
    pub node: Name,
    /// The first packet of a connection.
    pub flow: Flow,
    /// The objects of the cluster.
    pub manifests: Manifests,
    config: wire::Value,
    expect: BTreeMap<String, Verdict>,
}

/// Why a file of cases cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowCaseError {
    /// It is no such file.
    #[error("not a file of flow cases: {0}")]
    Format(#[from] serde_json::Error),
    /// A case names a fixture or configuration that the file does not have.
    #[error("case {case}: there is no {name:?}")]
    Missing {
        /// The case.
        case: String,
        /// What it names.
        name: String,
    },
    /// An object of a case is not one of Kubernetes.
    #[error("case {case}: {problem}")]
    Object {
        /// The case.
        case: String,
        /// What is wrong.
        problem: Problem,
    },
    /// The destination of a case cannot be read.
    #[error("case {case}: {source}")]
    Destination {
        /// The case.
        case: String,
        /// What it should be.
        source: NoDestination,
    },
}

/// Reads a file of cases.
///
/// # Errors
/// The first thing that is wrong with the file.
pub fn read(json: &[u8]) -> Result<Vec<FlowCase>, FlowCaseError> {
    let file: FileOfCases = serde_json::from_slice(json)?;
    file.cases.iter().map(|case| file.case(case)).collect()
}

impl FlowCase {
    /// What a backend is held to; `None` when the case does not concern it.
    ///
    /// IPVS is held to what the other two agree on where a case says nothing of it, but for
    /// packets left alone: an address bound to the node answers for its other ports itself.
    pub fn expected(&self, mode: ProxyMode) -> Option<&Verdict> {
        let of = |mode: ProxyMode| self.expect.get(mode.name());
        match (mode, of(mode)) {
            (_, Some(verdict)) => Some(verdict),
            (ProxyMode::Iptables | ProxyMode::Nftables, None) => None,
            (ProxyMode::Ipvs, None) => of(ProxyMode::Nftables).filter(|verdict| {
                **verdict != Verdict::Pass && of(ProxyMode::Iptables) == Some(*verdict)
            }),
        }
    }

    /// The node, configured for a backend.
    pub fn node_config(&self, mode: ProxyMode) -> NodeConfig {
        let (config, _) = config::read(&self.config, ModeChoice::Fixed(mode));
        NodeConfig::new(self.node.clone(), config)
    }

    /// Hands the objects of the case to a planner, and the configuration for a backend; others
    /// that it knew are gone.
    pub fn tell(&self, mode: ProxyMode, planner: &mut Planner) {
        planner.configure(self.node_config(mode));
        let cluster = Cluster::of(&self.manifests);
        feed(planner, &self.manifests, &cluster);
    }
}

#[derive(Deserialize)]
struct FileOfCases {
    fixtures: BTreeMap<String, Vec<Json>>,
    configs: BTreeMap<String, Json>,
    cases: Vec<RawCase>,
}

#[derive(Deserialize)]
struct RawCase {
    id: String,
    #[serde(default)]
    title: String,
    objects: Vec<Json>,
    config: Json,
    node: Name,
    from: IpAddr,
    to: String,
    expect: BTreeMap<String, RawVerdict>,
}

#[derive(Deserialize)]
struct RawVerdict {
    verdict: VerdictWord,
    #[serde(default)]
    endpoints: Vec<RawTarget>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum VerdictWord {
    Forward,
    Reject,
    Drop,
    Pass,
}

#[derive(Deserialize)]
struct RawTarget {
    address: SocketAddr,
    #[serde(default)]
    masquerade: bool,
}

impl FileOfCases {
    fn case(&self, raw: &RawCase) -> Result<FlowCase, FlowCaseError> {
        let case = || raw.id.clone();
        let missing = |name: &str| FlowCaseError::Missing {
            case: case(),
            name: name.to_owned(),
        };
        let mut objects = Vec::new();
        for object in &raw.objects {
            match object.as_str() {
                Some(name) => {
                    let fixture = self.fixtures.get(name).ok_or_else(|| missing(name))?;
                    objects.extend(fixture);
                }
                None => objects.push(object),
            }
        }
        let config = match raw.config.as_str() {
            Some(name) => self.configs.get(name).ok_or_else(|| missing(name))?,
            None => &raw.config,
        };
        let to = raw.to.parse().and_then(|to| match to {
            Destination::Address(socket, protocol) => Ok((socket, protocol)),
            Destination::Name(..) => Err(NoDestination),
        });
        let (destination, protocol) = to.map_err(|source| FlowCaseError::Destination {
            case: case(),
            source,
        })?;
        Ok(FlowCase {
            id: case(),
            title: raw.title.clone(),
            node: raw.node.clone(),
            flow: Flow::new(raw.from, destination, protocol),
            manifests: manifests(&raw.id, &objects)?,
            config: wire::Value::deserialize(config)?,
            expect: raw
                .expect
                .iter()
                .map(|(backend, verdict)| (backend.clone(), verdict.meaning()))
                .collect(),
        })
    }
}

impl RawVerdict {
    fn meaning(&self) -> Verdict {
        match self.verdict {
            VerdictWord::Reject => Verdict::Reject,
            VerdictWord::Drop => Verdict::Drop,
            VerdictWord::Pass => Verdict::Pass,
            VerdictWord::Forward => {
                let targets = self.endpoints.iter().map(|raw| Target {
                    endpoint: raw.address,
                    masquerade: match raw.masquerade {
                        true => Masquerade::Always,
                        false => Masquerade::Never,
                    },
                });
                let mut targets: Vec<Target> = targets.collect();
                targets.sort_unstable();
                Verdict::Forward(targets)
            }
        }
    }
}

fn manifests(case: &str, objects: &[&Json]) -> Result<Manifests, FlowCaseError> {
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let text = serde_json::to_vec(&list)?;
    let mut manifests = read_with_stdin(&[Source::Stdin], &mut text.as_slice());
    match manifests.problems.is_empty() {
        true => Ok(manifests),
        false => Err(FlowCaseError::Object {
            case: case.to_owned(),
            problem: manifests.problems.swap_remove(0),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "fixtures": {"node": [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}]},
        "configs": {"plain": {"clusterCIDR": "10.64.0.0/11"}},
        "cases": [{"id": "one", "objects": ["node"], "config": "plain", "node": "n1",
            "from": "10.64.1.2", "to": "10.96.0.1:80/udp", "expect": {
                "nftables": {"verdict": "forward", "endpoints": [
                    {"address": "10.64.1.3:80"}, {"address": "10.64.1.2:80", "masquerade": true}]},
                "iptables": {"verdict": "pass"}}}]
    }"#;

    #[test]
    fn case_is_read() {
        let cases = read(FILE.as_bytes()).unwrap();
        let case = &cases[0];
        assert_eq!(case.flow.to_string(), "10.64.1.2 -> 10.96.0.1:80/udp");
        assert_eq!(case.manifests.nodes.len(), 1);
        let verdict = |mode| case.expected(mode).map(ToString::to_string);
        assert_eq!(
            verdict(ProxyMode::Nftables).unwrap(),
            "forward 10.64.1.2:80+masquerade 10.64.1.3:80"
        );
        assert_eq!(verdict(ProxyMode::Iptables).unwrap(), "pass");
        assert_eq!(verdict(ProxyMode::Ipvs), None);
    }

    #[test]
    fn ipvs_is_held_to_what_the_others_agree_on() {
        let agreed = |verdict: &str| {
            let file = FILE.replace(r#""iptables": {"verdict": "pass"}"#, verdict);
            let cases = read(file.as_bytes()).unwrap();
            cases[0].expected(ProxyMode::Ipvs).map(ToString::to_string)
        };
        let same = r#""iptables": {"verdict": "forward", "endpoints": [
            {"address": "10.64.1.2:80", "masquerade": true}, {"address": "10.64.1.3:80"}]}"#;
        assert!(agreed(same).is_some());
        assert_eq!(agreed(r#""ipvs": {"verdict": "drop"}"#).unwrap(), "drop");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |from: &str, to: &str| {
            let file = FILE.replace(from, to);
            read(file.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(
            error(r#"["node"]"#, r#"["nobody"]"#),
            r#"case one: there is no "nobody""#
        );
        assert!(error("/udp", "/icmp").starts_with("case one: must be IP:PORT/PROTO"));
        assert!(error(r#""fixtures""#, r#""fixture""#).starts_with("not a file of flow cases"));
    }
}
