//! Laws of the codec: what is written reads back, and no bytes make the reader panic.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::attr::{Header, Message, Writer, message, messages};
use super::batch::{Batch, Existing, Place, TableId, kind_of};
use super::decode::{
    decode_anything, decode_chain, decode_elements, decode_rule, decode_set, decode_table,
};
use super::encode::{Part, encode_chain, encode_element, encode_rule, encode_set, encode_table};
use super::wire::elem;
use crate::rule::{
    BaseChain, ByteOrder, ByteorderOp, Bytes, Chain, ChainName, ChainType, CmpOp, Comment, CtKey,
    Data, DataType, Direction, DynsetOp, Element, ElementKind, Expr, Family, FibFlags, FibResult,
    Found, Hook, Immediate, Lookup, MetaKey, NatFlags, NatKind, NumgenKind, PayloadBase, Policy,
    Register, Reject, Rule, Set, SetData, SetFlags, SetName, Table, TableName, TableState, Type,
    Verdict,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn rules_round_trip(value in rule()) {
        let bytes = encoded(|to| encode_rule(to, &table_name(), &value));
        let held = decode_rule(first(&bytes).attrs()).unwrap();
        prop_assert_eq!(&held.object, &value);
        prop_assert_eq!(held.table, table_name());
        prop_assert_eq!(encoded(|to| encode_rule(to, &table_name(), &held.object)), bytes);
    }

    #[test]
    fn sets_round_trip(value in set()) {
        let bytes = encoded(|to| encode_set(to, &table_name(), &value, 1));
        let held = decode_set(first(&bytes).attrs()).unwrap();
        prop_assert_eq!(&held.object, &value);
        prop_assert_eq!(encoded(|to| encode_set(to, &table_name(), &held.object, 1)), bytes);
    }

    #[test]
    fn elements_round_trip(values in vec(element(), 0..20)) {
        let bytes = encoded(|to| {
            to.nest(elem::LIST_ELEMENTS, |to| {
                values.iter().for_each(|value| encode_element(to, value, Part::All));
            });
        });
        let mut found = Vec::new();
        decode_elements(first(&bytes).attrs(), |element| found.push(element)).unwrap();
        prop_assert_eq!(found, values);
    }

    #[test]
    fn chains_and_tables_round_trip(chain in chain(), family in family(), comment in comment()) {
        let bytes = encoded(|to| encode_chain(to, &table_name(), &chain));
        prop_assert_eq!(decode_chain(first(&bytes).attrs()).unwrap().object, chain);
        let table = Table { family, name: table_name(), comment, state: TableState::Active };
        let mut bytes = Vec::new();
        message(&mut bytes, HEADER, family.code(), 0, |to| encode_table(to, &table));
        prop_assert_eq!(decode_table(&first(&bytes)).unwrap().object, table);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..512)) {
        decode_anything(&bytes);
    }

    /// Random bytes rarely get past the first length: damage good ones.
    #[test]
    fn no_damage_makes_the_reader_panic(
        rule in rule(),
        set in set(),
        element in element(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<proptest::sample::Index>(),
    ) {
        let mut batch = Batch::new(TableId::new(Family::Ip, "t"));
        batch.add_set(0, &set, Existing::Keep);
        batch.add_rule(1, &rule, Place::Last);
        batch.add_element(2, &set.name, &element, Existing::Keep);
        let mut bytes = batch.bytes().to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(keep.index(bytes.len()));
        decode_anything(&bytes);
    }
}

#[test]
fn the_reader_understands_what_it_should() {
    let bytes = encoded(|to| to.string(1, "t"));
    assert!(decode_anything(&bytes) > 0);
}

