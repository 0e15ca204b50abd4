use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::notes::Notes;
use super::{Conversion, Converted, condition, labels, port};
use crate::diagnostic::{DiagnosticReason, ObjectKind};
use crate::object::{ContainerKind, ContainerPort, Pod, PodPhase, Workload, WorkloadKind};
use crate::time::from_rfc3339;
use crate::wire::field::Field;
use crate::wire::metadata::Condition;
use crate::wire::pod as wire;

impl Conversion {
    /// Converts a Pod; `None` only when it has no name.
    pub fn pod(&mut self, pod: &wire::Pod) -> Converted<Pod> {
        let found = self.identify(ObjectKind::Pod, &pod.metadata);
        let mut notes = found.notes;
        let (Some(name), Some(metadata)) = (found.name, found.metadata) else {
            return (None, notes.finish());
        };
        let (no_spec, no_status) = (wire::PodSpec::default(), wire::PodStatus::default());
        let spec = notes.value(&pod.spec, format_args!("spec"));
        let spec = spec.unwrap_or(&no_spec);
        let status = notes.value(&pod.status, format_args!("status"));
        let status = status.unwrap_or(&no_status);
        let host_network = notes.value(&spec.host_network, format_args!("spec.hostNetwork"));
        let object = Pod {
            name,
            labels: labels(&mut notes, &metadata.labels, "metadata.labels"),
            ips: pod_ips(&mut notes, status),
            phase: pod_phase(&mut notes, status),
            ready: condition(&mut notes, &status.conditions, "Ready").unwrap_or(false),
            ready_changed: ready_changed(&status.conditions),
            terminating: !metadata.deletion_timestamp.is_empty(),
            host_network: host_network.copied().unwrap_or(false),
            node: self.optional_name(&mut notes, &spec.node_name, format_args!("spec.nodeName")),
            hostname: notes
                .text(&spec.hostname, format_args!("spec.hostname"))
                .map(Into::into),
            subdomain: self.optional_name(
                &mut notes,
                &spec.subdomain,
                format_args!("spec.subdomain"),
            ),
            ports: self.container_ports(&mut notes, spec, "spec"),
        };
        (Some(object), notes.finish())
    }

    /// Converts a workload; `None` only when it has no name.
    pub fn workload(&mut self, kind: WorkloadKind, wire: &wire::Workload) -> Converted<Workload> {
        let found = self.identify(object_kind(kind), &wire.metadata);
        let mut notes = found.notes;
        let (Some(name), Some(metadata)) = (found.name, found.metadata) else {
            return (None, notes.finish());
        };
        let mut object = Workload {
            kind,
            name,
            labels: labels(&mut notes, &metadata.labels, "metadata.labels"),
            replicas: None,
            selector: Default::default(),
            selects_by_expression: false,
            template_labels: Default::default(),
            ports: Vec::new(),
        };
        if let Some(spec) = notes.value(&wire.spec, format_args!("spec")) {
            self.workload_spec(&mut notes, spec, &mut object);
        }
        (Some(object), notes.finish())
    }

    fn workload_spec(
        &mut self,
        notes: &mut Notes,
        spec: &wire::WorkloadSpec,
        object: &mut Workload,
    ) {
        let path = format_args!("spec.replicas");
        if let Some(&replicas) = notes.value(&spec.replicas, path) {
            object.replicas = u32::try_from(replicas).ok();
            if object.replicas.is_none() {
                let message = format!("must be 0 or more, is {replicas}");
                notes.error(path, DiagnosticReason::Invalid, message);
            }
        }
        if let Some(selector) = notes.value(&spec.selector, format_args!("spec.selector")) {
            object.selector = labels(notes, &selector.match_labels, "spec.selector.matchLabels");
            object.selects_by_expression = selector.match_expressions.members().next().is_some();
        }
        let Some(template) = notes.value(&spec.template, format_args!("spec.template")) else {
            return;
        };
        let path = "spec.template.metadata";
        if let Some(metadata) = notes.value(&template.metadata, format_args!("{path}")) {
            object.template_labels =
                labels(notes, &metadata.labels, "spec.template.metadata.labels");
        }
        let path = "spec.template.spec";
        if let Some(spec) = notes.value(&template.spec, format_args!("{path}")) {
            object.ports = self.container_ports(notes, spec, path);
        }
    }

