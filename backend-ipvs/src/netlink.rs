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

/// Reads a datagram as every kind of answer; how many made sense. For tests and fuzzing of the
/// promise never to panic.
#[cfg(feature = "testing")]
pub fn decode_anything(datagram: &[u8]) -> usize {
    use svc_core::IpFamily;
    let mut understood = 0;
    for (_, body) in socket::messages_of(datagram) {
        understood += usize::from(socket::status(body).is_ok());
        understood += usize::from(ipvs::family_id(body).is_some());
        understood += usize::from(route::read_link(body).is_some());
        for family in IpFamily::ALL {
            let codec = ipvs::Codec { kind: 0, family };
            understood += usize::from(codec.read_server(body).is_some());
            understood += usize::from(codec.read_destination(body).is_some());
            understood += usize::from(route::read_address(body, family).is_some());
        }
    }
    understood
}
