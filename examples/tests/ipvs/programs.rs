//! `ipvs-proxy`, `svcctl` and `sync-bench` as a user runs them, on the node of a stage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backend_ipvs::Settings;
use serde_json::Value;

use crate::objects::load_modules;
use crate::stage::Stage;

const IPVS_PROXY: &str = env!("CARGO_BIN_EXE_ipvs-proxy");
const SVCCTL: &str = env!("CARGO_BIN_EXE_svcctl");
const SYNC_BENCH: &str = env!("CARGO_BIN_EXE_sync-bench");

/// A dry run and `diff` tell what `--once` does; it starts no process; what ipvsadm then saves is
/// what `svcctl plan` prints; a second run writes nothing; `--cleanup` leaves what was there before.
pub(crate) fn once() {
    load_modules();
    let stage = Stage::new(Settings::default());
    for command in [
        "ip link add theirs type dummy",
        "ip addr add 192.0.2.77/32 dev theirs",
        "ipvsadm -A -t 192.0.2.77:443 -s wlc",
        "ipvsadm -a -t 192.0.2.77:443 -r 10.64.1.9:443 -m -w 5",
        "nft add table ip theirs",
    ] {
        stage.command(command);
    }
    let folder = folder("once", &[("web.yaml", WEB), ("node.yaml", NODE)]);
    let inputs = ["--manifests", text(&folder), "--node", "n1"];
    let before = held(&stage);
    assert!(before.contains("192.0.2.77:443"), "{before}");

    let dry = ran(&stage, IPVS_PROXY, &[&inputs[..], &["--dry-run"]].concat());
    assert_eq!(dry.0, Some(0), "{dry:?}");
    for line in [
        "+ dummy link",
        "+ address 10.96.0.10",
        "+ -A -t 10.96.0.10:80 -s rr",
        "+ -a -t [fd10:96::10]:80 -r [fd10:64:0:1::1]:8080 -m -w 1",
        "+ element frontends { 10.96.0.10:80/tcp comment \"demo/web:http\" }",
    ] {
        assert!(dry.1.lines().any(|one| one == line), "{line} in {}", dry.1);
    }
    let diff = [&["diff", "--backend", "ipvs"], &inputs[..]].concat();
    let differences = ran(&stage, SVCCTL, &diff);
    assert_eq!((differences.0, differences.1), (Some(2), dry.1));
    assert_eq!(held(&stage), before);

    let first = alone(&stage, IPVS_PROXY, &[&inputs[..], &["--once"]].concat());
    assert_eq!(first.0, Some(0), "{first:?}");
    assert!(first.2.contains("objects written"), "{first:?}");
    let plan = [&["plan", "-o", "ipvsadm"], &inputs[..]].concat();
    let plan = ran(&stage, SVCCTL, &plan);
    let saved = stage.command("ipvsadm -Sn");
    let ours = saved.lines().filter(|line| !line.contains("192.0.2.77"));
    let ours: String = ours.map(|line| format!("{line}\n")).collect();
    assert_eq!(ours, plan.1);
    assert!(ours.contains("-A -t 198.18.0.10:30080 -s rr"), "{ours}");

    let differences = ran(&stage, SVCCTL, &diff);
    assert_eq!(differences.0, Some(0), "{differences:?}");
    let after = held(&stage);
    let second = ran(&stage, IPVS_PROXY, &[&inputs[..], &["--once"]].concat());
    assert_eq!(second.0, Some(0), "{second:?}");
    // Nothing was written, and what the host lacks is said each time.
    let said: Vec<&str> = second.2.lines().collect();
    let [conntrack, expiry] = &said[..] else {
        panic!("{said:?}");
    };
    assert!(conntrack.starts_with("warning: IPv4: net.ipv4.vs.conntrack is 0"));
    assert!(expiry.starts_with("warning: IPv4: net.ipv4.vs.expire_nodest_conn is 0"));
    assert_eq!(held(&stage), after);

    let gone = ran(&stage, IPVS_PROXY, &["--cleanup"]);
    assert_eq!(gone.0, Some(0), "{gone:?}");
    assert_eq!(held(&stage), before);
}

