//! What one document of a manifest holds: an object, or a list of them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::quoted::quoted;
use super::value::{Key, Value, ValueError};
use super::{EndpointSlice, Endpoints, Namespace, Node, Pod, Service, ServiceCidr, Workload};
use crate::object::WorkloadKind;

/// An object of a kind that this crate reads, or the name of another kind.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Object {
    Service(Box<Service>),
    EndpointSlice(Box<EndpointSlice>),
    Node(Box<Node>),
    Pod(Box<Pod>),
    Namespace(Box<Namespace>),
    Endpoints(Box<Endpoints>),
    Workload(WorkloadKind, Box<Workload>),
    ServiceCidr(Box<ServiceCidr>),
    /// An object of a kind that has no part in Services.
    Unknown {
        api_version: String,
        kind: String,
        name: String,
    },
}

/// What is wrong with something that stands where an object should stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnObject {
    /// The document, or the item of a list, is a scalar or a list.
    #[error("{place}must be a Kubernetes object, is {found}")]
    NoMap {
        /// Empty, or `items[3]: `.
        place: String,
        /// What was found, in words.
        found: String,
    },
    /// `kind` or `apiVersion` is missing.
    #[error("{place}the object has no {field}")]
    Missing {
        /// Empty, or `items[3]: `.
        place: String,
        /// The missing field.
        field: &'static str,
    },
    /// `items` of a list is no list.
    #[error("{place}items must be a list of objects, is {found}")]
    NoItems {
        /// Empty, or `items[3]: `.
        place: String,
        /// What was found, in words.
        found: String,
    },
    /// The object cannot be read as its kind.
    #[error("{place}{source}")]
    Unreadable {
        /// Empty, or `items[3]: `.
        place: String,
        /// Why.
        source: ValueError,
    },
}

/// The objects of one document; `List` and lists of one kind, such as `ServiceList`, are unpacked.
///
/// The items of a list are read one by one, so that a large list is never in memory as a whole in
/// its generic form, and a bad one among them is reported by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The objects in their order.
    pub objects: Vec<Result<Object, NotAnObject>>,
}

impl Document {
    /// Unpacks a value.
    pub fn from_value(value: Value) -> Self {
        let mut document = Self::default();
        document.push(value, &Origin::default());
        document
    }

    fn push(&mut self, value: Value, origin: &Origin<'_>) {
        let entries = match value {
            // An empty document, such as after the last `---`.
            Value::Null if origin.place.is_empty() => return,
            Value::Map(entries) => entries,
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_)) => {
                let found = other.words();
                let place = origin.place.clone();
                return self.objects.push(Err(NotAnObject::NoMap { place, found }));
            }
        };
        let mut list = PartialList::default();
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("items", Value::List(items)) => {
                    let items = items.into_iter().map(Item::Generic).collect();
                    list.items = Some(Items::List(items));
                }
                ("items", other) => list.items = Some(Items::Other(other)),
                (_, value) => list.rest.push((key, value)),
            }
        }
        list.finish(origin, self);
    }
}

/// Where a value stands and what its list says about it.
#[derive(Default)]
struct Origin<'a> {
    place: String,
    /// `apiVersion` and kind that items of a list of one kind may leave out.
    inherited: Option<(&'a str, &'a str)>,
}

/// A map of which it is not yet known whether it is a list.
#[derive(Default)]
struct PartialList {
    items: Option<Items>,
    rest: Vec<(String, Value)>,
}

enum Item {
    /// Already read as its kind.
    Done(Object),
    /// Cannot be read as its kind.
    Failed(ValueError),
    /// Something that needs the head of the list, or is no plain object.
    Generic(Value),
}

impl PartialList {
    fn finish(mut self, origin: &Origin<'_>, document: &mut Document) {
        let kind = text_of(&self.rest, "kind");
        let is_list = kind.as_deref().is_some_and(|kind| kind.ends_with("List"));
        let items = match self.items.take() {
            Some(Items::List(items)) if is_list => items,
            Some(Items::Other(Value::Null)) if is_list => Vec::new(),
            Some(Items::Other(other)) if is_list => {
                let (place, found) = (origin.place.clone(), other.words());
                let error = NotAnObject::NoItems { place, found };
                return document.objects.push(Err(error));
            }
            None if kind.as_deref() == Some("List") => Vec::new(),
            Some(_) | None => return document.objects.push(object(self.rest, origin)),
        };
        let api_version = text_of(&self.rest, "apiVersion").unwrap_or_default();
        let member = kind.as_deref().and_then(|kind| kind.strip_suffix("List"));
        let inherited = member.filter(|member| !member.is_empty());
        for (index, item) in items.into_iter().enumerate() {
            let place = || format!("{}items[{index}]: ", origin.place);
            match item {
                Item::Done(object) => document.objects.push(Ok(object)),
                Item::Failed(source) => {
                    let place = place();
                    let error = NotAnObject::Unreadable { place, source };
                    document.objects.push(Err(error));
                }
                Item::Generic(value) => document.push(
                    value,
                    &Origin {
                        place: place(),
                        inherited: inherited.map(|kind| (api_version.as_str(), kind)),
                    },
                ),
            }
        }
    }
}

