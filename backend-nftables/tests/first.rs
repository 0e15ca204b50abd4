#![allow(missing_docs)]
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use backend_nftables::{Kernel, Renderer, failure};
use svc_core::config::{LocalDetection, ProxyConfig, ProxyMode};
use svc_core::object::*;
use svc_core::*;

fn service(i: u32, n: u32) -> (Service, EndpointSlice) {
    let name = NamespacedName::new("ns", format!("svc-{i}"));
    let ip = IpAddr::from((0x0a60_0000u32 + 1 + i).to_be_bytes());
    let mut s = Service::named(name.clone());
    s.cluster_ips = vec![ip];
    s.ip_families = vec![IpFamily::V4];
    s.ports = vec![ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        target_port: TargetPort::Number(80),
        node_port: None,
        app_protocol: None,
    }];
    let eps = (0..n)
        .map(|e| {
            let mut x = SliceEndpoint::new(
                IpAddr::from((0x0a40_0000u32 + i * n + e).to_be_bytes()),
                Conditions::READY,
            );
            x.node = Some("n1".into());
            x
        })
        .collect();
    let slice = EndpointSlice {
        name: NamespacedName::new("ns", format!("svc-{i}-a")),
        service: name.name.clone(),
        family: IpFamily::V4,
        ports: Box::new([EndpointPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
            app_protocol: None,
        }]),
        endpoints: eps,
        headless: false,
        managed_by: None,
        ..template()
    };
    (s, slice)
}
fn template() -> EndpointSlice {
    EndpointSlice {
        name: NamespacedName::new("", "x"),
        service: "x".into(),
        family: IpFamily::V4,
        ports: Box::default(),
        endpoints: Box::default(),
        headless: false,
        managed_by: None,
        labels: Default::default(),
    }
}

#[test]
fn first() {
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        for (n, e) in [(10u32, 3u32), (1000, 3), (10_000, 3)] {
            let mut proxy = ProxyConfig::default_for(ProxyMode::Nftables);
            proxy.detect_local = LocalDetection::ClusterCidr(vec!["10.64.0.0/11".parse().unwrap()]);
            let mut config = NodeConfig::new("n1", proxy);
            config.local_addresses = vec!["198.18.0.10".parse().unwrap()];
            let mut planner = Planner::new(config);
            planner.handle(Event::Service(WatchEvent::Init));
            planner.handle(Event::EndpointSlice(WatchEvent::Init));
            planner.handle(Event::ServiceCidr(WatchEvent::Apply(ServiceCidr {
                name: "k".into(),
                cidrs: vec!["10.96.0.0/12".parse().unwrap()],
                ready: true,
                terminating: false,
            })));
            let mut slices = vec![];
            for i in 0..n {
                let (s, sl) = service(i, e);
                slices.push(sl.clone());
                planner.handle(Event::Service(WatchEvent::InitApply(s)));
                planner.handle(Event::EndpointSlice(WatchEvent::InitApply(sl)));
            }
            planner.handle(Event::Service(WatchEvent::InitDone));
            planner.handle(Event::EndpointSlice(WatchEvent::InitDone));
            let t0 = std::time::Instant::now();
            let mut rec = Reconciler::new(Renderer::new("svc", IpFamily::V4), IpFamily::V4);
            for d in planner.delta() {
                rec.change(&d);
            }
            let t1 = std::time::Instant::now();
            let mut kernel = Kernel::open("svc", IpFamily::V4).unwrap();
            kernel.cleanup().unwrap();
            let mut k = |rec: &mut Reconciler<Renderer>| loop {
                match rec.poll() {
                    Action::Idle => break,
                    Action::Read => {
                        let r = kernel.read().unwrap();
                        rec.on_read(r);
                    }
                    Action::Commit(t) => match kernel.commit(&t) {
                        Ok(()) => rec.on_committed(),
                        Err(err) => panic!("{err:?} {:?}", failure(&err, &t)),
                    },
                }
            };
            k(&mut rec);
            println!("{n}x{e}: plan {:?} sync {:?}", t1 - t0, t1.elapsed());
            let mut lat = vec![];
            for r in 0..2000usize {
                let i = (r * 7919) % slices.len();
                let mut s = slices[i].clone();
                s.endpoints[0].address = IpAddr::from((0x0a48_0000u32 + r as u32).to_be_bytes());
                let t = std::time::Instant::now();
                planner.handle(Event::EndpointSlice(WatchEvent::Apply(s)));
                for d in planner.delta() {
                    rec.change(&d);
                }
                k(&mut rec);
                lat.push(t.elapsed());
            }
            lat.sort();
            println!("  endpoint change p50 {:?} p99 {:?}", lat[1000], lat[1980]);
            let t = std::time::Instant::now();
            rec.verify();
            k(&mut rec);
            println!("  verify {:?}", t.elapsed());
            let mut fresh = Reconciler::new(Renderer::new("svc", IpFamily::V4), IpFamily::V4);
            let mut p = Plan::empty(IpFamily::V4, planner.plan(IpFamily::V4).node);
            let mut d = p.diff(&planner.plan(IpFamily::V4));
            d.node = Some(p.node.clone());
            p.apply(&d);
            fresh.change(&d);
            let Action::Read = fresh.poll() else { panic!() };
            let drift = fresh.on_read(kernel.read().unwrap());
            if !drift.is_empty() {
                if let Action::Commit(t) = fresh.poll() {
                    for e in t.edits().take(3) {
                        println!("{e:#?}");
                    }
                }
            }
            println!(
                "drift {} {} {}",
                drift.missing.len(),
                drift.changed.len(),
                drift.foreign.len()
            );
            if n == 10 {
                let out = std::process::Command::new("nft")
                    .args(["list", "ruleset"])
                    .output()
                    .unwrap();
                std::fs::write("/tmp/ruleset.txt", &out.stdout).unwrap();
                println!("{} {}", out.status, String::from_utf8_lossy(&out.stderr));
                let out = std::process::Command::new("nft")
                    .args(["-j", "list", "ruleset"])
                    .output()
                    .unwrap();
                println!(
                    "json {} {}",
                    out.status,
                    String::from_utf8_lossy(&out.stderr)
                        .chars()
                        .take(300)
                        .collect::<String>()
                );
            }
        }
        let _ = SocketAddr::from(([1, 1, 1, 1], 1));
        let _: Option<Arc<()>> = None;
    })
    .join()
    .unwrap();
}