/// A proxy follows its folder, repairs what others remove, and sets what its configuration says.
/// Nobody tells it the addresses of the node: those that it bound itself are none.
pub(crate) fn serves() {
    load_modules();
    let stage = Stage::new(Settings::default());
    let settings = [
        "/proc/sys/net/ipv4/vs/conntrack",
        "/proc/sys/net/ipv4/vs/expire_nodest_conn",
        "/proc/sys/net/ipv4/conf/all/arp_ignore",
    ];
    let read = || stage.on_node(move || settings.map(|path| fs::read_to_string(path).unwrap()));
    let before = read();
    let folder = folder("serves", &[("web.yaml", WEB)]);
    let config = folder.with_extension("config");
    fs::write(&config, CONFIG).unwrap();
    let inputs = ["--manifests", text(&folder), "--config", text(&config)];
    let inputs = [&inputs[..], &["--node", "n1", "--set-sysctls"]].concat();

    let dry = ran(&stage, IPVS_PROXY, &[&inputs[..], &["--dry-run"]].concat());
    assert_eq!((dry.0, read()), (Some(0), before.clone()));
    let mut command = Command::new(IPVS_PROXY);
    command
        .args(&inputs)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut proxy = stage.on_node(move || command.spawn().unwrap());
    let first = "-a -t 10.96.0.10:80 -r 10.64.1.1:8080 -m -w 1";
    let second = "-a -t 10.96.0.10:80 -r 10.64.1.2:8080 -m -w 1";
    until(&stage, "it begins", |saved| saved.contains(first));
    assert_eq!(read().map(|value| value.trim().to_owned()), ["1", "1", "1"]);
    let timeouts = stage.command("ipvsadm -l --timeout");
    assert!(timeouts.contains("700 120 300"), "{timeouts}");
    fs::write(
        folder.join("web.yaml"),
        WEB.replace("10.64.1.1", "10.64.1.2"),
    )
    .unwrap();
    until(&stage, "an endpoint changes", |saved| {
        saved.contains(second) && !saved.contains(first)
    });
    stage.command("ipvsadm -C");
    until(&stage, "somebody clears all", |saved| {
        // Both families.
        saved.contains(second) && saved.contains("[fd10:64:0:1::1]:5353 -m -w 1")
    });
    let beside = ran(&stage, IPVS_PROXY, &[&inputs[..], &["--once"]].concat());
    let other = format!("warning: another ipvs-proxy (pid {}) manages", proxy.id());
    assert!(
        beside.0 == Some(0) && beside.2.starts_with(&other),
        "{beside:?}"
    );
    proxy.kill().unwrap();
    proxy.wait().unwrap();

    let after = held(&stage);
    assert!(after.contains("-A -t 10.96.0.10:80 -s wrr\n"), "{after}");
    let again = ran(&stage, IPVS_PROXY, &[&inputs[..], &["--once"]].concat());
    assert_eq!((again.0, again.2.as_str()), (Some(0), ""));
    assert_eq!(held(&stage), after);
    let gone = ran(&stage, IPVS_PROXY, &["--cleanup"]);
    assert_eq!(gone.0, Some(0), "{gone:?}");
    assert_eq!(stage.command("ipvsadm -Sn"), "");
    assert_eq!(read(), before);
}

