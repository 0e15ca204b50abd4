//! A ruleset as text, in nft's syntax as far as that reaches.
//!
//! nft has no words for the result of a look-up that another look-up uses, which is what our rules
//! are made of. So a look-up is written with names for what it loads:
//!
//! ```text
//! ip daddr . meta l4proto . th dport map @frontends -> $kind . $policy . $pool
//! $pool map @pools -> $zero . $class . $count  $class == 0
//! $count . numgen random mod 65536 map @slots -> $zero . $slot
//! $pool . $slot map @endpoints -> $address . $port  dnat ip to $address . $port
//! ```
//!
//! A rule ends at the first look-up without a hit and at the first comparison that does not hold.
//! What only makes `nft list` able to print a rule (loads that are overwritten unread, comparisons
//! that always hold) is left away. Everything else is nft's, with comments after `#`.

mod rule;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use svc_core::Ruleset;

use crate::key::{ChainBody, ChainId, ElementValue, Key, SetId, Value};
use crate::policy;
use crate::pools::PoolNumber;
use crate::rule::{Bytes, Data, Family, Rule, Set, SetData, SetFlags};
use crate::schema;
use value::{concatenation, quoted, range};

/// Shows a ruleset with all its objects.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'r>(pub &'r Ruleset<Key, Value>);

/// Shows one object on a line: what a difference is about.
#[derive(Clone, Copy, Debug)]
pub struct Line<'r>(pub &'r Key, pub &'r Value);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Value::Table(table)) = self.0.get(&Key::Table) else {
            return Ok(());
        };
        writeln!(f, "table {} {} {{", table.family.name(), table.name)?;
        if let Some(comment) = &table.comment {
            writeln!(f, "\tcomment {}", quoted(comment.as_str()))?;
        }
        let owners = owners(self.0);
        for (key, value) in self.0 {
            match (key, value) {
                (Key::Set(id), Value::Set(set)) => {
                    writeln!(f)?;
                    self.set(f, id, set, &owners)?;
                }
                (Key::Chain(id) | Key::BaseChain(id), Value::Chain(body)) => {
                    writeln!(f)?;
                    self.chain(f, id, body, table.family)?;
                }
                // Elements are listed with their set, source rules with their chain.
                (
                    Key::Table
                    | Key::Set(_)
                    | Key::Chain(_)
                    | Key::SourceRule(_)
                    | Key::Element(..)
                    | Key::BaseChain(_),
                    _,
                ) => {}
            }
        }
        writeln!(f, "}}")
    }
}

impl Listing<'_> {
    fn set(
        &self,
        f: &mut fmt::Formatter<'_>,
        id: &SetId,
        set: &Set,
        owners: &Owners,
    ) -> fmt::Result {
        let kind = match set.data {
            Some(_) => "map",
            None => "set",
        };
        writeln!(f, "\t{kind} {} {{", set.name)?;
        writeln!(f, "\t\t{}", value::types(set))?;
        for line in value::properties(set) {
            writeln!(f, "\t\t{line}")?;
        }
        if let Some(comment) = &set.comment {
            writeln!(f, "\t\tcomment {}", quoted(comment.as_str()))?;
        }
        let from = Key::Element(id.clone(), Bytes::default());
        let elements = self
            .0
            .range(from..)
            .map_while(|(key, value)| match (key, value) {
                (Key::Element(of, key), Value::Element(value)) if of == id => Some((key, value)),
                (
                    Key::Table
                    | Key::Set(_)
                    | Key::Chain(_)
                    | Key::SourceRule(_)
                    | Key::Element(..)
                    | Key::BaseChain(_),
                    _,
                ) => None,
            });
        let mut elements = elements.peekable();
        if elements.peek().is_some() {
            writeln!(f, "\t\telements = {{")?;
            let mut group = None;
            for (key, value) in elements {
                let next = group_of(id, key, owners);
                if next != group
                    && let Some(heading) = &next
                {
                    writeln!(f, "\t\t\t# {heading}")?;
                }
                group = next;
                writeln!(f, "\t\t\t{},", element(set, key, value))?;
            }
            writeln!(f, "\t\t}}")?;
        }
        writeln!(f, "\t}}")
    }

    fn chain(
        &self,
        f: &mut fmt::Formatter<'_>,
        id: &ChainId,
        body: &ChainBody,
        family: Family,
    ) -> fmt::Result {
        writeln!(f, "\tchain {} {{", body.chain.name)?;
        if let Some(words) = purpose(id) {
            writeln!(f, "\t\t# {words}")?;
        }
        if let Some(base) = &body.chain.base {
            writeln!(
                f,
                "\t\ttype {} hook {} priority {}; policy {};",
                base.kind.name(),
                base.hook.name(),
                base.priority,
                base.policy.name()
            )?;
        }
        if *id == ChainId::Firewall {
            for (key, value) in self.0 {
                if let (Key::SourceRule(_), Value::Rule(rule)) = (key, value) {
                    self.rule(f, rule, family)?;
                }
            }
        }
        for rule in &body.rules {
            self.rule(f, rule, family)?;
        }
        writeln!(f, "\t}}")
    }

    fn rule(&self, f: &mut fmt::Formatter<'_>, rule: &Rule, family: Family) -> fmt::Result {
        let set =
            |name: &crate::rule::SetName| match self.0.get(&Key::Set(SetId::from_name(name)))? {
                Value::Set(set) => Some(&**set),
                Value::Table(_) | Value::Chain(_) | Value::Rule(_) | Value::Element(_) => None,
            };
        let mut indent = "\t\t";
        for line in rule::lines(rule, family, set) {
            writeln!(f, "{indent}{line}")?;
            indent = "\t\t\t";
        }
        Ok(())
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match (self.0, self.1) {
            (Key::Element(id, key), Value::Element(value)) => match set_of(id, key, value) {
                Some(set) => write!(f, " {{ {} }}", element(&set, key, value)),
                None => write!(f, " {{ {key:?} }}"),
            },
            (_, Value::Set(set)) => {
                write!(f, " {{ {}", value::types(set))?;
                let properties = value::properties(set);
                properties
                    .iter()
                    .try_for_each(|line| write!(f, "; {line}"))?;
                f.write_str(" }")
            }
            (_, Value::Chain(body)) => write!(f, " of {} rules", body.rules.len()),
            (_, Value::Table(_) | Value::Rule(_) | Value::Element(_)) => Ok(()),
        }
    }
}

