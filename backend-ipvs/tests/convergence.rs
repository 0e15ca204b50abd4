//! A reconciler makes the kernel match the plan, whatever goes wrong on the way, and meanwhile no
//! client is sent nowhere.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use backend_ipvs::error::Errno;
use backend_ipvs::fake::{FakeKernel, FakeServer, Fault, held_id};
use backend_ipvs::{
    Counted, Destination, HeldId, Kernel, Renderer, Scheduler, Server, ServerId, Settings,
};
use common::render_with;
use common::steps::{FOREIGN, check_steps, same};
use proptest::prelude::*;
use svc_core::testing::{Aims, History, Source, Step, bytes, histories, laws};
use svc_core::{Action, IpFamily, Plan, Planner, Protocol, Reconciler};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn fragments_add_up(history in histories(), faults in bytes(10)) {
        for family in IpFamily::ALL {
            let render = || Renderer::new(Settings::default(), family);
            let law = laws::convergence(render, family, &history, &faults);
            law.map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn the_kernel_converges(history in histories(), faults in bytes(20), v6 in any::<bool>()) {
        let family = if v6 { IpFamily::V6 } else { IpFamily::V4 };
        converge(&history, &mut Source::new(&faults), family).map_err(TestCaseError::fail)?;
    }
}

struct Node {
    reconciler: Reconciler<Renderer>,
    kernel: Kernel<FakeKernel>,
    family: IpFamily,
    /// Somebody else has been at the kernel since it was read.
    interfered: bool,
    /// The plan that the kernel shows, if it is known.
    shown: Option<Plan>,
    now: Duration,
}

pub(crate) fn converge(
    history: &History,
    source: &mut Source<'_>,
    family: IpFamily,
) -> Result<(), String> {
    let mut planner = Planner::new(history.config.clone());
    let settings = Settings::default();
    let mut node = Node {
        reconciler: Reconciler::new(Renderer::new(settings.clone(), family), family),
        kernel: Kernel::over(FakeKernel::default(), &settings, family),
        family,
        interfered: false,
        shown: None,
        now: Duration::ZERO,
    };
    let foreign = node.add_foreign();
    for step in &history.steps {
        match step {
            Step::Event(event) => drop(planner.handle(event.clone())),
            Step::Configure(config) => planner.configure(config.clone()),
            Step::Delta => {
                for delta in planner.delta() {
                    node.reconciler.change(&delta);
                }
                node.wait(source);
                if source.chance(15) {
                    node.interfere(source);
                }
                for _ in 0..source.below(5) {
                    if let Some(fault) = fault(source) {
                        let after = u32::from(source.byte()) % 8;
                        node.kernel.system().fail(after, fault);
                    }
                    node.round(source)?;
                    node.kernel.system().heal();
                }
            }
        }
    }
    node.heal(source)?;
    node.restart_changes_nothing()?;
    node.cleanup(&foreign)
}

fn fault(source: &mut Source<'_>) -> Option<Fault> {
    let errnos = [
        Errno::EINVAL,
        Errno::EEXIST,
        Errno::ENOENT,
        Errno::ESRCH,
        Errno::ENOMEM,
        Errno::ENODEV,
    ];
    match source.below(8) {
        4 | 5 => Some(Fault::Break {
            applied: source.below(6),
        }),
        6 | 7 => Some(Fault::Refuse {
            index: usize::from(source.byte()),
            errno: source.pick(&errnos),
        }),
        _ => None,
    }
}

impl Node {
    /// A virtual server of somebody else that no front end is at.
    fn add_foreign(&mut self) -> (HeldId, FakeServer) {
        let ip = match self.family {
            IpFamily::V4 => [192, 0, 2, 250].into(),
            IpFamily::V6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfa].into(),
        };
        let at = std::net::SocketAddr::new(ip, 8443);
        let server = foreign_server(at);
        let id = HeldId::At(Protocol::Tcp, at);
        self.kernel.system().servers.insert(id, server.clone());
        (id, server)
    }

    /// Time passes, connections come and go.
    fn wait(&mut self, source: &mut Source<'_>) {
        self.now += Duration::from_secs(u64::from(source.byte()) * 4);
        for (id, server) in &mut self.kernel.system().servers {
            for counted in server.destinations.values_mut().filter(|_| !is_foreign(id)) {
                counted.connections = u32::from(source.byte() % 3);
            }
        }
        // A failure shows again in the next round.
        let _ = self.kernel.advance(self.now);
    }

    /// One step; whether there was anything to do.
    fn round(&mut self, source: &mut Source<'_>) -> Result<bool, String> {
        match self.reconciler.poll() {
            Action::Idle => return Ok(false),
            Action::Read => {
                if let Ok(held) = self.kernel.read() {
                    self.reconciler.on_read(held);
                    self.interfered = false;
                }
            }
            Action::Commit(transaction) => {
                let before = self.shown.take().filter(|_| !self.interfered);
                self.kernel.system().record = Some(Vec::new());
                let result = self.kernel.commit(&transaction);
                let steps = self.kernel.system().record.take().unwrap_or_default();
                if let (Some(before), Some(after), true) =
                    (before, self.reconciler.wanted(), result.is_ok())
                {
                    let aims = Aims::of(&after);
                    let flows = (0..30).map(|_| aims.flow(source));
                    check_steps(&before, &after, &steps, flows)?;
                }
                match result {
                    Ok(()) => self.reconciler.on_committed(),
                    Err(failed) => self.reconciler.on_failed(failed.failure),
                }
            }
        }
        self.kernel.system().heal();
        if self.reconciler.is_settled() && !self.interfered {
            self.check_held()?;
            self.shown = self.reconciler.wanted();
        }
        Ok(true)
    }

    fn check_held(&mut self) -> Result<(), String> {
        let Some(wanted) = self.reconciler.wanted() else {
            return Err("settled without a plan".into());
        };
        let expected = render_with(&mut self.reconciler.render().clone(), &wanted);
        let held = self.kernel.read().map_err(|error| error.to_string())?;
        same(&held, &expected)
    }

    fn heal(&mut self, source: &mut Source<'_>) -> Result<(), String> {
        self.kernel.system().heal();
        self.reconciler.verify();
        for _ in 0..10 {
            if !self.round(source)? {
                return match self.reconciler.is_settled() || self.reconciler.wanted().is_none() {
                    true => Ok(()),
                    false => Err("idle, but not settled".into()),
                };
            }
        }
        Err("ten good rounds are not enough".into())
    }

    /// Somebody else deletes or adds things, and the reconciler is told to look.
    fn interfere(&mut self, source: &mut Source<'_>) {
        let kernel = self.kernel.system();
        match source.below(8) {
            0 => kernel
                .servers
                .retain(|id, _| is_foreign(id) || source.chance(50)),
            1 => kernel
                .servers
                .iter_mut()
                .filter(|(id, _)| !is_foreign(id))
                .for_each(|(_, server)| server.destinations.retain(|_, _| source.chance(50))),
            2 => kernel.addresses.retain(|_| source.chance(50)),
            3 => {
                kernel.link = backend_ipvs::LinkState::Absent;
                kernel.addresses.clear();
            }
            4 => kernel.table.clear(),
            5 => kernel.link = backend_ipvs::LinkState::Down,
            6 => {
                let ours = kernel.servers.iter_mut().filter(|(id, _)| !is_foreign(id));
                for counted in ours.flat_map(|(_, s)| s.destinations.values_mut()) {
                    if source.chance(30) {
                        counted.value.weight = u32::from(source.byte() % 3);
                    }
                }
            }
            _ => {
                // A virtual server of another manager, at a front end of ours maybe.
                let ip = match self.family {
                    IpFamily::V4 => [10, 96, 0, 1].into(),
                    IpFamily::V6 => [0xfd10, 0x96, 0, 0, 0, 0, 0, 1].into(),
                };
                let at = std::net::SocketAddr::new(ip, 80);
                let id = HeldId::At(source.pick(&Protocol::ALL), at);
                kernel
                    .servers
                    .entry(id)
                    .or_insert_with(|| foreign_server(at));
            }
        }
        self.interfered = true;
        self.shown = None;
        self.reconciler.verify();
    }

    /// A process that starts over a kernel that is right leaves it alone.
    fn restart_changes_nothing(&mut self) -> Result<(), String> {
        let Some(wanted) = self.reconciler.wanted() else {
            return Ok(());
        };
        if !self.reconciler.quarantine().is_empty() || self.kernel.draining() > 0 {
            return Ok(());
        }
        let settings = Settings::default();
        let system = self.kernel.system().clone();
        let mut kernel = Kernel::over(system, &settings, self.family);
        let renderer = Renderer::new(settings, self.family);
        let mut reconciler = Reconciler::new(renderer, self.family);
        let mut delta = Plan::empty(self.family, wanted.node.clone()).diff(&wanted);
        delta.node = Some(wanted.node.clone());
        reconciler.change(&delta);
        let drift = reconciler.on_read(kernel.read().map_err(|error| error.to_string())?);
        match drift.is_empty() {
            true => Ok(()),
            false => Err(format!("a restart changes {drift:#?}")),
        }
    }

    /// Clean-up removes everything of ours and nothing else.
    fn cleanup(mut self, foreign: &(HeldId, FakeServer)) -> Result<(), String> {
        self.kernel.cleanup().map_err(|error| error.to_string())?;
        let kernel = self.kernel.system();
        if kernel.servers.get(&foreign.0) != Some(&foreign.1) {
            return Err("a virtual server of somebody else was touched".into());
        }
        let left = kernel
            .servers
            .values()
            .filter(|s| s.server.scheduler != FOREIGN.name().into());
        match (left.count(), kernel.ruleset().len()) {
            (0, all) if all <= 2 * kernel.servers.len() => Ok(()),
            (_, _) => Err(format!("left behind: {:#?}", kernel.ruleset())),
        }
    }
}

