//! What restoring costs in the form that kube-proxy writes: a list of all service ports, a chain for
//! each of them and a chain for each endpoint. A measure of the machine that does not depend on our
//! own rules.
//!
//! ```text
//! cargo run --release -p backend-iptables --example chain_per_endpoint -- legacy 10000 3
//! ```
//!
//! Arguments: variant, Services, endpoints of each. Needs root; works in a network namespace of its
//! own.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [variant, services, endpoints] = args.as_slice() else {
        return Err("usage: chain_per_endpoint legacy|nft SERVICES ENDPOINTS".into());
    };
    let text = rules(services.parse()?, endpoints.parse()?)?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    let lock = std::env::temp_dir().join(format!("chain-per-endpoint-{}", std::process::id()));
    let start = Instant::now();
    let mut restore = Command::new(format!("iptables-{variant}-restore"))
        .arg("--noflush")
        .env("XTABLES_LOCKFILE", &lock)
        .stdin(Stdio::piped())
        .spawn()?;
    // Taking it closes it.
    if let Some(mut input) = restore.stdin.take() {
        input.write_all(text.as_bytes())?;
    }
    let status = restore.wait()?;
    let wall = start.elapsed();
    let _ = std::fs::remove_file(lock);
    if !status.success() {
        return Err(format!("iptables-{variant}-restore: {status}").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let millis =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3;
    let cpu = millis(usage.user_time()) + millis(usage.system_time());
    println!(
        "{{\"cpu_ms\":{cpu:.1},\"wall_ms\":{:.1}}}",
        wall.as_secs_f64() * 1e3
    );
    Ok(())
}

fn rules(services: u32, endpoints: u32) -> Result<String, std::fmt::Error> {
    let (mut chains, mut rules) = (String::new(), String::new());
    chains += "*nat\n:PEER-SERVICES - [0:0]\n:PEER-MARK - [0:0]\n";
    rules += "-A PEER-MARK -j MARK --or-mark 0x4000\n";
    for service in 0..services {
        let [_, a, b, c] = service.to_be_bytes();
        let (ip, chain) = (
            format!("10.{}.{b}.{c}", 96 + u32::from(a)),
            format!("PEER-SVC-{service:012}"),
        );
        writeln!(chains, ":{chain} - [0:0]")?;
        writeln!(
            rules,
            "-A PEER-SERVICES -d {ip}/32 -p tcp -m comment --comment \"demo/s{service}:web cluster IP\" -m tcp --dport 80 -j {chain}"
        )?;
        writeln!(
            rules,
            "-A {chain} ! -s 10.128.0.0/9 -d {ip}/32 -p tcp -m comment --comment \"demo/s{service}:web cluster IP\" -m tcp --dport 80 -j PEER-MARK"
        )?;
        for endpoint in 0..endpoints {
            let (to, own) = (
                format!("10.{}.{b}.{c}", 128 + 2 * endpoint + u32::from(a)),
                format!("PEER-SEP-{service:08}{endpoint:04}"),
            );
            let comment = format!("-m comment --comment \"demo/s{service}:web -> {to}:8080\"");
            let share = match endpoints - endpoint {
                1 => String::new(),
                left => format!(
                    "-m statistic --mode random --probability {:.10} ",
                    1.0 / f64::from(left)
                ),
            };
            writeln!(chains, ":{own} - [0:0]")?;
            writeln!(rules, "-A {chain} {comment} {share}-j {own}")?;
            writeln!(rules, "-A {own} -s {to}/32 {comment} -j PEER-MARK")?;
            writeln!(
                rules,
                "-A {own} -p tcp {comment} -m tcp -j DNAT --to-destination {to}:8080"
            )?;
        }
    }
    Ok(format!("{chains}{rules}COMMIT\n"))
}
