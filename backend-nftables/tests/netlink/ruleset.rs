//! A ruleset with every kind of object and the longest rule of the design.

use backend_nftables::netlink::{Batch, Existing, Place, Socket, TableId};
use backend_nftables::rule::{
    BaseChain, ByteorderOp, Bytes, Chain, ChainType, CmpOp, CtKey, DataType, Direction, DynsetOp,
    Element, ElementKind, Expr, Family, FibFlags, FibResult, Found, Hook, Immediate, Lookup,
    MetaKey, NatFlags, NatKind, NumgenKind, PayloadBase, Policy, Register, Reject, Rule, Set,
    SetFlags, SetName, Type, Verdict, priority,
};

pub(crate) struct Ruleset {
    family: Family,
    sets: Vec<Set>,
    elements: Vec<(SetName, Element)>,
    chains: Vec<Chain>,
    rules: Vec<Rule>,
}

pub(crate) fn table_id(family: Family) -> TableId {
    TableId::new(family, "codec")
}

impl Ruleset {
    pub(crate) fn of(family: Family) -> Self {
        Self {
            family,
            sets: sets(family),
            elements: elements(family),
            chains: chains(),
            rules: rules(family),
        }
    }

    pub(crate) fn batch(&self) -> Batch {
        let mut batch = Batch::new(table_id(self.family));
        batch.add_table(0, Some("table comment"), Existing::Refuse);
        self.sets
            .iter()
            .for_each(|set| batch.add_set(1, set, Existing::Refuse));
        self.chains
            .iter()
            .for_each(|chain| batch.add_chain(2, chain, Existing::Refuse));
        self.rules
            .iter()
            .for_each(|rule| batch.add_rule(3, rule, Place::Last));
        for (set, element) in &self.elements {
            batch.add_element(4, set, element, Existing::Refuse);
        }
        batch
    }

    pub(crate) fn assert_held(&self, socket: &mut Socket) {
        let id = table_id(self.family);
        let table = socket.table(&id).unwrap().unwrap().object;
        assert_eq!(table.comment.unwrap().as_str(), "table comment");
        let mut sets: Vec<_> = socket
            .sets(&id)
            .unwrap()
            .into_iter()
            .map(|held| held.object)
            .collect();
        let mut wanted = self.sets.clone();
        sets.sort();
        wanted.sort();
        assert_eq!(sets, wanted);
        let chains: Vec<_> = socket
            .chains(&id)
            .unwrap()
            .into_iter()
            .map(|held| held.object)
            .collect();
        assert_eq!(chains, self.chains);
        let rules: Vec<_> = socket
            .rules(&id)
            .unwrap()
            .into_iter()
            .map(|held| held.object)
            .collect();
        assert_eq!(rules, self.rules);
        for set in &self.sets {
            let mut held = socket.elements(&id, &set.name).unwrap();
            let of_set = self.elements.iter().filter(|(name, _)| *name == set.name);
            let mut wanted: Vec<_> = of_set.map(|(_, element)| element.clone()).collect();
            held.sort();
            wanted.sort();
            assert_eq!(held, wanted, "{}", set.name);
        }
    }
}

fn address(family: Family) -> DataType {
    match family {
        Family::Ip6 => DataType::Ipv6Addr,
        Family::Ip | Family::Inet => DataType::Ipv4Addr,
    }
}

fn address_bytes(family: Family, last: u8) -> Vec<u8> {
    match family {
        Family::Ip6 => [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last].to_vec(),
        Family::Ip | Family::Inet => [10, 0, 0, last].to_vec(),
    }
}

