//! What a load balancer does with the nodes behind it.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::request::{HealthCheck, Request};
use crate::name::Name;
use crate::net::IpFamily;
use crate::object::{Node, NodeEligibility};
use crate::state::ClusterState;

/// A node as a load balancer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTarget {
    /// The node.
    pub node: Name,
    /// Where its node ports and health checks are; `None` when the node has no such family.
    pub address: Option<IpAddr>,
    /// Whether it is sent new connections.
    pub health: NodeHealth,
}

/// What the health check of a node says, if the proxy on it is well; a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum NodeHealth {
    /// Policy Cluster: every node takes traffic (B-209).
    Healthy,
    /// Policy Local: the node has ready endpoints, and says so (B-195).
    HasEndpoints,
    /// Policy Local: no ready endpoint is on the node, which answers 503 (B-195).
    NoLocalEndpoints,
    /// Policy Cluster: the node is being deleted or scaled down, and answers 503 (B-217).
    Leaving,
}

impl NodeHealth {
    /// Whether a load balancer sends new connections there.
    pub const fn takes_traffic(self) -> bool {
        match self {
            Self::Healthy | Self::HasEndpoints => true,
            Self::NoLocalEndpoints | Self::Leaving => false,
        }
    }
}

/// What a load balancer that was asked for does with each node, by name.
///
/// Taints and deletion matter only under policy Cluster: under Local a node answers for its
/// endpoints as long as it has any (B-200).
pub fn nodes(request: &Request, state: &ClusterState, family: IpFamily) -> Vec<NodeTarget> {
    let target = |node: &Node| NodeTarget {
        node: node.name.clone(),
        address: node.primary(family),
        health: match request.health_check {
            HealthCheck::Node(_) => match node.eligibility {
                NodeEligibility::Eligible => NodeHealth::Healthy,
                NodeEligibility::BeingDeleted | NodeEligibility::ToBeScaledDown => {
                    NodeHealth::Leaving
                }
            },
            HealthCheck::Endpoints(_) => match has_endpoints(request, state, &node.name) {
                true => NodeHealth::HasEndpoints,
                false => NodeHealth::NoLocalEndpoints,
            },
        },
    };
    state.nodes().map(|node| target(node)).collect()
}

fn has_endpoints(request: &Request, state: &ClusterState, node: &Name) -> bool {
    let slices = state.slices(&request.service).iter();
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter());
    let mut ready = endpoints.filter(|endpoint| endpoint.conditions.ready);
    ready.any(|endpoint| endpoint.node.as_ref() == Some(node))
}
