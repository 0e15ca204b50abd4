//! Everything that the demo runs: objects, plan, rules, namespaces.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use svc_core::config::{LocalDetection, ProxyConfig, ProxyMode};
use svc_core::endpoints::{SliceChange, SliceConfig, SliceController, Topology};
use svc_core::object::{Node, Pod, Service, ServiceCidr, Workload};
use svc_core::{Event, IpFamily, NodeConfig, Planner, WatchEvent};

use super::replicas::{Replicas, spec};
use super::screen::Screen;
use crate::cluster::{Cluster, list};
use crate::manifest::{self, Manifests, Source};
use crate::nftables_proxy::{self, Families};
use crate::proxy::update;
use crate::sandbox::{Layout, Namespace, PodSpec, Sandbox};

/// The node.
pub(crate) const NODE: &str = "n1";
/// Name of the nf_tables table.
pub(crate) const TABLE: &str = crate::backend::NFTABLES_TABLE;
/// The pod that asks.
pub(crate) const CLIENT: &str = "client";

const BUILT_IN: &str = include_str!("../../manifests/ngx.yaml");
/// Where pods live, in both families.
const POD_CIDRS: [&str; 2] = ["10.64.0.0/11", "fd10:64::/48"];
const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/16", "fd10:96::/112"];

/// Everything that the demo runs.
#[derive(Debug)]
pub(crate) struct World {
    /// The namespaces.
    pub(crate) sandbox: Sandbox,
    /// Services with their addresses.
    pub(crate) services: Vec<Service>,
    /// What makes pods.
    pub(crate) workloads: Vec<Workload>,
    /// Pods that run.
    pub(crate) pods: Vec<Pod>,
    /// What the node does.
    pub(crate) planner: Planner,
    families: Families,
    controller: SliceController,
    replicas: Replicas,
}

impl World {
    /// Builds the namespaces, starts the pods and writes the rules.
    pub(crate) fn build(paths: &[PathBuf], screen: &mut Screen) -> Result<Self, Box<dyn Error>> {
        let manifests = read(paths)?;
        let layout = Layout::default();
        let (node, cidrs) = (node(&layout), service_cidr()?);
        let cluster = Cluster::of(&Manifests {
            service_cidrs: vec![cidrs.clone()],
            nodes: vec![node.clone()],
            ..manifests.clone()
        });
        for diagnostic in &cluster.diagnostics {
            screen.check(false, &diagnostic.to_string());
        }
        let start = Instant::now();
        let sandbox = Sandbox::build(&layout)?;
        let families = sandbox.node().run(|| nftables_proxy::open(TABLE))??;
        let mut planner = Planner::new(config()?);
        planner.handle(Event::Node(WatchEvent::Apply(node.clone())));
        planner.handle(Event::ServiceCidr(WatchEvent::Apply(cidrs)));
        let mut controller = SliceController::new(SliceConfig::default(), Topology::of([&node]));
        for service in &cluster.services {
            controller.apply_service(service.clone());
        }
        for event in list(&cluster.services) {
            planner.handle(Event::Service(event));
        }
        // Slices follow from the pods; the list of those that came from elsewhere is complete.
        for event in list(&manifests.endpoint_slices) {
            planner.handle(Event::EndpointSlice(event));
        }
        let mut world = Self {
            sandbox,
            services: cluster.services,
            workloads: manifests.workloads,
            pods: Vec::new(),
            planner,
            families,
            controller,
            replicas: Replicas::default(),
        };
        world.start_all()?;
        let namespaces = world.sandbox.pods().count() + 2;
        screen.line(&format!(
            "{namespaces} namespaces and {} pods in {:.0?}",
            world.pods.len(),
            start.elapsed()
        ));
        Ok(world)
    }

    fn start_all(&mut self) -> Result<(), Box<dyn Error>> {
        let client = [IpAddr::from([10, 64, 1, 200]), "fd10:64:0:1::200".parse()?];
        self.sandbox.add_pod(&PodSpec::on_node(CLIENT, client))?;
        for workload in self.workloads.clone() {
            for _ in 0..workload.replicas.unwrap_or(1) {
                self.start_pod(&workload)?;
            }
        }
        Ok(())
    }

