use alloc::string::String;
use alloc::vec::Vec;

use super::field::{Field, Quantity, Shape};
use super::metadata::{Condition, Metadata};
use super::record::record;

record! {
    /// `v1` Node.
    Node {
        metadata: Metadata = "metadata",
        spec: NodeSpec = "spec",
        status: NodeStatus = "status",
    }
}

record! {
    /// `spec` of a Node.
    NodeSpec {
        pod_cidr: String = "podCIDR",
        pod_cidrs: Vec<Field<String>> = "podCIDRs",
        taints: Vec<Field<Taint>> = "taints",
    }
}

record! {
    /// One entry of `spec.taints` of a Node.
    Taint {
        key: String = "key",
        effect: String = "effect",
    }
}

record! {
    /// `status` of a Node.
    NodeStatus {
        addresses: Vec<Field<NodeAddress>> = "addresses",
        conditions: Vec<Field<Condition>> = "conditions",
        allocatable: Resources = "allocatable",
    }
}

record! {
    /// One entry of `status.addresses` of a Node.
    NodeAddress {
        kind: String = "type",
        address: String = "address",
    }
}

record! {
    /// `status.allocatable` of a Node.
    Resources {
        cpu: Quantity = "cpu",
    }
}

record! {
    /// `v1` Namespace.
    Namespace {
        metadata: Metadata = "metadata",
    }
}

record! {
    /// `networking.k8s.io/v1` ServiceCIDR.
    ServiceCidr {
        metadata: Metadata = "metadata",
        spec: ServiceCidrSpec = "spec",
        status: ServiceCidrStatus = "status",
    }
}

record! {
    /// `spec` of a ServiceCIDR.
    ServiceCidrSpec {
        cidrs: Vec<Field<String>> = "cidrs",
    }
}

record! {
    /// `status` of a ServiceCIDR.
    ServiceCidrStatus {
        conditions: Vec<Field<Condition>> = "conditions",
    }
}
