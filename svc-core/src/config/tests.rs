//! A configuration as JSON in; what differs from the defaults, and the remarks, out.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::wire::Value;

#[test]
fn b317_an_empty_file_has_the_defaults() {
    let (config, remarks) = read_json(json!({}));
    assert_eq!(config, ProxyConfig::default_for(ProxyMode::Iptables));
    assert_eq!(remarks, "");
    assert_eq!(config.sync_period, Duration::from_secs(30));
    assert_eq!(config.min_sync_period, Duration::from_secs(1));
    assert_eq!(config.masquerade_bit, 14);
    assert_eq!(config.oom_score_adj, -999);
    assert!(config.localhost_node_ports);
    let (empty, _) = read(&Value::Null, ModeChoice::FromFile);
    assert_eq!(empty, config);
}

#[test]
fn the_file_that_kubeadm_writes_has_no_remarks() {
    let (config, remarks) = read_json(json!({
        "bindAddress": "0.0.0.0",
        "bindAddressHardFail": false,
        "clientConnection": {
            "acceptContentTypes": "", "burst": 0, "contentType": "",
            "kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf", "qps": 0,
        },
        "clusterCIDR": "10.64.0.0/11,fd10:64::/48",
        "configSyncPeriod": "0s",
        "conntrack": {
            "maxPerCore": null, "min": null, "tcpBeLiberal": false, "tcpCloseWaitTimeout": null,
            "tcpEstablishedTimeout": null, "udpStreamTimeout": "0s", "udpTimeout": "0s",
        },
        "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""},
        "detectLocalMode": "",
        "enableProfiling": false,
        "healthzBindAddress": "",
        "hostnameOverride": "",
        "iptables": {
            "localhostNodePorts": null, "masqueradeAll": false, "masqueradeBit": null,
            "minSyncPeriod": "0s", "syncPeriod": "0s",
        },
        "ipvs": {
            "excludeCIDRs": null, "minSyncPeriod": "0s", "scheduler": "", "strictARP": false,
            "syncPeriod": "0s", "tcpFinTimeout": "0s", "tcpTimeout": "0s", "udpTimeout": "0s",
        },
        "logging": {"flushFrequency": 0, "options": {"json": {"infoBufferSize": "0"}}, "verbosity": 0},
        "metricsBindAddress": "",
        "mode": "",
        "nftables": {
            "masqueradeAll": false, "masqueradeBit": null, "minSyncPeriod": "0s", "syncPeriod": "0s",
        },
        "nodePortAddresses": null,
        "oomScoreAdj": null,
        "portRange": "",
        "showHiddenMetricsForVersion": "",
        "windowsRunAsService": false,
        "winkernel": {
            "enableDSR": false, "forwardHealthCheckVip": false, "networkName": "",
            "rootHnsEndpointName": "", "sourceVip": "",
        },
    }));
    assert_eq!(remarks, "");
    let ranges = ["10.64.0.0/11", "fd10:64::/48"].map(|r| r.parse().unwrap());
    let wanted = ProxyConfig {
        detect_local: LocalDetection::ClusterCidr(ranges.into()),
        kubeconfig: Some("/var/lib/kube-proxy/kubeconfig.conf".into()),
        ..ProxyConfig::default_for(ProxyMode::Iptables)
    };
    assert_eq!(config, wanted);
}

#[test]
fn b331_fields_of_a_mode_are_those_of_its_section() {
    let file = |mode: &str| {
        json!({
            "mode": mode,
            "iptables": {"masqueradeAll": true, "masqueradeBit": 3, "syncPeriod": "10s"},
            "nftables": {"masqueradeBit": 5, "syncPeriod": "20s", "minSyncPeriod": "2s"},
            "ipvs": {"syncPeriod": "40s", "scheduler": "sh", "strictARP": true},
        })
    };
    let of = |mode: &str| {
        let (config, remarks) = read_json(file(mode));
        assert_eq!(remarks, "");
        (
            config.masquerade_all,
            config.masquerade_bit,
            config.sync_period.as_secs(),
            config.min_sync_period.as_secs(),
        )
    };
    assert_eq!(of("iptables"), (true, 3, 10, 1));
    assert_eq!(of("nftables"), (false, 5, 20, 2));
    assert_eq!(of("ipvs"), (true, 3, 40, 0));
    let (fixed, _) = read(&value(file("ipvs")), ModeChoice::Fixed(ProxyMode::Nftables));
    assert_eq!((fixed.mode, fixed.masquerade_bit), (ProxyMode::Nftables, 5));
    assert_eq!(fixed.ipvs.scheduler.as_deref(), Some("sh"));
}

