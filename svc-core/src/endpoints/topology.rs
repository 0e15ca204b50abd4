//! What endpoints need to know of the Nodes.

use alloc::collections::BTreeMap;

use crate::name::Name;
use crate::object::Node;

/// The Nodes of a cluster, as far as endpoints depend on them.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// `None` when nobody knows the Nodes: then none is missing and none has a zone.
    nodes: Option<BTreeMap<Name, Option<Name>>>,
}

/// What is known of the Node that a Pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeZone<'a> {
    /// No such Node (B-407).
    Missing,
    /// The Node, with its zone if it has one (B-406).
    Known(Option<&'a Name>),
}

impl Topology {
    /// No Nodes are known, as with manifests that have none: no Pod is left out for its Node.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// The Nodes of a cluster; a Pod on any other Node is left out (B-407).
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Self {
        Self {
            nodes: Some(
                nodes
                    .into_iter()
                    .map(|node| (node.name.clone(), node.zone.clone()))
                    .collect(),
            ),
        }
    }

    pub(super) fn zone_of(&self, node: Option<&Name>) -> NodeZone<'_> {
        match (&self.nodes, node) {
            (None, _) | (Some(_), None) => NodeZone::Known(None),
            (Some(nodes), Some(name)) => match nodes.get(name) {
                Some(zone) => NodeZone::Known(zone.as_ref()),
                None => NodeZone::Missing,
            },
        }
    }
}
