//! Makes a kernel match a plan, without doing any I/O itself.
//!
//! The caller asks [`Reconciler::poll`] what to do, does it, and reports back:
//!
//! ```text
//!            ┌───────── Action::Read ──────────► Reconciler::on_read
//!   poll() ──┼───────── Action::Commit ────────► on_committed │ on_failed
//!            └───────── Action::Idle
//! ```
//!
//! A kernel that holds nothing in use may be filled by several commits, see [`Render::ports_at_once`].
//!
//! Changes are folded into what is wanted and never drained into a transaction, so nothing is
//! lost when a commit fails: the kernel's content then counts as unknown and is read again.

mod audit;
mod filling;
mod quarantine;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::Hash;
use core::mem;

use hashbrown::HashMap;

use crate::delta::PlanDelta;
use crate::name::ServicePortName;
use crate::net::IpFamily;
use crate::node_plan::NodePlan;
use crate::plan::{Plan, ServicePortPlan};
use crate::ruleset::{Base, Edit, EditGroup, Fragment, Render, Ruleset, Transaction, subtract};
use filling::Filling;

/// Makes the rulesets of one family match the plan.
///
/// ```
/// use std::collections::BTreeMap;
/// use svc_core::{
///     Action, Fragment, IpFamily, NodePlan, Plan, Reconciler, Render, Ruleset, ServicePortName,
///     ServicePortPlan,
/// };
///
/// /// One line of text for each front end.
/// struct Lines;
///
/// impl Render for Lines {
///     type Key = String;
///     type Value = String;
///
///     fn skeleton(&mut self, node: &NodePlan) -> Ruleset<String, String> {
///         BTreeMap::from([("node".into(), node.name.to_string())])
///     }
///
///     fn service_port(
///         &mut self,
///         _: &NodePlan,
///         name: &ServicePortName,
///         plan: &ServicePortPlan,
///     ) -> Fragment<String, String> {
///         let line = |f: &svc_core::Frontend| (format!("{:?}", f.at), name.to_string());
///         plan.frontends.iter().map(line).collect()
///     }
///
///     fn is_shared(_: &String) -> bool {
///         false
///     }
///
///     fn learn(&mut self, _: &Ruleset<String, String>) {}
///
///     fn forget(&mut self, _: &ServicePortName) {}
/// }
///
/// let plan = Plan::empty(IpFamily::V4, NodePlan::bare("node-1").into());
/// let nothing = Plan::empty(IpFamily::V4, NodePlan::bare("").into());
/// let mut reconciler = Reconciler::new(Lines, IpFamily::V4);
/// reconciler.change(&nothing.diff(&plan));
///
/// let mut kernel = BTreeMap::new();
/// loop {
///     match reconciler.poll() {
///         Action::Read => {
///             reconciler.on_read(kernel.clone());
///         }
///         Action::Commit(transaction) => {
///             for edit in transaction.edits() {
///                 kernel.extend(edit.after.clone().map(|value| (edit.key.clone(), value)));
///             }
///             reconciler.on_committed();
///         }
///         Action::Idle => break,
///     }
/// }
/// assert_eq!(kernel["node"], "node-1");
/// ```
#[derive(Clone, Debug)]
pub struct Reconciler<R: Render> {
    render: R,
    family: IpFamily,
    node: Option<Arc<NodePlan>>,
    /// The node-wide part that the kernel shows.
    shown_node: Option<Arc<NodePlan>>,
    /// What is wanted. A table, as names are looked up at every change; it is sorted before use.
    desired: HashMap<ServicePortName, Arc<ServicePortPlan>>,
    /// Names whose kernel objects may differ from what is wanted, with the plan they show.
    pending: BTreeMap<ServicePortName, Option<Arc<ServicePortPlan>>>,
    /// Shared objects of the kernel, with the number of service ports that need each.
    shared: HashMap<R::Key, (R::Value, u32)>,
    kernel: Kernel<R>,
    /// What comes after the transaction under way, while nothing is in use yet.
    filling: Option<Filling<R>>,
    quarantine: BTreeMap<ServicePortName, String>,
    verify: bool,
}

