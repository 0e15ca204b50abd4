//! One plain DNAT rule and nothing else: the least that any proxy costs that translates addresses.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;

use backend_nftables::netlink::{Batch, Existing, Place, Socket, TableId};
use backend_nftables::rule::{
    BaseChain, Bytes, Chain, ChainName, ChainType, CmpOp, Expr, Family, Hook, Immediate, MetaKey,
    NatFlags, NatKind, PayloadBase, Policy, Register, Rule, priority,
};

use crate::iptables_proxy::VariantArg;
use crate::sync_bench::lock_file;

/// Number of TCP in the IP header.
const TCP: u8 = 6;

/// Sends connections to `service` to `pod`, by a rule of iptables.
pub(super) fn iptables(
    variant: VariantArg,
    service: SocketAddrV4,
    pod: SocketAddrV4,
) -> Result<(), Box<dyn Error>> {
    let program = match variant {
        VariantArg::Legacy => "iptables-legacy",
        VariantArg::Nft => "iptables-nft",
    };
    let (ip, port) = (service.ip(), service.port());
    let rule = format!(
        "-w 5 -t nat -A OUTPUT -d {ip} -p tcp --dport {port} -j DNAT --to-destination {pod}"
    );
    let output = Command::new(program)
        .args(rule.split(' '))
        .env("XTABLES_LOCKFILE", lock_file())
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program} {rule}: {}", said.trim()).into())
        }
    }
}

/// Sends connections to `service` to `pod`, by a rule of nf_tables.
pub(super) fn nftables(service: SocketAddrV4, pod: SocketAddrV4) -> Result<(), Box<dyn Error>> {
    let mut batch = Batch::new(TableId::new(Family::Ip, "one-dnat"));
    batch.add_table(0, None, Existing::Refuse);
    let name = ChainName::from("output");
    let chain = Chain {
        name: name.clone(),
        base: Some(BaseChain {
            kind: ChainType::Nat,
            hook: Hook::Output,
            priority: priority::DSTNAT,
            policy: Policy::Accept,
        }),
        comment: None,
    };
    batch.add_chain(0, &chain, Existing::Refuse);
    let rule = Rule {
        chain: name,
        exprs: exprs(service, pod),
        comment: None,
    };
    batch.add_rule(0, &rule, Place::Last);
    Socket::open()?.commit(&batch)?;
    Ok(())
}

/// `ip daddr SERVICE tcp dport PORT dnat to POD:PORT`
fn exprs(service: SocketAddrV4, pod: SocketAddrV4) -> Vec<Expr> {
    let (r0, r1) = (Register::R0, Register::R1);
    let equals = |data: Bytes| Expr::Cmp {
        op: CmpOp::Eq,
        sreg: r0,
        data,
    };
    let payload = |base, offset, len| Expr::Payload {
        base,
        offset,
        len,
        dreg: r0,
    };
    let load = |dreg, data: Bytes| Expr::Immediate(Immediate::Data { dreg, data });
    let ip = |ip: &Ipv4Addr| Bytes::from(ip.octets());
    let port = |port: u16| Bytes::from(port.to_be_bytes());
    vec![
        payload(PayloadBase::Network, 16, 4),
        equals(ip(service.ip())),
        Expr::Meta {
            key: MetaKey::L4Proto,
            dreg: r0,
        },
        equals(Bytes::from([TCP])),
        payload(PayloadBase::Transport, 2, 2),
        equals(port(service.port())),
        load(r0, ip(pod.ip())),
        load(r1, port(pod.port())),
        Expr::Nat {
            kind: NatKind::Dnat,
            family: Family::Ip,
            addr: Some(r0),
            port: Some(r1),
            flags: NatFlags::NONE,
        },
    ]
}
