//! Query, search, parse, validation and name cases of the Kubernetes DNS specification 1.1.0.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};
use svc_core::dns::{
    Answer, Branch, ClusterDomain, DnsName, NameRule, ParsedName, PodNames, RecordData, RecordSet,
    SearchResult, Zone, ZoneOptions, dashed_address, dashed_to_address, pod_search_list,
    reverse_name, reverse_to_address, search_candidates,
};
use svc_core::wire::{Conversion, Document, Object};
use svc_core::{ClusterState, Event, NamespacedName, WatchEvent};

fn cases() -> Value {
    serde_json::from_str(include_str!("data/dns-cases.json")).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn name(text: &str) -> DnsName {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// A zone over the objects of the fixture.
fn zone(cases: &Value, options: &Value) -> Zone {
    let fixture = &cases["fixture"];
    let option = |key: &str| options.get(key).unwrap_or(&cases["default_options"][key]);
    let flag = |key: &str| option(key).as_bool().unwrap();
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.map(|v| v.as_str().unwrap().into()).collect()
    };
    let mut server_ips = texts(option("server_ips"));
    if server_ips.is_empty() {
        server_ips = texts(&fixture["server_ips"]);
    }
    let ips = server_ips.iter().map(|ip| ip.parse().unwrap());
    let cidrs = texts(&fixture["reverse_cidrs"]);
    let mut zone = Zone::new(ZoneOptions {
        reverse: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        ttl: u32::try_from(option("ttl").as_u64().unwrap()).unwrap(),
        pods: match option("pods").as_str().unwrap() {
            "disabled" => PodNames::Disabled,
            "verified" => PodNames::Verified,
            "insecure" => PodNames::Insecure,
            other => panic!("pods: {other}"),
        },
        endpoint_pod_names: flag("endpoint_pod_names"),
        ignore_empty_services: flag("ignore_empty_service"),
        port_alias: flag("port_alias"),
        pod_alias: flag("pod_alias"),
        namespaces: option("namespaces").is_array().then(|| {
            texts(option("namespaces"))
                .into_iter()
                .map(Into::into)
                .collect()
        }),
        server_ips: ips.collect(),
        ..ZoneOptions::new(text(fixture, "zone").parse().unwrap())
    })
    .unwrap();
    fill(&mut zone, list(fixture, "objects"), flag("synced"));
    zone
}

/// Feeds objects as a watch would: each list from its start to its end, if it has one yet.
fn fill(zone: &mut Zone, objects: &[Value], synced: bool) {
    let document = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let document: Document = serde_json::from_value(document).unwrap();
    let mut state = ClusterState::new();
    let mut events = vec![
        Event::Service(WatchEvent::Init),
        Event::EndpointSlice(WatchEvent::Init),
    ];
    zone.apply_pod(WatchEvent::Init);
    zone.apply_namespace(WatchEvent::Init);
    let mut conversion = Conversion::default();
    for object in document.objects {
        match object.unwrap() {
            Object::Service(service) => events.extend(
                (conversion.service(&service).0).map(|s| Event::Service(WatchEvent::InitApply(s))),
            ),
            Object::EndpointSlice(slice) => events.extend(
                (conversion.endpoint_slice(&slice).0)
                    .map(|s| Event::EndpointSlice(WatchEvent::InitApply(s))),
            ),
            Object::Pod(pod) => {
                let pod = conversion.pod(&pod).0.unwrap();
                zone.apply_pod(WatchEvent::InitApply(pod));
            }
            Object::Namespace(namespace) => {
                let namespace = conversion.namespace(&namespace).0.unwrap();
                zone.apply_namespace(WatchEvent::InitApply(namespace));
            }
            other @ (Object::Node(_)
            | Object::Endpoints(_)
            | Object::Workload(..)
            | Object::ServiceCidr(_)
            | Object::Unknown { .. }) => panic!("{other:?}"),
        }
    }
    if synced {
        events.push(Event::Service(WatchEvent::InitDone));
        events.push(Event::EndpointSlice(WatchEvent::InitDone));
        zone.apply_pod(WatchEvent::InitDone);
        zone.apply_namespace(WatchEvent::InitDone);
    }
    for event in events {
        let changes = state.apply(event);
        zone.refresh(&state, &changes);
    }
}

/// A record as it is compared: names without case, SRV priority and weight and SOA serial free.
fn record(owner: &str, ttl: u64, kind: &str, data: &str) -> String {
    let fields: Vec<&str> = data.split(' ').collect();
    let data = match (kind, fields.as_slice()) {
        ("SRV", [_, _, port, target]) => format!("{port} {target}"),
        ("SOA", [mname, rname, _, rest @ ..]) => format!("{mname} {rname} * {}", rest.join(" ")),
        ("TXT", [text]) => format!("\"{}\"", text.trim_matches('"')),
        _ => data.to_owned(),
    };
    format!("{owner} {ttl} {kind} {data}").to_ascii_lowercase()
}

fn expected(records: &[Value]) -> BTreeSet<String> {
    let one = |r: &Value| {
        let ttl = r["ttl"].as_u64().unwrap();
        record(text(r, "name"), ttl, text(r, "type"), text(r, "data"))
    };
    records.iter().map(one).collect()
}

fn found<'a>(sets: impl Iterator<Item = RecordSet<'a>>) -> Vec<String> {
    sets.flat_map(|set| {
        let (owner, ttl) = (set.owner.to_string(), u64::from(set.ttl));
        let one = move |data: RecordData<'a>| {
            record(
                &owner,
                ttl,
                &data.record_type().to_string(),
                &data.to_string(),
            )
        };
        set.iter().map(one).collect::<Vec<_>>()
    })
    .collect()
}