/// What is known of the kernel's content.
#[derive(Clone, Debug)]
enum Kernel<R: Render> {
    /// Nothing: it must be read.
    Unknown,
    /// It shows what is wanted but for `pending` and a new node-wide part.
    Known,
    /// It shows what is wanted but for this transaction, which is waiting or under way, and for
    /// what came after it.
    Committing(Arc<Transaction<R::Key, R::Value>>),
}

/// What the caller has to do next.
#[derive(Clone, Debug)]
pub enum Action<R: Render> {
    /// Nothing: the kernel shows the plan.
    Idle,
    /// Read what the kernel holds and call [`Reconciler::on_read`].
    Read,
    /// Apply the transaction and call [`Reconciler::on_committed`] or [`Reconciler::on_failed`].
    Commit(Arc<Transaction<R::Key, R::Value>>),
}

/// How a commit failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was applied, and the same may work later: a lock is held by somebody else.
    Busy,
    /// It is not known what was applied.
    Unknown,
    /// The kernel refused objects of these service ports: they are set aside with the reason
    /// until their plan changes or they are [released](Reconciler::release), and all others are
    /// applied.
    Refused(Vec<(ServicePortName, String)>),
}

/// How the kernel's content differed from what it should have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift<K> {
    /// Objects that were gone.
    pub missing: Vec<K>,
    /// Objects with another value.
    pub changed: Vec<K>,
    /// Objects that nothing asked for.
    pub foreign: Vec<K>,
}

impl<K> Drift<K> {
    /// Whether everything was as it should be.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty() && self.foreign.is_empty()
    }
}

impl<R: Render> Reconciler<R> {
    /// A reconciler that wants nothing yet and knows nothing of the kernel.
    pub fn new(render: R, family: IpFamily) -> Self {
        Self {
            render,
            family,
            node: None,
            shown_node: None,
            desired: HashMap::new(),
            pending: BTreeMap::new(),
            shared: HashMap::new(),
            kernel: Kernel::Unknown,
            filling: None,
            quarantine: BTreeMap::new(),
            verify: false,
        }
    }

    /// Takes in what changed in the plan; deltas of another family are passed over.
    pub fn change(&mut self, delta: &PlanDelta) {
        if delta.family != self.family {
            return;
        }
        if let Some(node) = &delta.node {
            self.node = Some(node.clone());
        }
        for change in &delta.service_ports {
            let before = match &change.after {
                Some(plan) => self.desired.insert(change.name.clone(), plan.clone()),
                None => self.desired.remove(&change.name),
            };
            let set_aside = self.quarantine.remove(&change.name).is_some();
            let shown = if set_aside { None } else { before };
            // What is unknown is compared as a whole; only what went has to be remembered.
            if change.after.is_none() || !matches!(self.kernel, Kernel::Unknown) {
                self.pending.entry(change.name.clone()).or_insert(shown);
            }
        }
    }

    /// The address family.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// The renderer.
    pub fn render(&self) -> &R {
        &self.render
    }

    /// The plan that the kernel should show, without health checks.
    pub fn wanted(&self) -> Option<Plan> {
        let mut plan = Plan::empty(self.family, self.node.clone()?);
        plan.service_ports = self.wanted_ports().into_iter().collect();
        Some(plan)
    }

    /// Asks for a comparison with the kernel at the next [`Reconciler::poll`].
    pub fn verify(&mut self) {
        self.verify = true;
    }

    /// Whether the kernel shows what is wanted, as far as is known.
    pub fn is_settled(&self) -> bool {
        matches!(self.kernel, Kernel::Known)
            && !self.verify
            && self.pending.is_empty()
            && self.shown_node == self.node
    }

