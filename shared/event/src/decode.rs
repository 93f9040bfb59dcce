//! From bytes to an [`Event`]: parse, check everything at once, derive what the publisher left out.
//!
//! Hands on: an event that is valid by its schema and whose derived attributes are the same in every copy, wherever it
//! was derived. Next in an event's way: `worker/gate.rs`. Never panics and never quotes a value of the body.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::catalogue::EventType;
use crate::envelope::{
    MAX_CAUSATION_DEPTH, MAX_EVENT_BYTES, MAX_ID_BYTES, MICROS_OF_1990, SourceParts,
    is_traceparent, source_parts,
};
use crate::error::{DecodeClass, DecodeError, Finding, Problem};
use crate::event::{Event, TenantId, Version, VersionScheme};
use crate::glimpse::{glimpse, glimpse_of};
use crate::headers::TRACEPARENT;
use crate::order_key::SubjectVersion;
use crate::payload::Payload;
use crate::schema;
use crate::visible::is_visible;

/// Decodes one CloudEvent in structured JSON mode, as it comes from a queue: with or without the derived attributes,
/// unknown members ignored. The same bytes always give the same answer.
///
/// # Errors
/// All problems at once, see [`DecodeError`]. None of them is cured by a repeat; `newer_major` is by a deploy.
pub fn decode(body: &[u8]) -> Result<Event, DecodeError> {
    let body = unmarked(body);
    if body.len() > MAX_EVENT_BYTES {
        return Err(too_large(body.len()).with_identity(glimpse(body)));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| malformed("", body, &error))?;
    from_value(value)
}

/// Without the byte order mark of UTF-8, which says nothing and which many programs write.
pub fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Whether it looks like UTF-16 or UTF-32: of JSON in them one of the first two bytes is zero or begins a byte order
/// mark.
pub(crate) fn is_wide(body: &[u8]) -> bool {
    matches!(
        body,
        [0, _, ..] | [_, 0, ..] | [0xfe, 0xff, ..] | [0xff, 0xfe, ..]
    )
}

/// `body` is what stands at `pointer`.
pub(crate) fn malformed(pointer: &str, body: &[u8], error: &serde_json::Error) -> DecodeError {
    let detail = if is_wide(body) {
        "is UTF-16 or UTF-32: JSON must be sent as UTF-8".to_owned()
    } else {
        format!("is not JSON: {error}")
    };
    DecodeError::new(DecodeClass::Malformed, pointer, detail).with_identity(glimpse(body))
}

pub(crate) fn too_large(bytes: usize) -> DecodeError {
    let detail = format!(
        "is {bytes} bytes long with its derived attributes, at most {MAX_EVENT_BYTES} are allowed"
    );
    DecodeError::new(DecodeClass::TooLarge, "", detail)
}

pub(crate) fn from_value(mut value: Value) -> Result<Event, DecodeError> {
    let Value::Object(members) = &mut value else {
        return Err(DecodeError::new(
            DecodeClass::Malformed,
            "",
            "must be a JSON object: one CloudEvent",
        ));
    };
    // CloudEvents JSON format: a null attribute is an absent one. Null data is data.
    members.retain(|name, member| name == "data" || !member.is_null());
    let mut looked = Looked {
        members,
        findings: Vec::new(),
    };
    let read = looked.read();
    let known = looked.text("type").and_then(EventType::parse);
    let by_rules = looked.findings;
    let mut findings = schema::findings(known, &value);
    // Where the schema has spoken, a rule that says the same in other words is left out.
    let by_schema: Vec<String> = findings
        .iter()
        .map(|finding| finding.problem.pointer.clone())
        .collect();
    findings.extend(by_rules.into_iter().filter(|rule| {
        rule.class != DecodeClass::Schema || !by_schema.contains(&rule.problem.pointer)
    }));
    // Nearly none does: where they are is looked for only then.
    if holds_nul(&value) {
        nul_characters(&value, &mut String::new(), &mut findings);
    }
    if let Some(error) = DecodeError::from_findings(findings) {
        return Err(error.with_identity(glimpse_of(&value)));
    }
    read.ok_or_else(|| {
        // What the schema allows and the types don't: a number beyond 64 bits.
        DecodeError::new(
            DecodeClass::Schema,
            "/data",
            "holds a value that does not fit its type",
        )
        .with_identity(glimpse_of(&value))
    })
}

