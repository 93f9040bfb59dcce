//! Rows as structs: one declaration gives the struct, its serialisation and its reading by column name.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::OrderKey;
use serde::ser::{Serialize, SerializeMap, Serializer};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef, Postgres};
use sqlx::{Decode, Type};

macro_rules! row {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$about:meta])* pub $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $name { $($(#[$about])* pub $field: $type),+ }

        impl sqlx::FromRow<'_, sqlx::postgres::PgRow> for $name {
            fn from_row(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: sqlx::Row::try_get(row, stringify!($field))?),+ })
            }
        }
    };
}
pub(crate) use row;

/// An order key as it stands in a row. Serialised as people read it: version, `deleted`, event id, generation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredKey(pub OrderKey);

impl fmt::Display for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for StoredKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Type<Postgres> for StoredKey {
    fn type_info() -> PgTypeInfo {
        <Vec<u8> as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for StoredKey {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let bytes = <Vec<u8> as Decode<Postgres>>::decode(value)?;
        OrderKey::from_bytes(bytes)
            .map(Self)
            .ok_or_else(|| "the stored bytes are not an order key".into())
    }
}

/// A message's body as it came. Serialised as the JSON it holds; else as its text; else as `{"base64": …}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(pub Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(event::unmarked(&self.0)) {
            return json.serialize(serializer);
        }
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return text.serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &STANDARD.encode(&self.0))?;
        map.end()
    }
}

impl Type<Postgres> for Body {
    fn type_info() -> PgTypeInfo {
        <Vec<u8> as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for Body {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        <Vec<u8> as Decode<Postgres>>::decode(value).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_as_what_it_holds() {
        let shown =
            |bytes: &[u8]| serde_json::to_string(&Body(bytes.to_vec())).expect("serialises");
        assert_eq!(shown(br#"{"a":1}"#), r#"{"a":1}"#);
        assert_eq!(shown("ni JSON č".as_bytes()), r#""ni JSON č""#);
        assert_eq!(shown(&[0xff, 0x00]), r#"{"base64":"/wA="}"#);
    }
}