    /// What to do next.
    pub fn poll(&mut self) -> Action<R> {
        let Some(node) = self.node.clone() else {
            return Action::Idle;
        };
        match &self.kernel {
            Kernel::Unknown => return Action::Read,
            Kernel::Committing(transaction) => return Action::Commit(transaction.clone()),
            Kernel::Known if self.verify => {
                self.kernel = Kernel::Unknown;
                return Action::Read;
            }
            Kernel::Known => {}
        }
        if self.pending.is_empty() && self.shown_node.as_ref() == Some(&node) {
            return Action::Idle;
        }
        let transaction = self.update(&node);
        if transaction.is_empty() {
            return Action::Idle;
        }
        let transaction = Arc::new(transaction);
        self.kernel = Kernel::Committing(transaction.clone());
        Action::Commit(transaction)
    }

    /// Takes in what the kernel holds, and says how it differs from what it should hold.
    ///
    /// What was wanted but never committed counts as a difference too: only a kernel that was
    /// [settled](Self::is_settled) before differs by somebody else's doing. Of a kernel that held
    /// nothing only the objects of the first transaction are listed.
    pub fn on_read(&mut self, held: Ruleset<R::Key, R::Value>) -> Drift<R::Key> {
        let Some(node) = self.node.clone() else {
            return Drift::default();
        };
        self.verify = false;
        self.filling = None;
        self.render.learn(&held);
        for name in mem::take(&mut self.pending).into_keys() {
            if !self.desired.contains_key(&name) {
                self.render.forget(&name);
            }
        }
        let transaction = self.replace(&node, held);
        let drift = Drift::of(&transaction);
        self.kernel = match transaction.is_empty() {
            true => Kernel::Known,
            false => Kernel::Committing(Arc::new(transaction)),
        };
        drift
    }

    /// The transaction of the latest [`Action::Commit`] was applied.
    pub fn on_committed(&mut self) {
        if let Kernel::Committing(_) = self.kernel {
            self.kernel = match self.fill() {
                Some(transaction) => Kernel::Committing(Arc::new(transaction)),
                None => Kernel::Known,
            };
        }
    }

    /// The transaction of the latest [`Action::Commit`] was not applied.
    pub fn on_failed(&mut self, failure: Failure) {
        if failure != Failure::Busy {
            self.filling = None;
        }
        match failure {
            Failure::Busy => {}
            Failure::Unknown => self.kernel = Kernel::Unknown,
            Failure::Refused(ports) => {
                // A plan that came later than the refused one deserves its own try.
                let current = ports.into_iter().filter(|(name, _)| {
                    self.desired.contains_key(name) && !self.pending.contains_key(name)
                });
                self.quarantine.extend(current);
                self.kernel = Kernel::Unknown;
            }
        }
    }

    fn wanted_ports(&self) -> Vec<(ServicePortName, Arc<ServicePortPlan>)> {
        let ports = self.desired.iter();
        let mut ports: Vec<_> = ports
            .filter(|(name, _)| !self.quarantine.contains_key(*name))
            .map(|(name, plan)| (name.clone(), plan.clone()))
            .collect();
        ports.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        ports
    }

    /// The edits for the names that changed since the kernel was known, or for all of them when
    /// the node-wide part changed.
    fn update(&mut self, node: &Arc<NodePlan>) -> Transaction<R::Key, R::Value> {
        let shown = self.shown_node.replace(node.clone());
        let shown = shown.unwrap_or_else(|| node.clone());
        let mut pending = mem::take(&mut self.pending);
        let mut groups = Vec::new();
        if shown != *node {
            let before = self.render.skeleton(&shown).into_iter().collect();
            let after = self.render.skeleton(node).into_iter().collect();
            push_group(&mut groups, None, subtract(before, after));
            for (name, plan) in self.wanted_ports() {
                pending.entry(name).or_insert(Some(plan));
            }
        }
        for (name, before) in pending {
            let after = self.desired.get(&name).cloned();
            let after = after.filter(|_| !self.quarantine.contains_key(&name));
            if before == after && shown == *node {
                continue;
            }
            let mut fragment = |node: &NodePlan, plan: &Option<Arc<ServicePortPlan>>| {
                let plan = plan.as_ref();
                plan.map_or_else(Vec::new, |plan| self.render.service_port(node, &name, plan))
            };
            let (old, new) = (fragment(&shown, &before), fragment(node, &after));
            let edits = subtract(old, new);
            if after.is_none() {
                self.render.forget(&name);
            }
            push_group(&mut groups, Some(name), edits);
        }
        hand_over::<R>(&mut groups);
        self.count(&mut groups);
        groups.retain(|group| !group.edits.is_empty());
        Transaction {
            groups,
            base: Base::InUse,
        }
    }

