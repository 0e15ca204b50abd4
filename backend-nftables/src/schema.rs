//! The sets and maps of the table.

use svc_core::IpFamily;

use crate::key::SetId;
use crate::rule::{DataType, Set, SetFlags, Type};

/// Clients that can be pinned at once; the kernel allocates the table of hashes at once.
pub const AFFINITY_SIZE: u32 = 262_144;
/// Life of a pin that no rule gives one, milliseconds: none does without.
const AFFINITY_TIMEOUT: u64 = 3 * 60 * 60 * 1000;
/// How often the kernel looks for expired pins, milliseconds.
const AFFINITY_GC_INTERVAL: u32 = 10_000;

use DataType::{InetProto, InetService, Mark};

/// The definition of a set or map, without elements; `None` for one of somebody else.
pub(crate) fn set(id: &SetId, family: IpFamily) -> Option<Set> {
    let address = match family {
        IpFamily::V4 => DataType::Ipv4Addr,
        IpFamily::V6 => DataType::Ipv6Addr,
    };
    let name = id.name();
    let of = Type::new;
    let frontend = of(&[address, InetProto, InetService]);
    let row = of(&[Mark, address, InetService]);
    let set = match id {
        SetId::ServiceCidrs | SetId::PodCidrs => {
            Set::new(name, of(&[address])).with_flags(SetFlags::INTERVAL)
        }
        SetId::Addresses | SetId::ClusterIps => Set::new(name, of(&[address])),
        SetId::Slots => {
            let key = of(&[InetService, InetService]);
            let flags = SetFlags::INTERVAL | SetFlags::CONCAT;
            Set::map(name, key, of(&[Mark, InetService])).with_flags(flags)
        }
        SetId::Endpoints => Set::map(name, of(&[Mark, InetService]), of(&[address, InetService])),
        SetId::Sticky => Set::map(name, of(&[Mark, InetService]), row),
        SetId::Live => Set::new(name, row),
        SetId::Hairpin => Set::new(name, of(&[address, address, InetProto, InetService])),
        SetId::Affinity => Set {
            timeout: Some(AFFINITY_TIMEOUT),
            gc_interval: Some(AFFINITY_GC_INTERVAL),
            size: Some(AFFINITY_SIZE),
            ..Set::map(name, of(&[Mark, address]), row)
                .with_flags(SetFlags::DYNAMIC | SetFlags::TIMEOUT)
        },
        SetId::Sources(_) => Set::new(name, of(&[address, InetProto, InetService, address])),
        SetId::Firewalled => Set::new(name, frontend),
        SetId::Pools => Set::map(name, of(&[Mark]), of(&[Mark, Mark, InetService])),
        SetId::Frontends | SetId::LocalFrontends => {
            Set::map(name, frontend, of(&[Mark, Mark, Mark]))
        }
        SetId::Classes | SetId::LocalClasses | SetId::MasqueradePolicies => {
            Set::verdict_map(name, of(&[Mark]))
        }
        SetId::Foreign(_) => return None,
    };
    Some(set.with_comment(purpose(id)))
}

fn purpose(id: &SetId) -> &'static str {
    match id {
        SetId::ServiceCidrs => "ranges of ClusterIPs",
        SetId::PodCidrs => "addresses of pods",
        SetId::Slots => "endpoint count . random number -> 0 . slot",
        SetId::Endpoints => "pool . slot -> endpoint",
        SetId::Sticky => "pool . slot -> pool . endpoint, of pools with affinity",
        SetId::Live => "pool . endpoint, of pools with affinity",
        SetId::Hairpin => "endpoints that may reach themselves",
        SetId::Affinity => "pool . client -> pool . endpoint",
        SetId::Sources(_) => "front end . masked source that may use it",
        SetId::Firewalled => "front ends that not every source may use",
        SetId::Pools => "pool -> 0 . class . endpoint count",
        SetId::Classes => "class -> what is done with a pool's packets",
        SetId::LocalClasses => "the same for packets from outside, policy Local",
        SetId::MasqueradePolicies => "origins (1 pods, 2 node, 4 others) -> masquerading",
        SetId::LocalFrontends => "front end -> kind . policy . pool, from outside, policy Local",
        SetId::Frontends => "front end -> kind . masquerade policy . pool",
        SetId::Addresses => "addresses of front ends but ClusterIPs",
        SetId::ClusterIps => "ClusterIPs",
        SetId::Foreign(_) => "",
    }
}