fn sets(family: Family) -> Vec<Set> {
    use DataType::{InetProto, InetService, Mark};
    let address = address(family);
    let front = Type::new(&[address, InetProto, InetService]);
    let slot = Type::new(&[Mark, InetService]);
    let affinity = Set::map(
        "affinity",
        Type::new(&[Mark, address]),
        Type::new(&[Mark, address, InetService]),
    )
    .with_flags(SetFlags::DYNAMIC | SetFlags::TIMEOUT);
    vec![
        Set::map("addresses", Type::from(address), Type::from(Mark)).with_comment("set comment"),
        Set::map("frontends", front.clone(), Type::new(&[Mark, Mark, Mark])),
        Set::map(
            "pools",
            Type::from(Mark),
            Type::new(&[Mark, Mark, InetService]),
        )
        .with_comment("set comment"),
        Set::map(
            "slots",
            Type::new(&[InetService, InetService]),
            Type::new(&[Mark, InetService]),
        )
        .with_flags(SetFlags::INTERVAL | SetFlags::CONCAT),
        Set::map("endpoints", slot, Type::new(&[address, InetService])),
        Set {
            timeout: Some(10_800_000),
            gc_interval: Some(10_000),
            size: Some(262_144),
            ..affinity
        },
        Set::new("firewalled", front),
        Set::new("pod_cidrs", Type::from(address)).with_flags(SetFlags::INTERVAL),
        Set::new("interfaces", Type::from(DataType::Ifname)),
        Set::verdict_map("classes", Type::from(Mark)),
    ]
}

fn elements(family: Family) -> Vec<(SetName, Element)> {
    let mark = |value: u32| value.to_ne_bytes();
    let one = address_bytes(family, 1);
    let join = |fields: &[&[u8]]| Bytes::concat(fields).unwrap();
    let whole = |value: &[u8]| Bytes::new(value).unwrap();
    let port = |value: u16| value.to_be_bytes();
    let front = join(&[&one, &[6], &port(80)]);
    let mut all = vec![
        ("addresses", Element::map(whole(&one), Bytes::host_u32(1))),
        (
            "frontends",
            Element::map(front.clone(), join(&[&mark(1), &mark(2), &mark(7)]))
                .with_comment(Some("ns/web:http".into())),
        ),
        (
            "pools",
            Element::map(Bytes::host_u32(7), join(&[&mark(0), &mark(16), &port(3)])),
        ),
        ("firewalled", Element::new(front)),
        ("pod_cidrs", Element::new(whole(&one))),
        (
            "pod_cidrs",
            Element::new(whole(&address_bytes(family, 9))).with_kind(ElementKind::IntervalEnd),
        ),
        ("interfaces", Element::new(*b"eth0\0\0\0\0\0\0\0\0\0\0\0\0")),
        (
            "classes",
            Element::map(Bytes::host_u32(1), Verdict::Goto("reject".into())),
        ),
        ("classes", Element::map(Bytes::host_u32(2), Verdict::Drop)),
    ];
    for slot in 0..3_u16 {
        let (from, to) = (slot * 21_845, slot * 21_845 + 21_844);
        let range = Element::map(
            join(&[&port(3), &port(from)]),
            join(&[&mark(0), &port(slot)]),
        )
        .with_key_end(join(&[&port(3), &port(to)]));
        all.push(("slots", range));
        let end = join(&[&address_bytes(family, slot as u8 + 100), &port(8080)]);
        all.push((
            "endpoints",
            Element::map(join(&[&mark(7), &port(slot)]), end),
        ));
    }
    all.into_iter()
        .map(|(set, element)| (SetName::from(set), element))
        .collect()
}

fn chains() -> Vec<Chain> {
    let base = |kind, hook, priority, policy| {
        Some(BaseChain {
            kind,
            hook,
            priority,
            policy,
        })
    };
    let chain = |name: &str, base| Chain {
        name: name.into(),
        base,
        comment: None,
    };
    vec![
        Chain {
            comment: Some("chain comment".into()),
            ..chain("reject", None)
        },
        chain("services", None),
        chain("misc", None),
        chain(
            "prerouting",
            base(
                ChainType::Nat,
                Hook::Prerouting,
                priority::DSTNAT,
                Policy::Accept,
            ),
        ),
        chain(
            "postrouting",
            base(
                ChainType::Nat,
                Hook::Postrouting,
                priority::SRCNAT,
                Policy::Accept,
            ),
        ),
        chain(
            "forward",
            base(
                ChainType::Filter,
                Hook::Forward,
                priority::FILTER,
                Policy::Drop,
            ),
        ),
    ]
}

