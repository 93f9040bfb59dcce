//! What a dead letter tells of its death: the worker's note, or the broker's own.

use chrono::{DateTime, Utc};
use event::headers::{DEAD_AT, DEAD_CLASS, DEAD_FINGERPRINT, DEAD_KEY, DEAD_TEXT, LINK};
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use serde_json::{Map, Value};
use worker::DeliveryMetadata;

use super::{CARRIED, COUNTED, DEAD, Properties, TRACE, believed, metadata, plain, received};

/// What a worker wrote on the copy that it sent to its dead-letter queue.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadNote {
    pub class: String,
    pub fingerprint: String,
    pub message: String,
    pub at: DateTime<Utc>,
    pub link: Option<i64>,
    /// Under which it came from the events exchange; only of what could not be read.
    pub routing_key: Option<String>,
}

/// The broker's newest `x-death` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub queue: String,
    /// Where the message came from before it died; empty is the default exchange.
    pub exchange: String,
    /// `delivery_limit`, `expired`, …
    pub reason: String,
    pub count: i64,
    /// The key that it was published with.
    pub routing_key: Option<String>,
    /// How many milliseconds its publisher let it live (the property `expiration`, which the broker takes away).
    pub expiration: Option<u64>,
}

/// As a reader of a dead-letter queue sees it: everything on the list, with the notes of the death.
pub(crate) fn dead(
    received_now: &lapin::message::Delivery,
) -> (
    Properties,
    DeliveryMetadata,
    Option<DeadNote>,
    Option<Death>,
) {
    let death = death(&received_now.properties);
    // The broker's own dead-lettering goes through the default exchange, so there the way before counts.
    let origin = death
        .as_ref()
        .map_or(received_now.exchange.as_str(), |death| &death.exchange);
    let ours = believed(received_now.exchange.as_str()) && believed(origin);
    if !ours {
        return (
            received(&received_now.properties, &[&TRACE]),
            DeliveryMetadata::default(),
            None,
            death,
        );
    }
    let properties = received(&received_now.properties, &[&CARRIED, &COUNTED, &DEAD]);
    let metadata = metadata(&properties);
    let note = note(&properties.headers);
    (properties, metadata, note, death)
}

fn note(headers: &Map<String, Value>) -> Option<DeadNote> {
    let text = |name: &str| headers.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(DeadNote {
        class: text(DEAD_CLASS)?,
        fingerprint: text(DEAD_FINGERPRINT).unwrap_or_default(),
        message: text(DEAD_TEXT).unwrap_or_default(),
        at: headers
            .get(DEAD_AT)
            .and_then(Value::as_i64)
            .and_then(DateTime::from_timestamp_millis)?,
        link: text(LINK).and_then(|link| link.parse().ok()),
        routing_key: text(DEAD_KEY),
    })
}

fn death(properties: &BasicProperties) -> Option<Death> {
    let deaths = properties.headers().as_ref()?.inner().get("x-death")?;
    let AMQPValue::FieldArray(entries) = deaths else {
        return None;
    };
    let AMQPValue::FieldTable(newest) = entries.as_slice().first()? else {
        return None;
    };
    let text = |name: &str| {
        newest
            .inner()
            .get(name)
            .and_then(plain)
            .and_then(|value| value.as_str().map(str::to_owned))
    };
    let keys = newest.inner().get("routing-keys");
    let routing_key = keys.and_then(|keys| match keys {
        AMQPValue::FieldArray(keys) => plain(keys.as_slice().first()?)?.as_str().map(str::to_owned),
        _ => None,
    });
    Some(Death {
        routing_key,
        expiration: text("original-expiration").and_then(|ms| ms.parse().ok()),
        queue: text("queue")?,
        exchange: text("exchange")?,
        reason: text("reason")?,
        count: newest
            .inner()
            .get("count")
            .and_then(plain)
            .and_then(|count| count.as_i64())
            .unwrap_or(1),
    })
}
