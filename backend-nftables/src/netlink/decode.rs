//! From attributes to our types: dumps and notifications.
//!
//! Attributes we do not know are ignored and expressions we do not know are kept undecoded, so that
//! newer kernels and foreign edits never fail a read.

mod event;
mod expr;

pub(super) use event::decode_event;
pub use event::{Event, EventKind};

use super::attr::{Attr, Attrs, Message, ne_u32};
use super::wire::{LIST_ELEM, chain, data, elem, generation, rule, set, table, userdata};
use crate::error::Malformed;
use crate::rule::{
    BaseChain, ByteOrder, Bytes, Chain, ChainName, ChainType, Comment, Data, Element, ElementKind,
    Family, Hook, Policy, Rule, Set, SetData, SetFlags, SetName, Table, TableName, TableState,
    Type, Verdict,
};

/// An object the kernel holds, with the handle that names it in later requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held<T> {
    /// The table it is in; of a table, itself.
    pub table: TableName,
    /// The kernel's handle, unique in the table.
    pub handle: u64,
    /// The object.
    pub object: T,
}

pub(super) fn decode_generation(attrs: Attrs<'_>) -> Option<u32> {
    attrs.u32(generation::ID)
}

pub(super) fn decode_table(message: &Message<'_>) -> Result<Held<Table>, Malformed> {
    let attrs = message.attrs();
    let name = TableName::from(attrs.string(table::NAME).ok_or(Malformed("table name"))?);
    let object = Table {
        family: Family::from_code(message.family()).ok_or(Malformed("table family"))?,
        name: name.clone(),
        comment: comment(attrs.find(table::USERDATA), userdata::COMMENT),
        state: match attrs.u32(table::FLAGS).unwrap_or_default() & table::DORMANT {
            0 => TableState::Active,
            _ => TableState::Dormant,
        },
    };
    Ok(Held {
        table: name,
        handle: attrs.u64(table::HANDLE).unwrap_or_default(),
        object,
    })
}

pub(super) fn decode_chain(attrs: Attrs<'_>) -> Result<Held<Chain>, Malformed> {
    let base = match attrs.nested(chain::HOOK) {
        None => None,
        Some(hook) => Some(base_chain(attrs, hook).ok_or(Malformed("chain hook"))?),
    };
    let object = Chain {
        name: ChainName::from(attrs.string(chain::NAME).ok_or(Malformed("chain name"))?),
        base,
        comment: comment(attrs.find(chain::USERDATA), userdata::COMMENT),
    };
    Ok(Held {
        table: TableName::from(attrs.string(chain::TABLE).ok_or(Malformed("chain table"))?),
        handle: attrs.u64(chain::HANDLE).unwrap_or_default(),
        object,
    })
}

pub(super) fn decode_rule(attrs: Attrs<'_>) -> Result<Held<Rule>, Malformed> {
    let list = attrs.nested(rule::EXPRESSIONS).unwrap_or(Attrs(&[]));
    let exprs = list
        .filter(|entry| entry.kind == LIST_ELEM)
        .map(|entry| expr::decode_expr(entry.attrs()).ok_or(Malformed("expression name")))
        .collect::<Result<_, _>>()?;
    let object = Rule {
        chain: ChainName::from(attrs.string(rule::CHAIN).ok_or(Malformed("rule chain"))?),
        exprs,
        comment: comment(attrs.find(rule::USERDATA), userdata::COMMENT),
    };
    Ok(Held {
        table: TableName::from(attrs.string(rule::TABLE).ok_or(Malformed("rule table"))?),
        handle: attrs.u64(rule::HANDLE).unwrap_or_default(),
        object,
    })
}

pub(super) fn decode_set(attrs: Attrs<'_>) -> Result<Held<Set>, Malformed> {
    let flags = SetFlags::from_bits(attrs.u32(set::FLAGS).unwrap_or_default());
    let user = attrs.find(set::USERDATA);
    let description = attrs.nested(set::DESC);
    let object = Set {
        name: SetName::from(attrs.string(set::NAME).ok_or(Malformed("set name"))?),
        key: Type::from_id(
            attrs.u32(set::KEY_TYPE).unwrap_or_default(),
            attrs.u32(set::KEY_LEN).ok_or(Malformed("set key length"))?,
        ),
        data: flags.contains(SetFlags::MAP).then(|| set_data(attrs)),
        flags,
        timeout: attrs.u64(set::TIMEOUT),
        gc_interval: attrs.u32(set::GC_INTERVAL),
        size: description.and_then(|description| description.u32(set::DESC_SIZE)),
        key_order: user.and_then(key_order),
        comment: comment(user, userdata::SET_COMMENT),
    };
    Ok(Held {
        table: TableName::from(attrs.string(set::TABLE).ok_or(Malformed("set table"))?),
        handle: attrs.u64(set::HANDLE).unwrap_or_default(),
        object,
    })
}

/// Decodes the elements of one message, in its order.
pub(super) fn decode_elements(
    attrs: Attrs<'_>,
    mut each: impl FnMut(Element),
) -> Result<(), Malformed> {
    let list = attrs.nested(elem::LIST_ELEMENTS).unwrap_or(Attrs(&[]));
    list.filter(|entry| entry.kind == LIST_ELEM)
        .try_for_each(|entry| {
            each(decode_element(entry.attrs())?);
            Ok(())
        })
}

