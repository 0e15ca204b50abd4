//! The sets and maps of the table.

use backend_nftables::rule::DataType::{InetProto, InetService, Mark};
use backend_nftables::rule::{DataType, Set, SetFlags, Type};
use svc_core::IpFamily;

use super::SetId;

/// The definition of a set or map, without elements; `None` for one of somebody else.
pub(super) fn set(id: &SetId, family: IpFamily) -> Option<Set> {
    let address = match family {
        IpFamily::V4 => DataType::Ipv4Addr,
        IpFamily::V6 => DataType::Ipv6Addr,
    };
    let of = Type::new;
    let name = id.name();
    let frontend = of(&[address, InetProto, InetService]);
    let set = match id {
        SetId::Addresses => Set::new(name, of(&[address])),
        SetId::Frontends | SetId::Firewalled => Set::new(name, frontend),
        SetId::Masquerade | SetId::Outside | SetId::Inside => Set::verdict_map(name, frontend),
        SetId::Hairpin => Set::new(name, of(&[address, address, InetProto, InetService])),
        SetId::Sources => {
            let key = of(&[address, InetProto, InetService, address]);
            Set::new(name, key).with_flags(SetFlags::INTERVAL | SetFlags::CONCAT)
        }
        SetId::Marks => Set::map(name, frontend, of(&[Mark])),
        SetId::Saved => Set::map(name, of(&[Mark]), of(&[Mark])),
        SetId::Foreign(_) => return None,
    };
    Some(set.with_comment(comment(id)))
}

fn comment(id: &SetId) -> &'static str {
    match id {
        SetId::Addresses => "addresses on our link",
        SetId::Frontends => "front ends, each with a virtual server of ours",
        SetId::Masquerade => "front end -> whose packets get a node address",
        SetId::Hairpin => "endpoints that reach themselves",
        SetId::Firewalled => "front ends with source ranges",
        SetId::Sources => "front end . sources let in",
        SetId::Outside => "front end -> end of packets from outside",
        SetId::Inside => "front end -> end of packets from pods and the node",
        SetId::Marks => "front end -> mark of packets from pods and the node",
        SetId::Saved => "setting -> value before we changed it",
        SetId::Foreign(_) => "",
    }
}
