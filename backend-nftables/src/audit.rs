//! A slow check of everything, a little at a time.
//!
//! The kernel tells of every change that somebody makes ([`crate::Others`]), so nothing should ever be
//! found here. Reading everything would take seconds where there are a million endpoints, as the kernel
//! needs time quadratic in the elements of a map to list them. So each step looks up the elements of a
//! few Services, which takes the same time however many others there are, and the first step of a
//! round compares tables, sets, chains and rules. What is missing or wrong is mended in place.
//!
//! An element that nothing asked for is not found so: the number of elements of its set tells, which
//! the first step of a round compares too, and then everything is read. Kernels before Linux 6.16
//! do not tell numbers: there it is found by its notification, or by the complete comparison after
//! notifications were lost. It is no way to an endpoint unless it is a front end.

use std::collections::BTreeMap;

use svc_core::{Edit, EditGroup, Fragment, IpFamily, Planner, Reconciler, ServicePortName};

use crate::error::ReadError;
use crate::kernel::Kernel;
use crate::key::{Key, SetId, Value};
use crate::read::{is_small, value_of};
use crate::render::Renderer;

/// How far the check of one table has come.
#[derive(Clone, Debug)]
pub struct Audit {
    family: IpFamily,
    next: usize,
    frame: Frame,
    rounds: u64,
}

/// Whether the frame of the table was compared in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Due,
    Compared,
}

impl Audit {
    /// A check that begins.
    pub fn new(family: IpFamily) -> Self {
        Self {
            family,
            next: 0,
            frame: Frame::Due,
            rounds: 0,
        }
    }

    /// Complete rounds so far.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Compares the next so many Services, and tells what differed; the reconciler mends it at its
    /// next poll. Does nothing while the reconciler has changes to make.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn step(
        &mut self,
        planner: &Planner,
        reconciler: &mut Reconciler<Renderer>,
        kernel: &mut Kernel,
        services: usize,
    ) -> Result<Vec<Key>, ReadError> {
        if !reconciler.is_settled() {
            return Ok(Vec::new());
        }
        let mut groups = Vec::new();
        if self.frame == Frame::Due {
            groups.extend(compare_frame(reconciler, kernel)?);
            self.frame = Frame::Compared;
            if groups.is_empty() && !kernel.overfull()?.is_empty() {
                // Which elements nobody asked for, only a comparison of everything can tell.
                reconciler.verify();
                return Ok(Vec::new());
            }
        }
        // What is mended first may be what the others are in.
        if groups.is_empty() {
            let (names, next) = planner.walk(self.family, self.next, services);
            let mut wanted = Vec::new();
            for name in names {
                if let Some(fragment) = reconciler.objects(name) {
                    wanted.push((Some(name.clone()), fragment));
                }
            }
            groups = compare(wanted, kernel)?;
            self.next = next;
            if next == 0 {
                self.frame = Frame::Due;
                self.rounds += 1;
            }
        }
        let edits = groups.iter().flat_map(|group| &group.edits);
        let differed = edits.map(|edit| edit.key.clone()).collect();
        kernel.differs(&groups);
        reconciler.mend(groups);
        Ok(differed)
    }
}

type Group = EditGroup<Key, Value>;

/// Compares what exists once, and is not an element of a large set by that alone.
fn compare_frame(
    reconciler: &mut Reconciler<Renderer>,
    kernel: &mut Kernel,
) -> Result<Vec<Group>, ReadError> {
    let small = |key: &Key| match key {
        Key::Element(set, _) => is_small(set),
        Key::Table | Key::Set(_) | Key::Chain(_) | Key::SourceRule(_) | Key::BaseChain(_) => true,
    };
    let Some(wanted) = reconciler.node_objects(small) else {
        return Ok(Vec::new());
    };
    let reading = kernel.read_frame()?;
    if reading.useless || reading.ruleset.is_empty() {
        // Nothing of it can be mended: all is read, and made anew.
        reconciler.verify();
        return Ok(Vec::new());
    }
    let mut held = reading.ruleset;
    let (frame, elements): (Fragment<Key, Value>, _) =
        wanted.into_iter().partition(|(key, _)| small(key));
    let mut edits = Vec::new();
    for (key, value) in frame {
        let before = held.remove(&key);
        if before.as_ref() != Some(&value) {
            let after = Some(value);
            edits.push(Edit { key, before, after });
        }
    }
    edits.extend(held.into_iter().map(|(key, value)| Edit {
        key,
        before: Some(value),
        after: None,
    }));
    // A set that is made anew is empty, and a chain that goes may be led to by others.
    let dear = |edit: &Edit<Key, Value>| match (&edit.key, &edit.after) {
        (Key::Set(_), _) => true,
        (Key::Chain(_) | Key::BaseChain(_) | Key::SourceRule(_), None) => true,
        (Key::Element(..) | Key::Table, _)
        | (Key::Chain(_) | Key::BaseChain(_) | Key::SourceRule(_), Some(_)) => false,
    };
    if edits.iter().any(dear) {
        reconciler.verify();
        return Ok(Vec::new());
    }
    let mut groups = compare(vec![(None, elements)], kernel)?;
    groups.push(EditGroup { name: None, edits });
    groups.retain(|group| !group.edits.is_empty());
    Ok(groups)
}

/// Looks up the elements of fragments.
fn compare(
    wanted: Vec<(Option<ServicePortName>, Fragment<Key, Value>)>,
    kernel: &mut Kernel,
) -> Result<Vec<Group>, ReadError> {
    // By set, as look-ups of one set are sent together; what is shared is looked up once.
    let mut sets: BTreeMap<SetId, BTreeMap<Key, (usize, Value)>> = BTreeMap::new();
    let mut groups = Vec::with_capacity(wanted.len());
    for (index, (name, fragment)) in wanted.into_iter().enumerate() {
        let edits = Vec::new();
        groups.push(EditGroup { name, edits });
        for (key, value) in fragment {
            if let Key::Element(set, _) = &key
                && !is_small(set)
            {
                let elements = sets.entry(set.clone()).or_default();
                elements.entry(key).or_insert((index, value));
            }
        }
    }
    for (set, elements) in sets {
        let keys = elements.iter().filter_map(|(key, (_, value))| {
            let (Key::Element(_, key), Value::Element(value)) = (key, value) else {
                return None;
            };
            Some((key, value.key_end()))
        });
        let held = kernel.look_up(&set, keys)?;
        for ((key, (index, value)), held) in elements.into_iter().zip(held) {
            let before = held.map(|element| Value::Element(value_of(&element)));
            if before.as_ref() != Some(&value)
                && let Some(group) = groups.get_mut(index)
            {
                let after = Some(value);
                group.edits.push(Edit { key, before, after });
            }
        }
    }
    groups.retain(|group| !group.edits.is_empty());
    Ok(groups)
}
