//! Checks a part of what the kernel holds, and mends it.
//!
//! Reading everything is dear where there is much. A backend that can look single objects up checks
//! some at a time: [`Reconciler::objects`] says what there should be, [`Reconciler::mend`] takes in
//! how the kernel differs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Kernel, Reconciler};
use crate::name::ServicePortName;
use crate::ruleset::{Base, EditGroup, Fragment, Render, Ruleset, Transaction};

impl<R: Render> Reconciler<R> {
    /// The objects that the kernel should hold for a service port, those shared with others too;
    /// `None` if it is not known what the kernel holds, or if there is no such service port.
    pub fn objects(&mut self, name: &ServicePortName) -> Option<Fragment<R::Key, R::Value>> {
        if !self.is_settled() || self.quarantine.contains_key(name) {
            return None;
        }
        let node = self.shown_node.clone()?;
        let plan = self.desired.get(name)?.clone();
        Some(self.render.service_port(&node, name, &plan))
    }

    /// The objects of the node, and those shared by service ports that a test picks; `None` if it
    /// is not known what the kernel holds.
    pub fn node_objects(
        &mut self,
        picks: impl Fn(&R::Key) -> bool,
    ) -> Option<Ruleset<R::Key, R::Value>> {
        if !self.is_settled() {
            return None;
        }
        let node = self.shown_node.clone()?;
        let mut objects = self.render.skeleton(&node);
        let shared = self.shared.iter().filter(|(key, _)| picks(key));
        objects.extend(shared.map(|(key, (value, _))| (key.clone(), value.clone())));
        Some(objects)
    }

    /// Takes in how the kernel differs from what it should hold: edits from what it holds to what it
    /// should, which the next [`Reconciler::poll`] asks to commit. Passed over if the kernel is not
    /// [settled](Reconciler::is_settled), as then it is about to change anyway.
    pub fn mend(&mut self, groups: Vec<EditGroup<R::Key, R::Value>>) {
        let groups: Vec<_> = groups
            .into_iter()
            .filter(|group| !group.edits.is_empty())
            .collect();
        if !groups.is_empty() && self.is_settled() {
            let base = Base::InUse;
            self.kernel = Kernel::Committing(Arc::new(Transaction { groups, base }));
        }
    }
}
