//! The agents as programs, with real kernels and packets: `cargo test -p examples --test agent`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a trial fails by panicking"
)]

mod audit;
#[cfg(feature = "cluster")]
mod cluster;
mod conntrack;
mod faults;
mod hostile;
mod localnet;
#[cfg(feature = "cluster")]
mod nodes;
mod privileges;
mod rig;
mod rivals;
mod serve;
mod starts;
mod takeover;
#[cfg(feature = "cluster")]
mod world;

use std::process::ExitCode;

use examples::sandbox::{Trial, run_trials};

fn main() -> ExitCode {
    let own = |name, run| Trial { name, run };
    let trials = [
        own("serves_and_reports", serve::reports),
        own("health_check_ports", serve::health_check_ports),
        own("port_in_use_is_named", serve::port_in_use),
        own("foreign_flush_is_repaired", serve::foreign_flush),
        own("xtables_lock_held_for_long", serve::lock_held),
        own("silent_deletion_is_audited", audit::silent_deletion),
        own("rules_outlive_the_agent", serve::restart),
        own("route_localnet_goes_as_it_came", serve::route_localnet),
        own("other_hosts_do_not_reach_loopback", localnet::guarded),
        own("nftables_leaves_loopback_alone", localnet::never_needed),
        own("no_route_localnet_without_need", serve::no_route_localnet),
        own("a_changed_configuration_ends_it", serve::reconfigured),
        own("two_instances_in_two_namespaces", serve::two_instances),
        own("udp_flow_to_a_lost_endpoint", conntrack::lost_endpoint),
        own("udp_flows_survive_a_restart", conntrack::restart),
        own(
            "udp_flow_begun_while_rules_were_gone",
            conntrack::foreign_removal,
        ),
        own("foreign_edits_at_random", faults::random_edits),
        own("two_agents_on_one_table", faults::two_agents),
        own("two_iptables_agents_are_named", rivals::iptables),
        own(
            "programs_in_passing_name_an_agent",
            rivals::iptables_in_passing,
        ),
        own("two_nftables_agents_are_named", rivals::nftables),
        own("a_silent_listener_holds_up_nobody", rivals::silent_listener),
        own("two_ipvs_agents_are_named", rivals::ipvs),
        own("full_disk", faults::full_disk),
        own(
            "health_over_both_families",
            serve::health_over_both_families,
        ),
        own(
            "once_names_what_it_cannot_serve",
            starts::once_names_what_it_cannot_serve,
        ),
        own("ipv4_without_ip6tables", starts::without_ip6tables),
        own("hostile_names_in_the_kernel", hostile::in_the_kernel),
        own("nftables_with_net_admin_alone", privileges::nftables),
        own(
            "iptables_nft_with_net_admin_alone",
            privileges::iptables_nft,
        ),
        own("iptables_legacy_needs_net_raw", privileges::iptables_legacy),
        own("iptables_to_nftables_and_back", takeover::own_backends),
        own("kube_proxy_iptables_to_nftables", takeover::kube_proxy),
        own("take_over_without_programs", takeover::without_programs),
        own("take_over_without_net_raw", takeover::without_net_raw),
        #[cfg(feature = "cluster")]
        own(
            "api_server_goes_and_comes",
            cluster::api_server_goes_and_comes,
        ),
        #[cfg(feature = "cluster")]
        own("addresses_of_the_host", cluster::addresses_of_the_host),
        #[cfg(feature = "cluster")]
        own("once_against_a_cluster", cluster::once),
        #[cfg(feature = "cluster")]
        own(
            "conflict_becomes_an_event",
            cluster::conflict_becomes_an_event,
        ),
        #[cfg(feature = "cluster")]
        own("two_nodes_of_a_cluster", cluster::two_nodes),
        #[cfg(feature = "cluster")]
        own("nodes_a_pod_moves", nodes::a_pod_moves),
        #[cfg(feature = "cluster")]
        own("nodes_affinity", nodes::affinity),
        #[cfg(feature = "cluster")]
        own(
            "nodes_types_labels_and_readiness",
            nodes::types_labels_and_readiness,
        ),
    ];
    run_trials(&trials)
}
