//! What endpoints need to know of the Nodes.

use alloc::collections::BTreeMap;

use super::auto_hints::{Disabled, ZoneCpu};
use crate::name::Name;
use crate::object::Node;

/// The Nodes of a cluster, as far as endpoints depend on them.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// `None` when nobody knows the Nodes: then none is missing and none has a zone.
    nodes: Option<BTreeMap<Name, NodeFacts>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NodeFacts {
    zone: Option<Name>,
    allocatable_cpu_milli: Option<u64>,
    /// Ready and not of the control plane: counts for hints (B-426).
    counted: bool,
}

/// What is known of the Node that a Pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeZone<'a> {
    /// No such Node (B-407).
    Missing,
    /// The Node, with its zone if it has one (B-406).
    Known(Option<&'a Name>),
}

/// What a change of a Node means for endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeChange {
    /// Nothing.
    None,
    /// The proportions between zones may have changed.
    Capacity,
    /// Endpoints on the Node have another zone, or come and go with it.
    Zone,
    /// Nodes are known from now on, so that Pods on all others are left out (B-407).
    First,
}

impl Topology {
    /// No Nodes are known, as with manifests that have none: no Pod is left out for its Node.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// The Nodes of a cluster; a Pod on any other Node is left out (B-407).
    ///
    /// A Pod without a node name is not, as no Node is missing then.
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Self {
        Self {
            nodes: Some(
                nodes
                    .into_iter()
                    .map(|node| (node.name.clone(), NodeFacts::of(node)))
                    .collect(),
            ),
        }
    }

    pub(super) fn apply(&mut self, node: &Node) -> NodeChange {
        let new = NodeFacts::of(node);
        let Some(nodes) = &mut self.nodes else {
            self.nodes = Some([(node.name.clone(), new)].into());
            return NodeChange::First;
        };
        match nodes.insert(node.name.clone(), new.clone()) {
            Some(old) if old == new => NodeChange::None,
            Some(old) if old.zone == new.zone => NodeChange::Capacity,
            Some(_) | None => NodeChange::Zone,
        }
    }

    pub(super) fn delete(&mut self, node: &str) -> NodeChange {
        match self.nodes.as_mut().and_then(|nodes| nodes.remove(node)) {
            Some(_) => NodeChange::Zone,
            None => NodeChange::None,
        }
    }

    pub(super) fn zone_of(&self, node: Option<&Name>) -> NodeZone<'_> {
        match (&self.nodes, node) {
            (None, _) | (Some(_), None) => NodeZone::Known(None),
            (Some(nodes), Some(name)) => match nodes.get(name) {
                Some(facts) => NodeZone::Known(facts.zone.as_ref()),
                None => NodeZone::Missing,
            },
        }
    }

    /// CPU of each zone; every counted Node must have both (B-426).
    pub(super) fn zone_cpu(&self) -> Result<ZoneCpu, Disabled> {
        let mut zones = ZoneCpu::new();
        for facts in self.nodes.iter().flat_map(BTreeMap::values) {
            if !facts.counted {
                continue;
            }
            match (&facts.zone, facts.allocatable_cpu_milli) {
                (Some(zone), Some(cpu)) if cpu > 0 => {
                    *zones.entry(zone.clone()).or_default() += u128::from(cpu);
                }
                (Some(_), Some(_) | None) | (None, _) => {
                    return Err(Disabled::NodeWithoutZoneOrCpu);
                }
            }
        }
        match zones.len() {
            0 | 1 => Err(Disabled::FewerThanTwoZones),
            _ => Ok(zones),
        }
    }
}

impl NodeFacts {
    fn of(node: &Node) -> Self {
        Self {
            zone: node.zone.clone(),
            allocatable_cpu_milli: node.allocatable_cpu_milli,
            counted: node.ready && !node.control_plane,
        }
    }
}
