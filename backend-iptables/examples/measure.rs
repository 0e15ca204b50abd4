//! Measures what changes cost: CPU of this process and of the tools it runs, and the wall clock.
//!
//! ```text
//! cargo run --release -p backend-iptables --example measure -- legacy 10000 3
//! ```
//!
//! Arguments: variant, Services, endpoints of each, and optionally how many of the Services have
//! ClientIP affinity and how many are of type LoadBalancer. Needs root; works in a network
//! namespace of its own.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use backend_iptables::{Kernel, Options, Renderer, Variant};
use nix::sys::resource::{UsageWho, getrusage};
use svc_core::config::{LocalDetection, ProxyConfig, ProxyMode};
use svc_core::object::{
    Conditions, EndpointPort, EndpointSlice, IngressIp, IpMode, Service, ServicePort, ServiceType,
    SliceEndpoint, TargetPort,
};
use svc_core::{
    Event, IpFamily, NamespacedName, NodeConfig, Planner, Protocol, Reconciler, WatchEvent,
};

/// Changes of a kind of which the median is printed.
const RUNS: u32 = 11;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let variant = match args.first().map(String::as_str) {
        Some("legacy") => Variant::Legacy,
        Some("nft") => Variant::Nft,
        _ => {
            return Err(
                "usage: measure legacy|nft SERVICES ENDPOINTS [AFFINITY [BALANCED]]".into(),
            );
        }
    };
    let number = |index: usize, default: u32| {
        args.get(index)
            .map_or(Ok(default), |text| text.parse::<u32>())
    };
    let cluster = Cluster {
        services: number(1, 10_000)?,
        endpoints: number(2, 3)?,
        sticky: number(3, 0)?,
        balanced: number(4, 0)?,
    };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    let lock = std::env::temp_dir().join(format!("measure-{}.lock", std::process::id()));
    let mut options = Options::new(IpFamily::V4);
    options.variant = Some(variant);
    options.lock_file = Some(lock.clone());
    let mut bench = Bench::new(options)?;
    let result = bench.run(&cluster, variant);
    let _ = std::fs::remove_file(lock);
    result
}

struct Cluster {
    services: u32,
    endpoints: u32,
    sticky: u32,
    balanced: u32,
}

impl Cluster {
    fn service(&self, number: u32) -> Service {
        let mut service = Service::named(name(number));
        // Spread over a /12 as an allocator that picks at random would.
        let offset = (number + 1).wrapping_mul(2_654_435_761) % (1 << 20);
        service.cluster_ips = vec![Ipv4Addr::from_bits(0x0a60_0000 + offset).into()];
        if number < self.sticky {
            service.client_ip_affinity_seconds = Some(10_800);
        }
        if number < self.balanced {
            service.service_type = ServiceType::LoadBalancer;
            service.ingress = vec![IngressIp {
                ip: Ipv4Addr::from_bits(0xc612_0000 + number).into(),
                mode: IpMode::Vip,
            }];
        }
        service.ports = vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            target_port: TargetPort::Number(8080),
            node_port: (number < self.balanced.min(20_000)).then_some(30_000 + number as u16),
            app_protocol: None,
        }];
        service
    }

    fn slice(&self, number: u32, first: u32) -> EndpointSlice {
        let endpoint = |index: u32| {
            let value = number * self.endpoints + index + first;
            let ip: IpAddr = Ipv4Addr::from_bits(0x0a80_0000 + value % (1 << 23)).into();
            SliceEndpoint::new(ip, Conditions::READY)
        };
        let name = name(number);
        EndpointSlice {
            name: name.clone(),
            service: name.name,
            family: IpFamily::V4,
            ports: vec![EndpointPort {
                name: "".into(),
                protocol: Protocol::Tcp,
                port: 8080,
                app_protocol: None,
            }]
            .into(),
            endpoints: (0..self.endpoints).map(endpoint).collect(),
            headless: false,
            managed_by: None,
            labels: None,
            trigger_time: None,
        }
    }
}

fn name(number: u32) -> NamespacedName {
    NamespacedName::new("bench", format!("svc-{number}"))
}

struct Bench {
    planner: Planner,
    reconciler: Reconciler<Renderer>,
    kernel: Kernel,
}

impl Bench {
    fn new(options: Options) -> Result<Self, Box<dyn Error>> {
        let kernel = Kernel::open(options)?;
        let mut proxy = ProxyConfig::default_for(ProxyMode::Iptables);
        proxy.detect_local = LocalDetection::ClusterCidr(vec!["10.128.0.0/9".parse()?]);
        Ok(Self {
            planner: Planner::new(NodeConfig::new("n1", proxy)),
            reconciler: Reconciler::new(Renderer::new(*kernel.config()), IpFamily::V4),
            kernel,
        })
    }

