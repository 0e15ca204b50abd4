//! Which Service has which ClusterIP.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::address_range::AddressRange;
use super::error::AllocationError;
use super::{first_free, spread};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::NamespacedName;
use crate::net::IpFamily;
use crate::object::ServiceCidr;

/// The ranges of a cluster and the owner of every address.
#[derive(Clone, Debug, Default)]
pub struct ClusterIps {
    /// Ready ranges, without repeats.
    usable: Vec<AddressRange>,
    /// Families with a range, ready or not.
    families: Vec<IpFamily>,
    owners: BTreeMap<IpAddr, NamespacedName>,
}

/// The name of the ServiceCIDR that the flags of the API server make.
const DEFAULT_CIDR: &str = "kubernetes";

impl ClusterIps {
    /// No address allocated yet; ranges that cannot be used are reported (B-380).
    pub fn new(cidrs: &[ServiceCidr]) -> (Self, Vec<Diagnostic>) {
        let mut new = Self::default();
        let diagnostics = new.set_cidrs(cidrs);
        (new, diagnostics)
    }

    /// Replaces the ranges; addresses stay allocated, also those outside of the new ranges (B-381).
    pub fn set_cidrs(&mut self, cidrs: &[ServiceCidr]) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        self.usable.clear();
        self.families.clear();
        // The default family is the first one of the default ServiceCIDR.
        let (default, others): (Vec<_>, Vec<_>) =
            cidrs.iter().partition(|cidr| &*cidr.name == DEFAULT_CIDR);
        for cidr in default.into_iter().chain(others) {
            for (i, net) in cidr.cidrs.iter().enumerate() {
                match AddressRange::new(*net) {
                    Ok(range) => self.add_range(range, cidr.ready && !cidr.terminating),
                    Err(error) => diagnostics.push(Diagnostic::error(
                        ObjectKind::ServiceCIDR,
                        &NamespacedName::new("", cidr.name.clone()),
                        format!("spec.cidrs[{i}]"),
                        DiagnosticReason::Invalid,
                        error.to_string(),
                    )),
                }
            }
        }
        diagnostics
    }

    /// Families that the cluster has ranges of, the default one first.
    pub fn families(&self) -> &[IpFamily] {
        &self.families
    }

    /// Who has an address.
    pub fn owner(&self, ip: IpAddr) -> Option<&NamespacedName> {
        self.owners.get(&ip)
    }

    /// All allocated addresses.
    pub fn allocated(&self) -> impl Iterator<Item = (IpAddr, &NamespacedName)> {
        self.owners.iter().map(|(ip, owner)| (*ip, owner))
    }

    /// How many addresses of a range are allocated.
    pub fn used(&self, range: &AddressRange) -> usize {
        self.owners.keys().filter(|ip| range.contains(**ip)).count()
    }

    /// Whether an address lies in a ready range.
    pub fn in_range(&self, ip: IpAddr) -> bool {
        self.usable.iter().any(|range| range.contains(ip))
    }

    /// Allocates this very address, from either band (B-376).
    ///
    /// # Errors
    /// It is taken, or in no ready range that could give it out (B-381).
    pub fn claim(&mut self, ip: IpAddr, owner: &NamespacedName) -> Result<(), AllocationError> {
        if !self.in_range(ip) {
            return Err(AllocationError::AddressNotInRange {
                ip,
                ranges: self.ranges(IpFamily::of(ip)),
            });
        }
        self.own(ip, owner)
    }

    /// Allocates a free address, of the dynamic band while there is one (B-375).
    ///
    /// The search starts where the seed says and goes through every ready range (B-381).
    ///
    /// # Errors
    /// Nothing is free, or there is no range of the family.
    pub fn next(
        &mut self,
        family: IpFamily,
        owner: &NamespacedName,
        seed: u64,
    ) -> Result<IpAddr, AllocationError> {
        let ranges = self.usable.iter().filter(|range| range.family() == family);
        let found = ranges.into_iter().find_map(|range| {
            let free = |band: core::ops::RangeInclusive<u128>| {
                let taken = |number| self.owners.contains_key(&range.address(number));
                first_free(*band.start(), *band.end(), spread(seed), taken)
            };
            let number = free(range.dynamic_band()).or_else(|| free(range.static_band()))?;
            Some(range.address(number))
        });
        let ip = found.ok_or_else(|| AllocationError::AddressesFull {
            family,
            ranges: self.ranges(family),
        })?;
        self.own(ip, owner)?;
        Ok(ip)
    }

    /// Frees an address; nothing happens when it is free or in no range (B-383).
    pub fn release(&mut self, ip: IpAddr) {
        self.owners.remove(&ip);
    }

    /// Frees an address if a Service has it.
    pub(super) fn release_of(&mut self, ip: IpAddr, owner: &NamespacedName) {
        if self.owners.get(&ip) == Some(owner) {
            self.owners.remove(&ip);
        }
    }

    /// Takes an address as allocated, in a range or not.
    pub(super) fn own(
        &mut self,
        ip: IpAddr,
        owner: &NamespacedName,
    ) -> Result<(), AllocationError> {
        if let Some(owner) = self.owners.get(&ip) {
            let owner = owner.clone();
            return Err(AllocationError::AddressTaken { ip, owner });
        }
        self.owners.insert(ip, owner.clone());
        Ok(())
    }

    fn add_range(&mut self, range: AddressRange, ready: bool) {
        if !self.families.contains(&range.family()) {
            self.families.push(range.family());
        }
        if ready && !self.usable.contains(&range) {
            self.usable.push(range);
        }
    }

    fn ranges(&self, family: IpFamily) -> String {
        let mut text = String::new();
        for range in self.usable.iter().filter(|range| range.family() == family) {
            if !text.is_empty() {
                text += ", ";
            }
            text += &range.net().to_string();
        }
        match text.is_empty() {
            true => "none is ready".into(),
            false => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(name: &str, cidrs: &[&str]) -> ServiceCidr {
        ServiceCidr {
            name: name.into(),
            cidrs: cidrs.iter().map(|net| net.parse().unwrap()).collect(),
            ready: true,
            terminating: false,
        }
    }

    fn ips(nets: &[&str]) -> ClusterIps {
        let (ips, diagnostics) = ClusterIps::new(&[cidr("kubernetes", nets)]);
        assert!(diagnostics.is_empty());
        ips
    }

    fn web() -> NamespacedName {
        NamespacedName::new("default", "web")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn b375_dynamic_band_first_then_the_static_one_then_full() {
        let mut ips = ips(&["10.0.0.0/27"]);
        // 30 usable, of which 16 are the static band.
        let mut all: Vec<IpAddr> = (0..30)
            .map(|seed| ips.next(IpFamily::V4, &web(), seed).unwrap())
            .collect();
        let (dynamic, fixed) = all.split_at(14);
        assert!(
            dynamic.iter().all(|found| *found > ip("10.0.0.16")),
            "{dynamic:?}"
        );
        assert!(
            fixed.iter().all(|found| *found <= ip("10.0.0.16")),
            "{fixed:?}"
        );
        assert_eq!(
            ips.next(IpFamily::V4, &web(), 0),
            Err(AllocationError::AddressesFull {
                family: IpFamily::V4,
                ranges: "10.0.0.0/27".into(),
            })
        );
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 30);
    }

    #[test]
    fn b375_the_start_depends_on_the_seed_alone() {
        let first = |seed| {
            ips(&["10.96.0.0/12"])
                .next(IpFamily::V4, &web(), seed)
                .unwrap()
        };
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
    }

    #[test]
    fn b376_explicit_addresses_of_either_band() {
        let mut ips = ips(&["10.0.0.0/24"]);
        ips.claim(ip("10.0.0.1"), &web()).unwrap();
        ips.claim(ip("10.0.0.200"), &web()).unwrap();
        assert_eq!(
            ips.claim(ip("10.0.0.1"), &web()),
            Err(AllocationError::AddressTaken {
                ip: ip("10.0.0.1"),
                owner: web()
            })
        );
        for outside in ["10.0.0.0", "10.0.0.255", "10.0.1.1", "fd00::1"] {
            let error = ips.claim(ip(outside), &web()).unwrap_err();
            assert!(
                matches!(error, AllocationError::AddressNotInRange { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn b378_tiny_ranges() {
        for net in ["10.0.0.7/32", "10.0.0.6/31", "fd00::1/128"] {
            let mut ips = ips(&[net]);
            assert!(ips.next(ips.families()[0], &web(), 1).is_err(), "{net}");
        }
        let mut ips = ips(&["10.0.0.0/28"]);
        let mut found: Vec<IpAddr> = (0..14)
            .map(|seed| ips.next(IpFamily::V4, &web(), seed).unwrap())
            .collect();
        assert!(ips.next(IpFamily::V4, &web(), 0).is_err());
        found.sort_unstable();
        assert_eq!((found[0], found[13]), (ip("10.0.0.1"), ip("10.0.0.14")));
    }

    #[test]
    fn b381_every_ready_range_is_tried() {
        let mut draining = cidr("c", &["10.2.0.0/30"]);
        draining.terminating = true;
        let mut waiting = cidr("d", &["10.3.0.0/30"]);
        waiting.ready = false;
        let shadow = cidr("e", &["10.0.0.0/30"]);
        let cidrs = [
            cidr("kubernetes", &["10.0.0.0/30"]),
            cidr("b", &["10.1.0.0/30"]),
            draining,
            waiting,
            shadow,
        ];
        let (mut ips, _) = ClusterIps::new(&cidrs);
        let mut found: Vec<IpAddr> =
            core::iter::from_fn(|| ips.next(IpFamily::V4, &web(), 3).ok()).collect();
        found.sort_unstable();
        assert_eq!(
            found,
            ["10.0.0.1", "10.0.0.2", "10.1.0.1", "10.1.0.2"].map(ip)
        );
        assert!(ips.claim(ip("10.2.0.1"), &web()).is_err());
        assert!(ips.claim(ip("10.3.0.1"), &web()).is_err());
        // Growing gives room, shrinking keeps what is allocated.
        let _ = ips.set_cidrs(&[cidr("kubernetes", &["10.0.0.0/29"])]);
        assert!(ips.next(IpFamily::V4, &web(), 3).is_ok());
        assert_eq!(ips.owner(ip("10.1.0.1")), Some(&web()));
    }

    #[test]
    fn b380_a_range_that_is_too_large_is_reported() {
        let (ips, diagnostics) =
            ClusterIps::new(&[cidr("kubernetes", &["fd00::/48", "10.0.0.0/24"])]);
        assert_eq!(ips.families(), [IpFamily::V4]);
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(diagnostics[0].field, "spec.cidrs[0]");
    }

    #[test]
    fn b382_a_taken_address_is_passed_over() {
        let mut ips = ips(&["10.0.0.0/24"]);
        let wanted = ips.clone().next(IpFamily::V4, &web(), 5).unwrap();
        ips.claim(wanted, &web()).unwrap();
        let next = ips.next(IpFamily::V4, &web(), 5).unwrap();
        assert_ne!(next, wanted);
    }

    #[test]
    fn b383_release_never_fails() {
        let mut ips = ips(&["10.0.0.0/24"]);
        ips.release(ip("10.0.0.1"));
        ips.release(ip("192.0.2.1"));
        ips.claim(ip("10.0.0.1"), &web()).unwrap();
        ips.release(ip("10.0.0.1"));
        ips.claim(ip("10.0.0.1"), &web()).unwrap();
    }
}
