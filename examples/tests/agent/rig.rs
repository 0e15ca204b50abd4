//! A node with an agent.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use examples::sandbox::{ConnectLoop, Layout, Namespace, PodSpec, Sandbox, Transport};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const CLUSTER_IP: &str = "10.96.0.10";
pub(crate) const NODE_IP: &str = "198.18.0.10";
pub(crate) const NFTABLES: &str = env!("CARGO_BIN_EXE_nftables-proxy");
pub(crate) const IPTABLES: &str = env!("CARGO_BIN_EXE_iptables-proxy");

/// Clients outside, one for each front end: IPVS takes answers of an endpoint to one address and port
/// for those of one connection, also where it has two, through two front ends.
const CLIENTS: [&str; 2] = ["203.0.113.7", "203.0.113.200"];

/// A node with two pods, a client outside, and a folder of manifests.
pub(crate) struct Rig {
    pub(crate) sandbox: Sandbox,
    pub(crate) folder: PathBuf,
}

impl Rig {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("svc-agent-{}-{count}", process::id()));
        fs::create_dir_all(folder.join("manifests")).unwrap();
        fs::create_dir_all(folder.join("locks")).unwrap();
        fs::set_permissions(folder.join("locks"), Permissions::from_mode(0o777)).unwrap();
        let mut layout = Layout::default();
        for n in 0..2 {
            let address = format!("10.64.1.{}", n + 1).parse().unwrap();
            let pod = PodSpec::on_node(format!("web-{n}"), [address]);
            let pod = pod.serving(Transport::Tcp, 8080);
            layout.pods.push(pod.serving(Transport::Udp, 5353));
        }
        let sandbox = Sandbox::build(&layout).unwrap();
        let rig = Self { sandbox, folder };
        rig.endpoints(&["10.64.1.1", "10.64.1.2"]);
        rig
    }

    /// Writes manifests with these endpoints, at once as an editor does.
    pub(crate) fn endpoints(&self, ips: &[&str]) {
        let endpoint = |ip: &&str| {
            format!("- {{addresses: [{ip}], nodeName: n1, conditions: {{ready: true}}}}\n")
        };
        let endpoints: String = ips.iter().map(endpoint).collect();
        let text = MANIFESTS.replace("ENDPOINTS\n", &endpoints);
        let folder = self.folder.join("manifests");
        fs::write(self.folder.join("next"), text).unwrap();
        fs::rename(self.folder.join("next"), folder.join("all.yaml")).unwrap();
    }

    pub(crate) fn start(&self, program: &str, args: &[&str]) -> Agent {
        Agent::start(program, self.sandbox.node(), &self.folder, args)
    }

    pub(crate) fn get(&self, at: &str, path: &str) -> Option<Answer> {
        let at: SocketAddr = at.parse().unwrap();
        self.sandbox.node().run(|| get(at, path)).unwrap()
    }

    /// Waits until the agent has a plan with Services in the kernel.
    pub(crate) fn await_synced(&self, agent: &mut Agent) {
        self.await_metric(agent, "svc_proxy_service_ports{ip_family=\"IPv4\"}", |n| {
            n > 0.0
        });
    }

    pub(crate) fn await_metric(&self, agent: &mut Agent, name: &str, good: fn(f64) -> bool) -> f64 {
        let metrics = agent.metrics.clone();
        agent.until(name, || {
            self.metric(&metrics, name).filter(|value| good(*value))
        })
    }

    pub(crate) fn metric(&self, at: &str, name: &str) -> Option<f64> {
        let text = self.get(at, "/metrics")?.body;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    }

    /// Runs a program in the namespace of the node; what it printed.
    pub(crate) fn tool(&self, program: &str, args: &[&str], input: &str) -> String {
        let lock = self.folder.join("xtables.lock");
        let output = self.sandbox.node().run(|| {
            let mut child = Command::new(program)
                .args(args)
                .env("XTABLES_LOCKFILE", lock)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(input.as_bytes())
                .unwrap();
            child.wait_with_output().unwrap()
        });
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Clients outside that connect to the ClusterIP and to the node port all the time.
    pub(crate) fn stream(&self) -> Vec<ConnectLoop> {
        let node = self.sandbox.node();
        // A port pair that comes again within a minute or two would still be the old connection.
        node.set_sysctls(&[
            ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
            ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
        ])
        .unwrap();
        let targets = [format!("{CLUSTER_IP}:80"), format!("{NODE_IP}:30080")];
        let start = |(client, to): (&str, &String)| {
            let (from, to) = (client.parse().unwrap(), to.parse().unwrap());
            ConnectLoop::start(
                self.sandbox.outside(),
                Some(from),
                to,
                Transport::Tcp,
                PATIENCE,
            )
            .unwrap()
        };
        CLIENTS.into_iter().zip(&targets).map(start).collect()
    }
}