    /// Ports of the containers, then of the init containers that keep running (B-410).
    fn container_ports(
        &mut self,
        notes: &mut Notes,
        spec: &wire::PodSpec,
        path: &str,
    ) -> Vec<ContainerPort> {
        let containers_path = format!("{path}.containers");
        let init_path = format!("{path}.initContainers");
        let containers = notes.members(&spec.containers, &containers_path);
        let init = notes.members(&spec.init_containers, &init_path);
        let sidecars = init
            .into_iter()
            .filter(|(_, container)| container.restart_policy.text() == "Always");
        let all = containers
            .into_iter()
            .map(|(i, c)| {
                (
                    format!("{containers_path}[{i}].ports"),
                    c,
                    ContainerKind::Regular,
                )
            })
            .chain(
                sidecars
                    .map(|(i, c)| (format!("{init_path}[{i}].ports"), c, ContainerKind::Sidecar)),
            );
        let mut ports = Vec::new();
        for (path, container, kind) in all {
            for (index, port) in notes.members(&container.ports, &path) {
                let path = format!("{path}[{index}]");
                ports.extend(self.container_port(notes, &path, port, kind));
            }
        }
        ports
    }

    fn container_port(
        &mut self,
        notes: &mut Notes,
        path: &str,
        wire: &wire::ContainerPort,
        container: ContainerKind,
    ) -> Option<ContainerPort> {
        let name = notes.value(&wire.name, format_args!("{path}.name"));
        let protocol = notes.protocol(&wire.protocol, format_args!("{path}.protocol"));
        let number_path = format_args!("{path}.containerPort");
        if wire.container_port == Field::Unset {
            notes.required(number_path, "must be set");
        }
        let number = *notes.value(&wire.container_port, number_path)?;
        Some(ContainerPort {
            name: self.names.share(name.map_or("", |name| name)),
            port: port(notes, number, number_path)?,
            protocol: protocol?,
            container,
        })
    }
}

fn object_kind(kind: WorkloadKind) -> ObjectKind {
    match kind {
        WorkloadKind::Deployment => ObjectKind::Deployment,
        WorkloadKind::DaemonSet => ObjectKind::DaemonSet,
        WorkloadKind::ReplicaSet => ObjectKind::ReplicaSet,
        WorkloadKind::StatefulSet => ObjectKind::StatefulSet,
    }
}

/// When condition `Ready` last changed; a time that is none only costs a sample (B-235).
fn ready_changed(conditions: &Field<Vec<Field<Condition>>>) -> Option<i64> {
    let mut members = conditions.value()?.iter().filter_map(Field::value);
    let ready = members.find(|condition| condition.kind.text() == "Ready")?;
    from_rfc3339(ready.last_transition_time.text())
}

fn pod_ips(notes: &mut Notes, status: &wire::PodStatus) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for (index, member) in notes.members(&status.pod_ips, "status.podIPs") {
        let path = format_args!("status.podIPs[{index}].ip");
        let text = notes.text(&member.ip, path);
        ips.extend(text.and_then(|text| notes.ip(text, path)));
    }
    let path = format_args!("status.podIP");
    let single = notes.text(&status.pod_ip, path);
    if let (true, Some(text)) = (ips.is_empty(), single) {
        ips.extend(notes.ip(text, path));
    }
    ips
}

fn pod_phase(notes: &mut Notes, status: &wire::PodStatus) -> PodPhase {
    let path = format_args!("status.phase");
    match notes.text(&status.phase, path) {
        None | Some("Pending") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some("Unknown") => PodPhase::Unknown,
        Some(other) => {
            let known = "Pending, Running, Succeeded, Failed or Unknown";
            notes.unsupported(path, known, other);
            PodPhase::Unknown
        }
    }
}
