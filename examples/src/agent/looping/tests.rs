use std::collections::VecDeque;
use std::error::Error;

use svc_core::config::ProxyMode;
use svc_core::testing::{Scenario, Toy};
use svc_core::{
    HealthCheck, NamespacedName, NodeConfig, NodePlan, Plan, Pretend, Reconciler, Render,
};

use super::*;
use crate::agent::addresses::OwnAddresses;
use crate::agent::backend::{Families, Notices};
use crate::agent::jitter::Jitter;
use crate::agent::pace::Periods;
use crate::agent::presence::Estate;
use crate::agent::status::Status;
use crate::backend;
use crate::proxy::Family;

type ToyKernel = Pretend<<Toy as Render>::Key, <Toy as Render>::Value>;

/// A backend that writes to memory, and says what it is told to.
#[derive(Default)]
struct InMemory {
    /// What [`Backend::disturbed`] says.
    disturbed: VecDeque<bool>,
}

impl Backend for InMemory {
    type Render = Toy;
    type Kernel = ToyKernel;

    const MODE: ProxyMode = ProxyMode::Iptables;
    const PURE: backend::Backend = backend::Backend::Core;

    fn manages(&self) -> String {
        String::new()
    }

    fn open(
        &self,
        _: &NodeConfig,
        family: IpFamily,
    ) -> Result<Family<Toy, ToyKernel>, Box<dyn Error>> {
        Ok(Family {
            reconciler: Reconciler::new(Toy::default(), family),
            kernel: Pretend(Default::default()),
        })
    }

    fn clean_up(&self, _: &mut Family<Toy, ToyKernel>) -> Result<(), Box<dyn Error>> {
        Ok(())
    }

    fn follow(
        &mut self,
        _: &mut Families<Self>,
        _: &NodeConfig,
    ) -> Result<Notices, Box<dyn Error>> {
        Ok(Notices::Asked(PERIOD))
    }

    fn disturbed(&mut self, _: &mut ToyKernel) -> Result<bool, Box<dyn Error>> {
        Ok(self.disturbed.pop_front().unwrap_or_default())
    }

    fn title(&self, _: &Family<Toy, ToyKernel>) -> String {
        "memory".into()
    }

    fn print(&self, _: IpFamily, _: &<Toy as Render>::Key, _: &<Toy as Render>::Value) -> String {
        String::new()
    }
}

const PERIOD: Duration = Duration::from_secs(30);

fn scenario(text: &str) -> Scenario {
    format!("config mode=iptables\n node n1 198.18.0.10\n {text}")
        .parse()
        .unwrap()
}

/// An agent that was told nothing yet, whose time to ask has come.
fn agent(text: &str) -> Agent<InMemory> {
    let config = scenario(text).config.clone();
    let clock = SystemClock::start();
    let shared = Shared::new(
        Status::new(InMemory::MODE, PERIOD, IpFamily::ALL.into_iter()),
        clock,
    );
    let periods = Periods {
        min: Duration::ZERO,
        check: Duration::from_secs(3600),
        check_share: 1000,
        retry_first: Duration::from_millis(250),
        retry_most: PERIOD,
    };
    let backend = InMemory::default();
    let families = IpFamily::ALL.map(|family| backend.open(&config, family).unwrap());
    // Each test has a name of its own.
    let name = format!("test of {text} in {}", std::process::id());
    let mut agent = Agent::new(Parts {
        families: families
            .into_iter()
            .map(|family| FamilyLoop::new(family, periods, Jitter::seeded(1)))
            .collect(),
        backend,
        planner: Planner::new(config),
        clock,
        health_ports: HealthPorts::start(shared.clone()).unwrap(),
        shared,
        flows: None,
        announcer: Announcer::new(None),
        asked: Some(PERIOD),
        audits: Audits::None,
        presence: Presence::claim(Estate::new(InMemory::MODE, name)),
        take_over: false,
        own_addresses: OwnAddresses::OfNode,
    });
    agent.ask_at = Some(clock.now());
    // It would run programs of the host.
    agent.others = Others::Done;
    agent
}

/// What the loop does each time that it wakes.
fn turn(agent: &mut Agent<InMemory>) {
    agent.plan();
    agent.ask();
    agent.audit();
    agent.sync();
    agent.tick();
    agent.listen_again();
    agent.rival();
    agent.remark();
}

