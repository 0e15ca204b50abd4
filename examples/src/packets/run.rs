//! Flow cases with real packets.

use std::fmt;

use svc_core::Verdict;
use svc_core::config::ProxyMode;
use svc_core::object::Node;

use super::{Backend, BackendError, World, WorldError};
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

/// Runs cases against a backend and reports each.
///
/// `open` is called in the network namespace of the node, once for each node that cases name.
///
/// # Errors
/// When the world of a case could not be built. A backend that fails is a failing case.
pub fn run_cases<B: Backend>(
    cases: &[FlowCase],
    mode: ProxyMode,
    open: impl Fn() -> Result<B, BackendError> + Sync,
    report: &mut dyn FnMut(&FlowCase, &CaseResult),
) -> Result<Tally, WorldError> {
    let mut tally = Tally::default();
    let mut stage = None;
    for case in cases {
        let result = run_case(case, mode, &open, &mut stage)?;
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

/// A world and the backend in it.
struct Stage<B> {
    // First, so that its sockets are closed before the namespace goes.
    backend: B,
    world: World,
}

fn run_case<B: Backend>(
    case: &FlowCase,
    mode: ProxyMode,
    open: &(impl Fn() -> Result<B, BackendError> + Sync),
    stage: &mut Option<Stage<B>>,
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
            let world = World::new(node)?;
            let backend = match world.sandbox().node().run(open)? {
                Ok(backend) => backend,
                Err(error) => return Ok(CaseResult::Failed(format!("no backend: {error}"))),
            };
            stage.insert(Stage { backend, world })
        }
    };
    stage.show(case, mode, expected)
}

impl<B: Backend> Stage<B> {
    fn show(
        &mut self,
        case: &FlowCase,
        mode: ProxyMode,
        expected: &Verdict,
    ) -> Result<CaseResult, WorldError> {
        self.world.add(&case.manifests)?;
        let mut planner = case.planner(mode);
        let (backend, node) = (&mut self.backend, self.world.sandbox());
        if let Err(error) = node.node().run(|| backend.sync(&mut planner))? {
            // What was written in part must not stay for the next case, whether or not it can go.
            let _ = node.node().run(|| backend.remove())?;
            return Ok(CaseResult::Failed(format!("not programmed: {error}")));
        }
        let seen = self.world.observe(&case.flow, expected)?;
        let removed = self.world.sandbox().node().run(|| self.backend.remove())?;
        Ok(match removed {
            Err(error) => CaseResult::Failed(format!("not removed: {error}")),
            Ok(()) if seen.is(expected) => CaseResult::Passed,
            Ok(()) => CaseResult::Failed(format!("expected {expected}; seen: {seen}")),
        })
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
