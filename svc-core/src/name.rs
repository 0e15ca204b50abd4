//! Names of objects and service ports.

use alloc::sync::Arc;
use core::fmt;

use crate::net::Protocol;

/// An immutable string that is cheap to clone.
pub type Name = Arc<str>;

/// The namespace that an object without one belongs to.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Namespace and name of a namespaced object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// `metadata.namespace`, never empty.
    pub namespace: Name,
    /// `metadata.name`.
    pub name: Name,
}

impl NamespacedName {
    /// Names an object; an empty namespace means [`DEFAULT_NAMESPACE`].
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        let namespace = namespace.into();
        Self {
            namespace: if namespace.is_empty() {
                DEFAULT_NAMESPACE.into()
            } else {
                namespace
            },
            name: name.into(),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Identity of one port of one Service: the unit of planning (B-001).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortName {
    /// The Service.
    pub service: NamespacedName,
    /// `spec.ports[].name`, empty for the only port of a Service.
    pub port: Name,
    /// `spec.ports[].protocol`.
    pub protocol: Protocol,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port.is_empty() {
            write!(f, "{}", self.service)
        } else {
            write!(f, "{}:{}", self.service, self.port)
        }
    }
}

impl fmt::Debug for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/{}", self.protocol)
    }
}

#[cfg(feature = "serde")]
mod serialize {
    use alloc::string::ToString;

    use serde::{Serialize, Serializer};

    use super::{NamespacedName, ServicePortName};

    impl Serialize for NamespacedName {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&self.to_string())
        }
    }

    impl Serialize for ServicePortName {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&self.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn an_empty_namespace_is_default() {
        assert_eq!(NamespacedName::new("", "web").to_string(), "default/web");
    }

    #[test]
    fn an_unnamed_port_is_not_printed() {
        let name = |port: &str| ServicePortName {
            service: NamespacedName::new("a", "b"),
            port: port.into(),
            protocol: Protocol::Tcp,
        };
        assert_eq!(name("").to_string(), "a/b");
        assert_eq!(name("http").to_string(), "a/b:http");
    }
}
