//! Why nothing was allocated.

use alloc::string::String;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::diagnostic::DiagnosticReason;
use crate::name::NamespacedName;
use crate::net::IpFamily;

/// Why an address or node port was not allocated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocationError {
    /// The address belongs to a Service already, maybe the same one (B-376).
    #[error("the address {ip} is already allocated to Service {owner}")]
    AddressTaken {
        /// The wanted address.
        ip: IpAddr,
        /// Who has it.
        owner: NamespacedName,
    },
    /// The address is in no ready range, or is a network or broadcast address (B-376, B-381).
    #[error("the address {ip} is not in a usable range: {ranges}")]
    AddressNotInRange {
        /// The wanted address.
        ip: IpAddr,
        /// The ranges that there are.
        ranges: String,
    },
    /// Every address of the family is allocated (B-375): add a ServiceCIDR.
    #[error("the {family} ranges are full: {ranges}")]
    AddressesFull {
        /// The wanted family.
        family: IpFamily,
        /// The ranges that there are; empty when the cluster has none of the family.
        ranges: String,
    },
    /// The node port belongs to a Service already, maybe the same one (B-387, B-391).
    #[error("the node port {port} is already allocated to Service {owner}")]
    PortTaken {
        /// The wanted node port.
        port: u16,
        /// Who has it.
        owner: NamespacedName,
    },
    /// The node port is outside of the range (B-387).
    #[error("the node port {port} is not in the range {first}-{last}")]
    PortNotInRange {
        /// The wanted node port.
        port: u16,
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// Every node port is allocated (B-386): widen the range.
    #[error("the node-port range {first}-{last} is full")]
    PortsFull {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
}

impl AllocationError {
    /// The reason for a diagnostic.
    pub fn reason(&self) -> DiagnosticReason {
        match self {
            Self::AddressTaken { .. } | Self::PortTaken { .. } => DiagnosticReason::Claimed,
            Self::AddressNotInRange { .. } | Self::PortNotInRange { .. } => {
                DiagnosticReason::Invalid
            }
            Self::AddressesFull { .. } | Self::PortsFull { .. } => DiagnosticReason::Exhausted,
        }
    }
}

/// Why a range cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// An IPv6 range may not be larger than a /64 (B-380).
    #[error("the prefix length of an IPv6 service range must be at least 64, is that of {0}")]
    TooLarge(IpNet),
    /// The first port is 0 or behind the last one.
    #[error("the node-port range {first}-{last} is empty or starts at 0")]
    NoPorts {
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
}
