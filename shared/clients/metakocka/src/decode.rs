//! Values as Metakocka writes them (§1.3, §1.8): numbers and booleans are strings, missing values are absent, null or
//! empty, and a list of one may be its only element.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A text; numbers and booleans count as their spelling. None if absent, null or empty.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    as_text(Value::deserialize(deserializer)?)
        .map_err(|kind| D::Error::custom(format!("expected a text, got {kind}")))
}

/// A boolean, also as the string `true` or `false`. None if absent, null or empty.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let Some(text) = text(deserializer)? else {
        return Ok(None);
    };
    match text.trim() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        other => Err(D::Error::custom(format!(
            "expected true or false, got {other:?}"
        ))),
    }
}

/// A list, its only element, or nothing: absent, null and `""` are empty, and so are such elements.
pub(crate) fn many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    one_or_many(Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(crate) fn one_or_many<T: DeserializeOwned>(value: Value) -> Result<Vec<T>, serde_json::Error> {
    let elements = match value {
        Value::Array(elements) => elements,
        one => vec![one],
    };
    elements
        .into_iter()
        .filter(|element| !is_missing(element))
        .map(serde_json::from_value)
        .collect()
}

pub(crate) fn as_text(value: Value) -> Result<Option<String>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Array(_) => Err("a list"),
        Value::Object(_) => Err("an object"),
    }
}

fn is_missing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Row {
        #[serde(default, deserialize_with = "text")]
        name: Option<String>,
        #[serde(default, deserialize_with = "flag")]
        active: Option<bool>,
        #[serde(default, deserialize_with = "many")]
        rows: Vec<Row>,
    }

    fn row(value: Value) -> Row {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn texts_and_flags_in_every_spelling() {
        for (value, name) in [
            (json!({"name": "a"}), Some("a")),
            (
                json!({"name": 9_000_000_000_101_u64}),
                Some("9000000000101"),
            ),
            (json!({"name": ""}), None),
            (json!({"name": null}), None),
            (json!({}), None),
        ] {
            assert_eq!(row(value).name.as_deref(), name);
        }
        for (value, active) in [
            (json!({"active": "true"}), Some(true)),
            (json!({"active": true}), Some(true)),
            (json!({"active": "false"}), Some(false)),
            (json!({"active": ""}), None),
            (json!({"active": null}), None),
        ] {
            assert_eq!(row(value).active, active);
        }
        assert!(serde_json::from_value::<Row>(json!({"active": "maybe"})).is_err());
        assert!(serde_json::from_value::<Row>(json!({"name": ["a"]})).is_err());
    }

    #[test]
    fn nothing_is_an_empty_list() {
        for value in [
            json!({}),
            json!({"rows": null}),
            json!({"rows": ""}),
            json!({"rows": []}),
            json!({"rows": [null]}),
            json!({"rows": [""]}),
        ] {
            assert_eq!(row(value.clone()).rows, [], "{value}");
        }
        assert!(serde_json::from_value::<Row>(json!({"rows": "a text"})).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((prop_oneof!["name", "active", "rows"], inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn never_panics(value in any_json()) {
            let _ = serde_json::from_value::<Row>(value);
        }

        #[test]
        fn a_list_of_one_and_its_element_are_the_same(names in prop::collection::vec("[a-z]{1,5}", 0..4)) {
            let rows: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            let listed = row(json!({"rows": rows}));
            prop_assert_eq!(listed.rows.len(), names.len());
            if let [only] = &rows[..] {
                prop_assert_eq!(row(json!({"rows": only})), listed);
            }
        }
    }
}
