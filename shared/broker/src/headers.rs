//! What travels beside a body: properties, our `x-*` headers, and the one function that builds a copy.
//!
//! A copy holds what is on the allow-list and nothing else. A `CC` that slipped through would route it a second time,
//! an `x-death` would be counted on, a stranger's `user_id` would close the channel. Our own headers are believed only
//! on deliveries from the default exchange, which outsiders may not write to: a delivery from the events exchange is
//! always the first attempt of the first generation, whatever it says.

mod death;
mod forward;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use event::headers::{
    ATTEMPT, CE_PREFIX, CONNECTION, DEAD_AT, DEAD_CLASS, DEAD_FINGERPRINT, DEAD_KEY, DEAD_LETTER,
    DEAD_TEXT, DUE, FACET, FIRST_RECEIVED, GENERATION, HISTORY, LINK, PERMIT, REPLAY, TRACEPARENT,
    TRACESTATE, WAITS,
};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Map, Value};
use uuid::Uuid;
use worker::trace::TraceContext;
use worker::{Attempt, Delivery, DeliveryMetadata};

pub(crate) use death::dead;
pub use death::{DeadNote, Death};
pub(crate) use forward::{Destination, forward};

/// Longest `x-history`, as JSON; older attempts go first.
pub(crate) const HISTORY_BYTES: usize = 4096;
/// Longest text kept of one attempt.
pub(crate) const ATTEMPT_TEXT: usize = 300;
/// Longest `x-dead-message`.
pub(crate) const DEAD_MESSAGE: usize = 1024;
/// A header longer than this is not kept, whoever set it.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Headers of a publisher (`ce-*`) that are kept, and their size together: all headers must fit one frame.
pub(crate) const PUBLISHER_HEADERS: usize = 32;
pub(crate) const PUBLISHER_BYTES: usize = 16 * 1024;
/// AMQP's limit for a property.
const PROPERTY_BYTES: usize = 255;

/// Kept through every copy, hold, death and replay.
const CARRIED: [&str; 7] = [
    GENERATION,
    REPLAY,
    DEAD_LETTER,
    CONNECTION,
    FACET,
    TRACEPARENT,
    TRACESTATE,
];
/// All that is kept of a stranger's.
const TRACE: [&str; 2] = [TRACEPARENT, TRACESTATE];
/// Counters of one way through the queues: a hold or a replay begins again without them.
const COUNTED: [&str; 6] = [ATTEMPT, WAITS, DUE, FIRST_RECEIVED, HISTORY, PERMIT];
const DEAD: [&str; 6] = [
    LINK,
    DEAD_CLASS,
    DEAD_FINGERPRINT,
    DEAD_TEXT,
    DEAD_AT,
    DEAD_KEY,
];

/// A message without its body. The JSON of a row: `properties` holds the named members that are present,
/// `headers` texts and integers by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub message_id: Option<String>,
    /// The AMQP property `type`.
    pub amqp_type: Option<String>,
    /// Seconds since the epoch.
    pub timestamp: Option<u64>,
    pub correlation_id: Option<String>,
    pub app_id: Option<String>,
    /// Texts and integers; other values are not written.
    pub headers: Map<String, Value>,
}

impl Properties {
    /// For a new CloudEvent: the content type of the contract; everything else is the publisher's to set.
    pub fn of_event(id: &str, event_type: &str) -> Self {
        Self {
            content_type: Some(event::CONTENT_TYPE.to_owned()),
            message_id: Some(id.to_owned()),
            amqp_type: Some(event_type.to_owned()),
            ..Self::default()
        }
    }

