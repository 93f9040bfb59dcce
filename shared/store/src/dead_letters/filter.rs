//! Which dead letters: one description for lists, groups, replays, resolutions and exports.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;
use worker::DeadClass;

use crate::Scope;

/// Most ids that one caller may name; more of them are a filter's work.
pub const IDS_LIMIT: usize = 1000;

/// What must hold of a row, all of it; `None` holds of every row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// One of these, at most [`IDS_LIMIT`].
    pub ids: Option<Vec<Uuid>>,
    pub worker: Option<String>,
    pub event_type: Option<String>,
    /// `open`, `replaying`, `resolved`, `overtaken` or `discarded`.
    pub state: Option<String>,
    pub class: Option<DeadClass>,
    pub fingerprint: Option<String>,
    /// Died last at or after this.
    pub since: Option<DateTime<Utc>>,
    /// Died last before this.
    pub until: Option<DateTime<Utc>>,
    /// The business id: `contact/512`, or what follows the `/`.
    pub record: Option<String>,
    /// Contained in subject, event id, source or message, in any case of letters. Fewer than three characters read every
    /// row.
    pub text: Option<String>,
}

impl Filter {
    /// Only this dead letter.
    pub fn one(id: Uuid) -> Self {
        Self {
            ids: Some(vec![id]),
            ..Self::default()
        }
    }

    /// What was asked for, as people read it later: only what was given.
    pub fn to_json(&self) -> Value {
        let mut given = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                given.insert(name.to_owned(), value);
            }
        };
        put("ids", self.ids.as_ref().map(|ids| json!(ids)));
        put("worker", self.worker.as_ref().map(|text| json!(text)));
        put("type", self.event_type.as_ref().map(|text| json!(text)));
        put("class", self.class.map(|class| json!(class.as_str())));
        put(
            "fingerprint",
            self.fingerprint.as_ref().map(|text| json!(text)),
        );
        put("since", self.since.map(|at| json!(at)));
        put("until", self.until.map(|at| json!(at)));
        put("record", self.record.as_ref().map(|text| json!(text)));
        put("text", self.text.as_ref().map(|text| json!(text)));
        Value::Object(given)
    }

    /// Writes ` where …`. Only what was given is written: a statement with `$1 is null or …` would be planned for
    /// every filter at once, and read the whole table.
    pub(super) fn push(&self, scope: Scope<'_>, query: &mut QueryBuilder<Postgres>) {
        query.push(" where true");
        let mut equal = |column: &str, value: Option<&str>| {
            if let Some(value) = value {
                query.push(format!(" and {column} = "));
                query.push_bind(value.to_owned());
            }
        };
        equal("tenant", scope.tenant());
        equal("worker", self.worker.as_deref());
        equal("type", self.event_type.as_deref());
        equal("state", self.state.as_deref());
        equal("class", self.class.map(DeadClass::as_str));
        equal("fingerprint", self.fingerprint.as_deref());
        if let Some(ids) = &self.ids {
            query.push(" and id = any(");
            query.push_bind(ids.clone()).push(")");
        }
        if let Some(since) = self.since {
            query.push(" and last_at >= ").push_bind(since);
        }
        if let Some(until) = self.until {
            query.push(" and last_at < ").push_bind(until);
        }
        if let Some(record) = &self.record {
            query.push(" and (subject = ").push_bind(record.clone());
            query.push(" or substr(subject, strpos(subject, '/') + 1) = ");
            query.push_bind(record.clone()).push(")");
        }
        if let Some(text) = &self.text {
            query.push(" and dead_letter_words(subject, event_id, source, message) like ");
            query.push_bind(containing(text));
        }
    }
}

/// The pattern of `like` for a text that is contained.
fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in text.to_lowercase().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_for_is_no_pattern() {
        assert_eq!(containing(r"100%_Č\"), r"%100\%\_č\\%");
    }

    #[test]
    fn a_filter_says_only_what_was_given() {
        let filter = Filter {
            class: Some(DeadClass::Refused),
            record: Some("contact/7".to_owned()),
            ..Filter::default()
        };
        assert_eq!(
            filter.to_json(),
            json!({ "class": "refused", "record": "contact/7" })
        );
    }
}