fn is_foreign(id: &HeldId) -> bool {
    matches!(id, HeldId::At(_, at) if at.port() == 8443)
}

fn foreign_server(at: std::net::SocketAddr) -> FakeServer {
    FakeServer {
        server: Server::new(FOREIGN),
        destinations: [(at, Counted::idle(Destination::SERVING))].into(),
    }
}

#[test]
fn a_front_end_that_somebody_else_serves_is_named_and_left_alone() {
    let scenario: svc_core::testing::Scenario = "
        service web ip=10.96.0.1 port=80
        slice web-1 web port=8080 10.64.1.1@n1
        service dns ip=10.96.0.2 port=53/UDP
        slice dns-1 dns port=53/UDP 10.64.1.2@n1
    "
    .parse()
    .unwrap();
    let settings = Settings::default();
    let mut kernel = Kernel::over(FakeKernel::default(), &settings, IpFamily::V4);
    let at: std::net::SocketAddr = "10.96.0.1:80".parse().unwrap();
    let taken = HeldId::At(Protocol::Tcp, at);
    kernel.system().servers.insert(taken, foreign_server(at));
    let mut reconciler = Reconciler::new(Renderer::new(settings, IpFamily::V4), IpFamily::V4);
    for delta in scenario.planner().delta() {
        reconciler.change(&delta);
    }
    reconciler.settle(&mut kernel, 10).unwrap();
    let reasons: Vec<_> = reconciler.quarantine().values().cloned().collect();
    assert_eq!(
        reasons,
        ["virtual server 10.96.0.1:80/tcp exists and is not ours"]
    );
    let held = kernel.system();
    assert_eq!(held.servers[&taken], foreign_server(at));
    let dns = ServerId::At(Protocol::Udp, "10.96.0.2:53".parse().unwrap());
    assert!(held.servers.contains_key(&held_id(dns)));
    assert!(!held.addresses.contains(&at.ip()));
    // A comparison finds it as it was.
    reconciler.verify();
    let settled = reconciler.settle(&mut kernel, 10).unwrap();
    assert_eq!((settled.commits, reconciler.quarantine().len()), (0, 1));
    // It goes: the front end comes back by the next comparison.
    kernel.system().servers.remove(&taken);
    reconciler.verify();
    reconciler.settle(&mut kernel, 10).unwrap();
    assert!(reconciler.quarantine().is_empty());
    let held = kernel.system();
    assert!(!held.servers[&taken].destinations.is_empty());
    assert_ne!(held.servers[&taken], foreign_server(at));
    assert!(held.addresses.contains(&at.ip()));
}

