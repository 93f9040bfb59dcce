//! What the gateway puts on the bus: the publisher's event, byte for byte where the publisher gave something, with the derived
//! attributes written down. Decoding the canonical body gives the same [`Event`] as decoding the publisher's own.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::decode::{decode, from_value, is_json, malformed, too_large, unmarked};
use crate::envelope::MAX_EVENT_BYTES;
use crate::error::{DecodeClass, DecodeError};
use crate::event::Event;
use crate::headers::TRACEPARENT;

/// An event and its message: one CloudEvent in structured JSON mode, at most 256 KiB.
#[derive(Clone, Debug, PartialEq)]
pub struct Canonical {
    pub event: Event,
    pub body: Vec<u8>,
}

/// What is written first, and in this order; other attributes follow by name, `data` is last.
const ORDER: [&str; 15] = [
    "specversion",
    "id",
    "source",
    "type",
    "tenantid",
    "subject",
    "time",
    "subjectversion",
    "datacontenttype",
    "partitionkey",
    "correlationid",
    "causationid",
    "causationdepth",
    "originsystem",
    TRACEPARENT,
];

/// One CloudEvent in structured JSON mode.
///
/// # Errors
/// As [`decode`]; also `too_large` where only the derived attributes make it so.
pub fn canonical(body: &[u8]) -> Result<Canonical, DecodeError> {
    let body = unmarked(body);
    let event = decode(body)?;
    let given: BTreeMap<String, &RawValue> =
        serde_json::from_slice(body).map_err(|error| malformed("", body, &error))?;
    write(event, &given)
}

/// HTTP binary mode: `attributes` are the `ce-*` headers without their prefix, values as they came; `content_type`
/// is the transport's and becomes `datacontenttype`; `data` is the body.
///
/// # Errors
/// As [`canonical`]; a header that can't be read is a problem of the attribute of that name.
pub fn canonical_binary<'a>(
    attributes: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    content_type: Option<&str>,
    data: &[u8],
) -> Result<Canonical, DecodeError> {
    let data = unmarked(data);
    if data.len() > MAX_EVENT_BYTES {
        return Err(too_large(data.len()));
    }
    let mut members: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
    for (name, value) in attributes {
        let pointer = format!("/{name}");
        let Some(text) = header_text(value) else {
            return Err(DecodeError::new(
                DecodeClass::Schema,
                &pointer,
                "is a header that is not percent-encoded UTF-8",
            ));
        };
        // The one attribute of ours that is a number in JSON; a header has only text.
        let json = match (name, text.parse::<i64>()) {
            ("causationdepth", Ok(number)) => raw(&number),
            _ => raw(&text),
        };
        if members.insert(name.to_owned(), json).is_some() {
            return Err(DecodeError::new(
                DecodeClass::Schema,
                &pointer,
                "is given by two headers",
            ));
        }
    }
    if let Some(content_type) = content_type {
        members.insert("datacontenttype".to_owned(), raw(content_type));
    }
    let json = content_type.is_none_or(is_json);
    if json && !data.is_empty() {
        let data: &RawValue =
            serde_json::from_slice(data).map_err(|error| malformed("/data", data, &error))?;
        members.insert("data".to_owned(), data.to_owned());
    }
    let body = serde_json::to_vec(&members).expect("text and checked JSON always serialise");
    canonical(&body)
}

/// CloudEvents HTTP binding 3.1.3.2: a quoted string is unquoted, then percent-decoded once.
fn header_text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let mut bytes = Vec::with_capacity(text.len());
    let quoted = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    let mut rest = if quoted {
        text[1..text.len() - 1].bytes()
    } else {
        text.bytes()
    };
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' if quoted => bytes.push(rest.next()?),
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let code = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
                bytes.push(u8::try_from(code).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn write(event: Event, given: &BTreeMap<String, &RawValue>) -> Result<Canonical, DecodeError> {
    let mut members: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    for (name, value) in given {
        if value.get() != "null" {
            members.insert(name, (*value).to_owned());
        }
    }
    let mut derive = |name: &'static str, value: Box<RawValue>| {
        members.entry(name).or_insert(value);
    };
    derive("subject", raw(&event.subject));
    if let Some(version) = &event.version {
        derive("subjectversion", raw(version.value.as_str()));
    }
    derive("datacontenttype", raw("application/json"));
    derive("partitionkey", raw(&event.partition_key));
    derive("correlationid", raw(&event.correlation_id));
    derive("causationdepth", raw(&event.causation_depth));
    derive("originsystem", raw(&event.origin_system));

    let data = members.remove("data");
    let first = ORDER.iter().filter_map(|name| members.remove_entry(name));
    let ordered: Vec<(&str, Box<RawValue>)> = first.collect();
    let ordered = ordered
        .into_iter()
        .chain(members)
        .chain(data.map(|data| ("data", data)));
    let body =
        serde_json::to_vec(&Members(ordered.collect())).expect("checked JSON always serialises");
    if body.len() > MAX_EVENT_BYTES {
        return Err(too_large(body.len()));
    }
    Ok(Canonical { event, body })
}

/// A JSON object in the order of its members.
struct Members<'a>(Vec<(&'a str, Box<RawValue>)>);

impl Serialize for Members<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("text and numbers always serialise")
}

/// For an event that is in memory as JSON already (an edited dead letter, a file of examples).
///
/// # Errors
/// As [`decode`].
impl TryFrom<serde_json::Value> for Event {
    type Error = DecodeError;

    fn try_from(value: serde_json::Value) -> Result<Self, Self::Error> {
        from_value(value)
    }
}
