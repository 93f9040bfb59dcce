//! The only way to build a copy: from the allow-list, with the counters written anew.

use chrono::{DateTime, Utc};
use event::headers::{
    ATTEMPT, DEAD_AT, DEAD_CLASS, DEAD_FINGERPRINT, DEAD_KEY, DEAD_TEXT, DUE, FIRST_RECEIVED,
    HISTORY, LINK, WAITS,
};
use serde_json::Value;
use worker::{Attempt, DeadClass, Delivery, DeliveryMetadata};

use super::{ATTEMPT_TEXT, COUNTED, DEAD_MESSAGE, HISTORY_BYTES, Properties, cut, storable};

/// Where a copy goes, with what only that way writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Destination<'a> {
    RetryTier {
        counted: bool,
        due: Option<DateTime<Utc>>,
        class: DeadClass,
        reason: &'a str,
    },
    Dead {
        class: DeadClass,
        fingerprint: &'a str,
        reason: &'a str,
        link: Option<i64>,
        /// Under which it came, where it could not be read.
        key: Option<&'a str>,
    },
}

/// The only way to build a copy. The body goes with it byte for byte.
pub(crate) fn forward(delivery: &Delivery, to: Destination<'_>, now: DateTime<Utc>) -> Properties {
    let mut copy = Properties::from_json(&delivery.properties, &delivery.headers);
    // What a row may carry is more than what a copy inherits: the counters are written anew.
    copy.headers
        .retain(|name, _| !COUNTED.contains(&name.as_str()));
    let metadata = &delivery.metadata;
    let mut set = |name: &str, value: Value| copy.headers.insert(name.to_owned(), value);
    let (counted, class, reason) = match to {
        Destination::RetryTier {
            counted,
            class,
            reason,
            ..
        } => (counted, class, reason),
        Destination::Dead { class, reason, .. } => (true, class, reason),
    };
    let ms = u64::try_from((now - delivery.received_at).num_milliseconds()).unwrap_or(0);
    let attempt = Attempt {
        at: now,
        class: class.as_str().to_owned(),
        code: cut(reason, ATTEMPT_TEXT),
        ms,
    };
    set(
        HISTORY,
        Value::from(history(&metadata.history, attempt, counted)),
    );
    let first_received = metadata.first_received.unwrap_or(delivery.received_at);
    set(
        FIRST_RECEIVED,
        Value::from(first_received.timestamp_millis()),
    );
    match to {
        Destination::RetryTier { counted, due, .. } => {
            set(
                ATTEMPT,
                Value::from(metadata.attempt.saturating_add(u32::from(counted))),
            );
            let waits = metadata.waits.saturating_add(u32::from(!counted));
            if waits > 0 {
                set(WAITS, Value::from(waits));
            }
            if let Some(due) = due {
                set(DUE, Value::from(due.timestamp_millis()));
            }
        }
        Destination::Dead {
            class,
            fingerprint,
            reason,
            link,
            key,
        } => {
            set(ATTEMPT, Value::from(metadata.attempt));
            if metadata.waits > 0 {
                set(WAITS, Value::from(metadata.waits));
            }
            set(DEAD_CLASS, Value::from(class.as_str()));
            set(
                DEAD_FINGERPRINT,
                Value::from(cut(fingerprint, ATTEMPT_TEXT)),
            );
            set(DEAD_TEXT, Value::from(cut(reason, DEAD_MESSAGE)));
            set(DEAD_AT, Value::from(now.timestamp_millis()));
            if let Some(link) = link {
                set(LINK, Value::from(link.to_string()));
            }
            if let Some(key) = key {
                set(DEAD_KEY, Value::from(storable(key)));
            }
        }
    }
    copy
}

/// Repeated waits for one cause are one entry, so that they don't push the failures out.
fn history(before: &[Attempt], attempt: Attempt, counted: bool) -> String {
    let mut all: Vec<Attempt> = before.to_vec();
    if !counted
        && all
            .last()
            .is_some_and(|last| (&last.class, &last.code) == (&attempt.class, &attempt.code))
    {
        all.pop();
    }
    all.push(attempt);
    let surplus = all.len().saturating_sub(DeliveryMetadata::HISTORY_LIMIT);
    all.drain(..surplus);
    loop {
        let json = serde_json::to_string(&all).expect("texts and numbers are JSON");
        if json.len() <= HISTORY_BYTES || all.len() <= 1 {
            return json;
        }
        all.remove(0);
    }
}