/// How long something may take in all: an emulated processor takes longer.
fn patience() -> Duration {
    match env::var_os("SVC_VM") {
        None => PATIENCE * 3,
        Some(_) => PATIENCE * 18,
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits until every loop has made so many more attempts.
pub(crate) fn stream_on(loops: &[ConnectLoop], more: u64) {
    let goals: Vec<u64> = loops.iter().map(|one| one.counts().made + more).collect();
    let deadline = Instant::now() + patience();
    for (one, goal) in loops.iter().zip(goals) {
        while one.counts().made < goal {
            assert!(Instant::now() < deadline, "no progress: {:?}", one.counts());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Ends loops; every connection came about, and two pods answered.
pub(crate) fn end_stream(loops: Vec<ConnectLoop>) {
    for one in loops {
        let counts = one.stop();
        println!("{} connections, {} failed", counts.made, counts.failed);
        assert_eq!(counts.failed, 0, "{counts:?}");
        assert!(counts.by_pod.len() == 2, "{counts:?}");
    }
}

/// A running program.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
    pub(crate) metrics: String,
}

impl Agent {
    pub(crate) fn start(program: &str, at: &Namespace, folder: &Path, args: &[&str]) -> Self {
        let manifests = folder.join("manifests");
        let objects = ["--manifests", manifests.to_str().unwrap(), "--node", "n1"];
        Self::start_with(program, at, folder, &objects, args)
    }

    pub(crate) fn start_with(
        program: &str,
        at: &Namespace,
        folder: &Path,
        objects: &[&str],
        args: &[&str],
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = folder.join(format!("log-{count}"));
        let port = 11_000 + count * 2;
        let metrics = format!("127.0.0.1:{}", port + 1);
        let netns = format!("/proc/{}/task/{}/ns/net", process::id(), at.tid());
        let child = Command::new(program)
            .args(objects)
            .args(["--netns", &netns])
            .args(match args.contains(&"--healthz-bind-address") {
                true => Vec::new(),
                false => vec!["--healthz-bind-address".into(), format!("127.0.0.1:{port}")],
            })
            .args(["--metrics-bind-address", &metrics])
            .args([
                "--nftables-min-sync-period=0s",
                "--iptables-min-sync-period=0s",
                "-v",
                "4",
            ])
            .args(args)
            .env("XTABLES_LOCKFILE", folder.join("xtables.lock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            log,
            metrics,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn health(&self) -> String {
        let (ip, port) = self.metrics.rsplit_once(':').unwrap();
        format!("{ip}:{}", port.parse::<u16>().unwrap() - 1)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for something, and for the program not to end before.
    pub(crate) fn until<T>(&mut self, what: &str, mut get: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(found) = get() {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            let late = Instant::now() > deadline;
            assert!(
                ended.is_none() && !late,
                "no {what} ({ended:?}): {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn until_logged(&mut self, text: &str) {
        let log = self.log.clone();
        let logged = || {
            fs::read_to_string(&log)
                .unwrap()
                .contains(text)
                .then_some(())
        };
        self.until(text, logged);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Ends it as a container runtime does.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        let log = self.log();
        assert!(status.success(), "{status}: {log}");
        log
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an HTTP server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(crate) fn get(at: SocketAddr, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head: head.into(),
        body: body.into(),
    })
}

const MANIFESTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
status:
  addresses: [{type: InternalIP, address: 198.18.0.10}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ipFamilies: [IPv4]
  ports:
  - {name: t, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: u, protocol: UDP, port: 53, targetPort: 5353, nodePort: 30053}
---
apiVersion: v1
kind: Service
metadata: {name: lb, namespace: demo}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 32100
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20]
  ipFamilies: [IPv4]
  ports:
  - {name: t, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30090}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: demo, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: t, protocol: TCP, port: 8080}, {name: u, protocol: UDP, port: 5353}]
endpoints:
ENDPOINTS
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: lb-1, namespace: demo, labels: {kubernetes.io/service-name: lb}}
addressType: IPv4
ports: [{name: t, protocol: TCP, port: 8080}]
endpoints:
ENDPOINTS
";
