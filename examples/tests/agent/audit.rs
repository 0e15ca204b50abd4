//! What changes without a word is found and mended.

use std::time::{Duration, Instant};

use examples::agent::{Backend, Cause, Clock, FamilyLoop, Jitter, Periods, SystemClock};
use examples::cluster::{Cluster, feed};
use examples::manifest::{self, Source};
use examples::nftables_proxy::Nftables;
use svc_core::config::{ProxyConfig, ProxyMode};
use svc_core::{IpFamily, NodeConfig, Planner};

use crate::rig::{CLUSTER_IP, PATIENCE, Rig};

/// An element is deleted while nobody listens to the events of the kernel, which is as if it had not
/// told: the audit finds it, and the loop mends it past its least period and without a full read.
pub(crate) fn silent_deletion() {
    let rig = Rig::new();
    let folder = Source::from(rig.folder.join("manifests"));
    let manifests = manifest::read(&[folder]);
    let config = NodeConfig::new("n1", ProxyConfig::default_for(ProxyMode::Nftables));
    let mut planner = Planner::new(config);
    feed(&mut planner, &manifests, &Cluster::of(&manifests));
    let mut backend = Nftables::new("svc-proxy");
    let clock = SystemClock::start();
    let periods = Periods {
        min: Duration::from_secs(3600),
        check: Duration::from_secs(3600),
        check_share: 1000,
        retry_first: Duration::from_secs(1),
        retry_most: Duration::from_secs(1),
    };
    let opened = rig.sandbox.node().run(|| {
        let opened = backend.open(planner.config(), IpFamily::V4);
        opened.unwrap()
    });
    let mut looped = FamilyLoop::new(opened.unwrap(), periods, Jitter::seeded(1));
    for delta in planner.delta() {
        looped.change(&delta, clock.now());
    }
    assert!(looped.run(&clock).unwrap().result.is_ok());
    let list = || rig.tool("nft", &["list", "map", "ip", "svc-proxy", "frontends"], "");
    let whole = list();
    assert!(whole.contains(CLUSTER_IP), "{whole}");
    rig.tool("nft", &["flush", "map", "ip", "svc-proxy", "frontends"], "");
    assert!(!list().contains(CLUSTER_IP));
    assert!(looped.run(&clock).is_none());

    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        let step = backend.audit(&planner, looped.family_mut()).unwrap();
        let step = step.unwrap();
        if !step.differed.is_empty() {
            break step.differed.len();
        }
        assert!(Instant::now() < deadline, "no audit finds anything");
    };
    looped.mend(found, clock.now());
    let run = looped.run(&clock).unwrap();
    assert_eq!((run.cause, run.repaired()), (Cause::Audit, found));
    let (settled, _) = run.result.unwrap();
    assert_eq!(settled.edits, found);
    assert!(settled.drift.is_none());
    assert_eq!(list(), whole);
    // And then there is nothing left to be found.
    for _ in 0..3 {
        let step = backend.audit(&planner, looped.family_mut()).unwrap();
        assert_eq!(step.unwrap().differed, []);
    }
    assert!(looped.run(&clock).is_none());
}
