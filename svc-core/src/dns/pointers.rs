//! PTR records: from an address to the names that it has.

use alloc::collections::BTreeSet;
use core::net::IpAddr;

use super::entry::{Few, PointerKind};
use super::name::DnsName;
use super::reverse::bits_of;
use super::table::{Keyed, Shards, Sorted};
use super::zone::AddressOctets;
use crate::net::IpFamily;

/// All PTR records of a zone.
///
/// A whole address is found by its hash, which touches one line of memory: a binary search among
/// 100,000 addresses touched a dozen that no cache held. Order matters only to names in the middle
/// of a reverse tree, which exist while an address below them has a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PointerTable {
    by_address: Shards<Pointers>,
    v4: Sorted<()>,
    v6: Sorted<()>,
}

/// Targets of the PTR records of one address; never none.
#[derive(Clone, Debug, PartialEq)]
struct Pointers {
    address: AddressOctets,
    /// How many of the names, from the first on, are those of Services.
    services: u32,
    /// Names of Services, then of endpoints; sorted within each kind.
    names: Few<DnsName>,
}

impl PointerTable {
    /// The names of an address: those of Services alone if there are any.
    pub(super) fn find(&self, ip: IpAddr) -> Option<&[DnsName]> {
        let octets = AddressOctets::of(ip);
        let pointers = self.by_address.find((b"", octets.as_slice()))?;
        let (services, endpoints) = pointers.split();
        Some(match services {
            [] => endpoints,
            services => services,
        })
    }

    /// Whether an address from `first` to `last`, both included and given as bits, has a name.
    pub(super) fn any_between(&self, family: IpFamily, first: u128, last: u128) -> bool {
        match family {
            IpFamily::V4 => self.v4.any_between(first, last),
            IpFamily::V6 => self.v6.any_between(first, last),
        }
    }

    pub(super) fn insert(&mut self, ip: IpAddr, kind: PointerKind, target: &DnsName) {
        self.change(ip, kind, |names| {
            names.insert(target.clone());
        });
    }

    pub(super) fn remove(&mut self, ip: IpAddr, kind: PointerKind, target: &DnsName) {
        self.change(ip, kind, |names| {
            names.remove(target);
        });
    }

    fn change(
        &mut self,
        ip: IpAddr,
        kind: PointerKind,
        change: impl FnOnce(&mut BTreeSet<DnsName>),
    ) {
        let address = AddressOctets::of(ip);
        let known = self.by_address.find((b"", address.as_slice()));
        let existed = known.is_some();
        let (services, endpoints) = known.map(Pointers::split).unwrap_or_default();
        let mut services: BTreeSet<DnsName> = services.iter().cloned().collect();
        let mut endpoints: BTreeSet<DnsName> = endpoints.iter().cloned().collect();
        change(match kind {
            PointerKind::Service => &mut services,
            PointerKind::Endpoint => &mut endpoints,
        });
        let pointers = Pointers {
            address,
            services: u32::try_from(services.len()).unwrap_or(u32::MAX),
            names: services.into_iter().chain(endpoints).collect(),
        };
        let exists = pointers.names.len() > 0;
        match exists {
            true => drop(self.by_address.insert(pointers)),
            false => drop(self.by_address.remove((b"", address.as_slice()))),
        }
        if exists != existed {
            let order = match IpFamily::of(ip) {
                IpFamily::V4 => &mut self.v4,
                IpFamily::V6 => &mut self.v6,
            };
            order.update(bits_of(ip), |_| exists.then_some(()));
        }
    }
}

impl Pointers {
    fn split(&self) -> (&[DnsName], &[DnsName]) {
        let names = self.names.as_slice();
        let services = usize::try_from(self.services).unwrap_or(usize::MAX);
        names.split_at_checked(services).unwrap_or((names, &[]))
    }
}

impl Keyed for Pointers {
    fn key(&self) -> (&[u8], &[u8]) {
        (b"", self.address.as_slice())
    }
}