#[test]
fn elements_join_one_message_only_with_equal_set_tag_and_kind() {
    let (one, two) = (SetName::from("one"), SetName::from("two"));
    let element = Element::new([1; 4]);
    let mut batch = Batch::new(TableId::new(Family::Ip, "t"));
    for _ in 0..3 {
        batch.add_element(7, &one, &element, Existing::Keep);
    }
    assert_eq!(batch.messages(), 1);
    batch.add_element(8, &one, &element, Existing::Keep);
    batch.add_element(8, &two, &element, Existing::Keep);
    batch.add_element(8, &two, &element, Existing::Refuse);
    batch.delete_element(8, &two, &element);
    assert_eq!(batch.messages(), 5);
    let tags: Vec<_> = (0..7).map(|seq| batch.tag_of(seq)).collect();
    assert_eq!(
        tags,
        [None, Some(7), Some(8), Some(8), Some(8), Some(8), None]
    );
    let sent: Vec<_> = messages(batch.bytes())
        .map(|message| message.header)
        .collect();
    let acks: Vec<_> = sent.iter().map(|header| header.flags & 4 != 0).collect();
    assert_eq!(acks, [false, false, false, false, false, true]);
}

#[test]
fn element_lists_stay_below_the_longest_attribute() {
    let name = SetName::from("s");
    let mut batch = Batch::new(TableId::new(Family::Ip6, "t"));
    let long = Bytes::new(&[5; 64]).unwrap();
    let element = Element::map(long.clone(), long.clone())
        .with_key_end(long)
        .with_comment(Some(Comment::new(&"c".repeat(300))));
    for _ in 0..1_000 {
        batch.add_element(1, &name, &element, Existing::Keep);
    }
    assert!(batch.oversized().is_empty());
    let mut found = 0;
    for message in messages(batch.bytes()).skip(1) {
        decode_elements(message.attrs(), |read| {
            assert_eq!(read, element);
            found += 1;
        })
        .unwrap();
    }
    assert_eq!(found, 1_000);
}

#[test]
fn what_no_attribute_can_hold_is_reported_by_tag() {
    let mut batch = Batch::new(TableId::new(Family::Ip, "t"));
    batch.add_table(1, None, Existing::Keep);
    batch.delete_set(5, &SetName::from("x".repeat(70_000)));
    assert_eq!(batch.oversized(), [5]);
    batch.clear();
    assert!(batch.oversized().is_empty() && batch.is_empty());
}

#[test]
fn the_generation_is_patched_into_the_begin_message() {
    let mut batch = Batch::new(TableId::new(Family::Ip, "t"));
    assert_eq!(batch.expected_generation(), None);
    batch.expect_generation(Some(0x0102_0304));
    assert_eq!(first(batch.bytes()).attrs().u32(1), Some(0x0102_0304));
    assert_eq!(batch.expected_generation(), Some(0x0102_0304));
    batch.clear();
    assert_eq!(batch.expected_generation(), None);
}

fn encoded(content: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(message(&mut bytes, HEADER, 2, 0, content));
    bytes
}

fn first(bytes: &[u8]) -> Message<'_> {
    messages(bytes).next().unwrap()
}

fn table_name() -> TableName {
    TableName::from("t")
}

fn rule() -> impl Strategy<Value = Rule> {
    (name(), vec(expr(), 0..24), comment()).prop_map(|(chain, exprs, comment)| Rule {
        chain: ChainName::from(chain),
        exprs,
        comment,
    })
}

fn chain() -> impl Strategy<Value = Chain> {
    let base = (
        select(&[ChainType::Filter, ChainType::Nat, ChainType::Route][..]),
        select(&[Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output][..]),
        any::<i32>(),
        select(&[Policy::Accept, Policy::Drop][..]),
    )
        .prop_map(|(kind, hook, priority, policy)| BaseChain {
            kind,
            hook,
            priority,
            policy,
        });
    (name(), of(base), comment()).prop_map(|(name, base, comment)| Chain {
        name: ChainName::from(name),
        base,
        comment,
    })
}

fn set() -> impl Strategy<Value = Set> {
    let data = prop_oneof![Just(SetData::Verdict), kind().prop_map(SetData::Value),];
    let times = (of(any::<u64>()), of(any::<u32>()), of(any::<u32>()));
    let order = of(select(&[ByteOrder::Host, ByteOrder::Network][..]));
    (
        name(),
        kind(),
        of(data),
        0_u32..0x200,
        times,
        order,
        comment(),
    )
        .prop_map(
            |(name, key, data, flags, (timeout, gc_interval, size), key_order, comment)| {
                let map = data.as_ref().map_or(SetFlags::NONE, |_| SetFlags::MAP);
                let flags = SetFlags::from_bits(flags).without(SetFlags::MAP) | map;
                let name = SetName::from(name);
                Set {
                    name,
                    key,
                    data,
                    flags,
                    timeout,
                    gc_interval,
                    size,
                    key_order,
                    comment,
                }
            },
        )
}