/// The members of one event while they are looked through. Where a member has the wrong type the schema says so;
/// here it only counts as unreadable.
struct Looked<'a> {
    members: &'a Map<String, Value>,
    findings: Vec<Finding>,
}

impl<'a> Looked<'a> {
    fn read(&mut self) -> Option<Event> {
        let id = self.text("id");
        self.short_string("/id", id);
        self.short_string("/correlationid", self.text("correlationid"));
        let event_type = self.event_type();
        let tenant = self.text("tenantid").and_then(TenantId::parse);
        let source = self.source(tenant.as_ref());
        let time = self.time();
        let depth = self.causation_depth();
        self.content_type();
        self.name(event_type);
        let payload = self
            .members
            .get("data")
            .and_then(|data| event_type?.read(data).ok());
        let subject = payload.as_ref().map(Payload::subject);
        self.subject(subject.as_deref());

        let (id, tenant, subject, (source, parts)) = (id?, tenant?, subject?, source?);
        Some(Event {
            version: version(self.text("subjectversion"), time),
            partition_key: match self.text("partitionkey") {
                Some(given) => given.to_owned(),
                None => format!("{tenant}:{}", subject.replacen('/', ":", 1)),
            },
            correlation_id: self.text("correlationid").unwrap_or(id).to_owned(),
            causation_id: self.text("causationid").map(str::to_owned),
            causation_depth: depth,
            origin_system: self
                .text("originsystem")
                .unwrap_or(&parts.system)
                .to_owned(),
            system: parts.system,
            account: parts.account,
            // A broken trace is no reason to refuse a change.
            traceparent: self
                .text(TRACEPARENT)
                .filter(|text| is_traceparent(text))
                .map(str::to_owned),
            event_type: event_type?,
            payload: payload?,
            id: id.to_owned(),
            source: source.to_owned(),
            tenant,
            subject,
            time,
        })
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.members.get(name)?.as_str()
    }

    /// The schema counts characters.
    fn short_string(&mut self, pointer: &str, text: Option<&str>) {
        if text.is_some_and(|text| text.len() > MAX_ID_BYTES) {
            let detail = format!("must not be longer than {MAX_ID_BYTES} bytes");
            self.problem(DecodeClass::Schema, pointer, detail);
        }
    }

    fn problem(&mut self, class: DecodeClass, pointer: &str, detail: impl Into<String>) {
        self.findings.push(Finding {
            class,
            problem: Problem::new(pointer, detail),
        });
    }

    fn event_type(&mut self) -> Option<EventType> {
        let name = self.text("type")?;
        let known = EventType::parse(name);
        if known.is_none() && EventType::is_newer_major(name) {
            self.problem(
                DecodeClass::NewerMajor,
                "/type",
                "is a newer major version than this build knows",
            );
        } else if known.is_none() {
            self.problem(
                DecodeClass::UnknownType,
                "/type",
                "is not in the catalogue of event types",
            );
        }
        known
    }

    fn source(&mut self, tenant: Option<&TenantId>) -> Option<(&'a str, SourceParts)> {
        let source = self.text("source")?;
        match source_parts(source, self.text("type").unwrap_or_default()) {
            Err(detail) => {
                self.problem(DecodeClass::Schema, "/source", detail);
                None
            }
            Ok(parts) => {
                let named = parts.tenant.as_deref();
                if named.is_some() && tenant.is_some() && named != tenant.map(TenantId::as_str) {
                    self.problem(
                        DecodeClass::TenantMismatch,
                        "/source",
                        "names another tenant than tenantid",
                    );
                }
                Some((source, parts))
            }
        }
    }

    fn time(&mut self) -> Option<DateTime<Utc>> {
        let time = self.text("time")?;
        match DateTime::parse_from_rfc3339(time) {
            Ok(time) if time.timestamp_micros() < MICROS_OF_1990 => {
                let detail = "is before 1990, so it is no time of a change but an empty value: leave it out, or give \
                     the record's own time of change";
                self.problem(DecodeClass::Schema, "/time", detail);
                None
            }
            Ok(time) => Some(time.to_utc()),
            Err(_) => {
                let detail =
                    "must be an RFC 3339 time with a zone, for example 2026-06-17T10:35:11.472Z";
                self.problem(DecodeClass::Schema, "/time", detail);
                None
            }
        }
    }