#[test]
fn b321_to_b329_values_that_are_not_valid_are_named_and_replaced() {
    let (config, remarks) = read_json(json!({
        "mode": "userspace",
        "bindAddress": "localhost",
        "healthzBindAddress": ":10256",
        "metricsBindAddress": "127.0.0.1:0",
        "configSyncPeriod": "-1s",
        "oomScoreAdj": -1001,
        "hostnameOverride": "  ",
        "detectLocalMode": "Magic",
        "clusterCIDR": "10.64.0.0/11,10.0.0.0/8,x",
        "nodePortAddresses": ["primary", "10.0.0.0/8", "10.0.0.1"],
        "featureGates": {"A": true, "B": "yes"},
        "iptables": {
            "masqueradeBit": 32, "masqueradeAll": "no", "syncPeriod": "5", "minSyncPeriod": "31s",
        },
        "ipvs": {"tcpTimeout": "-1s", "excludeCIDRs": ["10.0.0.0/8", "a"]},
        "conntrack": {"maxPerCore": -1, "tcpEstablishedTimeout": 5},
        "nftables": [],
        "hostname": "x",
        "winkernel": {"networkName": "l2bridge"},
    }));
    expect![[r#"
        hostname: is not known and has no effect
        winkernel: has no effect on Linux any more
        mode: must be iptables, ipvs or nftables, is "userspace"
        nftables: must be an object, is a list
        iptables.syncPeriod: must be a duration such as 30s, not negative, is "5"
        iptables.minSyncPeriod: must be at most syncPeriod, 30s, is 31s
        iptables.masqueradeAll: must be true or false, is "no"
        iptables.masqueradeBit: must be 0 to 31, is 32
        ipvs.excludeCIDRs[1]: must be an address range such as 10.0.0.0/8, is "a"
        ipvs.tcpTimeout: must be a duration such as 30s, not negative, is "-1s"
        clusterCIDR: must be one range per family, another one is IPv4, is 10.0.0.0/8
        clusterCIDR: must be an address range such as 10.0.0.0/8, is "x"
        detectLocalMode: must be ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix, is "Magic"
        nodePortAddresses[0]: must be the only entry, or an address range, is "primary"
        nodePortAddresses[2]: must be an address range such as 10.0.0.0/8, is "10.0.0.1"
        bindAddress: must be an IP address, is "localhost"
        healthzBindAddress: must be an address with a port such as 0.0.0.0:10256, is ":10256"
        metricsBindAddress: must be an address with a port such as 0.0.0.0:10256, is "127.0.0.1:0"
        configSyncPeriod: must be a duration such as 30s, not negative, is "-1s"
        oomScoreAdj: must be -1000 to 1000, is -1001
        hostnameOverride: must be the name of a node, is "  "
        featureGates.B: must be true or false, is "yes"
        conntrack.maxPerCore: must be 0 to 2147483647, is -1
        conntrack.tcpEstablishedTimeout: must be a string, is 5
    "#]]
    .assert_eq(&remarks);
    let cidr = |text: &str| text.parse().unwrap();
    let mut wanted = ProxyConfig::default_for(ProxyMode::Iptables);
    wanted.detect_local = LocalDetection::ClusterCidr([cidr("10.64.0.0/11")].into());
    wanted.node_port_addresses = NodePortAddresses::Cidrs([cidr("10.0.0.0/8")].into());
    wanted.ipvs.exclude_cidrs = [cidr("10.0.0.0/8")].into();
    wanted.feature_gates.insert("A".into(), true);
    assert_eq!(config, wanted);
}

#[test]
fn b325_b326_modes_of_local_detection() {
    let detect = |json: Json| {
        let (config, remarks) = read_json(json);
        format!("{:?} {remarks}", config.detect_local)
    };
    assert_eq!(detect(json!({"detectLocalMode": "NodeCIDR"})), "NodeCidr ");
    assert_eq!(detect(json!({"detectLocalMode": "ClusterCIDR"})), "None ");
    assert_eq!(
        detect(json!({
            "detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"},
        })),
        "BridgeInterface(\"cni0\") "
    );
    assert_eq!(
        detect(json!({
            "detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"},
        })),
        "InterfaceNamePrefix(\"veth\") "
    );
    assert_eq!(
        detect(json!({"detectLocalMode": "BridgeInterface", "clusterCIDRs": ["10.0.0.0/8"]})),
        "ClusterCidr([10.0.0.0/8]) detectLocal.bridgeInterface: must be set for this \
         detectLocalMode\n"
    );
}

