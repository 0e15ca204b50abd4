//! Fills a kernel that holds nothing by small transactions, what puts them to use last.

use alloc::sync::Arc;
use alloc::vec::{self, Vec};

use hashbrown::HashMap;

use super::{Reconciler, push_group};
use crate::name::ServicePortName;
use crate::plan::ServicePortPlan;
use crate::ruleset::{Base, Edit, Render, Transaction};

/// What is still to come.
#[derive(Clone, Debug)]
pub(super) struct Filling<R: Render> {
    /// Objects of the skeleton that put all others to use.
    last: Vec<Edit<R::Key, R::Value>>,
    /// Service ports as they were wanted when it began; what changed since is pending.
    ports: vec::IntoIter<(ServicePortName, Arc<ServicePortPlan>)>,
}

impl<R: Render> Filling<R> {
    pub(super) fn new(
        last: Vec<Edit<R::Key, R::Value>>,
        ports: Vec<(ServicePortName, Arc<ServicePortPlan>)>,
    ) -> Self {
        Self {
            last,
            ports: ports.into_iter(),
        }
    }
}

impl<R: Render> Reconciler<R> {
    /// Whether the transaction under way is one of several that fill a kernel.
    pub(crate) fn is_filling(&self) -> bool {
        self.filling.is_some()
    }

    /// The next transaction that fills the kernel; `None` if it is filled.
    pub(super) fn fill(&mut self) -> Option<Transaction<R::Key, R::Value>> {
        let mut filling = self.filling.take()?;
        let node = self.shown_node.clone()?;
        let mut groups = Vec::new();
        let mut held = HashMap::new();
        for (name, plan) in filling.ports.by_ref().take(self.render.ports_at_once()) {
            let fragment = self.render.service_port(&node, &name, &plan);
            let edits = self.differences(&mut held, fragment);
            push_group(&mut groups, Some(name), edits);
        }
        match filling.ports.len() {
            0 => push_group(&mut groups, None, filling.last),
            _ => self.filling = Some(filling),
        }
        let base = Base::Empty;
        Some(Transaction { groups, base })
    }
}
