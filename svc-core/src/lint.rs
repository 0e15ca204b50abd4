//! Invariants of every plan, whatever it was computed from.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::name::ServicePortName;
use crate::net::{IpFamily, Protocol};
use crate::plan::{
    Endpoint, Frontend, FrontendAddress, FrontendKind, Locality, Plan, Route, Scope,
    ServicePortPlan, SourceRanges,
};

impl Plan {
    /// Checks the invariants that backends rely on; an empty answer means that all hold.
    ///
    /// A finding is a fault of this crate or of whoever built the plan by hand, never of a
    /// Kubernetes object.
    pub fn lint(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let mut owners: BTreeMap<_, &ServicePortName> = BTreeMap::new();
        self.lint_node(&mut findings);
        for (name, plan) in &self.service_ports {
            let mut find = |what: String| findings.push(format!("{name:?}: {what}"));
            self.lint_port(plan, &mut find);
            if name.protocol != Protocol::Udp && !plan.serving.is_empty() {
                find("has a list for conntrack, but is not UDP".into());
            }
            for frontend in &plan.frontends {
                if let Some(other) = owners.insert((name.protocol, frontend.at), name) {
                    find(format!(
                        "{:?} is also a front end of {other:?}",
                        frontend.at
                    ));
                }
            }
        }
        findings
    }

    fn lint_node(&self, findings: &mut Vec<String>) {
        let node = &self.node;
        let mut find = |what: &str| findings.push(format!("node {:?}: {what}", node.name));
        if !node.addresses.is_sorted_by(|a, b| a < b) {
            find("its addresses are not sorted, or one stands twice");
        }
        if !node.node_ports.addresses.is_sorted_by(|a, b| a < b) {
            find("its node-port addresses are not sorted, or one stands twice");
        }
        let own = |ip: &IpAddr| node.addresses.binary_search(ip).is_ok();
        if !node.node_ports.addresses.iter().all(own) {
            find("a node-port address is not its own");
        }
        let foreign = |ip: &IpAddr| IpFamily::of(*ip) != self.family;
        let primary = node.primary.iter();
        if node.addresses.iter().chain(primary).any(foreign) {
            find("an address is of another family");
        }
        if node
            .addresses
            .iter()
            .any(|ip| ip.is_loopback() || ip.is_unspecified())
        {
            find("an address is none that others could use");
        }
        if !disjoint(&node.service_cidrs, self.family) {
            find("its service ranges are not sorted, or overlap, or are of another family");
        }
        if node.node_ports.localhost && self.family != IpFamily::V4 {
            find("serves node ports at a loopback address of IPv6");
        }
    }

    fn lint_port(&self, plan: &ServicePortPlan, find: &mut impl FnMut(String)) {
        if plan.frontends.is_empty() {
            find("has no front end".into());
        }
        if plan
            .affinity
            .is_some_and(|affinity| affinity.timeout_seconds == 0)
        {
            find("keeps clients for no time at all".into());
        }
        if !plan.frontends.is_sorted_by(|a, b| a.at < b.at) {
            find("front ends are not sorted, or one stands twice".into());
        }
        for (list, scope) in [
            (&plan.cluster, "cluster"),
            (&plan.local, "local"),
            (&plan.serving, "serving"),
        ] {
            self.lint_list(list, scope, find);
        }
        if plan
            .local
            .iter()
            .any(|endpoint| endpoint.locality == Locality::Remote)
        {
            find("the local list holds a remote endpoint".into());
        }
        for frontend in &plan.frontends {
            self.lint_frontend(plan, frontend, find);
        }
    }

    fn lint_list(&self, list: &[Endpoint], scope: &str, find: &mut impl FnMut(String)) {
        if !list.is_sorted_by(|a, b| (a.ip, a.port) < (b.ip, b.port)) {
            find(format!(
                "the {scope} list is not sorted, or an endpoint stands twice"
            ));
        }
        if list.iter().any(|endpoint| endpoint.port == 0) {
            find(format!("the {scope} list holds port 0"));
        }
        if list
            .iter()
            .any(|endpoint| IpFamily::of(endpoint.ip) != self.family)
        {
            find(format!("the {scope} list holds another family"));
        }
    }

    fn lint_frontend(
        &self,
        plan: &ServicePortPlan,
        frontend: &Frontend,
        find: &mut impl FnMut(String),
    ) {
        let at = &frontend.at;
        let foreign = |ip: &IpAddr| IpFamily::of(*ip) != self.family;
        if at.port() == 0 || matches!(at, FrontendAddress::Ip(socket) if foreign(&socket.ip())) {
            find(format!("{at:?} is no front end of this family"));
        }
        let node_port = matches!(at, FrontendAddress::NodePort(_));
        if node_port != (frontend.kind == FrontendKind::NodePort) {
            find(format!("{at:?} is of kind {:?}", frontend.kind));
        }
        if frontend.sources != SourceRanges::All && frontend.kind != FrontendKind::LoadBalancerIp {
            find(format!("{at:?} has source ranges (B-140)"));
        }
        if let SourceRanges::Only(ranges) = &frontend.sources
            && (ranges.is_empty() || !disjoint(ranges, self.family))
        {
            find(format!(
                "{at:?} has no ranges, or they overlap, or of another family"
            ));
        }
        let own = |ip: &IpAddr| self.node.addresses.binary_search(ip).is_ok();
        if !frontend.shadowed.iter().all(|ip| node_port && own(ip)) {
            find(format!("{at:?} is shadowed where it does not answer"));
        }
        let routes = &frontend.routes;
        for route in [&routes.pod, &routes.node, &routes.external] {
            if matches!(route, Route::Forward { to, .. } if plan.endpoints(*to).is_empty()) {
                find(format!("{at:?} forwards to an empty list"));
            }
        }
        if scope(&routes.pod) != scope(&routes.node) {
            find(format!("{at:?} sends pods and the node to different lists"));
        }
    }
}

/// Whether prefixes are of one family, sorted, and none holds an address of another.
fn disjoint(nets: &[IpNet], family: IpFamily) -> bool {
    nets.iter().all(|net| IpFamily::of_net(net) == family)
        && nets.is_sorted_by(|a, b| a.broadcast() < b.network())
}

/// A route without its masquerading.
fn scope(route: &Route) -> (Option<Scope>, bool) {
    match route {
        Route::Forward { to, .. } => (Some(*to), false),
        Route::Reject => (None, false),
        Route::Drop => (None, true),
    }
}
