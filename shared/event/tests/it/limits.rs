//! Limits and what is taken though it is odd: bytes of short strings, times, byte order marks.

use event::{DecodeClass, VersionScheme};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::decode::{decode, refused, smallest, with};

/// Attributes that are texts.
const TEXTS: [&str; 14] = [
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
    "originsystem",
    "traceparent",
    "unknownattribute",
];
/// Of them AMQP carries these as short strings.
const SHORT: usize = 255;

#[test]
fn what_becomes_a_short_string_is_bounded_in_bytes() {
    for attribute in ["id", "correlationid"] {
        let pointer = format!("/{attribute}");
        for right in [
            "č".repeat(127),
            format!("a{}", "č".repeat(127)),
            "🐝".repeat(63),
            "a".repeat(255),
        ] {
            decode(&with(&pointer, json!(right)));
        }
        for wrong in [
            "č".repeat(128),
            "🐝".repeat(64),
            format!("{}č", "a".repeat(254)),
        ] {
            let error = refused(&with(&pointer, json!(wrong)));
            assert_eq!(
                error.to_string(),
                format!("schema: {pointer} must not be longer than 255 bytes"),
            );
        }
    }
}

proptest! {
    /// Whatever is accepted can be published: by its properties and by its routing key.
    #[test]
    fn no_accepted_attribute_is_too_long_for_amqp(
        at in 0..TEXTS.len(), unit in prop::sample::select(vec!["a", "č", "漢", "🐝"]), bytes in 245usize..265, ascii in 0usize..4,
    ) {
        let text = format!("{}{}", "a".repeat(ascii), unit.repeat(bytes / unit.len()));
        let mut event = smallest();
        event[TEXTS[at]] = Value::from(text);
        let body = event.to_string();
        let canonical = event::canonical(body.as_bytes());
        prop_assert_eq!(canonical.is_ok(), event::decode(body.as_bytes()).is_ok());
        if let Ok(canonical) = canonical {
            let event = canonical.event;
            for short in [&event.id, &event.correlation_id, &event.routing_key()] {
                prop_assert!(short.len() <= SHORT, "{}", short);
            }
        }
    }
}

#[test]
fn a_time_before_1990_is_none() {
    for none in [
        "0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1899-12-30T00:00:00Z",
        "1900-01-01T00:00:00+01:00",
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T01:00:00+01:00",
        "1980-01-06T00:00:00Z",
        "1989-12-31T23:59:59.999999999Z",
        // 1990 there, not here.
        "1990-01-01T00:00:00+00:01",
        "1990-01-01T23:58:59+23:59",
    ] {
        for version in [Value::Null, json!("7"), json!("1781692511472150")] {
            let mut event = smallest();
            event["time"] = json!(none);
            event["subjectversion"] = version;
            let error = refused(event.to_string().as_bytes());
            assert_eq!(error.class, DecodeClass::Schema, "{none}");
            assert_eq!(error.problems.len(), 1, "{none}: {error}");
            assert_eq!(error.problems[0].pointer, "/time", "{none}");
            assert!(error.problems[0].detail.contains("before 1990"), "{error}");
        }
    }
}

#[test]
fn every_other_time_is_one() {
    for (time, micros) in [
        ("1990-01-01T00:00:00Z", 631_152_000_000_000_i64),
        ("1989-12-31T00:01:00-23:59", 631_152_000_000_000),
        ("1990-01-01T23:59:00+23:59", 631_152_000_000_000),
        ("2026-06-17T10:35:11.472150999Z", 1_781_692_511_472_150),
        (
            "2026-06-17T10:35:11.4721509990000001Z",
            1_781_692_511_472_150,
        ),
        ("2026-06-17t10:35:11.5z", 1_781_692_511_500_000),
        ("2026-06-17T10:35:11-00:00", 1_781_692_511_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000_000),
    ] {
        let event = decode(&with("/time", json!(time)));
        let version = event.version.expect("from time");
        assert_eq!(version.value.as_micros(), Some(micros), "{time}");
        assert_eq!(version.scheme, VersionScheme::Time, "{time}");
    }
}

#[test]
fn a_version_that_would_be_a_time_before_1990_is_a_revision() {
    for given in ["0", "1", "631151999999999"] {
        let version = decode(&with("/subjectversion", json!(given))).version;
        assert_eq!(
            version.expect("given").scheme,
            VersionScheme::Revision,
            "{given}"
        );
    }
}

const MARK: &[u8] = b"\xef\xbb\xbf";

#[test]
fn a_byte_order_mark_is_taken() {
    let event = smallest().to_string();
    let marked = |body: &str| [MARK, body.as_bytes()].concat();
    let plain = decode(event.as_bytes());
    assert_eq!(decode(&marked(&event)), plain);
    let canonical = event::canonical(&marked(&event)).expect("structured");
    assert_eq!(
        canonical,
        event::canonical(event.as_bytes()).expect("plain")
    );
    let batch = event::canonical_batch(&marked(&format!("[{event}]")), 1).expect("batch");
    assert_eq!(batch, [Ok(canonical)]);
    let headers: [(&str, &[u8]); 5] = [
        ("specversion", b"1.0"),
        ("id", b"evt-1"),
        ("source", b"/apps/crm"),
        ("type", b"crm.contact.updated.v1"),
        ("tenantid", b"orodje"),
    ];
    let data = marked(&smallest()["data"].to_string());
    let binary = event::canonical_binary(headers, Some("application/json"), &data).expect("binary");
    assert_eq!(binary.event, plain);
    // It is a mark at the beginning only.
    assert_eq!(
        refused(&[MARK, MARK, event.as_bytes()].concat()).class,
        DecodeClass::Malformed
    );
}

#[test]
fn utf_16_is_named_as_what_it_is() {
    let event = smallest().to_string();
    let wide = |mark: bool, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let text: String = mark
            .then_some('\u{feff}')
            .into_iter()
            .chain(event.chars())
            .collect();
        text.encode_utf16().flat_map(bytes).collect()
    };
    for body in [
        wide(true, u16::to_le_bytes),
        wide(true, u16::to_be_bytes),
        wide(false, u16::to_le_bytes),
        wide(false, u16::to_be_bytes),
        b"\xff\xfe".to_vec(),
    ] {
        let expected = "malformed: is UTF-16 or UTF-32: JSON must be sent as UTF-8";
        assert_eq!(refused(&body).to_string(), expected);
        assert_eq!(
            event::canonical_batch(&body, 9)
                .expect_err("no batch")
                .to_string(),
            expected
        );
    }
}
