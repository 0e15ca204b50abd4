//! Messages to IPVS (generic netlink) and about links and addresses (route netlink).

mod attr;
pub(crate) mod ipvs;
pub(crate) mod route;
mod socket;

pub(crate) use socket::{Message, Netlink};
