//! Small things in words.

use chrono::{DateTime, Local, Utc};
use serde_json::Value;

/// `1 event`, `2 events`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

/// A small JSON object in one line of words.
pub fn render_detail(detail: &Value) -> String {
    let Value::Object(fields) = detail else {
        return detail.to_string();
    };
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let filled = fields.iter().filter(|(_, value)| !value.is_null());
    filled
        .map(|(name, value)| format!("{name}: {}", word(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Local time with its distance from UTC; JSON has UTC.
pub fn at(time: DateTime<Utc>) -> String {
    let local = time.with_timezone(&Local);
    let zone = if local.offset().utc_minus_local() == 0 {
        "UTC"
    } else {
        "%:z"
    };
    local
        .format(&format!("%Y-%m-%d %H:%M:%S {zone}"))
        .to_string()
}
