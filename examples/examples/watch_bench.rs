//! How long a watched list takes to arrive, what memory it takes, and how late events are.
//!
//! `cargo run --release -p examples --features cluster --example watch_bench [SERVICES [ENDPOINTS]]`
//!
//! The API server is a process of its own, on the same machine. JSON on standard output.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use examples::api_server::{ApiServer, Store, Streaming, Transport};
use examples::cluster_watch::{Access, Interest, Notice, Options, Tuning, start};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::{Value as Json, json};
use svc_core::wire::PodNames;
use svc_core::{ClusterState, Event, WatchEvent};

/// Changes whose delay is measured.
const CHANGES: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or| arguments.get(at).map_or(Ok(or), |text| text.parse());
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(number(1, 0)?, number(2, 0)?, arguments.get(3)),
        _ => measure(number(0, 10_000)?, number(1, 3)?),
    }
}

/// Serves objects; changes one for each line of standard input.
fn serve(services: usize, endpoints: usize, lists: Option<&String>) -> Result<(), Box<dyn Error>> {
    let (store, asked) = Store::new();
    drop(asked);
    if lists.is_some_and(|lists| lists == "pages") {
        store.set_streaming(Streaming::Refused);
    }
    for at in 0..services {
        store.put("services", service(at));
        store.put("endpointslices", slice(at, endpoints));
    }
    store.put("nodes", json!({"metadata": {"name": "node-1"}}));
    let server = ApiServer::start(&store, Transport::Plain)?;
    let mut out = std::io::stdout();
    write!(out, "{}\0", server.kubeconfig())?;
    out.flush()?;
    for (at, line) in std::io::stdin().lines().enumerate() {
        line?;
        let mut slice = slice(at % services.max(1), endpoints);
        slice["endpoints"][0]["addresses"] = json!([address(at, 200)]);
        let key = "endpoints.kubernetes.io/last-change-trigger-time";
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let time = k8s_openapi::jiff::Timestamp::new(
            i64::try_from(now.as_secs())?,
            i32::try_from(now.subsec_nanos())?,
        )?;
        slice["metadata"]["annotations"][key] = json!(time.to_string());
        store.put("endpointslices", slice);
    }
    Ok(())
}

fn measure(services: usize, endpoints: usize) -> Result<(), Box<dyn Error>> {
    let mut result = json!({"services": services, "endpoints": endpoints});
    for lists in ["streamed", "pages"] {
        // Memory of a run is that of a process.
        if std::env::var_os("LISTS").is_none() {
            let mut child = Command::new(std::env::current_exe()?);
            child.args([services.to_string(), endpoints.to_string()]);
            let output = child
                .env("LISTS", lists)
                .stderr(Stdio::inherit())
                .output()?;
            result[lists] = serde_json::from_slice(&output.stdout)?;
        }
    }
    match std::env::var("LISTS") {
        Ok(lists) => println!("{}", run(services, endpoints, &lists)?),
        Err(_) => println!("{result}"),
    }
    Ok(())
}

