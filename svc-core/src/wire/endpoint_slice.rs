use alloc::string::String;
use alloc::vec::Vec;

use super::field::{Field, Shape};
use super::metadata::{Metadata, ObjectReference};
use super::record::record;

record! {
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice {
        api_version: String = "apiVersion",
        kind: String = "kind",
        metadata: Metadata = "metadata",
        address_type: String = "addressType",
        endpoints: Vec<Field<Endpoint>> = "endpoints",
        ports: Vec<Field<EndpointPort>> = "ports",
    }
}

record! {
    /// One entry of `endpoints` of an EndpointSlice.
    Endpoint {
        addresses: Vec<Field<String>> = "addresses",
        conditions: EndpointConditions = "conditions",
        hostname: String = "hostname",
        target_ref: ObjectReference = "targetRef",
        node_name: String = "nodeName",
        zone: String = "zone",
        hints: EndpointHints = "hints",
    }
}

record! {
    /// `conditions` of an endpoint.
    EndpointConditions {
        ready: bool = "ready",
        serving: bool = "serving",
        terminating: bool = "terminating",
    }
}

record! {
    /// `hints` of an endpoint.
    EndpointHints {
        for_zones: Vec<Field<Hint>> = "forZones",
        for_nodes: Vec<Field<Hint>> = "forNodes",
    }
}

record! {
    /// One entry of `forZones` or `forNodes`.
    Hint {
        name: String = "name",
    }
}

record! {
    /// One entry of `ports` of an EndpointSlice or of a subset of Endpoints.
    EndpointPort {
        name: String = "name",
        protocol: String = "protocol",
        port: i64 = "port",
        app_protocol: String = "appProtocol",
    }
}

record! {
    /// `v1` Endpoints, the older form of EndpointSlices.
    Endpoints {
        metadata: Metadata = "metadata",
        subsets: Vec<Field<EndpointSubset>> = "subsets",
    }
}

record! {
    /// One entry of `subsets` of Endpoints.
    EndpointSubset {
        addresses: Vec<Field<EndpointAddress>> = "addresses",
        not_ready_addresses: Vec<Field<EndpointAddress>> = "notReadyAddresses",
        ports: Vec<Field<EndpointPort>> = "ports",
    }
}

record! {
    /// One address of a subset of Endpoints.
    EndpointAddress {
        ip: String = "ip",
        hostname: String = "hostname",
        node_name: String = "nodeName",
        target_ref: ObjectReference = "targetRef",
    }
}
