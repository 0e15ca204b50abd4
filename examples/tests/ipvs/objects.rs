//! What the kernel holds, read by others.

use std::fs;
use std::sync::Once;

use backend_ipvs::{Kernel, Scheduler, Settings, StrictArp, System, setting};
use svc_core::object::{
    Conditions, EndpointPort, EndpointSlice, Service, ServicePort, SliceEndpoint, TargetPort,
};
use svc_core::{Event, IpFamily, NamespacedName, Protocol, WatchEvent};

use crate::lab::{parse, slice};
use crate::programs;
use crate::stage::{Stage, command};

/// Loads what the other trials need.
pub(crate) fn load_modules() {
    static LOADED: Once = Once::new();
    LOADED.call_once(|| {
        for module in ["ip_vs", "dummy"] {
            command(&format!("modprobe {module}"));
        }
    });
}

/// Without its modules the kernel cannot do it, and the module is named.
pub(crate) fn missing_modules_are_named() {
    let loader = "/proc/sys/kernel/modprobe";
    let before = fs::read_to_string(loader).unwrap();
    let loaded = fs::read_to_string("/proc/modules").unwrap();
    assert!(!loaded.contains("ip_vs"), "this trial has to be the first");
    fs::write(loader, "/bin/false").unwrap();
    let settings = Settings::default();
    let open = || Kernel::open(&settings, IpFamily::V4);
    let mut errors = Vec::new();
    let mut said = Vec::new();
    for module in ["ip_vs", "nf_tables"] {
        errors.extend(open().err());
        said.push(programs::fails());
        command(&format!("modprobe {module}"));
    }
    match open() {
        Ok(mut kernel) => errors.extend(kernel.system().make_link().err()),
        Err(error) => errors.push(error),
    }
    // Before anything can fail: the kernel loads modules itself for the other trials.
    fs::write(loader, before.trim()).unwrap();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let lines: Vec<String> = errors
        .iter()
        .map(|error| format!("error: {error}\n"))
        .collect();
    // The rules of a proxy need more modules than the last.
    assert_eq!(said, lines[..2]);
    assert_eq!(
        errors,
        [
            "the kernel has no IPVS: load its module, modprobe ip_vs",
            "the kernel has no nf_tables: load its module, modprobe nf_tables",
            "the kernel has no dummy links: load its module, modprobe dummy",
        ]
    );
}

/// ipvsadm prints of a kernel what we print of a plan.
pub(crate) fn saved_by_ipvsadm() {
    load_modules();
    let mut stage = Stage::new(Settings::default());
    stage.apply(MIXED, &mixed_slices());
    let wanted = stage.wanted_text();
    assert_eq!(stage.command("ipvsadm -Sn"), wanted);
    for part in [" -p 600", "--sctp-service", "-f ", " -6 ", " -s mh", "-u ["] {
        assert!(wanted.contains(part), "{part} in {wanted}");
    }
    // Addresses are on our links alone, each once.
    let links = stage.command("ip -o addr show");
    assert_eq!(
        links.matches("10.96.0.10/32 scope host svc-ipvs4").count(),
        1,
        "{links}"
    );
    assert_eq!(
        links
            .matches("fd10:96::10/128 scope global nodad deprecated")
            .count(),
        1,
        "{links}"
    );
    assert!(!links.contains("198.18.0.10/32 scope host"), "{links}");
    let rules = stage.command("nft list ruleset");
    assert!(rules.contains("table ip svc-ipvs"), "{rules}");
    stage.apply("", &[]);
    assert_eq!(stage.command("ipvsadm -Sn"), "");
}

/// The kernel takes every scheduler by the name that we have for it.
pub(crate) fn every_scheduler() {
    load_modules();
    let mut stage = Stage::new(Settings::default());
    stage.apply(MIXED, &mixed_slices());
    for scheduler in Scheduler::ALL {
        stage.restart_with(Settings {
            scheduler,
            ..Settings::default()
        });
        let wanted = stage.wanted_text();
        assert!(wanted.contains(&format!(" -s {scheduler}")), "{wanted}");
        assert_eq!(stage.command("ipvsadm -Sn"), wanted, "{scheduler}");
        // From nothing, too.
        stage.cleanup();
        stage.restart();
        assert_eq!(stage.command("ipvsadm -Sn"), wanted, "{scheduler}");
    }
}

/// A process that starts over a kernel that is right changes nothing.
pub(crate) fn a_restart_touches_nothing() {
    load_modules();
    let mut stage = Stage::new(Settings::default());
    stage.apply(MIXED, &mixed_slices());
    let before = (
        stage.command("ipvsadm -Sn"),
        stage.command("nft list ruleset"),
    );
    for report in stage.restart() {
        let settled = report.settled;
        assert_eq!((settled.commits, settled.edits), (0, 0));
        assert!(settled.drift.unwrap().is_empty());
    }
    let after = (
        stage.command("ipvsadm -Sn"),
        stage.command("nft list ruleset"),
    );
    assert_eq!(before, after);
}