#[test]
fn a_scheduler_without_module_is_named() {
    let scenario: svc_core::testing::Scenario = "
        service web ip=10.96.0.1 port=80
        slice web-1 web port=8080 10.64.1.1@n1
    "
    .parse()
    .unwrap();
    let settings = Settings {
        scheduler: Scheduler::SourceHashing,
        ..Settings::default()
    };
    let mut kernel = Kernel::over(FakeKernel::default(), &settings, IpFamily::V4);
    kernel.system().schedulers.remove("sh");
    let mut reconciler = Reconciler::new(Renderer::new(settings, IpFamily::V4), IpFamily::V4);
    for delta in scenario.planner().delta() {
        reconciler.change(&delta);
    }
    reconciler.settle(&mut kernel, 10).unwrap();
    let reasons: Vec<_> = reconciler.quarantine().values().cloned().collect();
    assert_eq!(
        reasons,
        ["no scheduler sh: load its module, modprobe ip_vs_sh"]
    );
    let error = kernel.try_scheduler(Scheduler::SourceHashing).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("cannot use scheduler sh of module ip_vs_sh: ENOENT"),
        "{said}"
    );
    let before = kernel.system().servers.clone();
    kernel.try_scheduler(Scheduler::RoundRobin).unwrap();
    assert_eq!(kernel.system().servers, before);
}
