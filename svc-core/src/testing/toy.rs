//! The smallest renderer that has everything a real one has: a skeleton, objects of its own,
//! shared objects, and numbers that it hands out.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::net::IpAddr;

use crate::name::ServicePortName;
use crate::net::Protocol;
use crate::node_plan::NodePlan;
use crate::plan::{FrontendAddress, ServicePortPlan};
use crate::ruleset::{Fragment, Render, Ruleset};

/// Renders a plan as text.
#[derive(Clone, Debug, Default)]
pub struct Toy {
    numbers: BTreeMap<ServicePortName, u32>,
}

/// An object of [`Toy`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ToyKey {
    /// The skeleton.
    Node,
    /// One for each node address.
    Address(IpAddr),
    /// The endpoints of the service port with that number.
    Pool(u32),
    /// Which number answers at an address.
    Frontend(Protocol, FrontendAddress),
    /// Shared: an endpoint address, whose value depends on the node.
    Endpoint(IpAddr),
    /// Shared, and kept when nobody needs it any more: a number of endpoints.
    Count(usize),
}

/// The value of an object of [`Toy`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToyValue {
    text: String,
    /// Whose pool it is, for [`Render::learn`].
    name: Option<ServicePortName>,
}

impl Render for Toy {
    type Key = ToyKey;
    type Value = ToyValue;

    fn skeleton(&mut self, node: &NodePlan) -> Ruleset<ToyKey, ToyValue> {
        let mut ruleset = Ruleset::new();
        ruleset.insert(ToyKey::Node, text(format!("{:?}", node.local_detector)));
        ruleset.insert(ToyKey::Count(1), text(String::new()));
        for ip in &node.addresses {
            ruleset.insert(ToyKey::Address(*ip), text(String::new()));
        }
        ruleset
    }

    fn service_port(
        &mut self,
        node: &NodePlan,
        name: &ServicePortName,
        plan: &ServicePortPlan,
    ) -> Fragment<ToyKey, ToyValue> {
        let number = self.number(name);
        let mut fragment = Fragment::new();
        let pool = ToyValue {
            text: format!("{:?} {:?} {:?}", plan.cluster, plan.local, plan.affinity),
            name: Some(name.clone()),
        };
        fragment.push((ToyKey::Pool(number), pool));
        for frontend in &plan.frontends {
            let key = ToyKey::Frontend(name.protocol, frontend.at);
            let value = format!("{number} {:?} {:?}", frontend.routes, frontend.sources);
            fragment.push((key, text(value)));
        }
        let count = ToyKey::Count(plan.cluster.len());
        fragment.push((count, text(String::new())));
        let mut ips: alloc::vec::Vec<IpAddr> = plan.reachable().map(|e| e.ip).collect();
        ips.sort_unstable();
        ips.dedup();
        for ip in ips {
            let value = format!("{:?}", node.cluster_ip_masquerade);
            fragment.push((ToyKey::Endpoint(ip), text(value)));
        }
        fragment
    }

    fn is_shared(key: &ToyKey) -> bool {
        match key {
            ToyKey::Endpoint(_) | ToyKey::Count(_) => true,
            ToyKey::Node | ToyKey::Address(_) | ToyKey::Pool(_) | ToyKey::Frontend(..) => false,
        }
    }

    fn outlives_users(key: &ToyKey) -> bool {
        matches!(key, ToyKey::Count(_))
    }

    fn learn(&mut self, held: &Ruleset<ToyKey, ToyValue>) {
        for (key, value) in held {
            if let (ToyKey::Pool(number), Some(name)) = (key, &value.name)
                && self.numbers.values().all(|used| used != number)
            {
                self.numbers.entry(name.clone()).or_insert(*number);
            }
        }
    }

    fn forget(&mut self, name: &ServicePortName) {
        self.numbers.remove(name);
    }
}

impl Toy {
    /// The number of a service port, the smallest free one if it has none.
    fn number(&mut self, name: &ServicePortName) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let free = |number: &u32| self.numbers.values().all(|used| used != number);
        let number = (0..).find(free).unwrap_or(u32::MAX);
        self.numbers.insert(name.clone(), number);
        number
    }
}

fn text(text: String) -> ToyValue {
    ToyValue { text, name: None }
}