impl fmt::Display for Key {
    /// The kind and name of an object; of an element, the kind and name of its set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => f.write_str("table"),
            Self::Set(id) => write!(f, "set {}", id.name()),
            Self::Chain(id) | Self::BaseChain(id) => write!(f, "chain {}", id.name()),
            Self::SourceRule(length) => write!(f, "rule of chain firewall for sources /{length}"),
            Self::Element(id, _) => write!(f, "element {}", id.name()),
        }
    }
}

/// Names of the service ports of pools.
type Owners = BTreeMap<PoolNumber, BTreeSet<String>>;

/// Who owns which pool, as the comments of front ends say.
fn owners(ruleset: &Ruleset<Key, Value>) -> Owners {
    let mut owners = Owners::new();
    let from = Key::Element(SetId::LocalFrontends, Bytes::default());
    for (key, value) in ruleset.range(from..) {
        let (Key::Element(SetId::LocalFrontends | SetId::Frontends, _), Value::Element(element)) =
            (key, value)
        else {
            continue;
        };
        let pool = crate::render::pool_of(value).filter(|pool| pool.owner().is_some());
        if let (Some(pool), Some(comment)) = (pool, element.comment()) {
            let names = owners.entry(pool).or_default();
            names.insert(comment.as_str().to_owned());
        }
    }
    owners
}

/// The heading under which an element is listed.
fn group_of(id: &SetId, key: &Bytes, owners: &Owners) -> Option<String> {
    match id {
        SetId::Endpoints | SetId::Sticky | SetId::Live | SetId::Pools => {
            let pool = PoolNumber::from_bytes(key.get(..4)?.try_into().ok()?);
            if pool == PoolNumber::REJECT {
                return Some("front ends that refuse".into());
            }
            if pool == PoolNumber::DROP {
                return Some("front ends that drop".into());
            }
            let names = owners.get(&pool)?.iter().cloned().collect::<Vec<_>>();
            let list = match pool.owner()?.1 {
                svc_core::Scope::Cluster => "all endpoints",
                svc_core::Scope::Local => "endpoints on this node",
            };
            Some(format!("{}: {list}", value::one_line(&names.join(", "))))
        }
        SetId::MasqueradePolicies => {
            let policy = u32::from_ne_bytes(key.get(..4)?.try_into().ok()?);
            Some(format!(
                "masquerades {}",
                origins(u8::try_from(policy).ok()?)
            ))
        }
        SetId::Classes | SetId::LocalClasses => {
            let class = u32::from_ne_bytes(key.get(..4)?.try_into().ok()?);
            let seconds = class.checked_sub(crate::skeleton::STICKY)?;
            Some(format!("clients stick for {seconds} s"))
        }
        SetId::Slots => {
            let count = u16::from_be_bytes(key.get(..2)?.try_into().ok()?);
            Some(format!("{count} endpoints"))
        }
        SetId::ServiceCidrs
        | SetId::PodCidrs
        | SetId::Hairpin
        | SetId::Affinity
        | SetId::Sources(_)
        | SetId::Firewalled
        | SetId::LocalFrontends
        | SetId::Frontends
        | SetId::Addresses
        | SetId::ClusterIps
        | SetId::Foreign(_) => None,
    }
}