fn kind() -> impl Strategy<Value = Type> {
    let fields = [
        DataType::Ipv4Addr,
        DataType::Ipv6Addr,
        DataType::InetProto,
        DataType::InetService,
        DataType::Mark,
        DataType::Ifname,
        DataType::NfProto,
    ];
    prop_oneof![
        vec(select(fields.to_vec()), 1..=5).prop_map(|fields| Type::new(&fields)),
        (0_u32..64).prop_map(|len| Type::from(DataType::Other { id: 40, len })),
    ]
}

fn element() -> impl Strategy<Value = Element> {
    let kind = select(&[ElementKind::Plain, ElementKind::IntervalEnd][..]);
    let data = prop_oneof![
        bytes().prop_map(Data::Value),
        verdict().prop_map(Data::Verdict)
    ];
    let times = (of(any::<u64>()), of(any::<u64>()));
    (bytes(), of(bytes()), kind, of(data), times, comment()).prop_map(
        |(key, end, kind, data, (timeout, expiration), comment)| {
            let mut element = Element::new(key)
                .with_kind(kind)
                .with_timeout(timeout)
                .with_expiration(expiration)
                .with_comment(comment);
            if let Some(end) = end {
                element = element.with_key_end(end);
            }
            element.data = data;
            element
        },
    )
}

fn expr() -> impl Strategy<Value = Expr> {
    prop_oneof![loads(), arithmetic(), sets_and_verdicts(), effects()]
}

fn loads() -> impl Strategy<Value = Expr> {
    let base = select(
        &[
            PayloadBase::Link,
            PayloadBase::Network,
            PayloadBase::Transport,
        ][..],
    );
    let meta = select(
        (0_u32..40)
            .filter_map(MetaKey::from_code)
            .collect::<Vec<_>>(),
    );
    let ct = select((0_u32..40).filter_map(CtKey::from_code).collect::<Vec<_>>());
    let direction = of(select(&[Direction::Original, Direction::Reply][..]));
    let fib = select(&[FibResult::Oif, FibResult::Oifname, FibResult::AddrType][..]);
    let numgen = select(&[NumgenKind::Incremental, NumgenKind::Random][..]);
    prop_oneof![
        (base, any::<u32>(), any::<u32>(), register()).prop_map(|(base, offset, len, dreg)| {
            Expr::Payload {
                base,
                offset,
                len,
                dreg,
            }
        }),
        (meta.clone(), register()).prop_map(|(key, dreg)| Expr::Meta { key, dreg }),
        (meta, register()).prop_map(|(key, sreg)| Expr::MetaSet { key, sreg }),
        (ct, direction, register()).prop_map(|(key, direction, dreg)| {
            let none = matches!(key, CtKey::L3Protocol | CtKey::Protocol);
            Expr::Ct {
                key,
                direction: direction.filter(|_| !none),
                dreg,
            }
        }),
        (fib, any::<u32>(), register()).prop_map(|(result, flags, dreg)| Expr::Fib {
            result,
            flags: FibFlags::from_bits(flags),
            dreg,
        }),
        (numgen, any::<u32>(), any::<u32>(), register()).prop_map(
            |(kind, modulus, offset, dreg)| Expr::Numgen {
                kind,
                modulus,
                offset,
                dreg
            }
        ),
        (
            any::<(u32, u32, u32)>(),
            of(any::<u32>()),
            register(),
            register()
        )
            .prop_map(|((len, modulus, offset), seed, sreg, dreg)| {
                Expr::Jhash {
                    sreg,
                    len,
                    modulus,
                    seed,
                    offset,
                    dreg,
                }
            }),
    ]
}