/// What others remove or change comes back.
pub(crate) fn others_changes_are_repaired() {
    load_modules();
    let mut stage = Stage::new(Settings::default());
    stage.apply(MIXED, &mixed_slices());
    let (servers, rules) = (
        stage.command("ipvsadm -Sn"),
        stage.command("nft list ruleset"),
    );
    let links = |stage: &Stage| stage.command("ip -o addr show");
    let damage = [
        "ipvsadm -C",
        "ipvsadm -D -t 10.96.0.10:80",
        "ipvsadm -d -t 10.96.0.10:80 -r 10.64.1.1:8080",
        "ipvsadm -e -t 10.96.0.10:80 -r 10.64.1.1:8080 -m -w 7",
        "ipvsadm -E -t 10.96.0.10:80 -s wlc",
        "ip link del svc-ipvs4",
        "ip link set svc-ipvs6 down",
        "ip addr del 10.96.0.10/32 dev svc-ipvs4",
        "nft flush ruleset",
        "nft delete table ip6 svc-ipvs",
    ];
    for command in damage {
        stage.command(command);
        for family in &mut stage.families {
            family.reconciler.verify();
        }
        stage.sync();
        // What another program shows; starting one takes long on an emulated processor.
        match command.split(' ').next() {
            Some("ipvsadm") => {
                assert_eq!(stage.command("ipvsadm -Sn"), servers, "after {command}");
            }
            Some("nft") => {
                assert_eq!(stage.command("nft list ruleset"), rules, "after {command}");
            }
            _ => {
                let links = links(&stage);
                assert!(links.contains("10.96.0.10/32"), "after {command}: {links}");
                assert!(
                    links.contains("fd10:96::10/128"),
                    "after {command}: {links}"
                );
            }
        }
    }
    assert_eq!(stage.command("ipvsadm -Sn"), servers);
    assert_eq!(stage.command("nft list ruleset"), rules);
}

/// Clean-up removes what is ours and puts settings back; the rest stays through it all.
pub(crate) fn only_ours_is_touched() {
    load_modules();
    let mut stage = Stage::new(Settings::default());
    let theirs = [
        "ip link add theirs type dummy",
        "ip addr add 192.0.2.77/32 dev theirs",
        "ipvsadm -A -t 192.0.2.77:443 -s wlc",
        "ipvsadm -a -t 192.0.2.77:443 -r 10.64.1.9:443 -m -w 5",
        "ipvsadm -A -f 77 -s rr",
        "nft add table ip theirs",
    ];
    for command in theirs {
        stage.command(command);
    }
    let look = |stage: &Stage| {
        let links = stage.command("ip -o addr show");
        [
            stage.command("ipvsadm -Sn"),
            stage.command("nft list ruleset"),
            links.lines().filter(|line| !line.contains("eth")).collect(),
        ]
    };
    let before = look(&stage);
    let conntrack = "/proc/sys/net/ipv4/vs/conntrack";
    let setting = move || fs::read_to_string(conntrack).unwrap().trim().to_owned();
    assert_eq!(stage.on_node(setting), "0");

    let wanted = setting::wanted(StrictArp::On, "6.1");
    let kernel = &mut stage.families[0].kernel;
    let node = stage.world.sandbox().node();
    node.run(|| kernel.set(&wanted).unwrap()).unwrap();
    stage.apply(MIXED, &mixed_slices());
    assert_eq!(stage.on_node(setting), "1");
    stage.restart();
    assert_eq!(stage.on_node(setting), "1");
    let during = look(&stage);
    assert!(
        during[0].contains("-A -t 192.0.2.77:443 -s wlc\n"),
        "{during:?}"
    );
    assert!(during[0].contains("-A -f 77 -s rr\n"), "{during:?}");
    assert!(during[0].contains("-A -t 10.96.0.10:80"), "{during:?}");

    stage.cleanup();
    assert_eq!(look(&stage), before);
    assert_eq!(stage.on_node(setting), "0");
}

