use alloc::string::String;
use alloc::vec::Vec;

use super::field::{Field, IntOrString, Shape, StringMap};
use super::metadata::Metadata;
use super::record::record;

record! {
    /// `v1` Service.
    Service {
        api_version: String = "apiVersion",
        kind: String = "kind",
        metadata: Metadata = "metadata",
        spec: ServiceSpec = "spec",
        status: ServiceStatus = "status",
    }
}

record! {
    /// `spec` of a Service.
    ServiceSpec {
        service_type: String = "type",
        cluster_ip: String = "clusterIP",
        cluster_ips: Vec<Field<String>> = "clusterIPs",
        ip_families: Vec<Field<String>> = "ipFamilies",
        ip_family_policy: String = "ipFamilyPolicy",
        ports: Vec<Field<ServicePort>> = "ports",
        selector: StringMap = "selector",
        external_ips: Vec<Field<String>> = "externalIPs",
        external_name: String = "externalName",
        load_balancer_ip: String = "loadBalancerIP",
        load_balancer_class: String = "loadBalancerClass",
        load_balancer_source_ranges: Vec<Field<String>> = "loadBalancerSourceRanges",
        session_affinity: String = "sessionAffinity",
        session_affinity_config: SessionAffinityConfig = "sessionAffinityConfig",
        internal_traffic_policy: String = "internalTrafficPolicy",
        external_traffic_policy: String = "externalTrafficPolicy",
        health_check_node_port: i64 = "healthCheckNodePort",
        publish_not_ready_addresses: bool = "publishNotReadyAddresses",
        allocate_load_balancer_node_ports: bool = "allocateLoadBalancerNodePorts",
        traffic_distribution: String = "trafficDistribution",
    }
}

record! {
    /// One entry of `spec.ports`.
    ServicePort {
        name: String = "name",
        protocol: String = "protocol",
        app_protocol: String = "appProtocol",
        port: i64 = "port",
        target_port: IntOrString = "targetPort",
        node_port: i64 = "nodePort",
    }
}

record! {
    /// `spec.sessionAffinityConfig`.
    SessionAffinityConfig {
        client_ip: ClientIpConfig = "clientIP",
    }
}

record! {
    /// `spec.sessionAffinityConfig.clientIP`.
    ClientIpConfig {
        timeout_seconds: i64 = "timeoutSeconds",
    }
}

record! {
    /// `status` of a Service.
    ServiceStatus {
        load_balancer: LoadBalancerStatus = "loadBalancer",
    }
}

record! {
    /// `status.loadBalancer`.
    LoadBalancerStatus {
        ingress: Vec<Field<Ingress>> = "ingress",
    }
}

record! {
    /// One entry of `status.loadBalancer.ingress`.
    Ingress {
        ip: String = "ip",
        hostname: String = "hostname",
        ip_mode: String = "ipMode",
    }
}