fn rules(family: Family) -> Vec<Rule> {
    let rule = |chain: &str, exprs| Rule {
        chain: chain.into(),
        exprs,
        comment: None,
    };
    let verdict = |verdict| Expr::Immediate(Immediate::Verdict(verdict));
    let masquerade = Expr::Masquerade {
        flags: NatFlags::FULLY_RANDOM,
    };
    vec![
        rule(
            "reject",
            vec![
                Expr::Counter,
                Expr::Reject(Reject::port_unreachable(family)),
            ],
        ),
        Rule {
            comment: Some("rule comment".into()),
            ..rule("services", dispatch(family))
        },
        rule("misc", misc(family)),
        rule("misc", loads(family)),
        rule(
            "prerouting",
            vec![verdict(Verdict::Jump("services".into()))],
        ),
        rule("prerouting", vec![verdict(Verdict::Goto("misc".into()))]),
        rule(
            "postrouting",
            [status(), vec![verdict(Verdict::Return)]].concat(),
        ),
        rule("postrouting", vec![masquerade]),
        rule(
            "postrouting",
            vec![Expr::Masquerade {
                flags: NatFlags::NONE,
            }],
        ),
        rule("forward", vec![verdict(Verdict::Accept)]),
    ]
}

fn lookup(set: &str, sreg: Register, found: Found) -> Expr {
    Expr::Lookup(Lookup {
        set: set.into(),
        sreg,
        found,
    })
}

fn register(index: u8) -> Register {
    Register::new(index).unwrap()
}

/// Rule 1 of the dispatch chain: front end, pool, slot and endpoint in one rule.
fn dispatch(family: Family) -> Vec<Expr> {
    use Register as R;
    let (words, offset) = match family {
        Family::Ip6 => (4, 24),
        Family::Ip | Family::Inet => (1, 16),
    };
    let th = |offset, len, dreg| Expr::Payload {
        base: PayloadBase::Transport,
        offset,
        len,
        dreg,
    };
    let (kind, policy) = (register(words), register(words + 1));
    let pool = register(words + 2);
    let (flags, class, count) = (
        register(words + 3),
        register(words + 4),
        register(words + 5),
    );
    let (random, pad, slot) = (
        register(words + 6),
        register(words + 7),
        register(words + 8),
    );
    let zero = Bytes::host_u32(0);
    vec![
        Expr::Payload {
            base: PayloadBase::Network,
            offset,
            len: u32::from(words) * 4,
            dreg: R::R0,
        },
        Expr::Meta {
            key: MetaKey::L4Proto,
            dreg: kind,
        },
        th(2, 2, policy),
        th(0, 4, pool),
        lookup("frontends", R::R0, Found::Load(kind)),
        Expr::Cmp {
            op: CmpOp::Ne,
            sreg: kind,
            data: zero.clone(),
        },
        th(0, 4, class),
        th(0, 4, count),
        lookup("pools", pool, Found::Load(flags)),
        Expr::Cmp {
            op: CmpOp::Ge,
            sreg: flags,
            data: zero.clone(),
        },
        Expr::Cmp {
            op: CmpOp::Eq,
            sreg: class,
            data: zero.clone(),
        },
        Expr::Numgen {
            kind: NumgenKind::Random,
            modulus: 65_536,
            offset: 0,
            dreg: random,
        },
        Expr::Byteorder {
            op: ByteorderOp::Hton,
            sreg: random,
            dreg: random,
            len: 2,
            size: 2,
        },
        th(0, 4, slot),
        lookup("slots", count, Found::Load(pad)),
        Expr::Cmp {
            op: CmpOp::Ge,
            sreg: pad,
            data: zero.clone(),
        },
        Expr::Bitwise {
            sreg: pool,
            dreg: pad,
            len: 4,
            mask: Bytes::from([0xff; 4]),
            xor: zero,
        },
        lookup("endpoints", pad, Found::Load(R::R0)),
        Expr::Nat {
            kind: NatKind::Dnat,
            family,
            addr: Some(R::R0),
            port: Some(register(words)),
            flags: NatFlags::NONE,
        },
    ]
}