    /// Lets through only those edits of shared objects that the first or last user makes.
    ///
    /// New users count before former ones, so that an object that passes from one service port
    /// to another in the same transaction is left alone.
    fn count(&mut self, groups: &mut [EditGroup<R::Key, R::Value>]) {
        for group in groups.iter_mut() {
            group.edits.retain_mut(|edit| match edit.after {
                Some(_) if R::is_shared(&edit.key) => self.count_user(edit),
                Some(_) | None => true,
            });
        }
        for group in groups {
            group.edits.retain_mut(|edit| match edit.after {
                None if R::is_shared(&edit.key) => self.count_former_user(edit),
                Some(_) | None => true,
            });
        }
    }

    /// Whether the first user of a shared object comes, or its value changes: that is a change of
    /// the only value there is, as the value is a function of the key and the node.
    fn count_user(&mut self, edit: &mut Edit<R::Key, R::Value>) -> bool {
        let Some(value) = &edit.after else {
            return true;
        };
        let new_user = edit.before.is_none();
        match self.shared.get_mut(&edit.key) {
            Some((held, users)) => {
                *users += u32::from(new_user);
                if held == value {
                    return false;
                }
                edit.before = Some(mem::replace(held, value.clone()));
            }
            None => {
                edit.before = None;
                self.shared.insert(edit.key.clone(), (value.clone(), 1));
            }
        }
        true
    }

    /// Whether the last user of a shared object goes.
    fn count_former_user(&mut self, edit: &mut Edit<R::Key, R::Value>) -> bool {
        let Some((_, users)) = self.shared.get_mut(&edit.key) else {
            return false;
        };
        *users = users.saturating_sub(1);
        if *users > 0 || R::outlives_users(&edit.key) {
            return false;
        }
        edit.before = self.shared.remove(&edit.key).map(|(held, _)| held);
        true
    }

    /// The edits that turn what was read into what is wanted, whatever it was; the first of them
    /// if nothing that was read is in use.
    fn replace(
        &mut self,
        node: &Arc<NodePlan>,
        held: Ruleset<R::Key, R::Value>,
    ) -> Transaction<R::Key, R::Value> {
        let base = match held.is_empty() {
            true => Base::Empty,
            false => Base::InUse,
        };
        // Every object is looked up once: in a tree that costs more than everything else together.
        let mut held: HashMap<R::Key, R::Value> = held.into_iter().collect();
        self.shared.clear();
        self.shown_node = Some(node.clone());
        let skeleton = self.render.skeleton(node).into_iter().collect();
        let mut skeleton = self.differences(&mut held, skeleton);
        let ports = self.wanted_ports();
        if base == Base::Empty && ports.len() > self.render.ports_at_once() {
            let last = skeleton.extract_if(.., |edit| R::puts_to_use(&edit.key));
            self.filling = Some(Filling::new(last.collect(), ports));
            let mut groups = Vec::new();
            push_group(&mut groups, None, skeleton);
            return Transaction { groups, base };
        }
        let mut groups = Vec::new();
        push_group(&mut groups, None, skeleton);
        for (name, plan) in ports {
            let fragment = self.render.service_port(node, &name, &plan);
            let edits = self.differences(&mut held, fragment);
            push_group(&mut groups, Some(name), edits);
        }
        push_group(&mut groups, None, self.leftovers(held));
        Transaction { groups, base }
    }

