use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::domain::ClusterDomain;
use super::entry::{Few, PointerKind, ServiceEntry};
use super::name::{DnsName, NameError};
use super::reverse::{bits_of, full_length, reverse_prefix_name};
use super::table::{Keyed, Shards, Sorted};
use crate::diagnostic::Diagnostic;
use crate::name::{Name, NamespacedName};
use crate::net::IpFamily;
use crate::object::{Pod, PodPhase};
use crate::state::{Changes, ClusterState, ServiceId, WatchEvent};

/// Longest time to live that a zone takes, in seconds.
pub const MAX_TTL: u32 = 3600;

/// What a zone serves and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneOptions {
    /// The domain of the cluster.
    pub domain: ClusterDomain,
    /// Prefixes whose reverse trees the zone answers for; none by default.
    pub reverse: Vec<IpNet>,
    /// Time to live of records and negative answers in seconds, up to [`MAX_TTL`]; 5 by default.
    pub ttl: u32,
    /// Whether Pods have names.
    pub pods: PodNames,
    /// Whether an endpoint without a hostname is named by its Pod.
    pub endpoint_pod_names: bool,
    /// Whether a Service with ClusterIPs and no published endpoint does not exist.
    pub ignore_empty_services: bool,
    /// Whether `<port>.<service>.<namespace>.svc` answers.
    pub port_alias: bool,
    /// Whether `<pod-ip>.<pod>.<namespace>.pod` answers.
    pub pod_alias: bool,
    /// The namespaces that are seen; all when unset.
    pub namespaces: Option<BTreeSet<Name>>,
    /// Addresses of the server, which `ns.dns` has.
    pub server_ips: Vec<IpAddr>,
}

/// Which names below `pod` exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNames {
    /// None.
    #[default]
    Disabled,
    /// Those of addresses that a live Pod of the namespace has.
    Verified,
    /// Those of any address, in a namespace that exists. Clients can make names up for any
    /// address; only for clusters that relied on it.
    Insecure,
}

/// Why a zone cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// The TTL is above [`MAX_TTL`].
    #[error("a TTL of {0} s is more than {MAX_TTL} s")]
    Ttl(u32),
    /// The domain leaves no room for the names that every zone has.
    #[error("the zone name is too long")]
    Domain(#[source] NameError),
}

impl ZoneOptions {
    /// The defaults for a domain.
    pub fn new(domain: ClusterDomain) -> Self {
        Self {
            domain,
            reverse: Vec::new(),
            ttl: 5,
            pods: PodNames::Disabled,
            endpoint_pod_names: false,
            ignore_empty_services: false,
            port_alias: false,
            pod_alias: false,
            namespaces: None,
            server_ips: Vec::new(),
        }
    }
}

/// All names of a cluster, kept up to date event by event.
///
/// A change costs what the Service it concerns costs. A clone shares everything with the original
/// until one of them changes, so a server can publish a clone after each change and readers never
/// wait. The law: after any history, the zone equals one made by [`Zone::rebuild`].
///
/// Until the first complete lists have been seen a name that is not known is answered with
/// [`super::Rcode::ServFail`], as it may exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    pub(super) config: Arc<Config>,
    pub(super) serial: u32,
    pub(super) services: Shards<Arc<ServiceEntry>>,
    /// The Service that each index of the state stood for when it was last looked at.
    filed: Sorted<NamespacedName>,
    pub(super) namespaces: Shards<NamespaceEntry>,
    pub(super) pods: Shards<PodEntry>,
    pub(super) pod_addresses: Shards<PodAddress>,
    v4: Sorted<Pointers>,
    v6: Sorted<Pointers>,
    services_complete: bool,
    pod_list: List<NamespacedName>,
    namespace_list: List<Name>,
}

/// What follows from the options once.
#[derive(Debug, PartialEq)]
pub(super) struct Config {
    pub(super) options: ZoneOptions,
    pub(super) primary: Authority,
    /// Reverse zones by family, length and bits of their prefix.
    pub(super) reverse: BTreeMap<(IpFamily, u8, u128), Authority>,
    /// Lengths that reverse zones have, longest first.
    pub(super) lengths: Vec<(IpFamily, u8)>,
    pub(super) server_v4: Vec<Ipv4Addr>,
    pub(super) server_v6: Vec<Ipv6Addr>,
}

