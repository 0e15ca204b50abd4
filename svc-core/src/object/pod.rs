use alloc::vec::Vec;
use core::net::IpAddr;

use super::Labels;
use crate::name::{Name, NamespacedName};
use crate::net::Protocol;

/// A Pod, with what decides its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub name: NamespacedName,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `status.podIPs` (or `status.podIP`).
    pub ips: Vec<IpAddr>,
    /// `status.phase`.
    pub phase: PodPhase,
    /// Condition `Ready` (B-404).
    pub ready: bool,
    /// `lastTransitionTime` of condition `Ready`, in seconds since 1970 (B-424).
    pub ready_changed: Option<i64>,
    /// Whether `metadata.deletionTimestamp` is set (B-403).
    pub terminating: bool,
    /// `spec.nodeName`.
    pub node: Option<Name>,
    /// `spec.hostname`.
    pub hostname: Option<Name>,
    /// `spec.subdomain`.
    pub subdomain: Option<Name>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// Ports of the containers, then of the restartable init containers (B-410).
    pub ports: Vec<ContainerPort>,
}

/// `status.phase` of a Pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PodPhase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

/// One entry of `ports` of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// `name`, may be empty.
    pub name: Name,
    /// `containerPort`, never 0.
    pub port: u16,
    /// `protocol`.
    pub protocol: Protocol,
    /// Which list of containers has it.
    pub container: ContainerKind,
}

/// Which list of a Pod a container with ports stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainerKind {
    /// `spec.containers`.
    #[default]
    Regular,
    /// `spec.initContainers`, with restart policy `Always`: it keeps running beside the others.
    Sidecar,
}
