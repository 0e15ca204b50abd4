//! Invariants of every plan, whatever it was computed from.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::name::ServicePortName;
use crate::net::IpFamily;
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
        for (name, plan) in &self.service_ports {
            let mut find = |what: String| findings.push(format!("{name:?}: {what}"));
            self.lint_port(plan, &mut find);
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

    fn lint_port(&self, plan: &ServicePortPlan, find: &mut impl FnMut(String)) {
        if plan.frontends.is_empty() {
            find("has no front end".into());
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

/// A route without its masquerading.
fn scope(route: &Route) -> (Option<Scope>, bool) {
    match route {
        Route::Forward { to, .. } => (Some(*to), false),
        Route::Reject => (None, false),
        Route::Drop => (None, true),
    }
}
