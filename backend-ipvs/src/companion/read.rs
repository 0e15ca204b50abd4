//! From what the kernel holds to a ruleset.

use std::collections::BTreeMap;

use backend_nftables::error::{Errno, ReadError};
use backend_nftables::netlink::{Socket, TableId};
use backend_nftables::rule::Data;
use svc_core::Ruleset;

use super::{ChainBody, ElementValue, Key, SetId, Value};

/// Reads a table but for the saved settings, which no service port asks for; nothing if there is
/// no table.
///
/// # Errors
/// See [`ReadError`].
pub(crate) fn read(socket: &mut Socket, table: &TableId) -> Result<Ruleset<Key, Value>, ReadError> {
    let mut ruleset = Ruleset::new();
    let Some(head) = socket.table(table)? else {
        return Ok(ruleset);
    };
    ruleset.insert(Key::Table, Value::Table(Box::new(head.object)));
    for held in socket.sets(table)? {
        let set = held.object;
        let id = SetId::from_name(&set.name);
        // The elements of a set that has to go go with it.
        if !matches!(id, SetId::Foreign(_) | SetId::Saved) {
            for element in socket.elements(table, &set.name)? {
                let value = ElementValue {
                    data: element.data.clone(),
                    key_end: element.key_end().cloned(),
                    comment: element.comment().cloned(),
                };
                let key = Key::Element(id.clone(), element.key);
                ruleset.insert(key, Value::Element(value));
            }
        }
        ruleset.insert(Key::Set(id), Value::Set(Box::new(set)));
    }
    let mut bodies = BTreeMap::new();
    for held in socket.chains(table)? {
        let body = ChainBody {
            chain: held.object,
            rules: Vec::new(),
        };
        bodies.insert(body.chain.name.clone(), body);
    }
    for held in socket.rules(table)? {
        if let Some(body) = bodies.get_mut(&held.object.chain) {
            body.rules.push(held.object);
        }
    }
    ruleset.extend(bodies.into_iter().map(|(name, body)| {
        let key = match body.chain.base {
            Some(_) => Key::BaseChain(name),
            None => Key::Chain(name),
        };
        (key, Value::Chain(Box::new(body)))
    }));
    Ok(ruleset)
}

/// Reads what settings were before they were changed, by number; nothing if there is no table.
///
/// # Errors
/// See [`ReadError`].
pub(crate) fn saved(socket: &mut Socket, table: &TableId) -> Result<BTreeMap<u32, u32>, ReadError> {
    let elements = match socket.elements(table, &SetId::Saved.name()) {
        Err(ReadError::Refused(Errno::ENOENT)) => return Ok(BTreeMap::new()),
        result => result?,
    };
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
    let pairs = elements.iter().filter_map(|element| match &element.data {
        Some(Data::Value(value)) => Some((number(&element.key)?, number(value)?)),
        Some(Data::Verdict(_)) | None => None,
    });
    Ok(pairs.collect())
}
