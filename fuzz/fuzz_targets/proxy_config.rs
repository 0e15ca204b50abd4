//! Any JSON is read as a KubeProxyConfiguration without a panic, into values within their limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_core::config::{ModeChoice, ProxyMode, read};
use svc_core::wire::Value;
use svc_core::{IpFamily, NodeConfig, Planner};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let modes = [ProxyMode::Nftables, ProxyMode::Iptables, ProxyMode::Ipvs];
    let fixed = modes.map(ModeChoice::Fixed);
    for choice in fixed.into_iter().chain([ModeChoice::FromFile]) {
        let (config, remarks) = read(&value, choice);
        assert!(remarks.iter().all(|remark| !remark.to_string().is_empty()));
        assert!(config.masquerade_bit < 32, "{config:?}");
        assert!(config.min_sync_period <= config.sync_period, "{config:?}");
        match choice {
            ModeChoice::Fixed(mode) => assert_eq!(config.mode, mode),
            ModeChoice::FromFile => {}
        }
        let mut planner = Planner::new(NodeConfig::new("n1", config));
        planner.delta();
        for family in IpFamily::ALL {
            assert_eq!(planner.plan(family).lint(), Vec::<String>::new());
        }
    }
});