#[test]
fn b237_the_loop_rests_while_lists_are_missing() {
    let mut agent = agent("");
    turn(&mut agent);
    assert_eq!(agent.gate, Gate::Shut);
    let wait = agent.wait().unwrap();
    assert!(wait > PERIOD / 2, "{wait:?}");
    // The same while all but the Node is there.
    agent.gate = Gate::AwaitsNode(agent.parts.clock.now() + NODE_PATIENCE);
    agent.ask_at = Some(agent.parts.clock.now());
    turn(&mut agent);
    let wait = agent.wait().unwrap();
    assert!(wait > PERIOD / 2, "{wait:?}");
}

#[test]
fn others_are_asked_for_once_the_lists_are_there() {
    let mut agent = agent("service web ip=10.96.0.1 port=80");
    for event in scenario("service web ip=10.96.0.1 port=80").events() {
        agent.event(event, Instant::now());
    }
    turn(&mut agent);
    assert_eq!(agent.gate, Gate::Open);
    agent.parts.backend.disturbed = VecDeque::from([true]);
    agent.ask_at = Some(agent.parts.clock.now());
    agent.ask();
    assert!(agent.parts.backend.disturbed.is_empty());
    assert!(agent.ask_at > Some(agent.parts.clock.now() + PERIOD / 2));
    assert_eq!(agent.wait(), Some(Duration::ZERO));
}

/// Number of times of the latency of network programming.
fn programmed(agent: &Agent<InMemory>, family: IpFamily) -> u64 {
    let status = agent.parts.shared.lock();
    status.families[&family].programming.count()
}

#[test]
fn b307_a_time_counts_for_the_family_that_it_is_of_and_once() {
    let web = "service web ip=10.96.0.1 port=80\n slice web-1 web port=80";
    let mut agent = agent(&format!("{web} 10.64.1.7"));
    for event in scenario(web).events() {
        agent.event(event, Instant::now());
    }
    turn(&mut agent);
    let slice = |endpoints: &str| {
        let events = scenario(&format!("{web} {endpoints}")).events();
        let slice = events.into_iter().find_map(|event| match event {
            Event::EndpointSlice(WatchEvent::InitApply(slice)) => Some(slice),
            Event::EndpointSlice(_)
            | Event::Service(_)
            | Event::Node(_)
            | Event::ServiceCidr(_) => None,
        });
        Event::EndpointSlice(WatchEvent::Apply(slice.unwrap()))
    };
    let tell = |agent: &mut Agent<InMemory>, endpoints| {
        for input in [
            Input::Triggered(SystemTime::now()),
            Input::Event(slice(endpoints)),
        ] {
            let at = Instant::now();
            agent.take(Told { at, input });
        }
        turn(agent);
    };
    tell(&mut agent, "10.64.1.1");
    let both = |agent: &Agent<InMemory>| IpFamily::ALL.map(|family| programmed(agent, family));
    assert_eq!(both(&agent), [1, 0]);
    // What changes no plan is not kept for a later change.
    tell(&mut agent, "10.64.1.1");
    tell(&mut agent, "10.64.1.1 10.64.1.9!dead");
    tell(&mut agent, "10.64.1.1 10.64.1.2");
    assert_eq!(both(&agent), [2, 0]);
    let kept = format!("{:?}", agent.parts.shared.lock().families);
    assert_eq!(kept.matches("triggers: []").count(), 2, "{kept}");
}

#[test]
fn b204_a_port_that_is_taken_is_opened_once_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.4:0").unwrap();
    let at = taken.local_addr().unwrap();
    let mut agent = agent("");
    let family = IpFamily::V4;
    let mut node = NodePlan::bare("n1");
    node.node_ports.addresses = [at.ip()].into();
    let mut plan = Plan::empty(family, node.into());
    let check = HealthCheck {
        port: at.port(),
        local_endpoints: 1,
    };
    let web = NamespacedName::new("default", "web");
    plan.health_checks.insert(web, check);
    let applied = |agent: &mut Agent<InMemory>| {
        let mut status = agent.parts.shared.lock();
        status.families.get_mut(&family).unwrap().plan = plan.clone();
        drop(status);
        agent.listen(&plan);
    };
    applied(&mut agent);
    assert_eq!(agent.deaf.len(), 1);
    assert!(agent.wait().unwrap() <= crate::agent::server::LISTEN_AGAIN);
    // Runs do not put it off.
    let next = agent.listen_at;
    applied(&mut agent);
    assert_eq!(agent.listen_at, next);
    drop(taken);
    // As if that time had passed.
    agent.listen_at = Some(agent.parts.clock.now());
    turn(&mut agent);
    assert!(agent.deaf.is_empty());
    assert_eq!(agent.listen_at, None);
    std::net::TcpStream::connect(at).unwrap();
}
