//! The part of a kubelet that the demo needs: pods of Deployments, running on the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use svc_core::NamespacedName;
use svc_core::object::{ContainerPort, Pod, PodPhase, Workload, WorkloadKind};

use crate::demo::world::NODE;
use crate::sandbox::{PodSpec, Transport};

/// Hands out pods with addresses that were never used before.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    started: u16,
}

impl Replicas {
    /// One more pod of a workload, ready on the node.
    pub(crate) fn start(&mut self, workload: &Workload) -> Pod {
        self.started += 1;
        let number = self.started;
        let name = match workload.kind {
            WorkloadKind::StatefulSet => format!("{}-{}", workload.name.name, number - 1),
            WorkloadKind::Deployment | WorkloadKind::DaemonSet | WorkloadKind::ReplicaSet => {
                format!("{}-{}", workload.name.name, suffix(number))
            }
        };
        Pod {
            name: NamespacedName::new(workload.name.namespace.clone(), name),
            labels: workload.template_labels.clone(),
            ips: addresses(number),
            phase: PodPhase::Running,
            ready: true,
            ready_changed: None,
            terminating: false,
            node: Some(NODE.into()),
            hostname: None,
            subdomain: None,
            host_network: false,
            ports: workload.ports.clone(),
        }
    }
}

/// What the sandbox runs for a pod: a server on each of its container ports.
pub(crate) fn spec(pod: &Pod) -> PodSpec {
    let spec = PodSpec::on_node(&*pod.name.name, pod.ips.iter().copied());
    let ports = pod.ports.iter().filter_map(transport);
    ports.fold(spec, |spec, (transport, port)| {
        spec.serving(transport, port)
    })
}

fn transport(port: &ContainerPort) -> Option<(Transport, u16)> {
    Some((Transport::of(port.protocol)?, port.port))
}

fn addresses(number: u16) -> Vec<IpAddr> {
    let [high, low] = number.to_be_bytes();
    let v6 = Ipv6Addr::new(0xfd10, 0x64, 0, 1, 0, 0, 0, number);
    vec![Ipv4Addr::new(10, 64, 1 + high, low).into(), v6.into()]
}

/// Five letters as a ReplicaSet would choose, but the same in every run.
fn suffix(number: u16) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut value = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let mut text = String::new();
    for _ in 0..5 {
        let index = usize::try_from(value % 27).unwrap_or_default();
        text.extend(LETTERS.get(index).copied().map(char::from));
        value /= 27;
    }
    text
}
