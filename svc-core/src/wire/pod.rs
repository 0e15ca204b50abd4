use alloc::string::String;
use alloc::vec::Vec;

use super::field::{Field, Shape, StringMap};
use super::metadata::{Condition, Metadata};
use super::record::record;

record! {
    /// `v1` Pod.
    Pod {
        metadata: Metadata = "metadata",
        spec: PodSpec = "spec",
        status: PodStatus = "status",
    }
}

record! {
    /// `spec` of a Pod or of a pod template.
    PodSpec {
        containers: Vec<Field<Container>> = "containers",
        init_containers: Vec<Field<Container>> = "initContainers",
        node_name: String = "nodeName",
        hostname: String = "hostname",
        subdomain: String = "subdomain",
        host_network: bool = "hostNetwork",
    }
}

record! {
    /// One entry of `spec.containers` or `spec.initContainers`.
    Container {
        name: String = "name",
        ports: Vec<Field<ContainerPort>> = "ports",
        restart_policy: String = "restartPolicy",
    }
}

record! {
    /// One entry of `ports` of a container.
    ContainerPort {
        name: String = "name",
        container_port: i64 = "containerPort",
        protocol: String = "protocol",
    }
}

record! {
    /// `status` of a Pod.
    PodStatus {
        phase: String = "phase",
        pod_ip: String = "podIP",
        pod_ips: Vec<Field<PodIp>> = "podIPs",
        conditions: Vec<Field<Condition>> = "conditions",
    }
}

record! {
    /// One entry of `status.podIPs`.
    PodIp {
        ip: String = "ip",
    }
}

record! {
    /// `apps/v1` Deployment, DaemonSet, ReplicaSet or StatefulSet.
    Workload {
        api_version: String = "apiVersion",
        kind: String = "kind",
        metadata: Metadata = "metadata",
        spec: WorkloadSpec = "spec",
    }
}

record! {
    /// `spec` of a workload.
    WorkloadSpec {
        replicas: i64 = "replicas",
        selector: LabelSelector = "selector",
        template: PodTemplate = "template",
    }
}

record! {
    /// `spec.selector` of a workload.
    LabelSelector {
        match_labels: StringMap = "matchLabels",
        match_expressions: Vec<Field<MatchExpression>> = "matchExpressions",
    }
}

record! {
    /// One entry of `matchExpressions`.
    MatchExpression {
        key: String = "key",
        operator: String = "operator",
        values: Vec<Field<String>> = "values",
    }
}

record! {
    /// `spec.template` of a workload.
    PodTemplate {
        metadata: Metadata = "metadata",
        spec: PodSpec = "spec",
    }
}