    /// Starts one more pod of a workload; the rules know it after [`World::sync`].
    pub(crate) fn start_pod(&mut self, workload: &Workload) -> Result<Pod, Box<dyn Error>> {
        let pod = self.replicas.start(workload);
        self.sandbox.add_pod(&spec(&pod))?;
        self.controller.apply_pod(pod.clone());
        self.pods.push(pod.clone());
        Ok(pod)
    }

    /// Tells everybody that a pod shuts down; it still serves.
    pub(crate) fn terminate(&mut self, pod: &Pod) {
        self.controller.apply_pod(Pod {
            terminating: true,
            ..pod.clone()
        });
    }

    /// Stops a pod.
    pub(crate) fn stop_pod(&mut self, pod: &Pod) -> Result<(), Box<dyn Error>> {
        self.sandbox.remove_pod(&pod.name.name)?;
        self.controller.delete_pod(&pod.name);
        self.pods.retain(|other| other.name != pod.name);
        Ok(())
    }

    /// Brings slices, plan and kernel up to date: objects written, and the time from the change
    /// to the kernel's acknowledgement.
    pub(crate) fn sync(&mut self) -> Result<(usize, Duration), Box<dyn Error>> {
        let start = Instant::now();
        let (changes, _) = self.controller.reconcile();
        for change in changes {
            self.planner.handle(Event::EndpointSlice(match change {
                SliceChange::Apply(slice) => WatchEvent::Apply(slice),
                SliceChange::Delete(name) => WatchEvent::Delete(name),
            }));
        }
        let reports = update(&mut self.planner, &mut self.families)?;
        let written = reports.iter().map(|report| report.settled.edits).sum();
        Ok((written, start.elapsed()))
    }

    /// Removes the rules.
    pub(crate) fn clean_up(&mut self) -> Result<(), Box<dyn Error>> {
        for family in &mut self.families {
            family.kernel.cleanup()?;
        }
        Ok(())
    }

    /// Where requests come from.
    pub(crate) fn places(&self) -> Vec<(&'static str, &Namespace)> {
        let mut places = Vec::new();
        places.extend(
            self.sandbox
                .pod(CLIENT)
                .map(|pod| ("pod    ", pod.namespace())),
        );
        places.push(("node   ", self.sandbox.node()));
        places.push(("outside", self.sandbox.outside()));
        places
    }

    /// The first ClusterIP, as a URL.
    pub(crate) fn first_url(&self) -> String {
        let first = self.services.iter().find_map(|service| {
            let port = service.ports.first()?;
            let ip = service.cluster_ip(IpFamily::V4)?;
            Some(SocketAddr::new(ip, port.port))
        });
        first
            .map(|socket| format!("http://{socket}/"))
            .unwrap_or_default()
    }

    /// The primary address of the node in a family.
    pub(crate) fn node_address(&self, family: IpFamily) -> Option<IpAddr> {
        let node = self.planner.state().node(NODE)?;
        node.primary(family)
    }
}

fn read(paths: &[PathBuf]) -> Result<Manifests, Box<dyn Error>> {
    let manifests = match paths {
        [] => manifest::read_with_stdin(&[Source::Stdin], &mut BUILT_IN.as_bytes()),
        paths => manifest::read(&paths.iter().cloned().map(Source::from).collect::<Vec<_>>()),
    };
    if let Some(problem) = manifests.problems.first() {
        return Err(problem.to_string().into());
    }
    Ok(manifests)
}

fn config() -> Result<NodeConfig, Box<dyn Error>> {
    let pods = POD_CIDRS
        .iter()
        .map(|cidr| cidr.parse())
        .collect::<Result<_, _>>()?;
    let proxy = ProxyConfig {
        detect_local: LocalDetection::ClusterCidr(pods),
        ..ProxyConfig::default_for(ProxyMode::Nftables)
    };
    Ok(NodeConfig::new(NODE, proxy))
}

fn node(layout: &Layout) -> Node {
    Node {
        addresses: layout.node_addresses.clone(),
        ..Node::named(NODE)
    }
}

fn service_cidr() -> Result<ServiceCidr, Box<dyn Error>> {
    Ok(ServiceCidr {
        name: "kubernetes".into(),
        cidrs: SERVICE_CIDRS
            .iter()
            .map(|cidr| cidr.parse())
            .collect::<Result<_, _>>()?,
        ready: true,
        terminating: false,
    })
}
