use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{EndpointPort, Labels, SliceEndpoint};
use crate::name::NamespacedName;

/// Endpoints: the older form of EndpointSlices, mirrored to them for Services without a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Namespace and name, which are those of the Service.
    pub name: NamespacedName,
    /// `metadata.labels`, copied to the slices.
    pub labels: Labels,
    /// Whether a label or a leader-election annotation forbids mirroring (B-428).
    pub skip_mirror: bool,
    /// `subsets`.
    pub subsets: Vec<EndpointSubset>,
}

/// One entry of `subsets` of [`Endpoints`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSubset {
    /// `addresses` as ready endpoints, then `notReadyAddresses`; both families may occur.
    pub endpoints: Box<[SliceEndpoint]>,
    /// `ports`.
    pub ports: Box<[EndpointPort]>,
}
