//! A node with IPVS whose kernel and reconcilers a test can reach.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use backend_ipvs::{Kernel, Key, Renderer, Settings, Value, ipvsadm};
use examples::cluster::{Cluster, feed};
use examples::manifest::Manifests;
use examples::packets::World;
use examples::proxy::{Family, Report, update};
use examples::sandbox::{Layout, Namespace, Outcome, Transport, probe};
use svc_core::config::{LocalDetection, ProxyConfig, ProxyMode};
use svc_core::object::{EndpointSlice, Node};
use svc_core::{IpFamily, NodeConfig, Planner, Reconciler, Ruleset, render};

use crate::lab::{PATIENCE, parse};

pub(crate) type Families = Vec<Family<Renderer, Kernel>>;

pub(crate) struct Stage {
    // First, so that sockets are closed before the namespace goes.
    pub(crate) families: Families,
    pub(crate) planner: Planner,
    pub(crate) world: World,
    /// Time since the start, as the kernels are told.
    pub(crate) now: Duration,
    settings: Settings,
    base: Manifests,
}

impl Stage {
    /// Node n1 without Services.
    pub(crate) fn new(settings: Settings) -> Self {
        let base = parse(BASE);
        let node = Node {
            addresses: Layout::default().node_addresses,
            ..base.nodes[0].clone()
        };
        let world = World::new(&node).unwrap();
        let of = settings.clone();
        let families = world.sandbox().node().run(move || open(&of)).unwrap();
        let proxy = ProxyConfig {
            detect_local: LocalDetection::ClusterCidr(
                ["10.64.0.0/11", "fd10:64::/48"]
                    .map(|cidr| cidr.parse().unwrap())
                    .to_vec(),
            ),
            ..ProxyConfig::default_for(ProxyMode::Ipvs)
        };
        Self {
            families,
            planner: Planner::new(NodeConfig::new("n1", proxy)),
            world,
            now: Duration::ZERO,
            settings,
            base: Manifests {
                nodes: vec![node],
                ..base
            },
        }
    }

    /// Replaces all Services and slices, and starts their pods.
    pub(crate) fn apply(&mut self, services: &str, slices: &[EndpointSlice]) {
        let manifests = Manifests {
            services: parse(services).services,
            endpoint_slices: slices.to_vec(),
            ..self.base.clone()
        };
        self.world.add(&manifests).unwrap();
        feed(&mut self.planner, &manifests, &Cluster::of(&manifests));
        self.sync();
    }

    /// Makes the kernel show the plan; tells what was done.
    pub(crate) fn sync(&mut self) -> Vec<Report<Key>> {
        let (families, planner) = (&mut self.families, &mut self.planner);
        let node = self.world.sandbox().node();
        let synced = node.run(|| update(planner, families).map_err(|error| error.to_string()));
        let reports = synced.unwrap().unwrap();
        for family in &self.families {
            assert!(family.reconciler.quarantine().is_empty());
        }
        reports
    }

    /// Runs a job in the network namespace of the node.
    pub(crate) fn on_node<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.world.sandbox().node().run(job).unwrap()
    }

    /// Runs a command on the node and returns what it prints.
    pub(crate) fn command(&self, words: &str) -> String {
        self.on_node(|| command(words))
    }

    /// What the kernel should hold.
    pub(crate) fn wanted(&self, family: IpFamily) -> Ruleset<Key, Value> {
        let mut renderer = Renderer::new(self.settings.clone(), family);
        render(&mut renderer, &self.planner.plan(family))
    }

    /// The same as ipvsadm prints it.
    pub(crate) fn wanted_text(&self) -> String {
        let [v4, v6] = IpFamily::ALL.map(|family| (family, self.wanted(family)));
        ipvsadm(&[(v4.0, &v4.1), (v6.0, &v6.1)])
    }

    /// The same with other settings.
    pub(crate) fn restart_with(&mut self, settings: Settings) -> Vec<Report<Key>> {
        self.settings = settings;
        self.restart()
    }

    /// Removes what is ours.
    pub(crate) fn cleanup(&mut self) {
        let families = &mut self.families;
        let clean = || {
            families
                .iter_mut()
                .for_each(|family| family.kernel.cleanup().unwrap());
        };
        self.world.sandbox().node().run(clean).unwrap();
    }

    /// A process that starts now: fresh reconcilers and sockets, the same plan.
    pub(crate) fn restart(&mut self) -> Vec<Report<Key>> {
        let settings = self.settings.clone();
        self.families = self.on_node(move || open(&settings));
        let config = self.planner.config().clone();
        let mut planner = Planner::new(config);
        std::mem::swap(&mut planner, &mut self.planner);
        self.refill(&planner);
        self.sync()
    }

    fn refill(&mut self, old: &Planner) {
        let state = old.state();
        let manifests = Manifests {
            services: state.services().iter().map(|s| (***s).clone()).collect(),
            endpoint_slices: (state.services().iter())
                .flat_map(|service| state.slices(&service.name))
                .map(|slice| (**slice).clone())
                .collect(),
            ..self.base.clone()
        };
        feed(&mut self.planner, &manifests, &Cluster::of(&manifests));
    }

    /// Connects once.
    pub(crate) fn attempt(&mut self, from: &str, to: SocketAddr, transport: Transport) -> Outcome {
        let from: IpAddr = from.parse().unwrap();
        let namespace = self.world.namespace_for(from).unwrap();
        probe(namespace, Some(from), to, transport, PATIENCE).unwrap()
    }

    /// The namespace that has an address.
    pub(crate) fn namespace(&mut self, ip: &str) -> &Namespace {
        self.world.namespace_for(ip.parse().unwrap()).unwrap()
    }
}

/// Opens both families in the network namespace of the calling thread.
pub(crate) fn open(settings: &Settings) -> Families {
    let family = |family| Family {
        reconciler: Reconciler::new(Renderer::new(settings.clone(), family), family),
        kernel: Kernel::open(settings, family).unwrap(),
    };
    IpFamily::ALL.map(family).into()
}

/// Runs a command in the network namespace of the calling thread.
pub(crate) fn command(words: &str) -> String {
    let mut words = words.split(' ');
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const BASE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: ["10.64.1.0/24", "fd10:64:0:1::/64"]}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: ["10.96.0.0/16", "fd10:96::/112"]}
status: {conditions: [{type: Ready, status: "True"}]}
"#;