/// One zone of authority.
#[derive(Debug, PartialEq)]
pub(super) struct Authority {
    pub(super) apex: DnsName,
    pub(super) mname: DnsName,
    pub(super) rname: DnsName,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct NamespaceEntry {
    name: Name,
    /// Whether there is a Namespace object.
    declared: bool,
    /// Services and Pods that live in it.
    members: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodEntry {
    name: NamespacedName,
    pub(super) ips: Few<IpAddr>,
}

/// An address that live Pods of a namespace have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodAddress {
    namespace: Name,
    octets: AddressOctets,
    pods: usize,
}

/// The octets of an address, in a place that can be borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AddressOctets {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// Targets of the PTR records of one address, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pointers {
    services: Few<DnsName>,
    endpoints: Few<DnsName>,
}

/// A list under way, and whether one was begun but never complete.
#[derive(Clone, Debug)]
struct List<K> {
    seen: Option<BTreeSet<K>>,
    begun: bool,
    complete: bool,
}

impl Zone {
    /// An empty zone.
    ///
    /// # Errors
    /// [`ZoneError`] when the options make no zone.
    pub fn new(options: ZoneOptions) -> Result<Self, ZoneError> {
        Ok(Self {
            config: Arc::new(Config::new(options)?),
            serial: 0,
            services: Shards::default(),
            filed: Sorted::default(),
            namespaces: Shards::default(),
            pods: Shards::default(),
            pod_addresses: Shards::default(),
            v4: Sorted::default(),
            v6: Sorted::default(),
            services_complete: false,
            pod_list: List::default(),
            namespace_list: List::default(),
        })
    }

    /// What the zone serves.
    pub fn options(&self) -> &ZoneOptions {
        &self.config.options
    }

    /// Sets the serial of the SOA records, by convention the time of the last change in seconds.
    pub fn set_serial(&mut self, serial: u32) {
        self.serial = serial;
    }

    /// Whether all lists that were begun have been complete once.
    pub fn is_complete(&self) -> bool {
        self.services_complete && !self.pod_list.waiting() && !self.namespace_list.waiting()
    }

    /// Number of Services that the zone sees, with records or without.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Services that cannot have all records that they should have, and why; sorted.
    pub fn diagnostics(&self) -> Vec<&Diagnostic> {
        let all = self.services.unordered();
        let mut diagnostics: Vec<_> = all.flat_map(|entry| &entry.diagnostics).collect();
        diagnostics.sort_unstable();
        diagnostics
    }

    /// Takes in what [`ClusterState::apply`] touched; says whether a record changed.
    pub fn refresh(&mut self, state: &ClusterState, changes: &Changes) -> bool {
        let complete = self.services_complete || state.is_complete();
        let mut changed = complete != self.services_complete;
        self.services_complete = complete;
        for id in &changes.services {
            changed |= self.refresh_id(state, *id);
        }
        changed
    }

    /// Takes in all Services of a state, whatever the zone held before; Pods and namespaces stay.
    pub fn rebuild(&mut self, state: &ClusterState) {
        let known: Vec<_> = self.services.unordered().map(|e| e.key.clone()).collect();
        for name in known {
            self.put_service(state, &name);
        }
        self.filed = Sorted::default();
        self.services_complete = state.is_complete();
        for id in state.ids() {
            self.refresh_id(state, id);
        }
    }

    fn refresh_id(&mut self, state: &ClusterState, id: ServiceId) -> bool {
        let key = u128::from(id.0);
        let current = state.name_at(id).cloned();
        let former = self.filed.find(key).cloned();
        let mut changed = false;
        // An index is used again: the Service it stood for may be gone, or live under another.
        for name in former.iter().chain(&current) {
            changed |= self.put_service(state, name);
        }
        let alive = current.filter(|_| state.service_at(id).is_some());
        if former != alive {
            self.filed.update(key, |_| alive);
        }
        changed
    }