#[test]
fn b328_node_port_addresses() {
    let addresses = |json: Json| {
        read_json(json!({"nodePortAddresses": json}))
            .0
            .node_port_addresses
    };
    assert_eq!(addresses(json!(["primary"])), NodePortAddresses::Primary);
    assert_eq!(addresses(json!([])), NodePortAddresses::Default);
    let all = ["0.0.0.0/0", "::/0"].map(|r| r.parse().unwrap());
    assert_eq!(
        addresses(json!(["0.0.0.0/0", "::/0"])),
        NodePortAddresses::Cidrs(all.into())
    );
}

#[test]
fn b323_addresses_to_listen_on() {
    let of = |json: Json| {
        let (config, remarks) = read_json(json);
        assert_eq!(remarks, "");
        (
            config.healthz_bind_address.to_string(),
            config.metrics_bind_address.to_string(),
        )
    };
    assert_eq!(
        of(json!({"bindAddress": "fd00::1"})),
        ("[::]:10256".into(), "[::1]:10249".into())
    );
    assert_eq!(
        of(json!({"healthzBindAddress": "192.0.2.1", "metricsBindAddress": "[::]:9"})),
        ("192.0.2.1:10256".into(), "[::]:9".into())
    );
}

#[test]
fn b332_the_name_of_the_node_is_in_lower_case() {
    let (config, _) = read_json(json!({"hostnameOverride": " Node-1 "}));
    assert_eq!(config.hostname_override.as_deref(), Some("node-1"));
}

#[test]
fn another_kind_of_file_is_named() {
    let file = value(json!({"apiVersion": "v1", "mode": "nftables"}));
    let (config, remarks) = read(&file, ModeChoice::FromFile);
    assert_eq!(config.mode, ProxyMode::Nftables);
    expect![[r#"
        apiVersion: must be kubeproxy.config.k8s.io/v1alpha1, is "v1"
        kind: must be KubeProxyConfiguration
    "#]]
    .assert_eq(&lines(&remarks));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,24}", digits in "[0-9.]{0,30}[a-zµ]{0,2}") {
        for text in [text, digits] {
            if let Some(nanoseconds) = duration::nanoseconds(&text) {
                prop_assert_eq!(duration::nanoseconds(&format!("{nanoseconds}ns")), Some(nanoseconds));
            }
            let keys = ["syncPeriod", "masqueradeBit", "minSyncPeriod"];
            let section = Value::Map(keys.map(|k| (k.into(), Value::Text(text.clone()))).into());
            let keys = ["bindAddress", "healthzBindAddress", "clusterCIDR", "mode", "hostnameOverride"];
            let mut top: alloc::vec::Vec<_> =
                keys.map(|k| (String::from(k), Value::Text(text.clone()))).into();
            top.push(("iptables".into(), section));
            let (config, _) = read(&Value::Map(top), ModeChoice::FromFile);
            prop_assert!(config.min_sync_period <= config.sync_period);
        }
    }
}

fn read_json(mut json: Json) -> (ProxyConfig, String) {
    json["apiVersion"] = "kubeproxy.config.k8s.io/v1alpha1".into();
    json["kind"] = "KubeProxyConfiguration".into();
    let (config, remarks) = read(&value(json), ModeChoice::FromFile);
    (config, lines(&remarks))
}

fn value(json: Json) -> Value {
    serde_json::from_value(json).unwrap()
}

fn lines(remarks: &[crate::Diagnostic]) -> String {
    remarks
        .iter()
        .map(|r| format!("{}: {}\n", r.field, r.message))
        .collect()
}