/// `sync-bench` measures the backend in a namespace of its own.
pub(crate) fn bench() {
    load_modules();
    let mut command = Command::new(SYNC_BENCH);
    command.args([
        "--backend",
        "ipvs",
        "--services",
        "50",
        "--runs",
        "5",
        "-o",
        "json",
    ]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    for field in [
        "plan_full_ms",
        "full_sync_ms",
        "noop_sync_us",
        "readback_ms",
        "peak_rss_kib",
    ] {
        assert!(result[field].as_f64().is_some(), "{field} in {result}");
    }
    for field in ["endpoint_change_us", "service_add_us", "service_remove_us"] {
        assert!(
            result[field]["p50"].as_f64().is_some(),
            "{field} in {result}"
        );
        assert!(
            result[field]["p99"].as_f64().is_some(),
            "{field} in {result}"
        );
    }
    assert_eq!(
        (&result["backend"], &result["services"]),
        (&"ipvs".into(), &50.into())
    );
    assert_eq!(result["restart_writes"], 0);
    // Each Service: a virtual server, its destinations, an address, elements.
    assert!(
        result["kernel_objects"].as_u64().unwrap() > 50 * 5,
        "{result}"
    );
}

/// A proxy on a kernel that lacks something; returns what it prints.
pub(crate) fn fails() -> String {
    let folder = folder("fails", &[("web.yaml", WEB), ("node.yaml", NODE)]);
    let args = ["--manifests", text(&folder), "--node", "n1", "--once"];
    let (code, _, errors) = said(Command::new(IPVS_PROXY).args(args).output().unwrap());
    assert_eq!(code, Some(1), "{errors}");
    errors
}

/// Everything there is: virtual servers, tables, links and addresses with their numbers.
fn held(stage: &Stage) -> String {
    let all = ["ipvsadm -Sn", "nft list ruleset", "ip -o addr show"];
    all.map(|command| stage.command(command)).concat()
}

fn until(stage: &Stage, when: &str, holds: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let saved = stage.command("ipvsadm -Sn");
        if holds(&saved) {
            return;
        }
        assert!(Instant::now() < deadline, "{when}: {saved}");
        thread::park_timeout(Duration::from_millis(100));
    }
}

type Said = (Option<i32>, String, String);

fn ran(stage: &Stage, program: &str, args: &[&str]) -> Said {
    stage.on_node(|| said(Command::new(program).args(args).output().unwrap()))
}

/// The same in a control group where nobody can start a process or a thread.
fn alone(stage: &Stage, program: &str, args: &[&str]) -> Said {
    const GROUP: &str = r#"
        cd /sys/fs/cgroup
        if [ ! -e cgroup.procs ]; then mount -t cgroup2 none .; cd /sys/fs/cgroup; fi
        echo +pids >cgroup.subtree_control
        [ -d alone ] || mkdir alone
        echo 1 >alone/pids.max
        echo $$ >alone/cgroup.procs
        exec "$@"
    "#;
    let output = stage.on_node(|| {
        let mut command = Command::new("bash");
        command.args(["-e", "-c", GROUP, "bash", program]);
        command.args(args).output().unwrap()
    });
    let events = fs::read_to_string("/sys/fs/cgroup/alone/pids.events").unwrap();
    assert_eq!(events.trim(), "max 0", "{program} starts processes");
    said(output)
}

fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = PathBuf::from(format!("/tmp/ipvs-programs-{name}"));
    fs::create_dir_all(&folder).unwrap();
    for (file, content) in files {
        fs::write(folder.join(file), content).unwrap();
    }
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const NODE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: ["10.64.1.0/24", "fd10:64:0:1::/64"]}
status: {addresses: [{type: InternalIP, address: 198.18.0.10}, {type: InternalIP, address: "2001:db8:a::10"}]}
"#;

const CONFIG: &str = r#"
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
clusterCIDR: 10.64.0.0/11,fd10:64::/48
ipvs: {syncPeriod: 1s, strictARP: true, scheduler: wrr, tcpTimeout: 700s}
"#;

const WEB: &str = r#"
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: ["10.96.0.0/16", "fd10:96::/112"]}
status: {conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: ["10.96.0.10", "fd10:96::10"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports: [{name: http, port: 80, nodePort: 30080}, {name: dns, port: 53, protocol: UDP, nodePort: 30053}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, namespace: demo, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}, {name: dns, port: 5353, protocol: UDP}]
endpoints: [{addresses: [10.64.1.1], nodeName: n1}, {addresses: [10.64.2.1], nodeName: n2}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, namespace: demo, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080, protocol: TCP}, {name: dns, port: 5353, protocol: UDP}]
endpoints: [{addresses: ["fd10:64:0:1::1"], nodeName: n1}]
"#;
