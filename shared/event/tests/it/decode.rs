//! Derivation rules and refusals.

use event::{DecodeClass, DecodeError, Event, VersionScheme};
use serde_json::{Value, json};

pub(crate) fn smallest() -> Value {
    json!({
        "specversion": "1.0",
        "id": "evt-1",
        "source": "/apps/crm",
        "type": "crm.contact.updated.v1",
        "tenantid": "orodje",
        "data": { "contact": { "id": "512", "kind": "person", "name": "Maja Kos" } },
    })
}

/// The smallest event with one member replaced, or taken out by `Value::Null`.
pub(crate) fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut event = smallest();
    let (parent, name) = pointer.rsplit_once('/').expect("pointer");
    event.pointer_mut(parent).expect("parent")[name] = value;
    serde_json::to_vec(&event).expect("json")
}

pub(crate) fn decode(body: &[u8]) -> Event {
    event::decode(body).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
pub(crate) fn refused(body: &[u8]) -> DecodeError {
    event::decode(body).expect_err("must be refused")
}

#[track_caller]
fn check_refused(pointer: &str, value: Value, class: DecodeClass, text: &str) {
    let error = refused(&with(pointer, value));
    assert_eq!((error.class, error.to_string().as_str()), (class, text));
}

#[test]
fn what_a_publisher_leaves_out_is_derived() {
    let event = decode(&with("/time", json!("2026-06-17T12:35:11.472150+02:00")));
    assert_eq!(event.subject, "contact/512");
    assert_eq!((event.entity(), event.record_id()), ("contact", "512"));
    assert_eq!(event.partition_key, "orodje:contact:512");
    assert_eq!(event.correlation_id, "evt-1");
    assert_eq!(event.causation_depth, 0);
    assert_eq!(
        (
            event.system.as_str(),
            event.account.as_str(),
            event.origin_system.as_str()
        ),
        ("crm", "apps-crm#c831ff7afd9056cc8e9db117127940f6", "crm")
    );
    let version = event.version.clone().expect("from time");
    assert_eq!(
        (version.value.as_str(), version.scheme),
        ("00001781692511472150", VersionScheme::Time)
    );
    assert_eq!(event.routing_key(), "crm.contact.updated.v1.orodje");
}

#[test]
fn without_time_and_version_there_is_none() {
    assert_eq!(
        decode(&serde_json::to_vec(&smallest()).expect("json")).version,
        None
    );
}

#[test]
fn a_source_of_kurirs_form_names_system_and_account() {
    let event = decode(&with(
        "/source",
        json!("urn:kurir:orodje:fresh-crm:Ljubljana.2"),
    ));
    assert_eq!(
        (event.system.as_str(), event.account.as_str()),
        ("fresh-crm", "Ljubljana.2")
    );
    assert_eq!(event.origin_system, "fresh-crm");
}

#[test]
fn a_given_version_is_a_time_only_if_it_can_be_one() {
    for (given, scheme) in [
        ("1781692511472150", VersionScheme::Time),
        ("00001781692511472150", VersionScheme::Time),
        ("7", VersionScheme::Revision),
        ("1781692511", VersionScheme::Revision),
        ("1781692511472", VersionScheme::Revision),
        ("99999999999999999999", VersionScheme::Revision),
    ] {
        assert_eq!(
            decode(&with("/subjectversion", json!(given)))
                .version
                .expect("given")
                .scheme,
            scheme,
            "{given}"
        );
    }
}

#[test]
fn what_is_given_is_not_overwritten() {
    let mut event = smallest();
    for (name, value) in [
        ("subjectversion", json!("17")),
        ("time", json!("2026-06-17T10:00:00Z")),
        ("partitionkey", json!("lane-4")),
        ("correlationid", json!("flow-1")),
        ("causationid", json!("cause-1")),
        ("causationdepth", json!(16)),
        ("originsystem", json!("chatwoot")),
    ] {
        event[name] = value;
    }
    let event = decode(&serde_json::to_vec(&event).expect("json"));
    assert_eq!(
        event.version.expect("given").value.as_str(),
        "00000000000000000017"
    );
    assert_eq!(event.partition_key, "lane-4");
    assert_eq!(
        (event.correlation_id.as_str(), event.causation_id.as_deref()),
        ("flow-1", Some("cause-1"))
    );
    assert_eq!(
        (event.causation_depth, event.origin_system.as_str()),
        (16, "chatwoot")
    );
}

#[test]
fn null_attributes_and_unknown_members_say_nothing() {
    let mut event = smallest();
    event["time"] = Value::Null;
    event["dataschema"] = json!("https://crm.example/schemas/1");
    event["my_own"] = json!({ "nested": true });
    event["data"]["contact"]["score"] = json!(99);
    event["data"]["previous"] = json!({ "name": "Maja" });
    assert_eq!(
        decode(&serde_json::to_vec(&event).expect("json")),
        decode(&serde_json::to_vec(&smallest()).expect("json"))
    );
}

#[test]
fn a_broken_trace_is_left_out() {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(
        decode(&with("/traceparent", json!(good)))
            .traceparent
            .as_deref(),
        Some(good)
    );
    for bad in [
        "",
        "00-0-0-0",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "ščž",
    ] {
        assert_eq!(
            decode(&with("/traceparent", json!(bad))).traceparent,
            None,
            "{bad}"
        );
    }
}

#[test]
fn each_refusal_has_its_class_and_names_the_field() {
    use DecodeClass::*;
    check_refused(
        "/specversion",
        json!("0.3"),
        SpecVersion,
        r#"spec_version: /specversion must be "1.0""#,
    );
    check_refused(
        "/specversion",
        Value::Null,
        SpecVersion,
        "spec_version: /specversion is required",
    );
    check_refused(
        "/type",
        json!("crm.contact.updated.v2"),
        NewerMajor,
        "newer_major: /type is a newer major version than this build knows",
    );
    check_refused(
        "/type",
        json!("crm.contact.updated.v0"),
        UnknownType,
        "unknown_type: /type is not in the catalogue of event types",
    );
    check_refused(
        "/type",
        json!("crm.contact.exploded.v1"),
        UnknownType,
        "unknown_type: /type is not in the catalogue of event types",
    );
    check_refused(
        "/source",
        json!("urn:kurir:vrtnar:crm:main"),
        TenantMismatch,
        "tenant_mismatch: /source names another tenant than tenantid",
    );
    check_refused(
        "/source",
        json!("urn:kurir:orodje:crm"),
        Schema,
        "schema: /source must read urn:kurir:<tenant>:<system>:<account>, system and account being 1 to 64 of A-Z a-z 0-9 . _ ~ @ + -",
    );
    check_refused(
        "/source",
        json!("not a reference"),
        Schema,
        "schema: /source must be a URI reference",
    );
    check_refused(
        "/causationdepth",
        json!(17),
        TooDeep,
        "loop: /causationdepth is more than 16: events are causing each other in a loop",
    );
    check_refused(
        "/causationdepth",
        json!(-1),
        Schema,
        "schema: /causationdepth must be at least 0",
    );
    check_refused(
        "/tenantid",
        json!("oro.dje"),
        Schema,
        "schema: /tenantid must be 1 to 64 of A-Z a-z 0-9 _ -",
    );
    check_refused("/id", json!(""), Schema, "schema: /id must not be empty");
    check_refused(
        "/id",
        json!("č".repeat(200)),
        Schema,
        "schema: /id must not be longer than 255 bytes",
    );
    check_refused(
        "/id",
        json!("a\nb"),
        Schema,
        "schema: /id must not hold control characters",
    );
    check_refused("/id", json!(7), Schema, "schema: /id must be a string");
    check_refused(
        "/subject",
        json!("contact/513"),
        Schema,
        "schema: /subject names another record than data (it is <entity>/<id>, with the id that data carries)",
    );
    check_refused(
        "/subject",
        json!("512"),
        Schema,
        "schema: /subject must read <entity>/<id>, for example contact/512",
    );
    check_refused(
        "/time",
        json!("2026-06-17T10:35:11"),
        Schema,
        "schema: /time must be an RFC 3339 time with a zone, for example 2026-06-17T10:35:11.472Z",
    );
    check_refused(
        "/subjectversion",
        json!("1.5"),
        Schema,
        "schema: /subjectversion must be 1 to 20 digits",
    );
    check_refused(
        "/subjectversion",
        json!(7),
        Schema,
        "schema: /subjectversion must be a string or null",
    );
    check_refused(
        "/data",
        Value::Null,
        Schema,
        "schema: /data must be an object",
    );
    check_refused(
        "/data_base64",
        json!("e30="),
        Schema,
        "schema: /data_base64 is not supported: give the payload as JSON in data",
    );
    check_refused(
        "/datacontenttype",
        json!("text/xml"),
        Schema,
        "schema: /datacontenttype must be application/json in UTF-8",
    );
    check_refused(
        "/data/contact",
        Value::Null,
        Schema,
        "schema: /data/contact must be an object",
    );
    check_refused(
        "/data/contact/kind",
        json!("robot"),
        Schema,
        r#"schema: /data/contact/kind must be one of ["person","organization"]"#,
    );
    check_refused(
        "/data/contact/name",
        json!(" \t"),
        Schema,
        "schema: /data/contact/name must not be blank",
    );
    check_refused(
        "/data/contact/name",
        json!("Maja\u{0}"),
        Schema,
        "schema: /data/contact/name must not hold the character U+0000",
    );
    check_refused(
        "/data/contact/tax_id",
        json!(87654321),
        Schema,
        "schema: /data/contact/tax_id must be a string or null",
    );
    check_refused(
        "/data/contact/emails",
        json!([{ "value": "maja" }]),
        Schema,
        "schema: /data/contact/emails/0/value must be an e-mail address",
    );
    check_refused(
        "/data/contact/phones",
        json!([{ "value_e164": "040123" }]),
        Schema,
        "schema: /data/contact/phones/0/raw is required (and 1 more)",
    );
    check_refused(
        "/data/contact/addresses",
        json!([{}]),
        Schema,
        "schema: /data/contact/addresses/0/kind is required",
    );
    check_refused(
        "/data/contact/organization",
        json!({ "id": 7 }),
        Schema,
        "schema: /data/contact/organization/id must be a string or null (and 1 more)",
    );
    check_refused(
        "/data/contact/organization",
        json!("Vrtnar"),
        Schema,
        "schema: /data/contact/organization must be an object or null",
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let body = serde_json::to_vec(&json!({
        "specversion": "0.3", "id": 7, "type": "crm.contact.updated.v1", "tenantid": "a b", "time": "yesterday",
        "data": { "contact": { "kind": "robot", "emails": [{}, { "value": 1 }] } },
    }));
    let error = refused(&body.expect("json"));
    let told: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    /data/contact/emails/0/value is required
    /data/contact/emails/1/value must be a string
    /data/contact/id is required
    /data/contact/kind must be one of ["person","organization"]
    /data/contact/name is required
    /id must be a string
    /source is required
    /specversion must be "1.0"
    /tenantid must be 1 to 64 of A-Z a-z 0-9 _ -
    /time must be an RFC 3339 time with a zone, for example 2026-06-17T10:35:11.472Z
    "#);
    assert_eq!(error.class, DecodeClass::SpecVersion);
}

#[test]
fn problems_are_bounded() {
    let emails: Vec<Value> = (0..100).map(|_| json!({})).collect();
    let error = refused(&with("/data/contact/emails", json!(emails)));
    assert_eq!(error.problems.len(), event::MAX_PROBLEMS);
}

#[test]
fn what_is_no_json_object_is_malformed() {
    for body in [
        &b""[..],
        b"{",
        b"[1",
        b"\xff\xfe{}",
        b"<event/>",
        b"null",
        b"[]",
        b"7",
    ] {
        assert_eq!(refused(body).class, DecodeClass::Malformed, "{body:?}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(refused(deep.as_bytes()).class, DecodeClass::Malformed);
}

#[test]
fn a_body_that_is_too_large_is_not_read_but_can_be_found() {
    let error = refused(&with("/data/contact/note", json!("ž".repeat(512 * 1024))));
    assert_eq!(error.class, DecodeClass::TooLarge);
    assert_eq!(error.identity.id.as_deref(), Some("evt-1"));
    assert_eq!(error.identity.tenant.as_deref(), Some("orodje"));
    assert_eq!(
        error.identity.event_type.as_deref(),
        Some("crm.contact.updated.v1")
    );
}

#[test]
fn a_refused_event_is_known_by_what_it_said() {
    let error = refused(&with("/type", json!("crm.deal.won.v1")));
    assert_eq!(
        error.identity.event_type.as_deref(),
        Some("crm.deal.won.v1")
    );
    assert_eq!(error.identity.source.as_deref(), Some("/apps/crm"));
    let hostile = refused(&with("/type", json!("x\u{1b}[31m".repeat(1000))));
    let shown = hostile.identity.event_type.expect("type");
    assert!(shown.chars().count() <= event::MAX_TEXT && !shown.chars().any(char::is_control));
}

#[test]
fn a_problem_never_quotes_what_was_sent() {
    let error = refused(&with(
        "/data/contact/emails",
        json!([{ "value": "skrivnost" }]),
    ));
    assert!(!format!("{error} {:?}", error.problems).contains("skrivnost"));
}

#[test]
fn a_name_that_nobody_sees_is_refused_at_the_name() {
    let blank = "schema: /data/contact/name must not be blank";
    let unseen = "schema: /data/contact/name must hold a character that can be seen";
    for (name, text) in [
        ("", blank),
        (" \t\u{a0}\u{feff}", blank),
        ("\u{200b}", unseen),
        (" \u{200d}\u{2060} \u{ad}", unseen),
        ("\u{200e}\u{202e}", unseen),
        ("\u{1}\u{7f}", unseen),
        ("\u{301}\u{30c}", unseen),
        ("\u{3164}\u{115f}", unseen),
        ("\u{2800}", unseen),
        ("\u{fe0f}", unseen),
    ] {
        for event_type in ["crm.contact.created.v1", "crm.contact.updated.v1"] {
            let mut event = smallest();
            event["type"] = json!(event_type);
            event["data"]["contact"]["name"] = json!(name);
            let error = refused(&serde_json::to_vec(&event).expect("json"));
            assert_eq!(error.class, DecodeClass::Schema);
            assert_eq!(error.to_string(), text, "{name:?}");
        }
    }
}

#[test]
fn characters_that_nobody_sees_beside_others_are_taken() {
    for name in [
        "\u{200b}Kos\u{feff}",
        "***",
        "株式会社",
        "می\u{200c}خواهم",
        "🐝",
        "7",
    ] {
        decode(&with("/data/contact/name", json!(name)));
    }
    for unseen in [
        "\u{200b}", "\u{200d}", "\u{2060}", "\u{feff}", "\u{ad}", "\u{202c}", "\u{1}",
    ] {
        let value = format!("{unseen}ma{unseen}ja@kos{unseen}.example{unseen}");
        decode(&with("/data/contact/emails", json!([{ "value": value }])));
    }
}
