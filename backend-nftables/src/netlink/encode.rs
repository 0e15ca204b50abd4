//! From our types to attributes.

mod expr;

use super::attr::Writer;
use super::wire::{self, LIST_ELEM, chain, data, elem, rule, set, table, userdata};
use crate::rule::{
    ByteOrder, Bytes, Chain, Comment, Data, Element, ElementKind, Policy, Rule, Set, SetData,
    SetFlags, Table, TableName, TableState, Verdict,
};

pub(super) fn encode_table(to: &mut Writer<'_>, value: &Table) {
    to.string(table::NAME, value.name.as_str());
    to.u32(
        table::FLAGS,
        match value.state {
            TableState::Active => 0,
            TableState::Dormant => table::DORMANT,
        },
    );
    comment(to, table::USERDATA, value.comment.as_ref());
}

pub(super) fn encode_chain(to: &mut Writer<'_>, of: &TableName, value: &Chain) {
    to.string(chain::TABLE, of.as_str());
    to.string(chain::NAME, value.name.as_str());
    if let Some(base) = &value.base {
        to.nest(chain::HOOK, |hook| {
            hook.u32(chain::HOOK_NUM, base.hook.code());
            // Why the bits: the kernel reads the word as signed.
            hook.u32(chain::HOOK_PRIORITY, base.priority.cast_unsigned());
        });
        to.u32(
            chain::POLICY,
            match base.policy {
                Policy::Drop => data::DROP,
                Policy::Accept => data::ACCEPT,
            },
        );
        to.string(chain::TYPE, base.kind.name());
    }
    comment(to, chain::USERDATA, value.comment.as_ref());
}

/// A rule without handle or position.
pub(super) fn encode_rule(to: &mut Writer<'_>, of: &TableName, value: &Rule) {
    to.string(rule::TABLE, of.as_str());
    to.string(rule::CHAIN, value.chain.as_str());
    to.nest(rule::EXPRESSIONS, |list| {
        for expr in &value.exprs {
            list.nest(LIST_ELEM, |to| expr::encode_expr(to, expr));
        }
    });
    comment(to, rule::USERDATA, value.comment.as_ref());
}

/// `id` names the set within its transaction.
pub(super) fn encode_set(to: &mut Writer<'_>, of: &TableName, value: &Set, id: u32) {
    to.string(set::TABLE, of.as_str());
    to.string(set::NAME, value.name.as_str());
    let map = value
        .data
        .as_ref()
        .map_or(SetFlags::NONE, |_| SetFlags::MAP);
    to.u32(set::FLAGS, (value.flags | map).bits());
    to.u32(set::KEY_TYPE, value.key.id());
    to.u32(set::KEY_LEN, value.key.width());
    match &value.data {
        None => {}
        Some(SetData::Verdict) => to.u32(set::DATA_TYPE, set::VERDICT),
        Some(SetData::Value(kind)) => {
            to.u32(set::DATA_TYPE, kind.id());
            to.u32(set::DATA_LEN, kind.width());
        }
    }
    set_description(to, value);
    to.u32(set::ID, id);
    if let Some(timeout) = value.timeout {
        to.u64(set::TIMEOUT, timeout);
    }
    if let Some(pause) = value.gc_interval {
        to.u32(set::GC_INTERVAL, pause);
    }
    set_userdata(to, value);
}

/// One entry of an element list. The key alone decides in deletions, where the rest is left away.
pub(super) fn encode_element(to: &mut Writer<'_>, value: &Element, part: Part) {
    to.nest(LIST_ELEM, |to| {
        match value.kind() {
            ElementKind::Plain => {}
            ElementKind::IntervalEnd => to.u32(elem::FLAGS, elem::INTERVAL_END),
            ElementKind::CatchAll => to.u32(elem::FLAGS, elem::CATCHALL),
        }
        if value.kind() != ElementKind::CatchAll {
            encode_value(to, elem::KEY, &value.key);
        }
        if let Some(end) = value.key_end() {
            encode_value(to, elem::KEY_END, end);
        }
        match part {
            Part::Key => {}
            Part::All => element_rest(to, value),
        }
    });
}

/// One entry of an element list that is no range and has no life of its own.
pub(super) fn encode_plain(
    to: &mut Writer<'_>,
    key: &Bytes,
    data: Option<&Data>,
    comment: Option<&Comment>,
) {
    to.nest(LIST_ELEM, |to| {
        encode_value(to, elem::KEY, key);
        encode_data(to, data);
        self::comment(to, elem::USERDATA, comment);
    });
}

/// One entry of an element list that names an element.
pub(super) fn encode_key(to: &mut Writer<'_>, key: &Bytes, key_end: Option<&Bytes>) {
    to.nest(LIST_ELEM, |to| {
        encode_value(to, elem::KEY, key);
        if let Some(end) = key_end {
            encode_value(to, elem::KEY_END, end);
        }
    });
}

