//! Names and ports of the endpoints of a Service, out of its EndpointSlices.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::reverse::dashed_address;
use super::rule::NameRule;
use super::zone::ZoneOptions;
use crate::name::Name;
use crate::net::Protocol;
use crate::object::{EndpointSlice, SliceEndpoint};

/// Endpoints that are published, and what the rest still decides.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Addresses by label; never empty.
    pub(super) labels: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Port number and label of each endpoint, by port name and protocol; before duplicates are
    /// dropped, as weights count them so.
    pub(super) ports: BTreeMap<(Name, Protocol), Vec<(u16, String)>>,
    /// Labels that only endpoints have which are not published: such a label is never a port
    /// alias, or readiness would change what a name means.
    pub(super) reserved: BTreeSet<String>,
}

impl Published {
    pub(super) fn collect(slices: &[Arc<EndpointSlice>], options: &ZoneOptions) -> Self {
        let mut published = Self::default();
        for slice in slices {
            for endpoint in &slice.endpoints {
                published.add(slice, endpoint, options);
            }
        }
        let labels = &published.labels;
        published
            .reserved
            .retain(|label| !labels.contains_key(label));
        published
    }

    fn add(&mut self, slice: &EndpointSlice, endpoint: &SliceEndpoint, options: &ZoneOptions) {
        let label = label_of(endpoint, options);
        // `serving` and `terminating` do not count: the controller has already folded
        // publishNotReadyAddresses into `ready`.
        if !endpoint.conditions.ready {
            if options.port_alias {
                self.reserved.insert(label);
            }
            return;
        }
        for port in &slice.ports {
            let key = (port.name.clone(), port.protocol);
            let pairs = self.ports.entry(key).or_default();
            pairs.push((port.port, label.clone()));
        }
        let address = endpoint.address.to_canonical();
        self.labels.entry(label).or_default().insert(address);
    }

    /// All addresses, sorted and without repetition.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.labels.values().flatten().copied().collect()
    }
}

/// The label of an endpoint: its hostname, else (as an option) its Pod, else its address.
fn label_of(endpoint: &SliceEndpoint, options: &ZoneOptions) -> String {
    let extra = endpoint.extra.as_deref();
    let usable = |name: &&Name| NameRule::Hostname.check(name).is_ok();
    let hostname = extra.and_then(|extra| extra.hostname.as_ref());
    let pod = extra
        .and_then(|extra| extra.pod.as_ref())
        .filter(|_| options.endpoint_pod_names);
    let name = hostname.filter(usable).or(pod.filter(usable));
    name.map_or_else(
        || dashed_address(endpoint.address),
        |name| String::from(&**name),
    )
}
