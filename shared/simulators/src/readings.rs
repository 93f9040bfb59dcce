//! Readings: where a contract is silent or disagrees with itself, each way to read it is a switch. Which switches there are is
//! the business of the system that is simulated; that there are two presets, and how switches are changed, is the same for all.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::Error;

/// All switches at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Each doubt resolved in the client's favour.
    #[default]
    Kind,
    /// Each doubt resolved against the client.
    Nasty,
}

/// The readings that hold after `changes`: a `preset` (or what holds now) with single switches set, as in
/// `{"preset": "nasty", "index_lag_seconds": 2}`. [`Error::Invalid`] for a preset or a switch that isn't there.
pub fn changed<R: Serialize + DeserializeOwned>(
    now: &R,
    mut changes: Map<String, Value>,
    preset: impl Fn(Preset) -> R,
) -> Result<R, Error> {
    let base = match changes.remove("preset") {
        None => json!(now),
        Some(named) => match serde_json::from_value(named.clone()) {
            Ok(named) => json!(preset(named)),
            Err(_) => {
                let named = named.as_str().unwrap_or_default();
                return Err(Error::Invalid(format!(
                    "the presets are kind and nasty, not {named:?}"
                )));
            }
        },
    };
    let mut all = match base {
        Value::Object(all) => all,
        // A system without switches.
        _ => Map::new(),
    };
    all.extend(changes);
    serde_json::from_value(Value::Object(all)).map_err(|wrong| Error::Invalid(wrong.to_string()))
}