    fn put_service(&mut self, state: &ClusterState, name: &NamespacedName) -> bool {
        let options = &self.config.options;
        let service = state
            .service(name)
            .filter(|_| options.sees(&name.namespace));
        let new = service
            .map(|service| Arc::new(ServiceEntry::build(service, state.slices(name), options)));
        let key = (name.namespace.as_bytes(), name.name.as_bytes());
        let old = self.services.find(key);
        if old == new.as_ref() {
            return false;
        }
        let before = old.map(|entry| entry.pointers()).unwrap_or_default();
        let after = new.as_ref().map(|e| e.pointers()).unwrap_or_default();
        let old = match new {
            Some(entry) => {
                let old = self.services.insert(entry);
                if old.is_none() {
                    self.join_namespace(&name.namespace);
                }
                old
            }
            None => {
                self.leave_namespace(&name.namespace);
                self.services.remove(key)
            }
        };
        drop(old);
        for ((ip, kind), target) in &before {
            if after.get(&(*ip, *kind)) != Some(target) {
                self.change_pointers(*ip, |pointers| pointers.remove(*kind, target));
            }
        }
        for ((ip, kind), target) in &after {
            if before.get(&(*ip, *kind)) != Some(target) {
                self.change_pointers(*ip, |pointers| pointers.insert(*kind, target.clone()));
            }
        }
        true
    }

    fn change_pointers(&mut self, ip: IpAddr, change: impl FnOnce(&mut Pointers)) {
        let table = match IpFamily::of(ip) {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        };
        table.update(bits_of(ip), |pointers| {
            let mut pointers = pointers.unwrap_or_default();
            change(&mut pointers);
            (!pointers.targets().is_empty()).then_some(pointers)
        });
    }

