//! A ruleset as a map, and a transaction as the difference of two maps.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hash;

use crate::name::ServicePortName;
use crate::node_plan::NodePlan;
use crate::plan::{Plan, ServicePortPlan};

/// What a kernel subsystem holds, or should hold: objects by key.
pub type Ruleset<K, V> = BTreeMap<K, V>;

/// The kernel objects that one service port needs, each key once, in any order; quickest in that of keys.
pub type Fragment<K, V> = Vec<(K, V)>;

/// Says a plan in the words of one kernel subsystem, in one address family. Pure.
pub trait Render {
    /// Names a kernel object; the order is that in which rulesets are listed.
    type Key: Ord + Hash + Clone + fmt::Debug;
    /// What the object holds.
    type Value: Eq + Clone + fmt::Debug;

    /// The objects that exist once for the node, whatever Services there are.
    fn skeleton(&mut self, node: &NodePlan) -> Ruleset<Self::Key, Self::Value>;

    /// The objects of one service port: a function of the three arguments and of what
    /// [`Render::learn`] and earlier calls fixed (such as numbers handed out).
    fn service_port(
        &mut self,
        node: &NodePlan,
        name: &ServicePortName,
        plan: &ServicePortPlan,
    ) -> Fragment<Self::Key, Self::Value>;

    /// Whether several service ports may need the same object. Such objects are counted, and
    /// every service port that needs one, and the skeleton, must give it the same value.
    fn is_shared(key: &Self::Key) -> bool;

    /// Whether a shared object stays when its last user is gone, as removing it costs too much.
    fn outlives_users(_key: &Self::Key) -> bool {
        false
    }

    /// Whether an object puts others to use, such as the hook of a chain.
    fn puts_to_use(_key: &Self::Key) -> bool {
        false
    }

    /// How many service ports one transaction holds while the kernel holds nothing yet, and so
    /// nothing is in use; what [puts to use](Render::puts_to_use) comes last of all.
    ///
    /// Small transactions bound memory, and the time for which others wait for the kernel.
    fn ports_at_once(&self) -> usize {
        usize::MAX
    }

    /// Reads numbers and the like that an earlier run handed out from what the kernel holds, so
    /// that a restart changes nothing. Called with everything that was read before any fragment
    /// is rendered against it.
    fn learn(&mut self, held: &Ruleset<Self::Key, Self::Value>);

    /// A service port is gone for good; its numbers may be used again.
    fn forget(&mut self, name: &ServicePortName);
}

/// The whole ruleset of a plan.
pub fn render<R: Render>(render: &mut R, plan: &Plan) -> Ruleset<R::Key, R::Value> {
    let mut ruleset = render.skeleton(&plan.node);
    for (name, port) in &plan.service_ports {
        ruleset.extend(render.service_port(&plan.node, name, port));
    }
    ruleset
}

/// One object that differs between what is held and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<K, V> {
    /// Which object.
    pub key: K,
    /// What the kernel holds, if anything.
    pub before: Option<V>,
    /// What it should hold, if anything. Never equal to `before`.
    pub after: Option<V>,
}

/// Edits that belong together: all of them take effect at once, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditGroup<K, V> {
    /// The service port that the edits serve, `None` for the skeleton and for leftovers.
    pub name: Option<ServicePortName>,
    /// The edits, sorted by key.
    pub edits: Vec<Edit<K, V>>,
}

/// What to change in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction<K, V> {
    /// In the order in which they may be applied one after the other: the skeleton, service
    /// ports by name, leftovers. A backend applies them all at once where it can.
    pub groups: Vec<EditGroup<K, V>>,
    /// What the kernel held when the transaction was made.
    pub base: Base,
}

/// What a [`Transaction`] starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The kernel held nothing of ours, or what earlier transactions of the same kind put there:
    /// nothing is in use until the last of them is complete.
    Empty,
    /// A ruleset of ours is in use.
    InUse,
}

impl<K, V> Transaction<K, V> {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// All edits.
    pub fn edits(&self) -> impl Iterator<Item = &Edit<K, V>> {
        self.groups.iter().flat_map(|group| &group.edits)
    }
}

/// The edits that turn one fragment into another; both are consumed.
pub(crate) fn subtract<K: Ord + Clone, V: Eq>(
    mut before: Fragment<K, V>,
    mut after: Fragment<K, V>,
) -> Vec<Edit<K, V>> {
    before.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    after.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut edits = Vec::new();
    let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (Some(b), Some(a)) => b.0.cmp(&a.0),
            (Some(_), None) => core::cmp::Ordering::Less,
            (None, Some(_)) => core::cmp::Ordering::Greater,
            (None, None) => return edits,
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        let Some(key) = new.as_ref().or(old.as_ref()).map(|(key, _)| key.clone()) else {
            return edits;
        };
        let (before, after) = (old.map(|(_, v)| v), new.map(|(_, v)| v));
        if before != after {
            edits.push(Edit { key, before, after });
        }
    }
}
