//! Settings as they may be printed: passwords and keys hidden.

use serde_json::Value;
use url::Url;

use super::rule::{Kind, Rule};

/// What is printed in place of a secret.
const HIDDEN: &str = "***";

/// One setting for `kurir config`.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub path: &'static str,
    pub value: Value,
    /// `default`, the file's path, or the variable's name.
    pub origin: String,
}

pub(super) fn shown(rule: &Rule, value: &Value, origin: &str) -> Shown {
    let value = match (rule.kind, value) {
        (Kind::UrlOrNone(_) | Kind::Url(_), Value::String(url)) => Value::from(hide_password(url)),
        (Kind::KeyRing, Value::Object(keys)) => Value::Object(
            keys.keys()
                .map(|id| (id.clone(), Value::from(HIDDEN)))
                .collect(),
        ),
        (_, other) => other.clone(),
    };
    Shown {
        path: rule.path,
        value,
        origin: origin.to_owned(),
    }
}

/// An address without what may be secret in it: password and query. What cannot be read is hidden whole.
pub fn hide_password(address: &str) -> String {
    if address.is_empty() {
        return String::new();
    }
    let Ok(mut url) = Url::parse(address) else {
        return HIDDEN.to_owned();
    };
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return HIDDEN.to_owned();
    }
    if url.query().is_some() {
        url.set_query(Some(HIDDEN));
    }
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::hide_password;

    #[test]
    fn an_address_keeps_everything_but_its_secrets() {
        for (address, expected) in [
            ("", ""),
            (
                "amqp://kurir:gehe!m@127.0.0.1:5672/%2f",
                "amqp://kurir:***@127.0.0.1:5672/%2f",
            ),
            (
                "postgres://u:p@db/kurir?password=x",
                "postgres://u:***@db/kurir?***",
            ),
            ("postgres://db/kurir", "postgres://db/kurir"),
            ("p4ss", "***"),
        ] {
            assert_eq!(hide_password(address), expected);
        }
    }
}