    /// The pointers by the bits of addresses of a family.
    pub(super) fn pointers(&self, family: IpFamily) -> &Sorted<Pointers> {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    pub(super) fn has_namespace(&self, namespace: &[u8]) -> bool {
        self.namespaces.find((namespace, b"")).is_some()
    }

    /// Takes in a change of the Namespaces; says whether a name came or went.
    ///
    /// A namespace also exists while a Service or Pod is known in it.
    pub fn apply_namespace(&mut self, event: WatchEvent<Name, Name>) -> bool {
        match event {
            WatchEvent::Init => self.namespace_list.start(),
            WatchEvent::InitApply(name) => {
                self.namespace_list.see(&name);
                return self.declare_namespace(&name);
            }
            WatchEvent::Apply(name) => return self.declare_namespace(&name),
            WatchEvent::Delete(name) => return self.withdraw_namespace(&name),
            WatchEvent::InitDone => {
                let seen = self.namespace_list.finish();
                let known = self.namespaces.unordered();
                let gone: Vec<_> = known
                    .filter(|entry| entry.declared && !seen.contains(&entry.name))
                    .map(|entry| entry.name.clone())
                    .collect();
                for name in gone {
                    self.withdraw_namespace(&name);
                }
                return true;
            }
        }
        false
    }

    /// Takes in a change of the Pods; says whether a name may have come or gone.
    ///
    /// Only [`PodNames::Verified`] needs Pods; otherwise they are not kept.
    pub fn apply_pod(&mut self, event: WatchEvent<Pod, NamespacedName>) -> bool {
        if self.config.options.pods != PodNames::Verified {
            return false;
        }
        match event {
            WatchEvent::Init => self.pod_list.start(),
            WatchEvent::InitApply(pod) => {
                self.pod_list.see(&pod.name);
                return self.put_pod(&pod);
            }
            WatchEvent::Apply(pod) => return self.put_pod(&pod),
            WatchEvent::Delete(name) => return self.remove_pod(&name),
            WatchEvent::InitDone => {
                let seen = self.pod_list.finish();
                let known = self.pods.unordered();
                let gone: Vec<_> = known
                    .filter(|entry| !seen.contains(&entry.name))
                    .map(|entry| entry.name.clone())
                    .collect();
                for name in gone {
                    self.remove_pod(&name);
                }
                return true;
            }
        }
        false
    }

    fn put_pod(&mut self, pod: &Pod) -> bool {
        if !self.config.options.sees(&pod.name.namespace) {
            return false;
        }
        if !is_live(pod) {
            return self.remove_pod(&pod.name);
        }
        let ips: BTreeSet<IpAddr> = pod.ips.iter().map(IpAddr::to_canonical).collect();
        let entry = PodEntry {
            name: pod.name.clone(),
            ips: ips.into_iter().collect(),
        };
        if self.pods.find(entry.key()) == Some(&entry) {
            return false;
        }
        self.remove_pod(&pod.name);
        self.join_namespace(&pod.name.namespace);
        for ip in entry.ips.as_slice() {
            self.count_address(&pod.name.namespace, *ip, |count| count + 1);
        }
        self.pods.insert(entry);
        true
    }

    fn remove_pod(&mut self, name: &NamespacedName) -> bool {
        let key = (name.namespace.as_bytes(), name.name.as_bytes());
        let Some(entry) = self.pods.remove(key) else {
            return false;
        };
        for ip in entry.ips.as_slice() {
            self.count_address(&name.namespace, *ip, |count| count.saturating_sub(1));
        }
        self.leave_namespace(&name.namespace);
        true
    }

    fn count_address(&mut self, namespace: &Name, ip: IpAddr, change: fn(usize) -> usize) {
        let mut address = PodAddress {
            namespace: namespace.clone(),
            octets: AddressOctets::of(ip),
            pods: 0,
        };
        let known = self.pod_addresses.find(address.key());
        address.pods = change(known.map_or(0, |known| known.pods));
        match address.pods {
            0 => self.pod_addresses.remove(address.key()),
            _ => self.pod_addresses.insert(address),
        };
    }

    fn declare_namespace(&mut self, name: &Name) -> bool {
        if !self.config.options.sees(name) {
            return false;
        }
        let mut entry = self.namespace(name);
        let changed = !entry.declared;
        entry.declared = true;
        self.put_namespace(entry);
        changed
    }

    fn withdraw_namespace(&mut self, name: &Name) -> bool {
        let mut entry = self.namespace(name);
        let changed = entry.declared;
        entry.declared = false;
        self.put_namespace(entry);
        changed
    }

    fn join_namespace(&mut self, name: &Name) {
        let mut entry = self.namespace(name);
        entry.members += 1;
        self.put_namespace(entry);
    }

    fn leave_namespace(&mut self, name: &Name) {
        let mut entry = self.namespace(name);
        entry.members = entry.members.saturating_sub(1);
        self.put_namespace(entry);
    }

    fn namespace(&self, name: &Name) -> NamespaceEntry {
        let known = self.namespaces.find((name.as_bytes(), b"")).cloned();
        known.unwrap_or_else(|| NamespaceEntry {
            name: name.clone(),
            declared: false,
            members: 0,
        })
    }

    fn put_namespace(&mut self, entry: NamespaceEntry) {
        match entry.declared || entry.members > 0 {
            true => drop(self.namespaces.insert(entry)),
            false => drop(self.namespaces.remove(entry.key())),
        }
    }
}

impl ZoneOptions {
    fn sees(&self, namespace: &str) -> bool {
        let listed = self.namespaces.as_ref();
        listed.is_none_or(|listed| listed.contains(namespace))
    }
}

/// Whether a Pod has a name: it holds its addresses and is not about to leave.
fn is_live(pod: &Pod) -> bool {
    let running = match pod.phase {
        PodPhase::Pending | PodPhase::Running => true,
        PodPhase::Succeeded | PodPhase::Failed | PodPhase::Unknown => false,
    };
    running && !pod.terminating && !pod.ips.is_empty()
}

impl Config {
    fn new(options: ZoneOptions) -> Result<Self, ZoneError> {
        if options.ttl > MAX_TTL {
            return Err(ZoneError::Ttl(options.ttl));
        }
        let primary = Authority::new(options.domain.apex().clone()).map_err(ZoneError::Domain)?;
        // The longest of the names that every zone has.
        let version = options.domain.join(&["dns-version"]);
        version.map_err(ZoneError::Domain)?;
        let mut reverse = BTreeMap::new();
        for net in options.reverse.iter().flat_map(reverse_parts) {
            let apex = reverse_prefix_name(net.addr(), net.prefix_len());
            let key = (
                IpFamily::of_net(&net),
                net.prefix_len(),
                bits_of(net.addr()),
            );
            reverse.insert(key, Authority::new(apex).map_err(ZoneError::Domain)?);
        }
        let lengths: BTreeSet<_> = reverse
            .keys()
            .map(|(family, len, _)| (*family, *len))
            .collect();
        let server = options.server_ips.iter().map(IpAddr::to_canonical);
        let (v4, v6): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = server.partition(IpAddr::is_ipv4);
        Ok(Self {
            primary,
            reverse,
            lengths: lengths.into_iter().rev().collect(),
            server_v4: v4
                .into_iter()
                .filter_map(|ip| match ip {
                    IpAddr::V4(v4) => Some(v4),
                    IpAddr::V6(_) => None,
                })
                .collect(),
            server_v6: v6
                .into_iter()
                .filter_map(|ip| match ip {
                    IpAddr::V4(_) => None,
                    IpAddr::V6(v6) => Some(v6),
                })
                .collect(),
            options,
        })
    }
}

impl Authority {
    fn new(apex: DnsName) -> Result<Self, NameError> {
        let below = |labels: &[&str]| DnsName::join(labels, apex.as_ref());
        Ok(Self {
            mname: below(&["ns", "dns"])?,
            rname: below(&["hostmaster"])?,
            apex,
        })
    }
}

/// A prefix as prefixes of whole octets or nibbles, as names can only say those.
fn reverse_parts(net: &IpNet) -> Vec<IpNet> {
    let net = net.trunc();
    let unit = match IpFamily::of_net(&net) {
        IpFamily::V4 => 8,
        IpFamily::V6 => 4,
    };
    let length = net
        .prefix_len()
        .next_multiple_of(unit)
        .min(full_length(IpFamily::of_net(&net)));
    // At most 2^7 parts. The new length is between the old one and the full one, so none is lost.
    net.subnets(length)
        .map(Iterator::collect)
        .unwrap_or_default()
}

impl Pointers {
    /// What the PTR records say: Services alone if there are any.
    pub(super) fn targets(&self) -> &[DnsName] {
        match self.services.as_slice() {
            [] => self.endpoints.as_slice(),
            services => services,
        }
    }