fn encode_data(to: &mut Writer<'_>, data: Option<&Data>) {
    match data {
        None => {}
        Some(Data::Value(value)) => encode_value(to, elem::DATA, value),
        Some(Data::Verdict(verdict)) => encode_verdict(to, elem::DATA, verdict),
    }
}

/// How much of an element is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What names it.
    Key,
    /// All.
    All,
}

/// A value within `NFTA_DATA_VALUE`.
pub(super) fn encode_value(to: &mut Writer<'_>, kind: u16, value: &Bytes) {
    to.nest(kind, |to| to.bytes(data::VALUE, value));
}

/// A verdict within `NFTA_DATA_VERDICT`.
pub(super) fn encode_verdict(to: &mut Writer<'_>, kind: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (data::ACCEPT, None),
        Verdict::Drop => (data::DROP, None),
        Verdict::Continue => (data::CONTINUE, None),
        Verdict::Return => (data::RETURN, None),
        Verdict::Jump(chain) => (data::JUMP, Some(chain)),
        Verdict::Goto(chain) => (data::GOTO, Some(chain)),
    };
    to.nest(kind, |to| {
        to.nest(data::VERDICT, |to| {
            to.u32(data::VERDICT_CODE, code);
            if let Some(chain) = chain {
                to.string(data::VERDICT_CHAIN, chain.as_str());
            }
        });
    });
}

fn element_rest(to: &mut Writer<'_>, value: &Element) {
    encode_data(to, value.data.as_ref());
    if let Some(timeout) = value.timeout() {
        to.u64(elem::TIMEOUT, timeout);
    }
    if let Some(left) = value.expiration() {
        to.u64(elem::EXPIRATION, left);
    }
    comment(to, elem::USERDATA, value.comment());
}

fn set_description(to: &mut Writer<'_>, value: &Set) {
    let concat = value.flags.contains(SetFlags::CONCAT);
    if value.size.is_none() && !concat {
        return;
    }
    to.nest(set::DESC, |to| {
        if let Some(size) = value.size {
            to.u32(set::DESC_SIZE, size);
        }
        if concat {
            to.nest(set::DESC_CONCAT, |to| {
                for field in value.key.fields() {
                    to.nest(LIST_ELEM, |to| to.u32(set::FIELD_LEN, field.width()));
                }
            });
        }
    });
}

fn set_userdata(to: &mut Writer<'_>, value: &Set) {
    let mut entries = Userdata::default();
    if let Some(order) = value.key_order {
        let order = match order {
            ByteOrder::Host => userdata::HOST,
            ByteOrder::Network => userdata::NETWORK,
        };
        entries.push(userdata::SET_KEY_ORDER, &order.to_ne_bytes(), &[]);
    }
    if let Some(comment) = &value.comment {
        entries.push(userdata::SET_COMMENT, comment.as_str().as_bytes(), &[0]);
    }
    entries.write(to, wire::set::USERDATA);
}

fn comment(to: &mut Writer<'_>, kind: u16, comment: Option<&Comment>) {
    if let Some(comment) = comment {
        let mut entries = Userdata::default();
        entries.push(userdata::COMMENT, comment.as_str().as_bytes(), &[0]);
        entries.write(to, kind);
    }
}

/// User data entries: type, length, value, each length one byte.
struct Userdata {
    bytes: [u8; USERDATA_MAX],
    len: usize,
}

impl Default for Userdata {
    fn default() -> Self {
        Self {
            bytes: [0; USERDATA_MAX],
            len: 0,
        }
    }
}

impl Userdata {
    /// Appends an entry; one that does not fit is left away, which `Comment::MAX_LEN` prevents.
    fn push(&mut self, kind: u8, value: &[u8], tail: &[u8]) {
        let Ok(len) = u8::try_from(value.len() + tail.len()) else {
            return;
        };
        let end = self.len + 2 + usize::from(len);
        let Some(place) = self.bytes.get_mut(self.len..end) else {
            return;
        };
        let (header, rest) = place.split_at_mut(2);
        header.copy_from_slice(&[kind, len]);
        let (head, end_of_value) = rest.split_at_mut(value.len());
        head.copy_from_slice(value);
        end_of_value.copy_from_slice(tail);
        self.len = end;
    }

    fn write(&self, to: &mut Writer<'_>, kind: u16) {
        if self.len > 0 {
            to.bytes(kind, self.bytes.get(..self.len).unwrap_or_default());
        }
    }
}

/// `NFT_USERDATA_MAXLEN`.
const USERDATA_MAX: usize = 256;