fn decode_element(attrs: Attrs<'_>) -> Result<Element, Malformed> {
    let kind = match attrs.u32(elem::FLAGS).unwrap_or_default() {
        flags if flags & elem::CATCHALL != 0 => ElementKind::CatchAll,
        flags if flags & elem::INTERVAL_END != 0 => ElementKind::IntervalEnd,
        _ => ElementKind::Plain,
    };
    let key = match attrs.find(elem::KEY) {
        Some(key) => decode_value(key).ok_or(Malformed("element key"))?,
        None if kind == ElementKind::CatchAll => Bytes::default(),
        None => return Err(Malformed("element key")),
    };
    let mut element = Element::new(key);
    // Why the order: most elements have neither, and each `with_` allocates.
    for attr in attrs {
        element = match attr.kind {
            elem::DATA => {
                element.data = Some(decode_data(attr).ok_or(Malformed("element data"))?);
                element
            }
            elem::KEY_END => element.with_key_end(decode_value(attr).ok_or(Malformed("key end"))?),
            elem::TIMEOUT => element.with_timeout(attr.u64()),
            elem::EXPIRATION => element.with_expiration(attr.u64()),
            elem::USERDATA => element.with_comment(comment(Some(attr), userdata::COMMENT)),
            elem::FLAGS if kind != ElementKind::Plain => element.with_kind(kind),
            _ => element,
        };
    }
    Ok(element)
}

/// A value within `NFTA_DATA_VALUE`.
fn decode_value(attr: Attr<'_>) -> Option<Bytes> {
    Bytes::new(attr.attrs().find(data::VALUE)?.value).ok()
}

/// A verdict within `NFTA_DATA_VERDICT`.
fn decode_verdict(attr: Attr<'_>) -> Option<Verdict> {
    let attrs = attr.attrs().nested(data::VERDICT)?;
    let chain = || attrs.string(data::VERDICT_CHAIN).map(ChainName::from);
    match attrs.u32(data::VERDICT_CODE)? {
        data::ACCEPT => Some(Verdict::Accept),
        data::DROP => Some(Verdict::Drop),
        data::CONTINUE => Some(Verdict::Continue),
        data::RETURN => Some(Verdict::Return),
        data::JUMP => chain().map(Verdict::Jump),
        data::GOTO => chain().map(Verdict::Goto),
        _ => None,
    }
}

fn decode_data(attr: Attr<'_>) -> Option<Data> {
    decode_value(attr)
        .map(Data::Value)
        .or_else(|| decode_verdict(attr).map(Data::Verdict))
}

fn base_chain(attrs: Attrs<'_>, hook: Attrs<'_>) -> Option<BaseChain> {
    Some(BaseChain {
        kind: ChainType::from_name(attrs.string(chain::TYPE)?)?,
        hook: Hook::from_code(hook.u32(chain::HOOK_NUM)?)?,
        priority: hook.u32(chain::HOOK_PRIORITY)?.cast_signed(),
        policy: match attrs.u32(chain::POLICY) {
            Some(data::DROP) => Policy::Drop,
            Some(_) | None => Policy::Accept,
        },
    })
}

fn set_data(attrs: Attrs<'_>) -> SetData {
    let len = attrs.u32(set::DATA_LEN).unwrap_or_default();
    match attrs.u32(set::DATA_TYPE).unwrap_or_default() {
        set::VERDICT => SetData::Verdict,
        id => SetData::Value(Type::from_id(id, len)),
    }
}

fn key_order(user: Attr<'_>) -> Option<ByteOrder> {
    match ne_u32(entry(user, userdata::SET_KEY_ORDER)?, 0)? {
        userdata::HOST => Some(ByteOrder::Host),
        userdata::NETWORK => Some(ByteOrder::Network),
        _ => None,
    }
}

fn comment(user: Option<Attr<'_>>, kind: u8) -> Option<Comment> {
    let text = entry(user?, kind)?.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(text).ok().map(Comment::new)
}

/// The value of one user data entry: type, length, value.
fn entry(user: Attr<'_>, kind: u8) -> Option<&[u8]> {
    let mut rest = user.value;
    loop {
        let [this, len, tail @ ..] = rest else {
            return None;
        };
        let (value, next) = tail.split_at_checked(usize::from(*len))?;
        if *this == kind {
            return Some(value);
        }
        rest = next;
    }
}

/// Decodes bytes as every kind of message; for tests and fuzzing of the promise never to panic.
#[cfg(any(test, feature = "testing"))]
pub fn decode_anything(datagram: &[u8]) -> usize {
    let mut understood = 0;
    for message in super::attr::messages(datagram) {
        let attrs = message.attrs();
        understood += usize::from(decode_table(&message).is_ok());
        understood += usize::from(decode_chain(attrs).is_ok());
        understood += usize::from(decode_rule(attrs).is_ok());
        understood += usize::from(decode_set(attrs).is_ok());
        understood += usize::from(decode_elements(attrs, drop).is_ok());
        understood += usize::from(event::decode_event(&message).is_some());
        understood += usize::from(super::conntrack::decode(attrs).is_some());
    }
    understood
}
