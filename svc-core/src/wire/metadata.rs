use alloc::string::String;

use super::field::{Field, Shape, StringMap};
use super::record::record;

record! {
    /// `metadata` of any object.
    Metadata {
        name: String = "name",
        generate_name: String = "generateName",
        namespace: String = "namespace",
        uid: String = "uid",
        resource_version: String = "resourceVersion",
        labels: StringMap = "labels",
        annotations: StringMap = "annotations",
        creation_timestamp: String = "creationTimestamp",
        deletion_timestamp: String = "deletionTimestamp",
    }
}

record! {
    /// A reference to another object, such as `targetRef`.
    ObjectReference {
        kind: String = "kind",
        namespace: String = "namespace",
        name: String = "name",
        uid: String = "uid",
    }
}

record! {
    /// One entry of `status.conditions`.
    Condition {
        kind: String = "type",
        status: String = "status",
        last_transition_time: String = "lastTransitionTime",
    }
}