fn without_repetition(records: Vec<String>) -> Result<BTreeSet<String>, String> {
    let set: BTreeSet<String> = records.iter().cloned().collect();
    match set.len() == records.len() {
        true => Ok(set),
        false => Err(format!("a record is repeated: {records:?}")),
    }
}

fn check(case: &Value, expect: &Value, answer: &Answer<'_>) -> Result<(), String> {
    let rcode = answer.rcode.to_string();
    let allowed = match list(expect, "rcode_any") {
        [] => vec![text(expect, "rcode")],
        any => any.iter().filter_map(Value::as_str).collect(),
    };
    if !allowed.contains(&rcode.as_str()) {
        return Err(format!("rcode {rcode}"));
    }
    let answers = found(answer.answers.iter().copied());
    let answers = without_repetition(answers)?;
    if expect["answers_any"] == json!(true) {
        return Ok(());
    }
    if answers != expected(list(expect, "answers")) {
        return Err(format!("answers {answers:#?}"));
    }
    let authority = found(answer.authority.iter().copied());
    let wanted = match expect["authority_soa"].as_bool() {
        Some(true) => {
            let (owner, soa) = (text(&expect["soa"], "owner"), &expect["soa"]);
            let data = format!(
                "ns.dns.{owner} hostmaster.{owner} 0 7200 1800 86400 {}",
                soa["minimum"]
            );
            vec![record(owner, soa["ttl"].as_u64().unwrap(), "SOA", &data)]
        }
        Some(false) => Vec::new(),
        None => authority.clone(),
    };
    if authority != wanted {
        return Err(format!("authority {authority:?}"));
    }
    let additional = without_repetition(found(answer.additional.clone()))?;
    let may = expected(list(expect, "additional_may"));
    if !additional.is_subset(&may) {
        return Err(format!("additional {additional:?}"));
    }
    if expect["owner_echoes_question_case"] == json!(true) {
        let owner = answer
            .answers
            .iter()
            .next()
            .map(|set| set.owner.to_string());
        if owner.is_some_and(|owner| owner != text(case, "qname")) {
            return Err("the owner is not spelled as the question".into());
        }
    }
    Ok(())
}

