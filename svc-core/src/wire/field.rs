//! Fields that remember what stood in them, so that one wrong value never loses an object.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::quoted::quoted;

/// One field of an object as it came over the wire.
///
/// Reading never fails: a value of another type is kept as [`Field::Wrong`], and conversion names
/// it in a diagnostic. `null` is [`Field::Unset`].
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Field<T> {
    /// Missing, or `null`.
    #[default]
    Unset,
    /// A value of the type of the field.
    Value(T),
    /// A value of another type, in words.
    Wrong(Box<str>),
}

/// A type that a [`Field`] can hold, and the forms that it is read from.
pub trait Shape: Sized {
    /// The type in words, for diagnostics: "must be …".
    const WORDS: &'static str;

    /// Reads a boolean.
    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    /// Reads a whole number.
    fn from_integer(_: i64) -> Option<Self> {
        None
    }

    /// Reads a number with a fraction, or beyond 64 bits.
    fn from_float(_: f64) -> Option<Self> {
        None
    }

    /// Reads a string.
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    /// Reads a list, or skips it.
    ///
    /// # Errors
    /// Those of the reader: the input itself is broken.
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// Reads an object, or skips it.
    ///
    /// # Errors
    /// Those of the reader: the input itself is broken.
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// `metadata.labels` and other maps of strings.
pub type StringMap = BTreeMap<String, Field<String>>;

/// A field that holds a number or a name, such as `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A string.
    Text(String),
}

/// An amount such as `3920m`, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity(pub String);

impl<T> Field<T> {
    /// The value, if there is one of the right type.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unset | Self::Wrong(_) => None,
        }
    }

    /// The value itself, if there is one of the right type.
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unset | Self::Wrong(_) => None,
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.value().is_none()
    }
}

impl Field<String> {
    /// The text; empty when there is none.
    pub fn text(&self) -> &str {
        self.value().map_or("", String::as_str)
    }
}

impl<T> Field<Vec<Field<T>>> {
    /// The members of the right type; none when unset.
    pub fn members(&self) -> impl Iterator<Item = &T> {
        self.value().into_iter().flatten().filter_map(Field::value)
    }
}

impl<T> From<T> for Field<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl<T> From<Option<T>> for Field<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unset, Self::Value)
    }
}

impl<'de, T: Shape> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value() {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_none(),
        }
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Shape> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WORDS)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(checked(T::from_bool(value), || value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(checked(T::from_integer(value), || value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        let read = i64::try_from(value).ok().and_then(T::from_integer);
        Ok(checked(read, || value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Self::Value, E> {
        let read = i64::try_from(value).ok().and_then(T::from_integer);
        Ok(checked(read, || value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Self::Value, E> {
        let read = i64::try_from(value).ok().and_then(T::from_integer);
        Ok(checked(read, || value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(checked(T::from_float(value), || format!("{value:?}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(checked(T::from_text(value), || quoted(value).to_string()))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Self::Value, E> {
        Ok(Field::Wrong("binary data".into()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Unset)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Unset)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Ok(checked(T::from_list(list)?, || "a list".to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok(checked(T::from_map(map)?, || "an object".to_string()))
    }
}

fn checked<T>(read: Option<T>, found: impl FnOnce() -> String) -> Field<T> {
    match read {
        Some(value) => Field::Value(value),
        None => Field::Wrong(found().into()),
    }
}

impl Shape for bool {
    const WORDS: &'static str = "true or false";

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Shape for i64 {
    const WORDS: &'static str = "a whole number";

    fn from_integer(value: i64) -> Option<Self> {
        Some(value)
    }
}

impl Shape for String {
    const WORDS: &'static str = "a string";

    fn from_text(value: &str) -> Option<Self> {
        Some(value.into())
    }
}

impl Shape for IntOrString {
    const WORDS: &'static str = "a number or a name";

    fn from_integer(value: i64) -> Option<Self> {
        Some(Self::Int(value))
    }

    fn from_text(value: &str) -> Option<Self> {
        Some(Self::Text(value.into()))
    }
}

impl Serialize for IntOrString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl Shape for Quantity {
    const WORDS: &'static str = "a quantity";

    fn from_integer(value: i64) -> Option<Self> {
        Some(Self(value.to_string()))
    }

    fn from_float(value: f64) -> Option<Self> {
        Some(Self(value.to_string()))
    }

    fn from_text(value: &str) -> Option<Self> {
        Some(Self(value.into()))
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<T: Shape> Shape for Vec<Field<T>> {
    const WORDS: &'static str = "a list";

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        // The hint comes from the input, so it must not decide how much memory is taken.
        let mut members = Vec::with_capacity(list.size_hint().unwrap_or(0).min(1024));
        while let Some(member) = list.next_element()? {
            members.push(member);
        }
        Ok(Some(members))
    }
}

impl Shape for StringMap {
    const WORDS: &'static str = "a map of strings";

    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut entries = Self::new();
        while let Some((key, value)) = map.next_entry()? {
            entries.insert(key, value);
        }
        Ok(Some(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Shape>(json: &str) -> Field<T> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_value_of_another_type_is_kept_in_words() {
        assert_eq!(read::<i64>("70000"), Field::Value(70000));
        assert_eq!(read::<i64>("null"), Field::Unset);
        assert_eq!(read::<i64>("\"80\""), Field::Wrong("\"80\"".into()));
        assert_eq!(read::<i64>("80.5"), Field::Wrong("80.5".into()));
        assert_eq!(
            read::<i64>("18446744073709551615"),
            Field::Wrong("18446744073709551615".into())
        );
        assert_eq!(read::<String>("[1]"), Field::Wrong("a list".into()));
        assert_eq!(read::<bool>("{\"a\":1}"), Field::Wrong("an object".into()));
        assert_eq!(
            read::<Vec<Field<bool>>>("[true,0,null]"),
            Field::Value(alloc::vec![
                true.into(),
                Field::Wrong("0".into()),
                Field::Unset
            ])
        );
    }

    #[test]
    fn a_target_port_is_a_number_or_a_name() {
        assert_eq!(read("8080"), Field::Value(IntOrString::Int(8080)));
        assert_eq!(
            read("\"http\""),
            Field::Value(IntOrString::Text("http".into()))
        );
    }
}
