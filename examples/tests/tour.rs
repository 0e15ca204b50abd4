//! The folders of manifests, from YAML to verdicts, as the README shows them.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use expect_test::expect;
use serde_json::Value;

/// What svcctl prints of a folder; it must find nothing wrong.
fn svcctl(command: &str, folder: &str, arguments: &str) -> String {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("manifests")
        .join(folder);
    let output = Command::new(env!("CARGO_BIN_EXE_svcctl"))
        .arg(command)
        .arg("--manifests")
        .arg(manifests)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{command} {folder} {arguments}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_service_of_both_folders_is_valid() {
    expect![[r#"
        default/ngx-svc: valid
    "#]]
    .assert_eq(&svcctl("validate", "smallest", ""));
    expect![[r#"
        shop/billing: valid
        shop/db: valid
        shop/log: valid
        shop/web: valid
        shop/web-node-port: valid
        shop/web-public: valid
        shop/web-sticky: valid
    "#]]
    .assert_eq(&svcctl("validate", "tour", ""));
}

#[test]
fn a_pool_gives_the_address_of_a_load_balancer() {
    let services = |arguments| svcctl("get", "tour", arguments);
    let without = services("services -n shop");
    let line = |text: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.contains("web-public"));
        line.unwrap().split_whitespace().map(Into::into).collect()
    };
    assert_eq!(line(&without)[3], "<pending>");
    let with = services("services -n shop --load-balancer-pool 192.0.2.80-192.0.2.90");
    assert_eq!(line(&with)[3], "192.0.2.80");
}

#[test]
fn explain_names_the_nodes_that_a_load_balancer_picks() {
    let text = svcctl(
        "explain",
        "tour",
        "--load-balancer-pool 192.0.2.80/32 --node n3 --from 203.0.113.9 --to 192.0.2.80:80/tcp",
    );
    expect![[r#"
        203.0.113.9 -> 192.0.2.80:80/tcp (from outside)
          drop: no answer at all
          service  shop/web-public:http by LoadBalancerIp
          reason   NoLocalEndpoints: the policy is Local and no usable endpoint is on this node
          not 10.64.1.10:8080       NotOnThisNode web-1 on n1
          not 10.64.2.10:8080       NotOnThisNode web-2 on n2
          balancer 80/TCP to node port 32625
            -> n1 192.168.0.1: has ready endpoints, :32000 says 200
            -> n2 192.168.0.2: has ready endpoints, :32000 says 200
            not n3 192.168.0.3: has no ready endpoint, :32000 says 503
    "#]]
    .assert_eq(&text);
    let json = svcctl(
        "explain",
        "tour",
        "--load-balancer-pool 192.0.2.80/32 --node n1 --from 203.0.113.9 --to 192.0.2.80:80/tcp -o json",
    );
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["verdict"], "forward");
    let nodes = json["load_balancer"]["nodes"].as_array().unwrap();
    let takes: Vec<bool> = nodes
        .iter()
        .map(|node| node["takesTraffic"].as_bool().unwrap())
        .collect();
    assert_eq!(takes, [true, true, false]);
}

#[test]
fn zones_keep_traffic_and_names_are_completed() {
    let text = svcctl(
        "explain",
        "tour",
        "--node n3 --from 10.64.3.99 --to web.shop:80/tcp",
    );
    expect![[r#"
        10.64.3.99 -> 10.96.157.44:80/tcp (from outside)
          forward to one of 1 endpoint
          service  shop/web:http by ClusterIp
          reason   ClusterIp: the ClusterIP has the port, the internal traffic policy decides
          -> 10.64.3.10:8080        1/1 web-3 on n3, sees the client's address
          not 10.64.1.10:8080       OtherZone web-1 on n1
          not 10.64.2.10:8080       OtherZone web-2 on n2
          not 10.64.3.11:8080       NotReady web-4 on n3
    "#]]
    .assert_eq(&text);
}

#[test]
fn plan_names_what_is_not_proxied() {
    let text = svcctl("plan", "tour", "--node n1");
    assert!(text.ends_with(
        "\nshop/billing: not proxied, CNAME billing.example.com\nshop/db: not proxied, headless\n"
    ));
    let json: Value = serde_json::from_str(&svcctl("plan", "tour", "--node n1 -o json")).unwrap();
    assert_eq!(json["not_proxied"][0]["cname"], "billing.example.com");
}

#[test]
fn explain_of_an_external_name_says_its_cname() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/tour");
    let output = Command::new(env!("CARGO_BIN_EXE_svcctl"))
        .args(["explain", "--node", "n1", "--from", "10.64.1.10"])
        .args(["--to", "billing.shop:443/tcp", "--manifests"])
        .arg(manifests)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    expect![[r#"
        error: billing.shop: a Service of type ExternalName, not proxied: a CNAME of billing.example.com.
    "#]]
    .assert_eq(&String::from_utf8_lossy(&output.stderr));
}

#[test]
fn members_of_a_headless_service_have_names() {
    let answer = svcctl("dns", "tour", "db-1.db.shop.svc.cluster.local");
    assert!(answer.contains(" IN A 10.64.3.20\n"), "{answer}");
}