#[test]
fn queries() {
    let cases = cases();
    let mut failures = Vec::new();
    let mut checked = 0;
    for case in list(&cases, "cases") {
        // Class and transfers belong to the server: they never reach a look-up.
        if case.get("qclass").is_some() || text(case, "qtype") == "AXFR" {
            continue;
        }
        checked += 1;
        let zone = zone(&cases, &case["options"]);
        let question = name(text(case, "qname"));
        let answer = zone.lookup(question.as_ref(), text(case, "qtype").parse().unwrap());
        let expect = &case["expect"];
        let mut result = check(case, expect, &answer);
        for alternative in list(expect, "alternatives") {
            let mut other = expect.clone();
            let fields = alternative.as_object().unwrap().clone();
            other.as_object_mut().unwrap().extend(fields);
            result = result.or(check(case, &other, &answer));
        }
        if let Err(error) = result {
            let id = (text(case, "id"), &question, text(case, "qtype"));
            failures.push(format!("{id:?}: {error}; expected {expect}"));
        }
    }
    assert!(checked > 240, "only {checked} cases");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn searches() {
    let cases = cases();
    let zone = zone(&cases, &json!({}));
    for case in list(&cases, "search_cases") {
        let host = [name("corp.example")];
        let domain = &zone.options().domain;
        let search = pod_search_list(domain, text(case, "from_namespace"), &host).unwrap();
        let texts: Vec<String> = search.iter().map(ToString::to_string).collect();
        assert_eq!(json!(texts), case["search"]);
        let ndots = usize::try_from(case["ndots"].as_u64().unwrap()).unwrap();
        let candidates = search_candidates(text(case, "relative"), &search, ndots).unwrap();
        let steps = zone.search(&candidates, text(case, "qtype").parse().unwrap());
        let shown: Vec<Value> = steps
            .iter()
            .map(|step| {
                let result = match step.result {
                    SearchResult::Answer => "ANSWER",
                    SearchResult::NoData => "NODATA",
                    SearchResult::NxDomain => "NXDOMAIN",
                    SearchResult::ServFail => "SERVFAIL",
                    SearchResult::Upstream => "UPSTREAM",
                };
                json!({"q": step.name.to_string(), "result": result})
            })
            .collect();
        assert_eq!(json!(shown), case["steps"], "{case}");
    }
}

fn parsed(domain: &ClusterDomain, question: &DnsName) -> Value {
    let branch = |branch| match branch {
        Branch::Service => "svc",
        Branch::Pod => "pod",
    };
    let s = |label: svc_core::dns::Label<'_>| label.to_string().to_ascii_lowercase();
    match domain.parse(question.as_ref()) {
        ParsedName::OutOfZone => json!({"kind": "out_of_zone"}),
        ParsedName::Invalid => json!({"kind": "invalid"}),
        ParsedName::Apex => json!({"kind": "apex"}),
        ParsedName::DnsVersion => json!({"kind": "dns_version"}),
        ParsedName::DnsRoot => json!({"kind": "dns_root"}),
        ParsedName::NsHost => json!({"kind": "ns_host"}),
        ParsedName::Root(b) => json!({"kind": format!("{}_root", branch(b))}),
        ParsedName::Namespace {
            branch: b,
            namespace,
        } => {
            json!({"kind": "namespace", "namespace": s(namespace), "branch": branch(b)})
        }
        ParsedName::Service { service, namespace } => {
            json!({"kind": "service", "service": s(service), "namespace": s(namespace)})
        }
        ParsedName::Protocol {
            protocol,
            service,
            namespace,
        } => json!({
            "kind": "protocol", "proto": protocol.lower(), "service": s(service),
            "namespace": s(namespace),
        }),
        ParsedName::Srv {
            port,
            protocol,
            service,
            namespace,
        } => json!({
            "kind": "srv", "port": s(port), "proto": protocol.lower(), "service": s(service),
            "namespace": s(namespace),
        }),
        ParsedName::EndpointOrPort {
            label,
            service,
            namespace,
        } => json!({
            "kind": "endpoint_or_port_alias", "label": s(label), "service": s(service),
            "namespace": s(namespace),
        }),
        ParsedName::PodAddress { ip, namespace, .. } => {
            json!({"kind": "pod_ip", "ip": ip.to_string(), "namespace": s(namespace)})
        }
        ParsedName::PodLabel { namespace, .. } => {
            json!({"kind": "pod_label_not_ip", "namespace": s(namespace)})
        }
        ParsedName::PodAlias {
            ip, pod, namespace, ..
        } => json!({
            "kind": "pod_ip_name_alias", "ip": ip.to_string(), "pod": s(pod),
            "namespace": s(namespace),
        }),
        ParsedName::Reverse(ip) => json!({"kind": "reverse", "ip": ip.to_string()}),
        ParsedName::ReversePrefix(net) => {
            json!({"kind": "reverse_prefix", "net": net.to_string()})
        }
    }
}

#[test]
fn parses() {
    let cases = cases();
    let domain: ClusterDomain = "cluster.local".parse().unwrap();
    for case in list(&cases, "parse_cases") {
        let mut expect = case.clone();
        let fields = expect.as_object_mut().unwrap();
        fields.retain(|key, _| !matches!(key.as_str(), "qname" | "coredns_kind" | "why"));
        assert_eq!(
            parsed(&domain, &name(text(case, "qname"))),
            expect,
            "{case}"
        );
    }
}

#[test]
fn validation() {
    for case in list(&cases(), "validation_cases") {
        let rule = match text(case, "kind") {
            "service_name_rfc1035" => NameRule::StrictService,
            "service_name_relaxed_rfc1123" => NameRule::Service,
            "namespace" => NameRule::Namespace,
            "service_port_name" => NameRule::ServicePort,
            "container_port_name_iana" => NameRule::ContainerPort,
            "hostname" => NameRule::Hostname,
            "pod_name" => NameRule::Pod,
            "external_name" => NameRule::ExternalName,
            other => panic!("{other}"),
        };
        let valid = rule.check(text(case, "value")).is_ok();
        assert_eq!(Some(valid), case["valid"].as_bool(), "{case}");
    }
}

fn srv_owner(input: &Value) -> Option<DnsName> {
    let zone = input["zone"].as_str().unwrap_or("cluster.local");
    let domain: ClusterDomain = zone.parse().unwrap();
    let service = NamespacedName::new(text(input, "namespace"), text(input, "service"));
    let protocol = text(input, "proto").parse().unwrap();
    domain.srv(text(input, "port"), protocol, &service).ok()
}

#[test]
fn name_functions() {
    for case in list(&cases(), "name_function_cases") {
        let input = text(case, "in");
        let ip = || -> IpAddr { input.parse().unwrap() };
        let output = match text(case, "fn") {
            "endpoint_default_name" => Some(dashed_address(ip())),
            "pod_label_to_ip" => dashed_to_address(input.as_bytes()).map(|ip| ip.to_string()),
            "reverse_name" => Some(reverse_name(ip()).to_string()),
            "reverse_to_ip" => reverse_to_address(name(input).as_ref()).map(|ip| ip.to_string()),
            "srv_owner" => {
                let owner = srv_owner(&case["in"]);
                if let Some(octets) = case["out_wire_octets"].as_u64() {
                    let length = owner.map(|owner| owner.octets().len() as u64);
                    assert_eq!(length, Some(octets), "{case}");
                    continue;
                }
                owner.map(|owner| owner.to_string())
            }
            other => panic!("{other}"),
        };
        assert_eq!(json!(output), case["out"], "{case}");
    }
}