    fn run(&mut self, cluster: &Cluster, variant: Variant) -> Result<(), Box<dyn Error>> {
        self.planner.handle(Event::Service(WatchEvent::Init));
        self.planner.handle(Event::EndpointSlice(WatchEvent::Init));
        for number in 0..cluster.services {
            self.service(WatchEvent::InitApply(cluster.service(number)));
            self.slice(WatchEvent::InitApply(cluster.slice(number, 0)));
        }
        self.service(WatchEvent::InitDone);
        self.slice(WatchEvent::InitDone);
        println!(
            "{variant}: {} services x {} endpoints, {} with affinity, {} load balancers",
            cluster.services, cluster.endpoints, cluster.sticky, cluster.balanced
        );
        let full = self.timed(Self::settle)?;
        println!("full sync, from the watch events: {full}");
        let read = self.timed(|bench| {
            bench.reconciler.verify();
            bench.settle()
        })?;
        println!("read back and compare: {read}");
        let middle = cluster.services / 2;
        let last = cluster.services - 1;
        self.changes("one endpoint changed", |bench, run| {
            bench.slice(WatchEvent::Apply(cluster.slice(middle, 7 * (run + 1))));
        })?;
        let mut fresh = cluster.service(middle);
        fresh.name = name(cluster.services);
        self.slice(WatchEvent::Apply(cluster.slice(cluster.services, 0)));
        fresh.cluster_ips = vec![Ipv4Addr::new(10, 97, 1, 77).into()];
        self.changes("service added, then removed", |bench, run| match run % 2 {
            0 => bench.service(WatchEvent::Apply(fresh.clone())),
            _ => bench.service(WatchEvent::Delete(fresh.name.clone())),
        })?;
        self.changes("100 endpoints changed", |bench, run| {
            for number in 0..100.min(cluster.services) {
                bench.slice(WatchEvent::Apply(cluster.slice(last - number, run + 1)));
            }
        })?;
        let cleanup = self.timed(|bench| Ok(bench.kernel.cleanup()?))?;
        println!("clean-up: {cleanup}");
        Ok(())
    }

    fn changes(
        &mut self,
        what: &str,
        mut change: impl FnMut(&mut Self, u32),
    ) -> Result<(), Box<dyn Error>> {
        let mut costs = Vec::new();
        for run in 0..RUNS {
            change(self, run);
            costs.push(self.timed(Self::settle)?);
        }
        costs.sort_by_key(|cost| cost.cpu());
        if let Some(median) = costs.get(costs.len() / 2) {
            println!("{what}: {median} (median by CPU of {RUNS})");
        }
        Ok(())
    }

    fn service(&mut self, event: WatchEvent<Service, NamespacedName>) {
        self.planner.handle(Event::Service(event));
    }

    fn slice(&mut self, event: WatchEvent<EndpointSlice, NamespacedName>) {
        self.planner.handle(Event::EndpointSlice(event));
    }

    fn settle(&mut self) -> Result<(), Box<dyn Error>> {
        for delta in self.planner.delta() {
            self.reconciler.change(&delta);
        }
        self.reconciler.settle(&mut self.kernel, 4)?;
        Ok(())
    }

    fn timed(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), Box<dyn Error>>,
    ) -> Result<Cost, Box<dyn Error>> {
        let (own, tools) = (cpu(UsageWho::RUSAGE_SELF)?, cpu(UsageWho::RUSAGE_CHILDREN)?);
        let start = Instant::now();
        work(self)?;
        Ok(Cost {
            wall: start.elapsed(),
            own: cpu(UsageWho::RUSAGE_SELF)?.saturating_sub(own),
            tools: cpu(UsageWho::RUSAGE_CHILDREN)?.saturating_sub(tools),
        })
    }
}

/// What something cost.
struct Cost {
    wall: Duration,
    own: Duration,
    tools: Duration,
}

impl Cost {
    fn cpu(&self) -> Duration {
        self.own + self.tools
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "{:.1} ms CPU ({:.1} own, {:.1} tools), {:.1} ms wall",
            ms(self.cpu()),
            ms(self.own),
            ms(self.tools),
            ms(self.wall)
        )
    }
}

fn cpu(who: UsageWho) -> nix::Result<Duration> {
    let usage = getrusage(who)?;
    let time = |value: nix::sys::time::TimeVal| {
        Duration::from_secs(value.tv_sec().unsigned_abs())
            + Duration::from_micros(value.tv_usec().unsigned_abs())
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}