fn run(services: usize, endpoints: usize, lists: &str) -> Result<Json, Box<dyn Error>> {
    let mut server = Command::new(std::env::current_exe()?);
    let arguments = [services.to_string(), endpoints.to_string()];
    server
        .arg("serve")
        .args(arguments)
        .arg(lists)
        .env_remove("LISTS");
    let mut server = server
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut input, output) = (server.stdin.take(), server.stdout.take());
    let mut kubeconfig = Vec::new();
    BufReader::new(output.ok_or("no output")?).read_until(0, &mut kubeconfig)?;
    kubeconfig.pop();
    let path = std::env::temp_dir().join(format!("watch-bench-{}", std::process::id()));
    std::fs::write(&path, kubeconfig)?;

    let before = resident()?;
    let started = Instant::now();
    let (sender, notices) = channel();
    let options = Options {
        access: Access {
            kubeconfig: Some(path.clone()),
        },
        interest: Interest::Proxy {
            node: "node-1".into(),
        },
        pod_names: PodNames::Drop,
        tuning: Tuning::default(),
    };
    // Time of arrival in the channel, not of the look at it.
    let watch = start(options, move |notice| {
        match sender.send((Instant::now(), notice)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    let mut state = ClusterState::new();
    let mut list = Duration::ZERO;
    while let Ok((at, notice)) = notices.recv() {
        match notice {
            Notice::Event(event) => drop(state.apply(event)),
            Notice::Complete => {
                list = at - started;
                break;
            }
            Notice::Link { kind, link } => eprintln!("{kind:?}: {link:?}"),
            Notice::Pod(_)
            | Notice::Namespace(_)
            | Notice::Remarks { .. }
            | Notice::Triggered(_) => {}
        }
    }
    let applied = started.elapsed();
    let (resident, peak, cpu) = (resident()?, peak()?, cpu()?);
    let mut delays = Vec::new();
    let input = input.as_mut().ok_or("no input")?;
    while delays.len() < CHANGES {
        writeln!(input, "change")?;
        let mut triggered = None;
        while let Ok((_, notice)) = notices.recv() {
            match notice {
                Notice::Triggered(at) => triggered = Some(at),
                Notice::Event(event) => {
                    let is_change = matches!(event, Event::EndpointSlice(WatchEvent::Apply(_)));
                    state.apply(event);
                    if let (true, Some(at)) = (is_change, triggered) {
                        delays.push(SystemTime::now().duration_since(at)?);
                        break;
                    }
                }
                Notice::Link { kind, link } => eprintln!("{kind:?}: {link:?}"),
                Notice::Pod(_)
                | Notice::Namespace(_)
                | Notice::Remarks { .. }
                | Notice::Complete => {}
            }
        }
    }
    drop(watch);
    server.kill()?;
    server.wait()?;
    std::fs::remove_file(path)?;
    delays.sort_unstable();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize].as_micros();
    Ok(json!({
        "list_ms": list.as_millis(), "applied_ms": applied.as_millis(), "cpu_ms": cpu.as_millis(),
        "rss_kib_before": before, "rss_kib": resident, "peak_rss_kib": peak,
        "event_us": {"p50": at(0.5), "p99": at(0.99)},
    }))
}

/// Processor time of this process, in user and kernel.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds());
    let sum = micros(usage.user_time())? + micros(usage.system_time())?;
    Ok(Duration::from_micros(sum))
}

fn resident() -> Result<u64, Box<dyn Error>> {
    status("VmRSS:")
}

fn peak() -> Result<u64, Box<dyn Error>> {
    status("VmHWM:")
}

fn status(name: &str) -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn address(at: usize, salt: usize) -> String {
    format!("10.{}.{}.{}", 64 + salt % 100, at / 250 % 250, at % 250 + 1)
}

fn metadata(name: &str, labels: Json) -> Json {
    // As large as what servers keep about who set which field.
    let fields = json!({"f:spec": {"f:clusterIP": {}, "f:ports": {"k:{\"port\":80}": {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}, "f:selector": {}, "f:sessionAffinity": {}, "f:type": {}}});
    json!({
        "name": name, "namespace": "bench", "labels": labels,
        "uid": format!("5a5b0c5e-0000-4000-8000-{:012}", name.len()),
        "creationTimestamp": "2026-01-05T08:00:00Z",
        "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "time": "2026-01-05T08:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}],
    })
}

fn service(at: usize) -> Json {
    let name = format!("service-{at}");
    let ip = format!(
        "10.{}.{}.{}",
        96 + at / 62_500,
        at / 250 % 250,
        at % 250 + 1
    );
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(&name, json!({"app": name})),
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {}},
    })
}

fn slice(at: usize, endpoints: usize) -> Json {
    let name = format!("service-{at}-x7k2p");
    let endpoint = |salt: usize| {
        json!({
            "addresses": [address(at, salt)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", (at + salt) % 100), "zone": "zone-a",
            "targetRef": {"kind": "Pod", "namespace": "bench", "name": format!("service-{at}-{salt}-5d8f"), "uid": "5a5b0c5e-0000-4000-8000-000000000000"},
        })
    };
    let endpoints: Vec<Json> = (0..endpoints).map(endpoint).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": metadata(&name, json!({"kubernetes.io/service-name": format!("service-{at}")})),
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}
