//! Messages to IPVS (generic netlink) and about links and addresses (route netlink).

mod attr;
pub(crate) mod ipvs;
pub(crate) mod route;
mod socket;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use socket::write;
pub(crate) use socket::{Message, Netlink};