fn arithmetic() -> impl Strategy<Value = Expr> {
    let cmp = select(
        &[
            CmpOp::Eq,
            CmpOp::Ne,
            CmpOp::Lt,
            CmpOp::Le,
            CmpOp::Gt,
            CmpOp::Ge,
        ][..],
    );
    let order = select(&[ByteorderOp::Ntoh, ByteorderOp::Hton][..]);
    prop_oneof![
        (cmp, register(), bytes()).prop_map(|(op, sreg, data)| Expr::Cmp { op, sreg, data }),
        (register(), register(), any::<u32>(), bytes(), bytes()).prop_map(
            |(sreg, dreg, len, mask, xor)| Expr::Bitwise {
                sreg,
                dreg,
                len,
                mask,
                xor
            }
        ),
        (order, register(), register(), any::<u32>(), any::<u32>()).prop_map(
            |(op, sreg, dreg, len, size)| Expr::Byteorder {
                op,
                sreg,
                dreg,
                len,
                size
            }
        ),
    ]
}

fn sets_and_verdicts() -> impl Strategy<Value = Expr> {
    let found = prop_oneof![
        Just(Found::Continue),
        Just(Found::Break),
        Just(Found::Verdict),
        register().prop_map(Found::Load)
    ];
    let op = select(&[DynsetOp::Add, DynsetOp::Update, DynsetOp::Delete][..]);
    prop_oneof![
        (register(), bytes())
            .prop_map(|(dreg, data)| Expr::Immediate(Immediate::Data { dreg, data })),
        verdict().prop_map(|verdict| Expr::Immediate(Immediate::Verdict(verdict))),
        (name(), register(), found).prop_map(|(set, sreg, found)| Expr::Lookup(Lookup {
            set: SetName::from(set),
            sreg,
            found
        })),
        (op, name(), register(), of(register()), of(1..u64::MAX)).prop_map(
            |(op, set, key, data, timeout)| {
                Expr::Dynset {
                    op,
                    set: SetName::from(set),
                    key,
                    data,
                    timeout,
                }
            }
        ),
    ]
}

fn effects() -> impl Strategy<Value = Expr> {
    // The two low bits are the kernel's.
    let flags = || any::<u32>().prop_map(|bits| NatFlags::from_bits(bits & !3));
    let kind = select(&[NatKind::Snat, NatKind::Dnat][..]);
    let reject = prop_oneof![
        any::<u8>().prop_map(|code| Reject::Icmp { code }),
        Just(Reject::TcpReset),
        any::<u8>().prop_map(|code| Reject::Icmpx { code }),
    ];
    prop_oneof![
        (kind, family(), of(register()), of(register()), flags()).prop_map(
            |(kind, family, addr, port, flags)| Expr::Nat {
                kind,
                family,
                addr,
                port,
                flags
            }
        ),
        flags().prop_map(|flags| Expr::Masquerade { flags }),
        reject.prop_map(Expr::Reject),
        Just(Expr::Counter),
        vec(any::<u32>(), 0..4).prop_map(|words| Expr::Unknown {
            name: Box::from("limit"),
            data: words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
        }),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let plain = [
        Verdict::Accept,
        Verdict::Drop,
        Verdict::Continue,
        Verdict::Return,
    ];
    prop_oneof![
        select(plain.to_vec()),
        name().prop_map(|chain| Verdict::Jump(ChainName::from(chain))),
        name().prop_map(|chain| Verdict::Goto(ChainName::from(chain))),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    select(&[Family::Ip, Family::Ip6, Family::Inet][..])
}

fn register() -> impl Strategy<Value = Register> {
    (0..Register::COUNT).prop_filter_map("below the count", Register::new)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=Bytes::MAX_LEN).prop_map(|bytes| Bytes::new(&bytes).unwrap())
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9/-]{0,20}"
}

fn comment() -> impl Strategy<Value = Option<Comment>> {
    of("\\PC{0,300}".prop_map(|text| Comment::new(&text)))
}

const HEADER: Header = Header {
    kind: kind_of(0),
    flags: 1,
    seq: 1,
    port: 0,
};
