//! Values of unset fields (B-334, B-335).

use alloc::string::String;

use crate::wire::{
    ClientIpConfig, Field, IntOrString, Service, ServicePort, ServiceSpec, SessionAffinityConfig,
};

/// Seconds of client-IP affinity.
const AFFINITY_SECONDS: i64 = 10_800;

/// Sets the fields of a Service that are unset to what the API server sets them to.
///
/// Families and addresses are not defaulted here but allocated.
pub fn default_service(service: &mut Service) {
    if service.spec == Field::Unset {
        service.spec = Field::Value(ServiceSpec::default());
    }
    let Field::Value(spec) = &mut service.spec else {
        return;
    };
    default_text(&mut spec.session_affinity, "None");
    default_affinity(spec);
    default_text(&mut spec.service_type, "ClusterIP");
    if let Field::Value(ports) = &mut spec.ports {
        for port in ports {
            if let Field::Value(port) = port {
                default_port(port);
            }
        }
    }
    if is_externally_accessible(spec) {
        default_text(&mut spec.external_traffic_policy, "Cluster");
    }
    let service_type = spec.service_type.text();
    let is_load_balancer = service_type == "LoadBalancer";
    if ["ClusterIP", "NodePort", "LoadBalancer"].contains(&service_type)
        && spec.internal_traffic_policy == Field::Unset
    {
        spec.internal_traffic_policy = Field::Value("Cluster".into());
    }
    if is_load_balancer {
        if spec.allocate_load_balancer_node_ports == Field::Unset {
            spec.allocate_load_balancer_node_ports = Field::Value(true);
        }
        default_ingress(service);
    }
}

/// NodePort, LoadBalancer, and ClusterIP with external addresses.
pub(super) fn is_externally_accessible(spec: &ServiceSpec) -> bool {
    match spec.service_type.text() {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => spec.external_ips.value().is_some_and(|ips| !ips.is_empty()),
        _ => false,
    }
}

/// Without affinity its configuration is dropped, not refused (B-335).
fn default_affinity(spec: &mut ServiceSpec) {
    match spec.session_affinity.text() {
        "None" => spec.session_affinity_config = Field::Unset,
        "ClientIP" => {
            let config = spec.session_affinity_config.value();
            let client_ip = config.map(|config| &config.client_ip);
            let is_unset = match client_ip {
                None => matches!(spec.session_affinity_config, Field::Unset),
                Some(Field::Unset) => true,
                Some(Field::Value(client_ip)) => client_ip.timeout_seconds == Field::Unset,
                Some(Field::Wrong(_)) => false,
            };
            if is_unset {
                spec.session_affinity_config = Field::Value(SessionAffinityConfig {
                    client_ip: Field::Value(ClientIpConfig {
                        timeout_seconds: Field::Value(AFFINITY_SECONDS),
                    }),
                });
            }
        }
        _ => {}
    }
}

fn default_port(port: &mut ServicePort) {
    default_text(&mut port.protocol, "TCP");
    let is_unset = match &port.target_port {
        Field::Unset | Field::Value(IntOrString::Int(0)) => true,
        Field::Value(IntOrString::Text(text)) => text.is_empty(),
        Field::Value(IntOrString::Int(_)) | Field::Wrong(_) => false,
    };
    if is_unset {
        let number = port.port.value().copied().unwrap_or(0);
        port.target_port = Field::Value(IntOrString::Int(number));
    }
}

fn default_ingress(service: &mut Service) {
    let Field::Value(status) = &mut service.status else {
        return;
    };
    let Field::Value(balancer) = &mut status.load_balancer else {
        return;
    };
    let Field::Value(ingress) = &mut balancer.ingress else {
        return;
    };
    for entry in ingress {
        if let Field::Value(entry) = entry
            && !entry.ip.text().is_empty()
            && entry.ip_mode == Field::Unset
        {
            entry.ip_mode = Field::Value("VIP".into());
        }
    }
}

/// Fills in a text that is unset or empty.
fn default_text(field: &mut Field<String>, value: &str) {
    match field {
        Field::Unset => *field = Field::Value(value.into()),
        Field::Value(text) if text.is_empty() => *field = Field::Value(value.into()),
        Field::Value(_) | Field::Wrong(_) => {}
    }
}
