use alloc::vec::Vec;
use core::net::IpAddr;

use super::notes::Notes;
use super::{Conversion, Converted, condition, entry, has_label, quantity};
use crate::diagnostic::ObjectKind;
use crate::object::{Node, NodeEligibility, ServiceCidr, ZONE_LABEL};
use crate::wire::cluster as wire;
use crate::wire::field::Field;

/// Taint of a node that an autoscaler is about to remove (B-217).
const TO_BE_DELETED_TAINT: &str = "ToBeDeletedByClusterAutoscaler";
/// Labels that keep a node out of topology hints (B-426).
const CONTROL_PLANE_LABELS: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

impl Conversion {
    /// Converts a Node; `None` only when it has no name.
    pub fn node(&mut self, node: &wire::Node) -> Converted<Node> {
        let found = self.identify(ObjectKind::Node, &node.metadata);
        let mut notes = found.notes;
        let (Some(name), Some(metadata)) = (found.name, found.metadata) else {
            return (None, notes.finish());
        };
        let mut object = Node::named(self.names.share(&name.name));
        let zone = entry(&metadata.labels, ZONE_LABEL);
        object.zone = (!zone.is_empty()).then(|| self.names.share(zone));
        object.control_plane = CONTROL_PLANE_LABELS
            .into_iter()
            .any(|label| has_label(metadata, label));
        if let Some(spec) = notes.value(&node.spec, format_args!("spec")) {
            object.pod_cidrs = notes.cidrs(&spec.pod_cidrs, "spec.podCIDRs");
            let single = notes.text(&spec.pod_cidr, format_args!("spec.podCIDR"));
            if let (true, Some(text)) = (object.pod_cidrs.is_empty(), single) {
                let cidr = notes.cidr(text, format_args!("spec.podCIDR"));
                object.pod_cidrs.extend(cidr);
            }
            let mut taints = notes.members(&spec.taints, "spec.taints").into_iter();
            if taints.any(|(_, taint)| taint.key.text() == TO_BE_DELETED_TAINT) {
                object.eligibility = NodeEligibility::ToBeScaledDown;
            }
        }
        if !metadata.deletion_timestamp.is_empty() {
            object.eligibility = NodeEligibility::BeingDeleted;
        }
        if let Some(status) = notes.value(&node.status, format_args!("status")) {
            object.addresses = node_addresses(&mut notes, status);
            object.ready = condition(&mut notes, &status.conditions, "Ready").unwrap_or(true);
            object.allocatable_cpu_milli = allocatable_cpu(&mut notes, status);
        }
        (Some(object), notes.finish())
    }

    /// Converts a ServiceCIDR; `None` only when it has no name.
    ///
    /// Without a condition `Ready` it counts as ready: nobody maintains conditions then.
    pub fn service_cidr(&mut self, cidr: &wire::ServiceCidr) -> Converted<ServiceCidr> {
        let found = self.identify(ObjectKind::ServiceCIDR, &cidr.metadata);
        let mut notes = found.notes;
        let (Some(name), Some(metadata)) = (found.name, found.metadata) else {
            return (None, notes.finish());
        };
        let spec = notes.value(&cidr.spec, format_args!("spec"));
        let cidrs = spec.map_or_else(Vec::new, |spec| notes.cidrs(&spec.cidrs, "spec.cidrs"));
        let status = notes.value(&cidr.status, format_args!("status"));
        let ready = status.and_then(|s| condition(&mut notes, &s.conditions, "Ready"));
        let object = ServiceCidr {
            name: name.name,
            cidrs,
            ready: ready.unwrap_or(true),
            terminating: !metadata.deletion_timestamp.is_empty(),
        };
        (Some(object), notes.finish())
    }
}

/// Internal addresses first, then external ones; host names are of no use.
fn node_addresses(notes: &mut Notes, status: &wire::NodeStatus) -> Vec<IpAddr> {
    let members = notes.members(&status.addresses, "status.addresses");
    let mut addresses = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        for (index, member) in members.iter().filter(|(_, m)| m.kind.text() == kind) {
            let path = format_args!("status.addresses[{index}].address");
            let text = notes.text(&member.address, path);
            addresses.extend(text.and_then(|text| notes.ip(text, path)));
        }
    }
    addresses
}

fn allocatable_cpu(notes: &mut Notes, status: &wire::NodeStatus) -> Option<u64> {
    let allocatable = notes.value(&status.allocatable, format_args!("status.allocatable"))?;
    let path = format_args!("status.allocatable.cpu");
    let text = match &allocatable.cpu {
        Field::Unset => return None,
        cpu @ (Field::Value(_) | Field::Wrong(_)) => &notes.value(cpu, path)?.0,
    };
    let milli = quantity::milli(text);
    if milli.is_none() {
        notes.invalid(path, "a quantity such as 3920m", text);
    }
    milli
}