    fn insert(&mut self, kind: PointerKind, target: DnsName) {
        let list = self.list(kind);
        let mut targets: BTreeSet<DnsName> = list.as_slice().iter().cloned().collect();
        targets.insert(target);
        *list = targets.into_iter().collect();
    }

    fn remove(&mut self, kind: PointerKind, target: &DnsName) {
        let list = self.list(kind);
        let others = list.as_slice().iter().filter(|other| *other != target);
        *list = others.cloned().collect();
    }

    fn list(&mut self, kind: PointerKind) -> &mut Few<DnsName> {
        match kind {
            PointerKind::Service => &mut self.services,
            PointerKind::Endpoint => &mut self.endpoints,
        }
    }
}

impl Keyed for NamespaceEntry {
    fn key(&self) -> (&[u8], &[u8]) {
        (self.name.as_bytes(), b"")
    }
}

impl Keyed for PodEntry {
    fn key(&self) -> (&[u8], &[u8]) {
        (self.name.namespace.as_bytes(), self.name.name.as_bytes())
    }
}

impl Keyed for PodAddress {
    fn key(&self) -> (&[u8], &[u8]) {
        (self.namespace.as_bytes(), self.octets.as_slice())
    }
}

impl AddressOctets {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => Self::V6(v6.octets()),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

impl<K> Default for List<K> {
    fn default() -> Self {
        Self {
            seen: None,
            begun: false,
            complete: false,
        }
    }
}

/// Lists decide nothing but completeness once they are done.
impl<K> PartialEq for List<K> {
    fn eq(&self, other: &Self) -> bool {
        self.waiting() == other.waiting()
    }
}

impl<K> List<K> {
    fn waiting(&self) -> bool {
        self.begun && !self.complete
    }
}

impl<K: Ord + Clone> List<K> {
    fn start(&mut self) {
        self.begun = true;
        self.seen = Some(BTreeSet::new());
    }

    fn see(&mut self, key: &K) {
        if let Some(seen) = &mut self.seen {
            seen.insert(key.clone());
        }
    }

    fn finish(&mut self) -> BTreeSet<K> {
        self.complete = true;
        self.seen.take().unwrap_or_default()
    }
}