    fn causation_depth(&mut self) -> u32 {
        // 3.0 is an integer in JSON Schema; a cast of a float saturates.
        let given = self.members.get("causationdepth");
        let depth = given.and_then(|depth| {
            depth
                .as_u64()
                .or_else(|| depth.as_f64().map(|depth| depth as u64))
        });
        let depth = depth.unwrap_or(0);
        if depth > u64::from(MAX_CAUSATION_DEPTH) {
            let detail = format!(
                "is more than {MAX_CAUSATION_DEPTH}: events are causing each other in a loop"
            );
            self.problem(DecodeClass::TooDeep, "/causationdepth", detail);
        }
        u32::try_from(depth).unwrap_or(u32::MAX)
    }

    fn content_type(&mut self) {
        if self.members.contains_key("data_base64") {
            self.problem(
                DecodeClass::Schema,
                "/data_base64",
                "is not supported: give the payload as JSON in data",
            );
        }
        if self
            .text("datacontenttype")
            .is_some_and(|given| !is_json(given))
        {
            self.problem(
                DecodeClass::Schema,
                "/datacontenttype",
                "must be application/json in UTF-8",
            );
        }
    }

    /// Of a contact. What is blank by the schema is said there.
    fn name(&mut self, event_type: Option<EventType>) {
        const NAME: &str = "/data/contact/name";
        if event_type.and_then(EventType::entity) != Some("contact") {
            return;
        }
        let data = self.members.get("data");
        let name = data.and_then(|data| data.get("contact")?.get("name")?.as_str());
        if name.is_some_and(|name| !is_visible(name)) {
            let detail = "must hold a character that can be seen";
            self.problem(DecodeClass::Schema, NAME, detail);
        }
    }

    fn subject(&mut self, of_payload: Option<&str>) {
        let (Some(given), Some(of_payload)) = (self.text("subject"), of_payload) else {
            return;
        };
        if given != of_payload {
            let detail = "names another record than data (it is <entity>/<id>, with the id that data carries)";
            self.problem(DecodeClass::Schema, "/subject", detail);
        }
    }
}

/// A given version counts microseconds if it can be a time of change, else it is a revision. One derived from
/// `time` counts microseconds even where it can't be, so that a copy with it written down means the same.
fn version(given: Option<&str>, time: Option<DateTime<Utc>>) -> Option<Version> {
    const MICROS_OF_2200: i64 = 7_258_118_400_000_000;
    let of_time = time.map(|time| SubjectVersion::from_micros(time.timestamp_micros()));
    let Some(given) = given.and_then(SubjectVersion::parse) else {
        return of_time.map(|value| Version {
            value,
            scheme: VersionScheme::Time,
        });
    };
    let plausible = given
        .as_micros()
        .is_some_and(|micros| (MICROS_OF_1990..MICROS_OF_2200).contains(&micros));
    let scheme = if plausible || of_time.as_ref() == Some(&given) {
        VersionScheme::Time
    } else {
        VersionScheme::Revision
    };
    Some(Version {
        value: given,
        scheme,
    })
}

/// `application/json` and `…+json`, in UTF-8 where a charset is named.
pub(crate) fn is_json(content_type: &str) -> bool {
    let mut parts = content_type
        .split(';')
        .map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let json =
        essence == "application/json" || essence == "text/json" || essence.ends_with("+json");
    json && parts
        .filter_map(|part| {
            part.strip_prefix("charset=")
                .map(|charset| charset.trim_matches('"').to_owned())
        })
        .all(|charset| charset == "utf-8" || charset == "us-ascii")
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, member)| name.contains('\0') || holds_nul(member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// U+0000 is legal in JSON and can be kept by no text or jsonb column of Postgres.
fn nul_characters(value: &Value, pointer: &mut String, findings: &mut Vec<Finding>) {
    let found = |pointer: &str, detail: &str| Finding {
        class: DecodeClass::Schema,
        problem: Problem::new(pointer, detail),
    };
    match value {
        Value::String(text) if text.contains('\0') => {
            findings.push(found(pointer, "must not hold the character U+0000"));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                within(pointer, &index.to_string(), |pointer| {
                    nul_characters(item, pointer, findings)
                });
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                if name.contains('\0') {
                    findings.push(found(
                        pointer,
                        "must not have a member whose name holds the character U+0000",
                    ));
                }
                let escaped = name.replace('~', "~0").replace('/', "~1");
                within(pointer, &escaped, |pointer| {
                    nul_characters(member, pointer, findings)
                });
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn within(pointer: &mut String, segment: &str, look: impl FnOnce(&mut String)) {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(segment);
    look(pointer);
    pointer.truncate(length);
}