/// A front end at which somebody else has a virtual server is named and left alone.
pub(crate) fn a_taken_front_end_is_named() {
    load_modules();
    let mut stage = Stage::new(Settings::default());
    stage.command("ipvsadm -A -t 10.96.0.10:80 -s wlc");
    let manifests = parse(MIXED);
    for service in manifests.services {
        stage
            .planner
            .handle(Event::Service(WatchEvent::Apply(service)));
    }
    for event in [
        Event::Service(WatchEvent::Init),
        Event::EndpointSlice(WatchEvent::Init),
    ] {
        stage.planner.handle(event);
    }
    for service in parse(MIXED).services {
        stage
            .planner
            .handle(Event::Service(WatchEvent::InitApply(service)));
    }
    for slice in mixed_slices() {
        let event = WatchEvent::InitApply(slice);
        stage.planner.handle(Event::EndpointSlice(event));
    }
    for event in [
        Event::Service(WatchEvent::InitDone),
        Event::EndpointSlice(WatchEvent::InitDone),
    ] {
        stage.planner.handle(event);
    }
    let (families, planner) = (&mut stage.families, &mut stage.planner);
    let node = stage.world.sandbox().node();
    let synced = node.run(|| {
        examples::proxy::update(planner, families)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    synced.unwrap().unwrap();
    let quarantine = stage.families[0].reconciler.quarantine();
    let reasons: Vec<_> = quarantine.values().cloned().collect();
    assert_eq!(
        reasons,
        ["virtual server 10.96.0.10:80/tcp exists and is not ours"]
    );
    let held = stage.command("ipvsadm -Sn");
    assert!(held.contains("-A -t 10.96.0.10:80 -s wlc\n"), "{held}");
    assert!(!held.contains("-a -t 10.96.0.10:80"), "{held}");
    assert!(held.contains("-A -u 10.96.0.11:53 -s rr"), "{held}");
}

/// Messages of 100 Services with 3 endpoints each: one endpoint costs as many as it does among ten.
/// `sync-bench` tells times.
pub(crate) fn figures() {
    load_modules();
    let mut stage = Stage::new(Settings::default());
    stage.apply("", &[]);
    let (services, slices): (Vec<_>, Vec<_>) = (0..100).map(made_up).unzip();
    stage.planner.handle(Event::Service(WatchEvent::Init));
    stage.planner.handle(Event::EndpointSlice(WatchEvent::Init));
    for service in services {
        stage
            .planner
            .handle(Event::Service(WatchEvent::InitApply(service)));
    }
    for slice in &slices {
        let event = WatchEvent::InitApply(slice.clone());
        stage.planner.handle(Event::EndpointSlice(event));
    }
    stage.planner.handle(Event::Service(WatchEvent::InitDone));
    stage
        .planner
        .handle(Event::EndpointSlice(WatchEvent::InitDone));
    let sent = |stage: &mut Stage| stage.families[0].kernel.system().sent();
    let before = sent(&mut stage);
    stage.sync();
    let after = sent(&mut stage);
    assert_eq!((after.0 - before.0, after.1 - before.1), (400, 101));

    for (round, slice) in slices.iter().enumerate().take(20) {
        let mut changed = slice.clone();
        changed.endpoints[0].address = [10, 65, 200, u8::try_from(round).unwrap()].into();
        stage
            .planner
            .handle(Event::EndpointSlice(WatchEvent::Apply(changed)));
        let before = sent(&mut stage);
        stage.sync();
        let after = sent(&mut stage);
        // A destination made, the other at weight 0, looked at, deleted.
        assert_eq!((after.0 - before.0, after.1 - before.1), (4, 0));
    }
    stage.restart();
    assert_eq!(stage.command("ipvsadm -Sn"), stage.wanted_text());
}

fn made_up(number: u32) -> (Service, EndpointSlice) {
    let name = NamespacedName::new("demo", format!("svc-{number}"));
    let mut service = Service::named(name.clone());
    service.cluster_ips = vec![(0x0a60_0100u32 + number).to_be_bytes().into()];
    service.ip_families = vec![IpFamily::V4];
    service.ports = vec![ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        target_port: TargetPort::Number(8080),
        node_port: None,
        app_protocol: None,
    }];
    let endpoint = |index: u32| {
        let ip = (0x0a41_0000u32 + 3 * number + index).to_be_bytes();
        SliceEndpoint {
            node: Some("n1".into()),
            ..SliceEndpoint::new(ip.into(), Conditions::READY)
        }
    };
    let slice = EndpointSlice {
        name: NamespacedName::new("demo", format!("svc-{number}-a")),
        service: name.name,
        family: IpFamily::V4,
        ports: [EndpointPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
            app_protocol: None,
        }]
        .into(),
        endpoints: (0..3).map(endpoint).collect(),
        headless: false,
        managed_by: None,
        labels: None,
        trigger_time: None,
    };
    (service, slice)
}

/// Every kind of virtual server.
const MIXED: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  clusterIPs: ["10.96.0.10", "fd10:96::10"]
  clusterIP: 10.96.0.10
  ipFamilies: [IPv4, IPv6]
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
  ports: [{name: t, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: demo}
spec:
  clusterIPs: ["10.96.0.11", "fd10:96::11"]
  clusterIP: 10.96.0.11
  ipFamilies: [IPv4, IPv6]
  ports: [{name: u, port: 53, protocol: UDP}, {name: s, port: 5060, protocol: SCTP}]
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: demo}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  clusterIPs: ["10.96.0.12", "fd10:96::12"]
  clusterIP: 10.96.0.12
  ipFamilies: [IPv4, IPv6]
  sessionAffinity: ClientIP
  ports: [{name: t, port: 80, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.31, ipMode: VIP}, {ip: "2001:db8:1b::31", ipMode: VIP}]}}
"#;

fn mixed_slices() -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for service in ["web", "dns", "shop"] {
        slices.push(slice(service, &[("10.64.1.1", "n1"), ("10.64.2.1", "n2")]));
        slices.push(slice(
            service,
            &[("fd10:64:0:1::1", "n1"), ("fd10:64:0:2::1", "n2")],
        ));
    }
    slices
}
