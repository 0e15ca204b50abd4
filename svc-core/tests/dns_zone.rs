//! Corners of the zone that the cases of the specification leave out.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use svc_core::dns::{
    Answer, DnsName, PodNames, Rcode, RecordType, Zone, ZoneError, ZoneOptions, reverse_name,
};
use svc_core::object::{Service, ServicePort, ServiceType, TargetPort};
use svc_core::{ClusterState, Event, NamespacedName, Protocol, WatchEvent};

fn service(name: &str, ip: [u8; 4], port: &str) -> Service {
    let mut service = Service::named(NamespacedName::new("shop", name));
    service.cluster_ips = vec![ip.into()];
    if !port.is_empty() {
        service.ports = vec![ServicePort {
            name: port.into(),
            protocol: Protocol::Tcp,
            port: 80,
            target_port: TargetPort::Number(80),
            node_port: None,
            app_protocol: None,
        }];
    }
    service
}

fn external(name: &str, target: &str) -> Service {
    let mut service = Service::named(NamespacedName::new("shop", name));
    service.service_type = ServiceType::ExternalName;
    service.external_name = Some(target.into());
    service
}

fn options(domain: &str) -> ZoneOptions {
    ZoneOptions::new(domain.parse().unwrap())
}

/// A complete zone of some Services.
fn zone(options: ZoneOptions, services: Vec<Service>) -> Zone {
    let mut state = ClusterState::new();
    let mut zone = Zone::new(options).unwrap();
    let services = services
        .into_iter()
        .map(|s| Event::Service(WatchEvent::InitApply(s)));
    let events = [Event::Service(WatchEvent::Init)]
        .into_iter()
        .chain(services)
        .chain([
            Event::Service(WatchEvent::InitDone),
            Event::EndpointSlice(WatchEvent::Init),
            Event::EndpointSlice(WatchEvent::InitDone),
        ]);
    for event in events {
        let changes = state.apply(event);
        zone.refresh(&state, &changes);
    }
    zone
}

