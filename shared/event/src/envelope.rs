//! The CloudEvents envelope as it is written and as its schema describes it: attribute names, patterns, limits.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::payload::NO_CONTROL;

/// A message with all its derived attributes is at most this long.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;
/// What becomes an AMQP short string (the event's id and its correlation id) is at most this long, in bytes: a
/// limit in characters would let through what no publish can carry.
pub const MAX_ID_BYTES: usize = 255;
/// 1990-01-01 in microseconds since 1970. What is earlier is no time of change but the empty value of some program.
pub(crate) const MICROS_OF_1990: i64 = 631_152_000_000_000;
/// Longest chain of events that caused each other; a longer one is a loop.
pub const MAX_CAUSATION_DEPTH: u32 = 16;
/// What begins a source of Kurir's own form, `urn:kurir:<tenant>:<system>:<account>`.
pub const SOURCE_PREFIX: &str = "urn:kurir:";

pub(crate) const SUBJECT: &str = r"^[a-z][a-z0-9_]{0,49}/[^\u0000-\u001f\u007f-\u009f]+$";
pub(crate) const TENANT: &str = "^[A-Za-z0-9_-]{1,64}$";
pub(crate) const VERSION: &str = "^[0-9]{1,20}$";

/// The attributes in the order in which Kurir writes them; `data` follows. A publisher must give `specversion`,
/// `id`, `source`, `type`, `tenantid` and `data`; what else is missing is derived at the edge, and what is given is
/// never overwritten. Unknown attributes are allowed and kept.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Envelope<'a> {
    #[schemars(extend("const" = "1.0"))]
    pub(crate) specversion: Cow<'a, str>,
    /// With `source` the identity of the event: the same event again carries the same id. At most 255 bytes.
    #[schemars(extend("minLength" = 1, "maxLength" = 255, "pattern" = NO_CONTROL))]
    pub(crate) id: Cow<'a, str>,
    /// `urn:kurir:<tenant>:<system>:<account>`, or any URI reference (then the system is the first segment of
    /// `type`, and each source is an account of its own).
    #[schemars(extend("minLength" = 1, "maxLength" = 512, "format" = "uri-reference"))]
    pub(crate) source: Cow<'a, str>,
    #[serde(rename = "type")]
    #[schemars(extend("minLength" = 1, "maxLength" = 150, "pattern" = NO_CONTROL))]
    pub(crate) event_type: Cow<'a, str>,
    #[schemars(extend("pattern" = TENANT))]
    pub(crate) tenantid: Cow<'a, str>,
    /// `<entity>/<id of the record>`, for example `contact/512`. Derived from `data`; a given one must agree with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 251, "pattern" = SUBJECT))]
    pub(crate) subject: Option<Cow<'a, str>>,
    /// When it happened (RFC 3339, with a zone), not before 1990. One rule per source: the record's own time of change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) time: Option<Cow<'a, str>>,
    /// Version of the record: microseconds of its time of change, or a revision number. The higher one wins.
    /// Derived from `time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = VERSION))]
    pub(crate) subjectversion: Option<Cow<'a, str>>,
    /// `application/json`, if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 200))]
    pub(crate) datacontenttype: Option<Cow<'a, str>>,
    /// Ordering key: `<tenant>:<entity>:<id>`. Derived.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 512, "pattern" = NO_CONTROL))]
    pub(crate) partitionkey: Option<Cow<'a, str>>,
    /// Id of the first event of the flow, at most 255 bytes. Derived: the event's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 255, "pattern" = NO_CONTROL))]
    pub(crate) correlationid: Option<Cow<'a, str>>,
    /// Id of the event that directly caused this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 255, "pattern" = NO_CONTROL))]
    pub(crate) causationid: Option<Cow<'a, str>>,
    /// How many events stand between this one and the first of its flow. Derived: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) causationdepth: Option<u32>,
    /// System in which the change was first made. Derived from `source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 64, "pattern" = NO_CONTROL))]
    pub(crate) originsystem: Option<Cow<'a, str>>,
    /// W3C Trace Context of the start of the flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 512))]
    pub(crate) traceparent: Option<Cow<'a, str>>,
}

/// The system and the account that a source names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceParts {
    /// Only of Kurir's own form; a stranger's source names no tenant.
    pub(crate) tenant: Option<String>,
    pub(crate) system: String,
    pub(crate) account: String,
}

/// Characters of a system or an account.
const PART_CHARACTERS: &str = "1 to 64 of A-Z a-z 0-9 . _ ~ @ + -";

/// `Err` says what is wrong with a source of Kurir's own form.
pub(crate) fn source_parts(source: &str, event_type: &str) -> Result<SourceParts, String> {
    let own = source
        .get(..SOURCE_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(SOURCE_PREFIX));
    if !own {
        let system = event_type.split('.').next().unwrap_or_default().to_owned();
        return Ok(SourceParts {
            tenant: None,
            system,
            account: foreign_account(source),
        });
    }
    match source[SOURCE_PREFIX.len()..]
        .split(':')
        .collect::<Vec<_>>()
        .as_slice()
    {
        [tenant, system, account] if is_part(system) && is_part(account) => Ok(SourceParts {
            tenant: Some((*tenant).to_owned()),
            system: (*system).to_owned(),
            account: (*account).to_owned(),
        }),
        _ => Err(format!(
            "must read urn:kurir:<tenant>:<system>:<account>, system and account being {PART_CHARACTERS}"
        )),
    }
}

/// Characters of a foreign source that are kept for people to recognise it.
const READABLE: usize = 40;
/// Namespace of the accounts of foreign sources; never changes.
const FOREIGN: Uuid = Uuid::from_u128(0x6b75_7269_722d_666f_7265_6967_6e2d_7372);

/// The account of a source that is not of Kurir's form: `shop-a.example#<32 hex digits of the whole text>`. An id
/// counts within its source, so two sources are two accounts, and sources are compared as they are written
/// (CloudEvents 3.1.2 gives no other rule): another case or a slash at the end is another source. No account of
/// Kurir's form holds a `#`. The hash alone decides; what stands before it is for people.
fn foreign_account(source: &str) -> String {
    let name = source
        .split_once("://")
        .map_or(source, |(_scheme, rest)| rest);
    let mut readable = String::new();
    for c in name.chars() {
        match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '~' => readable.push(c),
            _ if !readable.is_empty() && !readable.ends_with('-') => readable.push('-'),
            _ => {}
        }
        if readable.len() >= READABLE {
            break;
        }
    }
    let hash = Uuid::new_v5(&FOREIGN, source.as_bytes()).simple();
    format!("{}#{hash}", readable.trim_end_matches('-'))
}

fn is_part(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._~@+-".contains(&byte))
}

/// Whether it is a `traceparent` that may be continued (W3C Trace Context, version 00 and later ones).
pub(crate) fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, span, flags, rest @ ..] = parts.as_slice() else {
        return false;
    };
    hex(version, 2)
        && *version != "ff"
        && hex(trace, 32)
        && trace.bytes().any(|byte| byte != b'0')
        && hex(span, 16)
        && span.bytes().any(|byte| byte != b'0')
        && hex(flags, 2)
        && (rest.is_empty() || *version != "00")
}
