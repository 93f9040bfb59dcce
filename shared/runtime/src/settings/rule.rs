//! What one setting may be.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use url::Url;

/// Length of a key of the ring, in bytes.
const KEY_BYTES: usize = 32;
/// Longest list of a setting.
const LIST_LIMIT: usize = 16;

/// What the value of a setting may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Choice(&'static [&'static str]),
    Whole {
        min: u64,
        max: u64,
    },
    WholeList {
        min: u64,
        max: u64,
    },
    Switch,
    /// `host:port` with a numeric host.
    Address,
    /// As `Address`, or empty.
    AddressOrNone,
    /// Empty = not set. The password in it is never shown.
    UrlOrNone(&'static [&'static str]),
    Url(&'static [&'static str]),
    /// Letters, digits, dot, underscore, hyphen.
    Name {
        max: usize,
    },
    NameOrNone {
        max: usize,
    },
    Text,
    /// A table id → base64 of 32 bytes; its values are never shown.
    KeyRing,
}

/// What a command cannot do without. Settings that no command of this process needs may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Amqp,
    Database,
    /// The key ring: whoever seals or opens credentials.
    Keys,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// `section.name`.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// Must be set by whoever has this need.
    pub(super) needed: Option<Need>,
}

impl Rule {
    pub const fn new(path: &'static str, kind: Kind) -> Self {
        Self {
            path,
            kind,
            needed: None,
        }
    }

    /// A whole number from `min` to `max`.
    pub const fn whole(path: &'static str, min: u64, max: u64) -> Self {
        Self::new(path, Kind::Whole { min, max })
    }
}

impl Kind {
    /// Whether a given value may be quoted in a message about it.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::UrlOrNone(_) | Self::Url(_) | Self::KeyRing)
    }

    /// The value as the typed settings read it, or what it should have been. Text from the environment becomes a
    /// number, a switch or a list here and nowhere else.
    pub(super) fn read(self, value: &Value) -> Result<Value, String> {
        let accepted = match self {
            Self::Choice(choices) => text(value)
                .filter(|text| choices.contains(text))
                .map(Value::from),
            Self::Whole { min, max } => number(value, min, max).map(Value::from),
            Self::WholeList { min, max } => list(value, min, max),
            Self::Switch => switch(value).map(Value::from),
            Self::Address => address(value).map(Value::from),
            Self::AddressOrNone => empty(value).or_else(|| address(value).map(Value::from)),
            Self::UrlOrNone(schemes) => empty(value).or_else(|| address_of(value, schemes)),
            Self::Url(schemes) => address_of(value, schemes),
            Self::Name { max } => name(value, max).map(Value::from),
            Self::NameOrNone { max } => empty(value).or_else(|| name(value, max).map(Value::from)),
            Self::Text => text(value).map(Value::from),
            Self::KeyRing => return ring(value),
        };
        accepted.ok_or_else(|| format!("must be {}", self.expected()))
    }

    pub(super) fn expected(self) -> String {
        match self {
            Self::Choice(choices) => format!("one of {}", choices.join(", ")),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::WholeList { min, max } => {
                format!("whole numbers from {min} to {max}, at most {LIST_LIMIT}, growing")
            }
            Self::Switch => "true or false".to_owned(),
            Self::Address => "an address and port, for example 127.0.0.1:8080".to_owned(),
            Self::AddressOrNone => {
                "an address and port, for example 127.0.0.1:9090, or \"\"".to_owned()
            }
            Self::UrlOrNone(schemes) | Self::Url(schemes) => {
                format!(
                    "an address with a host that begins with {}://",
                    schemes.join(":// or ")
                )
            }
            Self::Name { max } | Self::NameOrNone { max } => {
                format!("at most {max} letters, digits, dots, hyphens or underscores")
            }
            Self::Text => "text".to_owned(),
            Self::KeyRing => "a table of keys".to_owned(),
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn empty(value: &Value) -> Option<Value> {
    text(value).filter(|text| text.is_empty()).map(Value::from)
}

fn number(value: &Value, min: u64, max: u64) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (min..=max).contains(&number).then_some(number)
}

fn list(value: &Value, min: u64, max: u64) -> Option<Value> {
    let numbers: Vec<u64> = match value {
        Value::Array(items) => items
            .iter()
            .map(|item| number(item, min, max))
            .collect::<Option<_>>()?,
        Value::String(text) if text.trim().is_empty() => Vec::new(),
        Value::String(text) => text
            .split(',')
            .map(|item| number(&Value::from(item), min, max))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    let growing = numbers.is_sorted_by(|one, next| one < next);
    (growing && numbers.len() <= LIST_LIMIT).then(|| Value::from(numbers))
}

fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn address(value: &Value) -> Option<&str> {
    text(value).filter(|text| text.parse::<std::net::SocketAddr>().is_ok())
}

fn address_of(value: &Value, schemes: &[&str]) -> Option<Value> {
    let url = Url::parse(text(value)?).ok()?;
    let complete = schemes.contains(&url.scheme()) && url.has_host();
    complete.then(|| value.clone())
}

fn name(value: &Value, max: usize) -> Option<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text(value).filter(|text| !text.is_empty() && text.len() <= max && text.bytes().all(allowed))
}

fn ring(value: &Value) -> Result<Value, String> {
    let Value::Object(keys) = value else {
        return Err("must be a table of keys, each an id and the base64 of 32 bytes".to_owned());
    };
    for (id, key) in keys {
        let bytes = text(key).and_then(|text| BASE64_STANDARD.decode(text.trim()).ok());
        if bytes.is_none_or(|bytes| bytes.len() != KEY_BYTES) {
            return Err(format!(
                "key `{id}` must be the base64 of {KEY_BYTES} bytes; `kurir keys new` makes one"
            ));
        }
    }
    Ok(value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_environment_becomes_what_the_setting_is() {
        let read = |kind: Kind, text: &str| kind.read(&Value::from(text));
        assert_eq!(
            read(Kind::Whole { min: 1, max: 9 }, "7"),
            Ok(Value::from(7))
        );
        assert_eq!(
            read(Kind::WholeList { min: 1, max: 90 }, "1, 5,60"),
            Ok(serde_json::json!([1, 5, 60]))
        );
        assert_eq!(
            read(Kind::WholeList { min: 1, max: 90 }, ""),
            Ok(serde_json::json!([]))
        );
        assert_eq!(read(Kind::Switch, "true"), Ok(Value::from(true)));
        // What looks like a number stays text where text is asked for.
        assert_eq!(read(Kind::Name { max: 9 }, "007"), Ok(Value::from("007")));
        for (kind, text) in [
            (Kind::Whole { min: 1, max: 9 }, "1e0"),
            (Kind::Whole { min: 1, max: 9 }, "10"),
            (Kind::WholeList { min: 1, max: 90 }, "5,1"),
            (Kind::Switch, "yes"),
            (Kind::Address, "localhost:80"),
            (Kind::Url(&["http"]), "http://"),
            (Kind::Url(&["http"]), "ftp://host"),
            (Kind::Name { max: 9 }, "a b"),
        ] {
            assert!(read(kind, text).is_err(), "{text:?} for {kind:?}");
        }
    }
}
