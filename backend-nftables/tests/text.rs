//! How a ruleset reads.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use backend_nftables::{Key, Listing, SetId};
use common::render;
use common::scenarios::{EVERYTHING, scenario};
use svc_core::IpFamily;

#[test]
fn listing_of_everything() {
    for (family, file) in [
        (IpFamily::V4, "everything-ipv4.nft"),
        (IpFamily::V6, "everything-ipv6.nft"),
    ] {
        let mut ruleset = render(&scenario(EVERYTHING).plan(family));
        // The rows of counts above 3 look like those below.
        let long = |key: &Key| matches!(key, Key::Element(SetId::Slots, key) if key[1] > 3);
        ruleset.retain(|key, _| !long(key));
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(file);
        expect_test::expect_file![path].assert_eq(&Listing(&ruleset).to_string());
    }
}