fn ask(zone: &Zone, name: &str, kind: RecordType, check: impl FnOnce(&Answer<'_>)) {
    let name: DnsName = name.parse().unwrap();
    check(&zone.lookup(name.as_ref(), kind));
}

fn data(answer: &Answer<'_>) -> Vec<String> {
    let sets = answer.answers.iter();
    sets.flat_map(|set| set.iter().map(|data| data.to_string()))
        .collect()
}

#[test]
fn a_service_without_ports_has_its_ptr_record() {
    let mut options = options("cluster.local");
    options.reverse = vec!["10.0.0.0/8".parse().unwrap()];
    let zone = zone(options, vec![service("web", [10, 0, 0, 1], "")]);
    let name = reverse_name([10, 0, 0, 1].into()).to_string();
    ask(&zone, &name, RecordType::Ptr, |answer| {
        assert_eq!(data(answer), ["web.shop.svc.cluster.local."]);
    });
}

#[test]
fn a_port_name_of_63_octets_has_no_srv_record_and_is_reported() {
    let port = "p".repeat(63);
    let zone = zone(
        options("cluster.local"),
        vec![service("web", [10, 0, 0, 1], &port)],
    );
    let reported: Vec<_> = zone.diagnostics().iter().map(|d| d.to_string()).collect();
    let said = "Service shop/web: spec.ports[].name: no DNS record: a label of more than 63 octets";
    assert_eq!(reported, [said]);
    ask(
        &zone,
        "web.shop.svc.cluster.local",
        RecordType::A,
        |answer| {
            assert_eq!(data(answer), ["10.0.0.1"]);
        },
    );
    ask(
        &zone,
        "_tcp.web.shop.svc.cluster.local",
        RecordType::A,
        |answer| {
            assert_eq!(answer.rcode, Rcode::NxDomain);
        },
    );
}

#[test]
fn rfc1035_a_name_that_overflows_is_left_out_and_reported() {
    let long = [
        "z".repeat(60),
        "z".repeat(60),
        "z".repeat(60),
        "z".repeat(50),
    ]
    .join(".");
    let name = "a-name-of-several-octets";
    let zone = zone(
        options(&long),
        vec![
            service(name, [10, 0, 0, 1], "http"),
            service("w", [10, 0, 0, 2], "http"),
        ],
    );
    assert_eq!(
        zone.diagnostics().len(),
        2,
        "one name and one port: {:?}",
        zone.diagnostics()
    );
    ask(
        &zone,
        &format!("w.shop.svc.{long}"),
        RecordType::A,
        |answer| {
            assert_eq!(data(answer), ["10.0.0.2"]);
        },
    );
}

#[test]
fn a_zone_that_leaves_no_room_or_lives_too_long_is_refused() {
    let long = [
        "z".repeat(63),
        "z".repeat(63),
        "z".repeat(63),
        "z".repeat(59),
    ]
    .join(".");
    assert!(matches!(
        Zone::new(options(&long)),
        Err(ZoneError::Domain(_))
    ));
    let mut options = options("cluster.local");
    options.ttl = 3601;
    assert_eq!(Zone::new(options).err(), Some(ZoneError::Ttl(3601)));
}

#[test]
fn a_reverse_prefix_inside_an_octet_is_several_zones() {
    let mut options = options("cluster.local");
    options.reverse = vec![
        "10.96.0.0/12".parse().unwrap(),
        "10.1.2.3/32".parse().unwrap(),
    ];
    let zone = zone(
        options,
        vec![
            service("web", [10, 111, 0, 1], ""),
            service("one", [10, 1, 2, 3], ""),
        ],
    );
    let rcode = |name: &str, want| {
        ask(&zone, name, RecordType::Soa, |answer| {
            assert_eq!(answer.rcode, want, "{name}")
        });
    };
    rcode("10.in-addr.arpa", Rcode::Refused);
    rcode("95.10.in-addr.arpa", Rcode::Refused);
    rcode("96.10.in-addr.arpa", Rcode::NoError);
    rcode("0.111.10.in-addr.arpa", Rcode::NoError);
    rcode("1.111.10.in-addr.arpa", Rcode::NxDomain);
    rcode("112.10.in-addr.arpa", Rcode::Refused);
    for (kind, count) in [
        (RecordType::Ptr, 1),
        (RecordType::Soa, 1),
        (RecordType::A, 0),
    ] {
        ask(&zone, "3.2.1.10.in-addr.arpa", kind, |answer| {
            assert_eq!((answer.rcode, data(answer).len()), (Rcode::NoError, count));
        });
    }
}

#[test]
fn before_the_lists_are_complete_a_missing_name_may_exist() {
    let mut state = ClusterState::new();
    let mut zone = Zone::new(options("cluster.local")).unwrap();
    let event = WatchEvent::Apply(service("web", [10, 0, 0, 1], "http"));
    let changes = state.apply(Event::Service(event));
    assert!(zone.refresh(&state, &changes));
    ask(
        &zone,
        "web.shop.svc.cluster.local",
        RecordType::A,
        |answer| {
            assert_eq!(data(answer), ["10.0.0.1"]);
        },
    );
    ask(
        &zone,
        "no.shop.svc.cluster.local",
        RecordType::A,
        |answer| {
            assert_eq!(answer.rcode, Rcode::ServFail);
        },
    );
}

#[test]
fn a_long_chain_of_names_ends() {
    let link = |i: u32| {
        external(
            &format!("a{i}"),
            &format!("a{}.shop.svc.cluster.local", i + 1),
        )
    };
    let zone = zone(options("cluster.local"), (0..50).map(link).collect());
    ask(
        &zone,
        "a0.shop.svc.cluster.local",
        RecordType::A,
        |answer| {
            assert_eq!((answer.rcode, data(answer).len()), (Rcode::NoError, 10));
        },
    );
}

/// The serial is the time of the last change that can be seen.
#[test]
fn a_list_that_brings_nothing_new_is_no_change() {
    let mut zone = zone(options("cluster.local"), Vec::new());
    let list = |names: &[&str]| {
        let names = names
            .iter()
            .map(|name| WatchEvent::InitApply((*name).into()));
        let all = [WatchEvent::Init].into_iter().chain(names);
        all.chain([WatchEvent::InitDone]).collect::<Vec<_>>()
    };
    let mut take = |names: &[&str]| {
        let all = list(names).into_iter();
        all.fold(false, |changed, event| {
            zone.apply_namespace(event) | changed
        })
    };
    // The first one ends the time in which a name may exist that is not known.
    assert!(take(&[]));
    assert!(!take(&[]));
    assert!(take(&["shop"]));
    assert!(!take(&["shop"]));
    assert!(take(&[]));
}

#[test]
fn an_alias_of_pods_without_proof_needs_a_namespace_only() {
    let mut options = options("cluster.local");
    options.pods = PodNames::Insecure;
    options.pod_alias = true;
    let mut zone = zone(options, Vec::new());
    zone.apply_namespace(WatchEvent::Apply("shop".into()));
    let rcode = |name: &str, want| {
        ask(&zone, name, RecordType::A, |answer| {
            assert_eq!(answer.rcode, want, "{name}")
        });
    };
    rcode("10-0-0-1.web.shop.pod.cluster.local", Rcode::NoError);
    rcode("web.shop.pod.cluster.local", Rcode::NoError);
    rcode("10-0-0-1.web.other.pod.cluster.local", Rcode::NxDomain);
    rcode("10-0-0-1.we_b.shop.pod.cluster.local", Rcode::NxDomain);
}
