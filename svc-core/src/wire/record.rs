//! How the objects of the wire are declared.

/// Declares a struct whose fields are all optional and tolerant, with the names of the API.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $( $field:ident: $type:ty = $key:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default)]
        pub struct $name {
            $(
                #[doc = concat!("`", $key, "`.")]
                #[serde(rename = $key, skip_serializing_if = "Field::is_empty")]
                pub $field: Field<$type>,
            )*
        }

        impl Shape for $name {
            const WORDS: &'static str = "an object";

            fn from_map<'de, A: serde::de::MapAccess<'de>>(
                map: A,
            ) -> Result<Option<Self>, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                serde::Deserialize::deserialize(map).map(Some)
            }
        }
    };
}

pub(super) use record;
