//! What somebody else may do to our table.

use backend_nftables::netlink::{Batch, Existing, Place};
use backend_nftables::rule::{
    Bytes, Chain, ChainName, Data, DataType, Element, ElementKind, Expr, Immediate, Rule, Set,
    SetName, Type, Verdict as ChainVerdict,
};
use backend_nftables::{ChainId, Key, SetId, Value};
use svc_core::Ruleset;
use svc_core::testing::Source;

/// A change of our table that somebody else may make.
pub fn edit(held: &Ruleset<Key, Value>, source: &mut Source<'_>, batch: &mut Batch) {
    let keys: Vec<&Key> = held.keys().collect();
    let Some(key) = keys
        .get((usize::from(source.byte()) * 256 + usize::from(source.byte())) % keys.len().max(1))
    else {
        return;
    };
    let rule = |chain: &ChainName, verdict| Rule {
        chain: chain.clone(),
        exprs: vec![Expr::Immediate(Immediate::Verdict(verdict))],
        comment: None,
    };
    match (source.below(8), key) {
        (0, _) => batch.delete_table(0),
        (1, _) => intrude(batch),
        (2, Key::Chain(id) | Key::BaseChain(id)) => batch.flush_chain(0, &id.name()),
        (3, Key::BaseChain(id)) => batch.delete_chain(0, &id.name()),
        (_, Key::Chain(id) | Key::BaseChain(id)) => {
            batch.add_rule(0, &rule(&id.name(), ChainVerdict::Accept), Place::First);
        }
        (2, Key::Set(id)) => batch.flush_set(0, &id.name()),
        (3, Key::Set(_)) => {
            let odd = rule(&ChainId::Firewall.name(), ChainVerdict::Return);
            batch.add_rule(0, &odd, Place::Last);
        }
        (_, Key::Set(id)) if *id == SetId::Live => {
            // Another definition: the rules that use it have to go first.
            for chain in held.keys() {
                if let Key::Chain(id) | Key::BaseChain(id) = chain {
                    batch.flush_chain(0, &id.name());
                }
            }
            batch.delete_set(0, &id.name());
            batch.add_set(
                0,
                &Set::new("live", Type::from(DataType::Mark)),
                Existing::Keep,
            );
        }
        (kind, Key::Element(id, key)) => {
            let Some(Value::Element(value)) = held.get(&Key::Element(id.clone(), key.clone()))
            else {
                return;
            };
            let mut element = Element::new(key.clone());
            element.data.clone_from(&value.data);
            if *id == SetId::Slots {
                element = element.with_key_end(value.key_end().unwrap().clone());
            }
            batch.delete_element(0, &id.name(), &element);
            if kind > 4 {
                element.data = element.data.map(|data| match data {
                    Data::Value(value) => Data::Value(Bytes::new(&vec![1; value.len()]).unwrap()),
                    Data::Verdict(_) => Data::Verdict(ChainVerdict::Accept),
                });
                batch.add_element(0, &id.name(), &element, Existing::Keep);
            }
        }
        (_, Key::Table | Key::Set(_) | Key::SourceRule(_)) => {}
    }
}

/// Objects of somebody else that refer to each other and to ours.
fn intrude(batch: &mut Batch) {
    let chain = |name: &str| Chain {
        name: name.into(),
        base: None,
        comment: None,
    };
    let jump = |from: &str, to: ChainName| Rule {
        chain: from.into(),
        exprs: vec![Expr::Immediate(Immediate::Verdict(ChainVerdict::Jump(to)))],
        comment: None,
    };
    for name in ["a-intruder", "z-intruder"] {
        batch.add_chain(0, &chain(name), Existing::Keep);
    }
    batch.add_rule(0, &jump("a-intruder", "z-intruder".into()), Place::Last);
    batch.add_rule(0, &jump("services", "a-intruder".into()), Place::First);
    let map = Set::verdict_map("intruders", Type::from(DataType::Mark));
    batch.add_set(0, &map, Existing::Keep);
    let to = |name: ChainName| Element::map([1; 4], ChainVerdict::Goto(name));
    let name = SetName::from("intruders");
    batch.add_element(0, &name, &to("z-intruder".into()), Existing::Keep);
    let all = Element::map([0; 4], ChainVerdict::Drop).with_kind(ElementKind::CatchAll);
    batch.add_element(0, &SetId::Classes.name(), &all, Existing::Keep);
}
