//! What an agent needs of a backend.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use svc_core::config::ProxyMode;
use svc_core::{IpFamily, Kernel, NodeConfig, Plan, Planner, Render};

use crate::backend;
use crate::cli::one_line;
use crate::proxy::Family;

/// The families of a backend.
pub type Families<B> = Vec<Family<<B as Backend>::Render, <B as Backend>::Kernel>>;

/// Waits until somebody else changes the kernel, and says which family if it is known.
pub type Sentinel = Box<dyn FnMut() -> Result<Option<IpFamily>, Box<dyn Error>> + Send>;

/// How an agent finds out that somebody else changed the kernel.
pub enum Notices {
    /// The kernel tells.
    Told(Sentinel),
    /// The kernel tells, and [`Backend::audit`] looks after it: everything is compared at once only
    /// very rarely.
    Audited(Sentinel),
    /// [`Backend::disturbed`] is asked after each of these periods.
    Asked(Duration),
    /// Only a comparison tells, made after each of these periods.
    Compared(Duration),
}

/// What a step of an audit found.
#[derive(Clone, Debug)]
pub struct Audited<Key> {
    /// Objects that somebody else had removed or changed; the reconciler mends them.
    pub differed: Vec<Key>,
    /// Wait until the next step.
    pub wait: Duration,
}

/// A step of an audit of a backend.
pub type AuditStep<B> = Audited<<<B as Backend>::Render as Render>::Key>;

/// What an agent needs of a backend. All calls are made by one thread, in the network namespace
/// that it works in.
pub trait Backend: Sized {
    /// Its renderer.
    type Render: Render;
    /// Its kernel.
    type Kernel: Kernel<Self::Render>;

    /// The mode that plans are made for.
    const MODE: ProxyMode;
    /// The same backend without a kernel.
    const PURE: backend::Backend;

    /// What it has to itself in a network namespace, in words after "manages": two agents that have the
    /// same by mistake name each other by it.
    fn manages(&self) -> String;

    /// Makes of a configuration one that the host can follow; what that changes, in words.
    fn adapt(&self, _: &mut NodeConfig) -> Vec<String> {
        Vec::new()
    }

    /// Opens a family in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the host lacks.
    fn open(
        &self,
        config: &NodeConfig,
        family: IpFamily,
    ) -> Result<Family<Self::Render, Self::Kernel>, Box<dyn Error>>;

    /// Whether an error of [`Backend::open`] says that the host has no such family, and never will; what may pass is
    /// none.
    fn lacks_family(&self, _: &(dyn Error + 'static)) -> bool {
        false
    }

    /// Removes what is owned.
    ///
    /// # Errors
    /// What could not be removed.
    fn clean_up(
        &self,
        family: &mut Family<Self::Render, Self::Kernel>,
    ) -> Result<(), Box<dyn Error>>;

    /// Prepares the host for syncs: settings that are not part of a ruleset.
    ///
    /// # Errors
    /// What the kernel says.
    fn prepare(&mut self, _: &mut Families<Self>, _: &NodeConfig) -> Result<(), Box<dyn Error>> {
        Ok(())
    }

    /// Starts to look for changes that others make.
    ///
    /// # Errors
    /// What the kernel says.
    fn follow(
        &mut self,
        families: &mut Families<Self>,
        config: &NodeConfig,
    ) -> Result<Notices, Box<dyn Error>>;

    /// Whether somebody else changed what a family holds; asked with [`Notices::Asked`] only.
    ///
    /// # Errors
    /// What the kernel says.
    fn disturbed(&mut self, _: &mut Self::Kernel) -> Result<bool, Box<dyn Error>> {
        Ok(false)
    }

    /// Compares a small part of what a family holds with what it should, in so little time that a
    /// change does not notice the wait; called with [`Notices::Audited`] only. `None`: there are no
    /// audits.
    ///
    /// # Errors
    /// What the kernel says.
    fn audit(
        &mut self,
        _: &Planner,
        _: &mut Family<Self::Render, Self::Kernel>,
    ) -> Result<Option<AuditStep<Self>>, Box<dyn Error>> {
        Ok(None)
    }

    /// Tells a kernel the time; when to tell it next, in the same time.
    ///
    /// # Errors
    /// What the kernel says.
    fn tick(
        &mut self,
        _: &mut Self::Kernel,
        _now: Duration,
    ) -> Result<Option<Duration>, Box<dyn Error>> {
        Ok(None)
    }

    /// A plan is in the kernel: does what depends on it beside its rules.
    ///
    /// # Errors
    /// What the kernel says; it is tried again with the next plan.
    fn applied(&mut self, _: &mut Self::Kernel, _plan: &Plan) -> Result<(), Box<dyn Error>> {
        Ok(())
    }

    /// What is odd about the host.
    fn remarks(&self, _: &Family<Self::Render, Self::Kernel>) -> Vec<String> {
        Vec::new()
    }

    /// The ruleset of a family in words.
    fn title(&self, family: &Family<Self::Render, Self::Kernel>) -> String;

    /// How an object would be written.
    fn print(
        &self,
        family: IpFamily,
        key: &<Self::Render as Render>::Key,
        value: &<Self::Render as Render>::Value,
    ) -> String;
}

/// Opens the families that the host has, in the order in which they are synced (B-057); also why one is left out.
///
/// # Errors
/// What the host lacks, if it has neither, or not that of the bind address.
pub(super) fn open<B: Backend>(
    backend: &B,
    config: &NodeConfig,
) -> Result<(Families<B>, Vec<String>), Box<dyn Error>> {
    let bound = config.proxy.bind_address;
    let needed = (!bound.is_unspecified()).then(|| IpFamily::of(bound));
    let mut families = Vec::new();
    let mut left_out = Vec::new();
    for family in IpFamily::ALL {
        let is_off = family == IpFamily::V6 && !Path::new(IPV6).exists();
        let opened = match is_off {
            true => Err("the kernel has no IPv6".into()),
            false => backend.open(config, family),
        };
        match opened {
            Ok(opened) => families.push(opened),
            Err(why) if needed != Some(family) && (is_off || backend.lacks_family(&*why)) => {
                left_out.push(format!("{family} is left out: {}", one_line(&*why)));
            }
            Err(why) => return Err(why),
        }
    }
    match families.is_empty() {
        true => Err(left_out.join("; ").into()),
        false => Ok((families, left_out)),
    }
}

/// Not there when the kernel was told to have no IPv6.
const IPV6: &str = "/proc/thread-self/net/if_inet6";
