//! Any octets and any text are read as names without a panic, and what was read prints as something
//! that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_core::dns::{
    ClusterDomain, DnsName, NameRef, dashed_address, dashed_to_address, reverse_name,
    reverse_to_address,
};

fuzz_target!(|bytes: &[u8]| {
    let domain: ClusterDomain = "cluster.local".parse().expect("it is a name");
    if let Ok((name, rest)) = NameRef::split_from(bytes) {
        assert_eq!(name.octets().len() + rest.len(), bytes.len());
        check(&domain, name);
    }
    if let Some(name) = str::from_utf8(bytes)
        .ok()
        .and_then(|t| t.parse::<DnsName>().ok())
    {
        check(&domain, name.as_ref());
    }
    if let Some(ip) = dashed_to_address(bytes) {
        let canonical = dashed_address(ip);
        assert_eq!(
            dashed_to_address(canonical.as_bytes()),
            Some(ip.to_canonical())
        );
    }
});

fn check(domain: &ClusterDomain, name: NameRef<'_>) {
    let text = name.to_string();
    let again: DnsName = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(again.octets(), name.octets(), "{text}");
    let labels: Vec<&[u8]> = name.labels().map(|label| label.octets()).collect();
    let joined = DnsName::join(&labels, NameRef::ROOT).expect("labels of a name");
    assert_eq!(joined.as_ref(), name);
    assert!(!format!("{:?}", domain.parse(name)).is_empty());
    if let Some(ip) = reverse_to_address(name) {
        assert_eq!(reverse_name(ip).as_ref(), name, "{ip}");
    }
}
