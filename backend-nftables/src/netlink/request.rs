//! From the bytes of a transaction back to what it asks for; the in-memory kernel reads them so.

use super::attr::{Message, messages};
use super::batch::{Batch, Existing, Place, TableId, kind_of};
use super::decode::{decode_chain, decode_elements, decode_rule, decode_set, decode_table};
use super::wire::{chain, elem, msg, nlmsg, rule, set, table};
use crate::error::Malformed;
use crate::rule::{Chain, ChainName, Element, Family, Rule, Set, SetName, Table};

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The caller's tag.
    pub tag: Option<u32>,
    /// The table it goes to.
    pub table: TableId,
    /// What it asks for.
    pub what: What,
}

/// What an operation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum What {
    AddTable(Table, Existing),
    DeleteTable,
    AddChain(Chain, Existing),
    DeleteChain(ChainName),
    AddRule(Rule, Place),
    DeleteRule(ChainName, u64),
    FlushChain(ChainName),
    AddSet(Set, Existing),
    DeleteSet(SetName),
    AddElements(SetName, Vec<Element>, Existing),
    DeleteElements(SetName, Vec<Element>),
    FlushSet(SetName),
}

/// The operations of a transaction, in order; `None` if one makes no sense.
pub fn requests(batch: &Batch) -> Option<Vec<Request>> {
    let operations = messages(batch.bytes()).filter(|message| message.header.seq > 0);
    operations.map(|message| request(batch, &message)).collect()
}

fn request(batch: &Batch, message: &Message<'_>) -> Option<Request> {
    let attrs = message.attrs();
    // The first attribute of every message is the name of the table.
    let table = attrs.string(table::NAME)?;
    Some(Request {
        tag: batch.tag_of(message.header.seq),
        table: TableId::new(Family::from_code(message.family())?, table),
        what: what(message).ok().flatten()?,
    })
}

fn what(message: &Message<'_>) -> Result<Option<What>, Malformed> {
    let attrs = message.attrs();
    let existing = match message.header.flags & nlmsg::EXCL {
        0 => Existing::Keep,
        _ => Existing::Refuse,
    };
    let set_name = |kind| attrs.string(kind).map(SetName::from);
    let chain_name = |kind| attrs.string(kind).map(ChainName::from);
    let elements = || {
        let mut elements = Vec::new();
        decode_elements(attrs, |element| elements.push(element))?;
        Ok(elements)
    };
    let kind = |kind| kind_of(kind);
    Ok(match message.header.kind {
        k if k == kind(msg::NEWTABLE) => {
            Some(What::AddTable(decode_table(message)?.object, existing))
        }
        k if k == kind(msg::DELTABLE) => Some(What::DeleteTable),
        k if k == kind(msg::NEWCHAIN) => {
            Some(What::AddChain(decode_chain(attrs)?.object, existing))
        }
        k if k == kind(msg::DELCHAIN) => chain_name(chain::NAME).map(What::DeleteChain),
        k if k == kind(msg::NEWRULE) => {
            Some(What::AddRule(decode_rule(attrs)?.object, place(message)))
        }
        k if k == kind(msg::DELRULE) => {
            chain_name(rule::CHAIN).map(|name| match attrs.u64(rule::HANDLE) {
                Some(handle) => What::DeleteRule(name, handle),
                None => What::FlushChain(name),
            })
        }
        k if k == kind(msg::NEWSET) => Some(What::AddSet(decode_set(attrs)?.object, existing)),
        k if k == kind(msg::DELSET) => set_name(set::NAME).map(What::DeleteSet),
        k if k == kind(msg::NEWSETELEM) => {
            let elements = elements()?;
            set_name(elem::LIST_SET).map(|name| What::AddElements(name, elements, existing))
        }
        k if k == kind(msg::DELSETELEM) => {
            let elements = elements()?;
            set_name(elem::LIST_SET).map(|name| match elements.is_empty() {
                true => What::FlushSet(name),
                false => What::DeleteElements(name, elements),
            })
        }
        _ => None,
    })
}

fn place(message: &Message<'_>) -> Place {
    let attrs = message.attrs();
    let flags = message.header.flags;
    let last = flags & nlmsg::APPEND != 0;
    match (attrs.u64(rule::HANDLE), attrs.u64(rule::POSITION)) {
        (Some(handle), _) if flags & nlmsg::REPLACE != 0 => Place::Replace(handle),
        (_, Some(position)) if last => Place::After(position),
        (_, Some(position)) => Place::Before(position),
        (_, None) if last => Place::Last,
        (_, None) => Place::First,
    }
}
