//! Manifests as a source of objects: read once, and again when files change.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use svc_core::object::{Service, ServiceType};
use svc_core::{Diagnostic, Event, NamespacedName, ObjectKind, WatchEvent};
use tracing::{error, info};

use super::input::{Feed, Input, SourceLink, Stopped};
use crate::cli::input::{InputArgs, PoolArgs};
use crate::cluster::{Cluster, list};
use crate::host::Watch;
use crate::manifest::{self, Manifests, Source};

/// Reads manifests, and again whenever they change, on a thread of its own.
///
/// # Errors
/// When a folder cannot be watched.
pub(super) fn start(input: &InputArgs, feed: Feed) -> Result<(), Box<dyn Error>> {
    let (sources, pools) = (input.sources(), input.pools.clone());
    // Standard input can be read once only.
    let watched: Vec<PathBuf> = sources
        .iter()
        .filter_map(|source| match source {
            Source::Path(path) => Some(path.clone()),
            Source::Stdin | Source::Cluster(..) => None,
        })
        .collect();
    // Before the first read, so that no change is missed.
    let watch = Watch::new(&watched)?;
    let follow = move || {
        let mut files = Files::new(sources, pools);
        // Fails when the loop has ended, and then there is nothing left to do.
        let _ = files.follow(&watch, &feed);
    };
    thread::Builder::new()
        .name("manifests".into())
        .spawn(follow)?;
    Ok(())
}

/// Services that an API server would add something to.
fn incomplete(services: &[Service]) -> BTreeSet<NamespacedName> {
    let lacks = |service: &&Service| {
        let address = service.cluster_ips.is_empty() && !service.headless;
        let outside = match service.service_type {
            ServiceType::ClusterIp | ServiceType::ExternalName => false,
            ServiceType::NodePort => service.ports.iter().any(|port| port.node_port.is_none()),
            // An address too, maybe.
            ServiceType::LoadBalancer => true,
        };
        address || outside
    };
    let names = services.iter().filter(lacks);
    names.map(|service| service.name.clone()).collect()
}

/// Complete lists, the node first: what is not in them is gone.
fn events(manifests: &Manifests, cluster: Cluster) -> Vec<Event> {
    let mut events: Vec<Event> = list(&manifests.nodes).map(Event::Node).collect();
    events.extend(list(&manifests.service_cidrs).map(Event::ServiceCidr));
    events.push(Event::Service(WatchEvent::Init));
    let services = cluster.services.into_iter().map(WatchEvent::InitApply);
    events.extend(services.map(Event::Service));
    events.push(Event::Service(WatchEvent::InitDone));
    events.push(Event::EndpointSlice(WatchEvent::Init));
    let slices = cluster.endpoint_slices.into_iter();
    events.extend(slices.map(WatchEvent::InitApply).map(Event::EndpointSlice));
    events.push(Event::EndpointSlice(WatchEvent::InitDone));
    events
}

struct Files {
    sources: Vec<Source>,
    pools: PoolArgs,
    /// What the next reading needs of the one before: addresses that Services were given.
    cluster: Cluster,
    remarked: BTreeSet<(ObjectKind, NamespacedName)>,
    read: Reading,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    First,
    Again,
}

impl Files {
    fn new(sources: Vec<Source>, pools: PoolArgs) -> Self {
        Self {
            sources,
            pools,
            cluster: Cluster::default(),
            remarked: BTreeSet::new(),
            read: Reading::First,
        }
    }

    fn follow(&mut self, watch: &Watch, feed: &Feed) -> Result<(), Stopped> {
        self.load(feed)?;
        loop {
            let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return self.link(feed, Some(errno.to_string())),
            }
            match watch.take() {
                Ok(false) => {}
                Ok(true) => self.load(feed)?,
                Err(error) => return self.link(feed, Some(error.to_string())),
            }
        }
    }

    /// A file that is being written may be cut off: what cannot be read leaves everything as it
    /// was, as half of a cluster is worse than an old one. Only at the start the half is used.
    fn load(&mut self, feed: &Feed) -> Result<(), Stopped> {
        let mut manifests = self.pools.with(manifest::read_compact(&self.sources));
        for problem in &manifests.problems {
            error!(%problem, "manifest cannot be read");
        }
        if self.read == Reading::Again && !manifests.problems.is_empty() {
            return self.link(feed, manifests.problems.first().map(ToString::to_string));
        }
        for skipped in &manifests.skipped {
            info!(%skipped, "object skipped");
        }
        self.read = Reading::Again;
        let incomplete = incomplete(&manifests.services);
        let cluster = self.cluster.next_taking(&mut manifests);
        self.remark(feed, &manifests, &cluster)?;
        self.cluster.services = cluster
            .services
            .iter()
            .filter(|service| incomplete.contains(&service.name))
            .cloned()
            .collect();
        feed.send(Input::Events(events(&manifests, cluster)))?;
        self.link(feed, None)
    }

    fn remark(
        &mut self,
        feed: &Feed,
        manifests: &Manifests,
        cluster: &Cluster,
    ) -> Result<(), Stopped> {
        let own = manifests
            .diagnostics
            .iter()
            .map(|(_, diagnostic)| diagnostic);
        let mut all: Vec<&Diagnostic> = own.chain(&cluster.diagnostics).collect();
        all.sort_unstable();
        let mut before = std::mem::take(&mut self.remarked);
        let same = |a: &&Diagnostic, b: &&Diagnostic| (a.kind, &a.object) == (b.kind, &b.object);
        for group in all.chunk_by(same) {
            let Some(first) = group.first() else { continue };
            let (kind, object) = (first.kind, first.object.clone());
            before.remove(&(kind, object.clone()));
            self.remarked.insert((kind, object.clone()));
            feed.send(Input::Remarks {
                kind,
                object,
                diagnostics: group.iter().copied().cloned().collect(),
            })?;
        }
        for (kind, object) in before {
            let diagnostics = Vec::new();
            feed.send(Input::Remarks {
                kind,
                object,
                diagnostics,
            })?;
        }
        Ok(())
    }

    fn link(&self, feed: &Feed, trouble: Option<String>) -> Result<(), Stopped> {
        let link = trouble.map_or(SourceLink::Up, SourceLink::Down);
        for kind in [ObjectKind::Service, ObjectKind::EndpointSlice] {
            let link = link.clone();
            feed.send(Input::Link { kind, link })?;
        }
        Ok(())
    }
}