    /// From a row. Headers that are not on the allow-list are left out, those of a death too: what is published again
    /// is alive.
    pub fn from_json(properties: &Value, headers: &Value) -> Self {
        let text = |name: &str| {
            properties
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let allowed =
            |name: &str| is_publishers(name) || CARRIED.contains(&name) || COUNTED.contains(&name);
        let headers = headers
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, value)| allowed(name) && fits(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Self {
            content_type: text("content_type"),
            content_encoding: text("content_encoding"),
            message_id: text("message_id"),
            amqp_type: text("type"),
            timestamp: properties.get("timestamp").and_then(Value::as_u64),
            correlation_id: text("correlation_id"),
            app_id: text("app_id"),
            headers,
        }
    }

    /// The `properties` column of a row.
    pub fn properties_json(&self) -> Value {
        let mut members = Map::new();
        let texts = [
            ("content_type", &self.content_type),
            ("content_encoding", &self.content_encoding),
            ("message_id", &self.message_id),
            ("type", &self.amqp_type),
            ("correlation_id", &self.correlation_id),
            ("app_id", &self.app_id),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                members.insert(name.to_owned(), Value::from(text.as_str()));
            }
        }
        if let Some(timestamp) = self.timestamp {
            members.insert("timestamp".to_owned(), Value::from(timestamp));
        }
        Value::Object(members)
    }

    /// The `headers` column of a row.
    pub fn headers_json(&self) -> Value {
        Value::Object(self.headers.clone())
    }

    /// `trace`: the context of the publish, which replaces the one that is among the headers. Errs with the name of the
    /// part that AMQP can't hold.
    pub(crate) fn to_amqp(
        &self,
        trace: Option<&TraceContext>,
    ) -> Result<BasicProperties, &'static str> {
        const PERSISTENT: u8 = 2;
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_headers(table(&self.headers, trace));
        let short = |text: &Option<String>, what: &'static str| {
            text.as_deref()
                .map(ShortString::try_new)
                .transpose()
                .map_err(|_long| what)
        };
        if let Some(value) = short(&self.content_type, "content type")? {
            properties = properties.with_content_type(value);
        }
        if let Some(value) = short(&self.content_encoding, "content encoding")? {
            properties = properties.with_content_encoding(value);
        }
        if let Some(value) = short(&self.message_id, "message id")? {
            properties = properties.with_message_id(value);
        }
        if let Some(value) = short(&self.amqp_type, "type")? {
            properties = properties.with_type(value);
        }
        if let Some(value) = short(&self.correlation_id, "correlation id")? {
            properties = properties.with_correlation_id(value);
        }
        if let Some(value) = short(&self.app_id, "app id")? {
            properties = properties.with_app_id(value);
        }
        if let Some(timestamp) = self.timestamp {
            properties = properties.with_timestamp(timestamp);
        }
        Ok(properties)
    }
}

/// Everything that is kept of a received message, by the lists that the reader trusts.
pub(crate) fn received(properties: &BasicProperties, lists: &[&[&str]]) -> Properties {
    let text = |value: &Option<ShortString>| {
        value
            .as_ref()
            .map(|text| cut(&storable(text.as_str()), PROPERTY_BYTES))
    };
    let mut headers = Map::new();
    let (mut publishers, mut bytes) = (0, 0);
    for (name, value) in properties
        .headers()
        .as_ref()
        .into_iter()
        .flat_map(FieldTable::inner)
    {
        let name = name.as_str();
        let Some(value) = plain(value).filter(fits) else {
            continue;
        };
        if is_publishers(name) {
            publishers += 1;
            bytes += name.len() + value.as_str().map_or(8, str::len);
            if publishers > PUBLISHER_HEADERS || bytes > PUBLISHER_BYTES {
                continue;
            }
        } else if !lists.iter().any(|list| list.contains(&name)) {
            continue;
        }
        headers.insert(storable(name), value);
    }
    Properties {
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        message_id: text(properties.message_id()),
        amqp_type: text(properties.kind()),
        timestamp: *properties.timestamp(),
        correlation_id: text(properties.correlation_id()),
        app_id: text(properties.app_id()),
        headers,
    }
}

/// Ours are believed only where outsiders can't write.
fn believed(exchange: &str) -> bool {
    exchange.is_empty()
}

/// A message as a worker received it: `headers` without the counters, which are in the delivery metadata, so that a row made
/// of it starts anew when it is published again.
pub(crate) fn delivery(
    received_now: &lapin::message::Delivery,
    body: bytes::Bytes,
    now: DateTime<Utc>,
) -> Delivery {
    let ours = believed(received_now.exchange.as_str());
    let metadata = if ours {
        metadata(&received(&received_now.properties, &[&CARRIED, &COUNTED]))
    } else {
        DeliveryMetadata::default()
    };
    let kept = received(
        &received_now.properties,
        &[if ours { &CARRIED } else { &TRACE }],
    );
    Delivery {
        body,
        metadata,
        properties: kept.properties_json(),
        headers: Value::Object(kept.headers),
        received: std::time::Instant::now(),
        received_at: now,
    }
}

