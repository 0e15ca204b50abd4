//! Flow cases with real packets.

use std::fmt;

use svc_core::config::ProxyMode;
use svc_core::object::Node;
use svc_core::{Planner, Verdict};

use super::{Backend, BackendError, Choice, World, WorldError};
use crate::flow_cases::FlowCase;
use crate::sandbox::Transport;

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseResult {
    /// The packets went as expected.
    Passed,
    /// They did not, or the rules could not be written; in words.
    Failed(String),
    /// The case says nothing of the backend.
    NotConcerned,
    /// The packets cannot be sent here; why.
    CannotSend(&'static str),
}

/// What came of many cases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases whose packets went as expected.
    pub passed: usize,
    /// Cases whose packets did not.
    pub failed: usize,
    /// Cases that say nothing of the backend.
    pub not_concerned: usize,
    /// Cases whose packets could not be sent, and why.
    pub not_sent: Vec<(String, &'static str)>,
}

/// Opens a backend in the network namespace of the calling thread.
pub type Open<'a> = &'a (dyn Fn() -> Result<Box<dyn Backend>, BackendError> + Sync);

/// Runs cases against a backend and reports each.
///
/// One proxy serves them all: between two cases the objects change and its rules with them. A
/// case that fails is tried again by a proxy that starts with it.
///
/// `open` is called in the network namespace of the node, once for each node that cases name.
///
/// # Errors
/// When the world of a case could not be built. A backend that fails is a failing case.
pub fn run_cases<B: Backend + 'static>(
    cases: &[FlowCase],
    mode: ProxyMode,
    open: impl Fn() -> Result<B, BackendError> + Sync,
    report: &mut dyn FnMut(&FlowCase, &CaseResult),
) -> Result<Tally, WorldError> {
    let open: Open<'_> = &|| open().map(|backend| Box::new(backend) as Box<dyn Backend>);
    let mut tally = Tally::default();
    let mut stage = None;
    for case in cases {
        let result = run_case(case, mode, open, &mut stage)?;
        match &result {
            CaseResult::Passed => tally.passed += 1,
            CaseResult::Failed(_) => tally.failed += 1,
            CaseResult::NotConcerned => tally.not_concerned += 1,
            CaseResult::CannotSend(why) => tally.not_sent.push((case.id.clone(), why)),
        }
        report(case, &result);
    }
    Ok(tally)
}

/// A world and what serves its node.
struct Stage {
    // First, so that its sockets are closed before the namespace goes.
    backend: Box<dyn Backend>,
    planner: Planner,
    world: World,
}

fn run_case(
    case: &FlowCase,
    mode: ProxyMode,
    open: Open<'_>,
    stage: &mut Option<Stage>,
) -> Result<CaseResult, WorldError> {
    let Some(expected) = case.expected(mode) else {
        return Ok(CaseResult::NotConcerned);
    };
    if Transport::of(case.flow.protocol).is_none() {
        return Ok(CaseResult::CannotSend("needs SCTP: run it in the VM"));
    }
    let node = node(case)?;
    if stage.as_ref().is_some_and(|stage| !stage.world.fits(node)) {
        *stage = None;
    }
    let stage = match stage {
        Some(stage) => stage,
        None => {
            let world = World::new(node)?.choosing(Choice::of(mode));
            let backend = match world.sandbox().node().run(open)? {
                Ok(backend) => backend,
                Err(error) => return Ok(CaseResult::Failed(format!("no backend: {error}"))),
            };
            stage.insert(Stage {
                backend,
                planner: Planner::new(case.node_config(mode)),
                world,
            })
        }
    };
    stage.world.add(&case.manifests)?;
    let Some(wrong) = stage.show(case, mode, expected)? else {
        return Ok(CaseResult::Passed);
    };
    // Whose fault it is: that of the rules, or of the change from those of the case before.
    let alone = match stage.start_again(case, mode)? {
        Err(error) => format!("cannot start again: {error}"),
        Ok(()) => match stage.show(case, mode, expected)? {
            Some(wrong) => format!("alone: {wrong}"),
            None => "it passes alone".to_owned(),
        },
    };
    Ok(CaseResult::Failed(format!("{wrong}; {alone}")))
}

impl Stage {
    /// Changes what the node serves to the objects of a case, and tells what is wrong then.
    fn show(
        &mut self,
        case: &FlowCase,
        mode: ProxyMode,
        expected: &Verdict,
    ) -> Result<Option<String>, WorldError> {
        case.tell(mode, &mut self.planner);
        let (backend, planner) = (&mut self.backend, &mut self.planner);
        let node = self.world.sandbox().node();
        if let Err(error) = node.run(|| backend.sync(planner))? {
            return Ok(Some(format!("not programmed: {error}")));
        }
        // What packets of other cases were is of no concern to these.
        node.forget_connections().map_err(WorldError::from)?;
        let seen = self.world.observe(&case.flow, expected)?;
        Ok((!seen.is(expected)).then(|| format!("expected {expected}; seen: {seen}")))
    }

    fn start_again(
        &mut self,
        case: &FlowCase,
        mode: ProxyMode,
    ) -> Result<Result<(), BackendError>, WorldError> {
        self.planner = Planner::new(case.node_config(mode));
        let backend = &mut self.backend;
        Ok(self.world.sandbox().node().run(|| backend.remove())?)
    }
}

fn node(case: &FlowCase) -> Result<&Node, WorldError> {
    let mut nodes = case.manifests.nodes.iter();
    nodes
        .find(|node| node.name == case.node)
        .ok_or_else(|| WorldError::NoNode {
            name: case.node.clone(),
        })
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        write!(f, ", {} of other backends", self.not_concerned)?;
        write!(f, ", {} not sent", self.not_sent.len())?;
        for (id, why) in &self.not_sent {
            write!(f, "\n  {id} {why}")?;
        }
        Ok(())
    }
}
