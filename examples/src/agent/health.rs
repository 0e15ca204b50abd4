//! `/healthz` and `/livez` (B-209 to B-220) and the health checks of Services (B-191 to B-208).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use svc_core::health::{HEADERS, ProxyStatus, WEIGHT_HEADER};
use svc_core::{IpFamily, NamespacedName};

use super::rfc3339::rfc3339;
use super::status::Shared;
use crate::http::Page;

/// The answer of `/healthz`, counted.
pub(super) fn healthz(shared: &Shared) -> Page {
    let now = shared.now();
    let mut status = shared.lock();
    let answer = status.health.healthz(now, status.node.as_deref());
    count(&mut status.health_answers, "healthz", &answer)
}

/// The answer of `/livez`, counted.
pub(super) fn livez(shared: &Shared) -> Page {
    let now = shared.now();
    let mut status = shared.lock();
    let answer = status.health.livez(now);
    count(&mut status.health_answers, "livez", &answer)
}

fn count(
    answers: &mut BTreeMap<(&'static str, u16), u64>,
    path: &'static str,
    answer: &ProxyStatus,
) -> Page {
    *answers.entry((path, answer.status)).or_default() += 1;
    page(answer.status, &body(answer))
}

/// B-218.
fn body(answer: &ProxyStatus) -> Value {
    let time = |at: Option<Duration>| at.map(rfc3339);
    let families = answer.families.iter().map(|(family, status)| {
        let value = json!({
            "lastUpdated": time(status.last_updated),
            "healthy": status.healthy,
        });
        (family.to_string(), value)
    });
    let mut body = json!({
        "lastUpdated": time(answer.last_updated),
        "currentTime": rfc3339(answer.current_time),
    });
    if let Some(eligible) = answer.node_eligible {
        body["nodeEligible"] = eligible.into();
    }
    body["healthy"] = answer.healthy.into();
    body["status"] = Value::Object(families.collect());
    body
}

/// The answer of the health-check node port of a Service, from the plan in the kernel.
pub(super) fn service(shared: &Shared, family: IpFamily, name: &NamespacedName) -> Page {
    let now = shared.now();
    let status = shared.lock();
    let data_plane = status.health.data_plane(now);
    let plan = status.families.get(&family).map(|family| &family.plan);
    let Some(check) = plan.and_then(|plan| plan.health_checks.get(name)) else {
        // The Service went while the client connected.
        return page(503, &Value::Null);
    };
    let answer = check.answer(name, data_plane);
    let body = json!({
        "service": {
            "namespace": &*answer.body.service.namespace,
            "name": &*answer.body.service.name,
        },
        "localEndpoints": answer.body.local_endpoints,
        "serviceProxyHealthy": answer.body.service_proxy_healthy,
    });
    let mut page = page(answer.status, &body);
    page.headers
        .push((WEIGHT_HEADER, answer.weight.to_string()));
    page
}

fn page(status: u16, body: &Value) -> Page {
    Page {
        status,
        headers: HEADERS.map(|(name, value)| (name, value.into())).into(),
        body: body.to_string(),
    }
}
