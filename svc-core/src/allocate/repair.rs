//! Finds addresses and node ports that two Services have, that nobody noted, and that leaked.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::net::IpAddr;

use super::cluster_ip::ClusterIps;
use super::node_port::NodePorts;
use super::service::{Allocators, node_ports_of};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::NamespacedName;
use crate::object::{Service, ServiceType};

/// Rounds that an address without a Service is kept: its Service may be on its way.
const ROUNDS_BEFORE_CLEANUP: u8 = 3;

/// Compares the allocators with the Services that exist, round by round.
///
/// Run it at the start and now and then. Nothing is changed in a Service: of several that have one
/// address the oldest keeps it, and the others are reported, to be created again.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    leaked_ips: BTreeMap<IpAddr, u8>,
    leaked_ports: BTreeMap<u16, u8>,
}

impl Repair {
    /// One round over all Services.
    pub fn round<'a>(
        &mut self,
        allocators: &mut Allocators,
        services: impl IntoIterator<Item = &'a Service>,
    ) -> Vec<Diagnostic> {
        let mut services: Vec<&Service> = services.into_iter().collect();
        services.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        let mut ips: Users<'_, IpAddr> = BTreeMap::new();
        let mut ports: Users<'_, u16> = BTreeMap::new();
        for service in services {
            if service.service_type != ServiceType::ExternalName {
                for ip in &service.cluster_ips {
                    ips.entry(*ip).or_default().push(&service.name);
                }
            }
            for port in node_ports_of(service) {
                ports.entry(port).or_default().push(&service.name);
            }
        }
        let mut diagnostics = Vec::new();
        mend(
            &mut allocators.cluster_ips,
            &ips,
            &mut self.leaked_ips,
            &mut diagnostics,
        );
        mend(
            &mut allocators.node_ports,
            &ports,
            &mut self.leaked_ports,
            &mut diagnostics,
        );
        diagnostics
    }
}

/// An allocator, of whatever.
trait Allocator<T> {
    const WHAT: &'static str;
    const FIELD: &'static str;
    fn owner_of(&self, value: T) -> Option<&NamespacedName>;
    fn holds(&self, value: T) -> bool;
    fn all(&self) -> Vec<(T, NamespacedName)>;
    fn give_back(&mut self, value: T);
    fn give_to(&mut self, value: T, owner: &NamespacedName);
}

macro_rules! allocator {
    ($allocator:ty, $value:ty, $what:literal, $field:literal) => {
        impl Allocator<$value> for $allocator {
            const WHAT: &'static str = $what;
            const FIELD: &'static str = $field;
            fn owner_of(&self, value: $value) -> Option<&NamespacedName> {
                self.owner(value)
            }
            fn holds(&self, value: $value) -> bool {
                self.in_range(value)
            }
            fn all(&self) -> Vec<($value, NamespacedName)> {
                let all = self.allocated();
                all.map(|(value, owner)| (value, owner.clone())).collect()
            }
            fn give_back(&mut self, value: $value) {
                self.release(value);
            }
            fn give_to(&mut self, value: $value, owner: &NamespacedName) {
                self.release(value);
                // It was released just before.
                let _ = self.own(value, owner);
            }
        }
    };
}

allocator!(ClusterIps, IpAddr, "cluster IP", "spec.clusterIPs");
allocator!(NodePorts, u16, "node port", "spec.ports");

fn mend<T: Copy + Ord + Display, A: Allocator<T>>(
    held: &mut A,
    users: &Users<'_, T>,
    leaking: &mut BTreeMap<T, u8>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for (value, users) in users {
        let owner = held.owner_of(*value).cloned();
        let in_range = held.holds(*value);
        let found = settle(A::WHAT, A::FIELD, value, users, owner, in_range);
        if let Some(owner) = &found.new_owner {
            held.give_to(*value, owner);
        }
        diagnostics.extend(found.diagnostics);
    }
    for (value, owner) in leaks(leaking, held.all(), users) {
        held.give_back(value);
        diagnostics.push(leaked(A::WHAT, A::FIELD, &value, &owner));
    }
}

/// Who says that it has something, the oldest first.
type Users<'a, T> = BTreeMap<T, Vec<&'a NamespacedName>>;

struct Settled {
    /// Whose it is to be from now on, when that changes.
    new_owner: Option<NamespacedName>,
    diagnostics: Vec<Diagnostic>,
}

fn settle(
    what: &str,
    field: &str,
    value: &dyn Display,
    users: &[&NamespacedName],
    owner: Option<NamespacedName>,
    in_range: bool,
) -> Settled {
    let mut settled = Settled {
        new_owner: None,
        diagnostics: Vec::new(),
    };
    let keeper = owner
        .as_ref()
        .filter(|owner| users.contains(owner))
        .or(users.first().copied());
    let mut report = |service: &NamespacedName, reason, message: String| {
        let error = Diagnostic::error(ObjectKind::Service, service, field, reason, message);
        settled.diagnostics.push(error.warning());
    };
    for (i, user) in users.iter().copied().enumerate() {
        if !in_range {
            let message = format!("the {what} {value} is in no range, create the Service again");
            report(user, DiagnosticReason::Invalid, message);
        }
        // One Service may say it twice: then both are meant but one is real.
        if Some(user) != keeper || users[..i].contains(&user) {
            let message =
                format!("the {what} {value} is assigned more than once, create the Service again");
            report(user, DiagnosticReason::Claimed, message);
        }
    }
    if let Some(keeper) = keeper
        && owner.as_ref() != Some(keeper)
    {
        if in_range {
            let message = match &owner {
                None => format!("the {what} {value} was not allocated, repaired"),
                Some(owner) => format!("the {what} {value} was that of {owner}, repaired"),
            };
            report(keeper, DiagnosticReason::Suspicious, message);
        }
        settled.new_owner = Some(keeper.clone());
    }
    settled
}

/// What nobody has for so many rounds that it may go.
fn leaks<T: Ord + Copy>(
    seen: &mut BTreeMap<T, u8>,
    allocated: Vec<(T, NamespacedName)>,
    users: &Users<'_, T>,
) -> Vec<(T, NamespacedName)> {
    let before = core::mem::take(seen);
    let mut gone = Vec::new();
    for (value, owner) in allocated {
        if users.contains_key(&value) {
            continue;
        }
        let rounds = before.get(&value).copied().unwrap_or(0) + 1;
        if rounds >= ROUNDS_BEFORE_CLEANUP {
            gone.push((value, owner));
        } else {
            seen.insert(value, rounds);
        }
    }
    gone
}

fn leaked(what: &str, field: &str, value: &dyn Display, owner: &NamespacedName) -> Diagnostic {
    let message = format!("the {what} {value} belongs to no Service any more, released");
    let reason = DiagnosticReason::Suspicious;
    Diagnostic::error(ObjectKind::Service, owner, field, reason, message).warning()
}