fn status() -> Vec<Expr> {
    use Register as R;
    vec![
        Expr::Ct {
            key: CtKey::Status,
            direction: None,
            dreg: R::R0,
        },
        Expr::Bitwise {
            sreg: R::R0,
            dreg: R::R0,
            len: 4,
            mask: Bytes::host_u32(0x20),
            xor: Bytes::host_u32(0),
        },
        Expr::Cmp {
            op: CmpOp::Eq,
            sreg: R::R0,
            data: Bytes::host_u32(0),
        },
    ]
}

/// Sets from the packet path, verdict maps, inverted look-ups.
fn misc(family: Family) -> Vec<Expr> {
    use Register as R;
    let (words, saddr) = match family {
        Family::Ip6 => (4, 8),
        Family::Ip | Family::Inet => (1, 12),
    };
    let source = |dreg| Expr::Payload {
        base: PayloadBase::Network,
        offset: saddr,
        len: u32::from(words) * 4,
        dreg,
    };
    let data = |dreg, data| Expr::Immediate(Immediate::Data { dreg, data });
    let update = |op, timeout| Expr::Dynset {
        op,
        set: "affinity".into(),
        key: R::R0,
        data: Some(R::R8),
        timeout,
    };
    vec![
        source(R::R0),
        lookup("pod_cidrs", R::R0, Found::Break),
        data(R::R0, Bytes::host_u32(7)),
        source(R::R1),
        data(R::R8, Bytes::host_u32(7)),
        source(R::R9),
        data(register(9 + words), Bytes::from([0, 80, 0, 0])),
        update(DynsetOp::Update, Some(10_800_000)),
        update(DynsetOp::Add, None),
        update(DynsetOp::Delete, None),
        Expr::Meta {
            key: MetaKey::Iifname,
            dreg: R::R4,
        },
        lookup("interfaces", R::R4, Found::Continue),
        Expr::Meta {
            key: MetaKey::Mark,
            dreg: R::R0,
        },
        lookup("classes", R::R0, Found::Verdict),
    ]
}

/// The remaining loads.
fn loads(family: Family) -> Vec<Expr> {
    use Register as R;
    let (daddr, ct) = match family {
        Family::Ip6 => (FibFlags::DADDR, CtKey::DstIp6),
        Family::Ip | Family::Inet => (FibFlags::DADDR, CtKey::DstIp),
    };
    let original = Some(Direction::Original);
    vec![
        Expr::Fib {
            result: FibResult::AddrType,
            flags: daddr,
            dreg: R::R0,
        },
        Expr::Cmp {
            op: CmpOp::Ne,
            sreg: R::R0,
            data: Bytes::host_u32(2),
        },
        Expr::Fib {
            result: FibResult::Oif,
            flags: FibFlags::SADDR | FibFlags::IIF,
            dreg: R::R5,
        },
        Expr::Ct {
            key: ct,
            direction: original,
            dreg: R::R0,
        },
        Expr::Ct {
            key: CtKey::Protocol,
            direction: None,
            dreg: R::R4,
        },
        Expr::Ct {
            key: CtKey::ProtoDst,
            direction: original,
            dreg: R::R5,
        },
        Expr::Ct {
            key: CtKey::ProtoSrc,
            direction: Some(Direction::Reply),
            dreg: R::R6,
        },
        Expr::Ct {
            key: CtKey::State,
            direction: None,
            dreg: R::R7,
        },
        Expr::Ct {
            key: CtKey::Direction,
            direction: None,
            dreg: R::R8,
        },
        Expr::Meta {
            key: MetaKey::NfProto,
            dreg: R::R9,
        },
        Expr::Jhash {
            sreg: R::R0,
            len: 4,
            modulus: 10,
            seed: Some(9),
            offset: 3,
            dreg: R::R12,
        },
        Expr::Immediate(Immediate::Data {
            dreg: R::R13,
            data: Bytes::host_u32(0x55),
        }),
        Expr::MetaSet {
            key: MetaKey::Mark,
            sreg: R::R13,
        },
    ]
}