fn origins(policy: u8) -> String {
    let bits = [
        (policy::POD, "pods"),
        (policy::NODE, "the node"),
        (policy::EXTERNAL, "others"),
    ];
    let set = bits.iter().filter(|(bit, _)| policy & bit != 0);
    let words: Vec<&str> = set.map(|(_, word)| *word).collect();
    words.join(", ")
}

fn purpose(id: &ChainId) -> Option<String> {
    let words = match id {
        ChainId::Reject => "nothing answers",
        ChainId::Firewall => "front ends that not every source may use",
        ChainId::Masquerade(policy) => {
            return Some(format!("masquerades {}", origins(*policy)));
        }
        ChainId::Affinity(seconds) | ChainId::LocalAffinity(seconds) => {
            return Some(format!("clients stick to an endpoint for {seconds} s"));
        }
        ChainId::Services => "front end, pool, slot, endpoint",
        ChainId::OutsideLocal => "the same for others than pods and the node, policy Local",
        ChainId::Outgoing => "masqueraded or not, by the front end the connection was made to",
        ChainId::FromOutside => "packets to a front end's address",
        ChainId::FromNode => "the same, sent by the node",
        ChainId::FreePrerouting | ChainId::FreeOutput => "service addresses that nobody serves",
        ChainId::Prerouting | ChainId::Output | ChainId::Postrouting | ChainId::Foreign(_) => {
            return None;
        }
    };
    Some(words.to_owned())
}

/// One element as it stands between braces.
fn element(set: &Set, key: &Bytes, value: &ElementValue) -> String {
    let mut text = match value.key_end() {
        _ if key.is_empty() => String::from("*"),
        Some(end) if set.flags.contains(SetFlags::INTERVAL) => range(&set.key, key, end),
        Some(_) | None => concatenation(&set.key, key),
    };
    match (&value.data, &set.data) {
        (Some(Data::Value(data)), Some(SetData::Value(kind))) => {
            text += " : ";
            text += &concatenation(kind, data);
        }
        (Some(Data::Verdict(verdict)), _) => {
            text += " : ";
            text += &value::verdict(verdict);
        }
        (Some(Data::Value(data)), Some(SetData::Verdict) | None) => {
            text += &format!(" : {data:?}");
        }
        (None, _) => {}
    }
    if let Some(comment) = value.comment() {
        text += " comment ";
        text += &quoted(comment.as_str());
    }
    text
}

/// The definition of an element's set: the family shows in the widths.
fn set_of(id: &SetId, key: &Bytes, value: &ElementValue) -> Option<Set> {
    let fits = |set: &Set| {
        let data = match (&set.data, &value.data) {
            (Some(SetData::Value(kind)), Some(Data::Value(data))) => {
                data.len() == kind.width() as usize
            }
            (_, _) => true,
        };
        data && (key.is_empty() || key.len() == set.key.width() as usize)
    };
    let families = svc_core::IpFamily::ALL.into_iter();
    let mut sets = families.filter_map(|family| schema::set(id, family));
    sets.find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_shown_in_their_family() {
        let line = |id: SetId, key: &[u8], value: ElementValue| {
            let key = Key::Element(id, Bytes::new(key).unwrap());
            Line(&key, &Value::Element(value)).to_string()
        };
        assert_eq!(
            line(SetId::Addresses, &[10, 0, 0, 1], ElementValue::present()),
            "element addresses { 10.0.0.1 }"
        );
        assert_eq!(
            line(SetId::Addresses, &[0; 16], ElementValue::present()),
            "element addresses { :: }"
        );
        let mut data = [0; 20];
        data[15] = 1;
        data[17] = 80;
        let key = [2u32.to_ne_bytes(), [0, 1, 0, 0]];
        assert_eq!(
            line(
                SetId::Endpoints,
                key.as_flattened(),
                ElementValue::data(Bytes::from(data))
            ),
            "element endpoints { 2 . 1 : ::1 . 80 }"
        );
        assert_eq!(
            line(SetId::Classes, &[], ElementValue::present()),
            "element classes { * }"
        );
    }
}