    /// How wanted objects differ from those held, which are taken out.
    fn differences(
        &mut self,
        held: &mut HashMap<R::Key, R::Value>,
        mut fragment: Fragment<R::Key, R::Value>,
    ) -> Vec<Edit<R::Key, R::Value>> {
        fragment.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut edits = Vec::new();
        for (key, value) in fragment {
            if !R::is_shared(&key) || self.is_first_user(&key, &value) {
                edits.extend(difference(held, key, value));
            }
        }
        edits
    }

    /// Removes what nothing asked for.
    fn leftovers(&mut self, held: HashMap<R::Key, R::Value>) -> Vec<Edit<R::Key, R::Value>> {
        let mut leftovers = Vec::new();
        for (key, value) in held {
            if R::is_shared(&key) && R::outlives_users(&key) {
                self.shared.insert(key, (value, 0));
                continue;
            }
            leftovers.push(Edit {
                key,
                before: Some(value),
                after: None,
            });
        }
        leftovers.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        leftovers
    }

    fn is_first_user(&mut self, key: &R::Key, value: &R::Value) -> bool {
        let (_, users) = self
            .shared
            .entry_ref(key)
            .or_insert_with(|| (value.clone(), 0));
        *users += 1;
        *users == 1
    }
}

impl<K> Default for Drift<K> {
    fn default() -> Self {
        Self {
            missing: Vec::new(),
            changed: Vec::new(),
            foreign: Vec::new(),
        }
    }
}

impl<K: Clone> Drift<K> {
    fn of<V>(transaction: &Transaction<K, V>) -> Self {
        let mut drift = Self::default();
        for edit in transaction.edits() {
            let list = match (&edit.before, &edit.after) {
                (None, _) => &mut drift.missing,
                (Some(_), Some(_)) => &mut drift.changed,
                (Some(_), None) => &mut drift.foreign,
            };
            list.push(edit.key.clone());
        }
        drift
    }
}

fn push_group<K, V>(
    groups: &mut Vec<EditGroup<K, V>>,
    name: Option<ServicePortName>,
    edits: Vec<Edit<K, V>>,
) {
    if !edits.is_empty() {
        groups.push(EditGroup { name, edits });
    }
}

/// Makes one edit of two where an object passes from one service port to another, such as a front
/// end whose owner changed: groups are ordered by name, so the removal may well come last.
fn hand_over<R: Render>(groups: &mut [EditGroup<R::Key, R::Value>]) {
    let own = |edit: &Edit<R::Key, R::Value>| !R::is_shared(&edit.key);
    let edits = groups.iter().flat_map(|group| &group.edits);
    let added = edits.filter(|edit| edit.before.is_none() && own(edit));
    let added: BTreeSet<R::Key> = match groups.len() {
        0 | 1 => return,
        _ => added.map(|edit| edit.key.clone()).collect(),
    };
    let mut handed = BTreeMap::new();
    for group in groups.iter_mut() {
        group.edits.retain_mut(|edit| {
            let keep = edit.after.is_some() || !own(edit) || !added.contains(&edit.key);
            if !keep {
                handed.extend(edit.before.take().map(|value| (edit.key.clone(), value)));
            }
            keep
        });
    }
    if handed.is_empty() {
        return;
    }
    for group in groups {
        group.edits.retain_mut(|edit| {
            if edit.before.is_none() && !R::is_shared(&edit.key) {
                edit.before = handed.remove(&edit.key);
            }
            edit.before != edit.after
        });
    }
}

/// Takes an object out of what is held, and says how it differs from what is wanted.
fn difference<K: Eq + Hash, V: Eq>(
    held: &mut HashMap<K, V>,
    key: K,
    value: V,
) -> Option<Edit<K, V>> {
    // Most first loads find nothing at all.
    let before = match held.is_empty() {
        true => None,
        false => held.remove(&key),
    };
    (before.as_ref() != Some(&value)).then_some(Edit {
        key,
        before,
        after: Some(value),
    })
}
