//! Names of Pods.

use core::fmt::{self, Write};
use core::net::IpAddr;

use super::super::name::{Label, MAX_LABEL};
use super::super::rule::NameRule;
use super::super::zone::{AddressOctets, PodNames, Zone};
use super::Node;

impl Zone {
    pub(super) fn pod_node(&self, ip: IpAddr, label: Label<'_>, namespace: Label<'_>) -> Node<'_> {
        let known = match self.config.options.pods {
            PodNames::Disabled => false,
            PodNames::Insecure => self.has_namespace(namespace.octets()),
            PodNames::Verified => {
                let octets = AddressOctets::of(ip);
                let key = (namespace.octets(), octets.as_slice());
                self.pod_addresses.find(key).is_some() && is_dashed(ip, label)
            }
        };
        match known {
            true => Node::Address(ip),
            false => Node::empty_if(self.names_pod(label, namespace)),
        }
    }

    pub(super) fn pod_alias_node(
        &self,
        ip: IpAddr,
        label: Label<'_>,
        pod: Label<'_>,
        namespace: Label<'_>,
    ) -> Node<'_> {
        let key = (namespace.octets(), pod.octets());
        let owns = match self.config.options.pods {
            PodNames::Disabled => false,
            PodNames::Insecure => true,
            PodNames::Verified => {
                let entry = self.pods.find(key);
                entry.is_some_and(|e| e.ips.as_slice().contains(&ip)) && is_dashed(ip, label)
            }
        };
        match owns && self.names_pod(pod, namespace) {
            true => Node::Address(ip),
            false => Node::Missing,
        }
    }

    /// Whether an alias lies below a label: it may be the name of a Pod with one label.
    pub(super) fn names_pod(&self, pod: Label<'_>, namespace: Label<'_>) -> bool {
        let options = &self.config.options;
        let text = core::str::from_utf8(pod.octets());
        if !options.pod_alias || !text.is_ok_and(|text| NameRule::Hostname.check(text).is_ok()) {
            return false;
        }
        match options.pods {
            PodNames::Disabled => false,
            PodNames::Insecure => self.has_namespace(namespace.octets()),
            PodNames::Verified => {
                let key = (namespace.octets(), pod.octets());
                self.pods.find(key).is_some()
            }
        }
    }
}

/// Whether a label in lower case is the canonical one of an address; allocates nothing.
fn is_dashed(ip: IpAddr, label: Label<'_>) -> bool {
    let mut rest = Rest(label.octets());
    let written = write!(rest, "{}", ip.to_canonical());
    match (written, rest.0) {
        (Ok(()), []) => !label.octets().ends_with(b"-"),
        (Ok(()), b"0") => label.octets().ends_with(b"-0"),
        (Ok(()), [..]) | (Err(_), _) => false,
    }
}

/// What is left of a label while the text of an address is written over it.
struct Rest<'a>(&'a [u8]);

impl Write for Rest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for octet in text.bytes() {
            let (first, rest) = self.0.split_first().ok_or(fmt::Error)?;
            let same = match octet {
                b'.' | b':' => *first == b'-',
                other => *first == other,
            };
            if !same || self.0.len() > MAX_LABEL {
                return Err(fmt::Error);
            }
            self.0 = rest;
        }
        Ok(())
    }
}