fn text_of(entries: &[(String, Value)], key: &str) -> Option<String> {
    let value = entries.iter().find(|(k, _)| k == key).map(|(_, v)| v)?;
    value
        .text()
        .filter(|text| !text.is_empty())
        .map(str::to_string)
}

fn object(entries: Vec<(String, Value)>, origin: &Origin<'_>) -> Result<Object, NotAnObject> {
    let inherited = origin.inherited;
    let missing = |field| NotAnObject::Missing {
        place: origin.place.clone(),
        field,
    };
    let kind = text_of(&entries, "kind")
        .or_else(|| inherited.map(|(_, kind)| kind.to_string()))
        .ok_or_else(|| missing("kind"))?;
    let api_version = text_of(&entries, "apiVersion")
        .or_else(|| inherited.map(|(version, _)| version.to_string()))
        .ok_or_else(|| missing("apiVersion"))?;
    read_as(api_version, kind, Value::Map(entries)).map_err(|source| NotAnObject::Unreadable {
        place: origin.place.clone(),
        source,
    })
}

fn read_as(api_version: String, kind: String, value: Value) -> Result<Object, ValueError> {
    let workload = |kind, value| {
        let workload = Workload::deserialize(value)?;
        Ok(Object::Workload(kind, Box::new(workload)))
    };
    Ok(match (api_version.as_str(), kind.as_str()) {
        ("v1", "Service") => Object::Service(read(value)?),
        ("discovery.k8s.io/v1", "EndpointSlice") => Object::EndpointSlice(read(value)?),
        ("v1", "Node") => Object::Node(read(value)?),
        ("v1", "Pod") => Object::Pod(read(value)?),
        ("v1", "Namespace") => Object::Namespace(read(value)?),
        ("v1", "Endpoints") => Object::Endpoints(read(value)?),
        ("networking.k8s.io/v1" | "networking.k8s.io/v1beta1", "ServiceCIDR") => {
            Object::ServiceCidr(read(value)?)
        }
        ("apps/v1", "Deployment") => return workload(WorkloadKind::Deployment, value),
        ("apps/v1", "DaemonSet") => return workload(WorkloadKind::DaemonSet, value),
        ("apps/v1", "ReplicaSet") => return workload(WorkloadKind::ReplicaSet, value),
        ("apps/v1", "StatefulSet") => return workload(WorkloadKind::StatefulSet, value),
        _ => {
            let name = value.member("metadata").and_then(|m| m.member("name"));
            let name = name.and_then(Value::text).unwrap_or_default().to_string();
            Object::Unknown {
                api_version,
                kind,
                name,
            }
        }
    })
}

fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Result<Box<T>, ValueError> {
    T::deserialize(value).map(Box::new)
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::default())
    }

    fn visit_none<E>(self) -> Result<Document, E> {
        Ok(Document::default())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Document::from_value(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        Ok(Document::from_value(Value::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Document, E> {
        Ok(Document::from_value(Value::Float(value as f64)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Document, E> {
        Ok(Document::from_value(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        Ok(Document::from_value(Value::Text(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Document, A::Error> {
        while list.next_element::<Value>()?.is_some() {}
        Ok(Document::from_value(Value::List(Vec::new())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut list = PartialList::default();
        while let Some(Key(key)) = map.next_key()? {
            let repeated = list.rest.iter().any(|(k, _)| *k == key);
            if repeated || (key == "items" && list.items.is_some()) {
                return Err(A::Error::custom(format!(
                    "the key {} stands twice in one object",
                    quoted(&key)
                )));
            }
            if key == "items" {
                list.items = Some(map.next_value()?);
            } else {
                list.rest.push((key, map.next_value()?));
            }
        }
        let mut document = Document::default();
        list.finish(&Origin::default(), &mut document);
        Ok(document)
    }
}

/// What stands in `items`.
enum Items {
    /// Objects, each read as its kind as soon as it is complete.
    List(Vec<Item>),
    Other(Value),
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_unit<E>(self) -> Result<Items, E> {
        Ok(Items::Other(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Items, E> {
        Ok(Items::Other(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Items, E> {
        Ok(Items::Other(Value::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Items, E> {
        Ok(Items::Other(Value::Float(value as f64)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Items, E> {
        Ok(Items::Other(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Items, E> {
        Ok(Items::Other(Value::Text(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items, A::Error> {
        let mut items = Vec::new();
        while let Some(value) = list.next_element::<Value>()? {
            items.push(item(value));
        }
        Ok(Items::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Items, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Items::Other(Value::Map(Vec::new())))
    }
}

fn item(value: Value) -> Item {
    let entries = match value {
        Value::Map(entries) => entries,
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::List(_)) => return Item::Generic(other),
    };
    match (text_of(&entries, "apiVersion"), text_of(&entries, "kind")) {
        (Some(api_version), Some(kind)) if !kind.ends_with("List") => {
            match read_as(api_version, kind, Value::Map(entries)) {
                Ok(object) => Item::Done(object),
                Err(error) => Item::Failed(error),
            }
        }
        _ => Item::Generic(Value::Map(entries)),
    }
}
