//! Any JSON or YAML value, for input whose kind is not known before it is read.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::{self, Vec};
use core::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, Deserialize, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::quoted::quoted;

/// A JSON or YAML value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction, or beyond 64 bits.
    Float(f64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object, in the order of the input; no key stands twice.
    Map(Vec<(String, Value)>),
}

/// Why a [`Value`] could not be read as a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl Value {
    /// The member of an object.
    pub fn member(&self, key: &str) -> Option<&Value> {
        let mut entries = self.entries()?.iter();
        entries.find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// The keys and values of an object.
    pub fn entries(&self) -> Option<&[(String, Value)]> {
        if let Self::Map(entries) = self {
            return Some(entries);
        }
        None
    }

    /// The members of a list.
    pub fn members(&self) -> Option<&[Value]> {
        if let Self::List(members) = self {
            return Some(members);
        }
        None
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            return Some(text);
        }
        None
    }

    /// The value of a boolean.
    pub fn boolean(&self) -> Option<bool> {
        if let Self::Bool(value) = self {
            return Some(*value);
        }
        None
    }

    /// The value of a whole number.
    pub fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self {
            return Some(*value);
        }
        None
    }

    /// What the value is, in words for a message.
    pub fn words(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => format!("{value:?}"),
            Self::Text(text) => quoted(text).to_string(),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "an object".into(),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Text(String::from_utf8_lossy(value).into_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = list.next_element()? {
            members.push(member);
        }
        Ok(Value::List(members))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        match repeated(&entries) {
            Some(key) => Err(A::Error::custom(format!(
                "the key {} stands twice in one object",
                quoted(key)
            ))),
            None => Ok(Value::Map(entries)),
        }
    }
}

/// A key that stands twice; large maps are sorted so that hostile ones stay cheap.
fn repeated(entries: &[(String, Value)]) -> Option<&str> {
    if entries.len() < 16 {
        return entries.iter().enumerate().find_map(|(i, (key, _))| {
            let before = entries.iter().take(i);
            before.map(|(k, _)| k).find(|k| *k == key).map(|k| &**k)
        });
    }
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| &**key).collect();
    keys.sort_unstable();
    keys.iter()
        .zip(keys.iter().skip(1))
        .find_map(|(a, b)| (a == b).then_some(*a))
}

/// A key; YAML also allows numbers, booleans and null there, which count as their text.
pub(super) struct Key(pub(super) String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(ValueVisitor)? {
            Value::Text(text) => Ok(Self(text)),
            scalar @ (Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_)) => {
                Ok(Self(scalar.words()))
            }
            Value::List(_) | Value::Map(_) => Err(D::Error::custom(
                "a key of an object is a list or an object itself",
            )),
        }
    }
}

impl de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<'de> IntoDeserializer<'de, ValueError> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Integer(value) => visitor.visit_i64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::List(members) => {
                let members: vec::IntoIter<Value> = members.into_iter();
                visitor.visit_seq(SeqDeserializer::new(members))
            }
            Self::Map(entries) => visitor.visit_map(MapDeserializer::new(entries.into_iter())),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_an_error() {
        let error = serde_json::from_str::<Value>("{\"a\":1,\"b\":2,\n\"a\":3}").unwrap_err();
        assert!(error.to_string().contains("\"a\" stands twice"), "{error}");
        let many: Vec<String> = (0..40).map(|i| format!("\"k{}\":0", i % 39)).collect();
        let error = serde_json::from_str::<Value>(&format!("{{{}}}", many.join(","))).unwrap_err();
        assert!(error.to_string().contains("\"k0\" stands twice"), "{error}");
    }

    #[test]
    fn a_value_is_read_as_a_type() {
        let value: Value = serde_json::from_str("{\"spec\":{\"ports\":[{\"port\":80}]}}").unwrap();
        let service = super::super::Service::deserialize(value).unwrap();
        let spec = service.spec.value().unwrap();
        let ports: Vec<i64> = spec
            .ports
            .members()
            .filter_map(|p| p.port.value().copied())
            .collect();
        assert_eq!(ports, [80]);
    }
}
