//! A call as it came in: its fields in the order they were sent, without the credentials.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::call::Call;
use super::reply::Reply;

/// A call that passed the credentials, address and quota checks. Holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub(super) call: Call,
    /// In the order sent: where the last of several filters wins, order matters.
    pub(super) fields: Vec<(String, Value)>,
}

/// Names one write that was put off ([`super::Company::schedule`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub u64);

impl Request {
    pub fn call(&self) -> Call {
        self.call
    }

    /// The body as JSON, without `secret_key` and `company_id`.
    pub fn body(&self) -> Value {
        Value::Object(self.fields.iter().cloned().collect())
    }

    pub(super) fn field(&self, key: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }
}

/// A JSON object that keeps the order of its keys.
#[derive(Default)]
pub(crate) struct Ordered(pub(crate) Vec<(String, Value)>);

impl Ordered {
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// The company a body is for, or nothing when it can't be read.
    pub(crate) fn company_id(&self) -> Option<String> {
        self.0
            .iter()
            .find(|(name, _)| name == "company_id")
            .and_then(|(_, value)| text_of(value))
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Ordered;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Ordered(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Text, or a number given as one (§1.3: both occur in requests).
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What stands under one key of an object in a request.
pub(super) enum Sent<T> {
    /// The key is absent, or null.
    Absent,
    /// An empty text.
    Empty,
    Value(T),
}

fn bad_value(key: &str, value: &Value) -> Reply {
    Reply::refused(
        2,
        &format!("Paramether '{key}' has invalid value : {value}."),
    )
}

/// One object of a request (the partner, a contact, an address), read field by field.
pub(super) struct Fields<'a>(pub(super) &'a serde_json::Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn of(key: &str, value: &'a Value) -> Result<Self, Reply> {
        value
            .as_object()
            .map(Fields)
            .ok_or_else(|| bad_value(key, value))
    }

    pub(super) fn text(&self, key: &str) -> Result<Sent<String>, Reply> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(Sent::Absent),
            Some(value) => match text_of(value) {
                None => Err(bad_value(key, value)),
                Some(text) if text.is_empty() => Ok(Sent::Empty),
                Some(text) => Ok(Sent::Value(text)),
            },
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Reply> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(value) => Err(bad_value(key, value)),
        }
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Fields<'a>>, Reply> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Fields::of(key, value).map(Some),
        }
    }

    /// A list of objects; one bare object counts as a list of one.
    pub(super) fn list(&self, key: &str) -> Result<Vec<Fields<'a>>, Reply> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(entries)) => {
                entries.iter().map(|entry| Fields::of(key, entry)).collect()
            }
            Some(value) => Ok(vec![Fields::of(key, value)?]),
        }
    }
}