/// Every copy and every row made of this delivery is for that connection and facet.
pub(crate) fn name_destination(delivery: &mut Delivery, connection: Uuid, facet: Option<&str>) {
    delivery.metadata.connection = Some(connection);
    delivery.metadata.facet = facet.map(str::to_owned);
    let Value::Object(headers) = &mut delivery.headers else {
        return;
    };
    headers.insert(CONNECTION.to_owned(), Value::from(connection.to_string()));
    match facet {
        Some(facet) => headers.insert(FACET.to_owned(), Value::from(facet)),
        None => headers.remove(FACET),
    };
}

fn metadata(properties: &Properties) -> DeliveryMetadata {
    let number = |name: &str| properties.headers.get(name).and_then(Value::as_i64);
    let count = |name: &str, least: u32| {
        number(name).map_or(least, |n| {
            u32::try_from(n.max(0)).unwrap_or(u32::MAX).max(least)
        })
    };
    let text = |name: &str| properties.headers.get(name).and_then(Value::as_str);
    let moment = |name: &str| number(name).and_then(DateTime::from_timestamp_millis);
    let mut history: Vec<Attempt> = text(HISTORY)
        .and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default();
    let surplus = history
        .len()
        .saturating_sub(DeliveryMetadata::HISTORY_LIMIT);
    history.drain(..surplus);
    DeliveryMetadata {
        attempt: count(ATTEMPT, 1),
        waits: count(WAITS, 0),
        due: moment(DUE),
        first_received: moment(FIRST_RECEIVED),
        generation: count(GENERATION, 0),
        replay: text(REPLAY).map(str::to_owned),
        connection: text(CONNECTION).and_then(|id| Uuid::parse_str(id).ok()),
        facet: text(FACET).map(str::to_owned),
        permit_until: moment(PERMIT),
        history,
    }
}

fn is_publishers(name: &str) -> bool {
    name.starts_with(CE_PREFIX) && name.len() <= 255
}

fn fits(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= HEADER_BYTES,
        Value::Number(number) => number.is_i64(),
        _ => false,
    }
}

/// Texts and integers of any width; everything else is no header of ours.
fn plain(value: &AMQPValue) -> Option<Value> {
    Some(match value {
        AMQPValue::LongString(text) => {
            Value::from(storable(&String::from_utf8_lossy(text.as_bytes())))
        }
        AMQPValue::ShortString(text) => Value::from(storable(text.as_str())),
        AMQPValue::ShortShortInt(number) => Value::from(*number),
        AMQPValue::ShortShortUInt(number) => Value::from(*number),
        AMQPValue::ShortInt(number) => Value::from(*number),
        AMQPValue::ShortUInt(number) => Value::from(*number),
        AMQPValue::LongInt(number) => Value::from(*number),
        AMQPValue::LongUInt(number) => Value::from(*number),
        AMQPValue::LongLongInt(number) => Value::from(*number),
        _ => return None,
    })
}

/// Postgres keeps no NUL in a text or in JSON.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{2400}")
}

fn table(headers: &Map<String, Value>, trace: Option<&TraceContext>) -> FieldTable {
    let mut table = FieldTable::default();
    if let Some(trace) = trace {
        let (parent, state) = (Some(&trace.traceparent), trace.tracestate.as_ref());
        for (name, value) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
            if let Some(value) = value {
                table.insert(name.into(), AMQPValue::LongString(value.as_str().into()));
            }
        }
    }
    for (name, value) in headers {
        // A `tracestate` belongs to its `traceparent`: both are replaced, or none.
        if trace.is_some() && TRACE.contains(&name.as_str()) {
            continue;
        }
        let Ok(name) = ShortString::try_new(name.as_str()) else {
            continue;
        };
        let value = match value {
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            Value::Number(number) => match number.as_i64() {
                Some(number) => AMQPValue::LongLongInt(number),
                None => continue,
            },
            _ => continue,
        };
        table.insert(name, value);
    }
    table
}

fn cut(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
