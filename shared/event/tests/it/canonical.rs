//! The gateway's view: nothing given is changed, the rest is written down, and both ways decode to the same event.

use chrono::{TimeZone, Utc};
use event::{Cause, DecodeClass, Draft, EventType, SyncRequested, SyncWhat, TenantId, derived_id};

use crate::schemas::examples;

#[test]
fn the_canonical_body_decodes_to_the_same_event() {
    for (name, text) in examples() {
        let canonical =
            event::canonical(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            event::decode(text.as_bytes()),
            Ok(canonical.event.clone()),
            "{name}"
        );
        assert_eq!(
            event::decode(&canonical.body),
            Ok(canonical.event.clone()),
            "{name}"
        );
        let again = event::canonical(&canonical.body).expect("canonical");
        assert_eq!(
            again.body, canonical.body,
            "{name}: a second pass changes nothing"
        );
    }
}

#[test]
fn what_was_given_stays_byte_for_byte() {
    let body = br#"{"data":{"contact":{"id":"1","kind":"person","name":"\u017da","custom":{"n":12345678901234567890123.10}}},
        "type":"crm.contact.updated.v1","zz":1.50,"specversion":"1.0","id":"e","source":"/s","tenantid":"t","time":null,
        "subjectversion":"7"}"#;
    let canonical = event::canonical(body).expect("valid");
    insta::assert_snapshot!(String::from_utf8(canonical.body).expect("utf-8"), @r#"{"specversion":"1.0","id":"e","source":"/s","type":"crm.contact.updated.v1","tenantid":"t","subject":"contact/1","subjectversion":"7","datacontenttype":"application/json","partitionkey":"t:contact:1","correlationid":"e","causationdepth":0,"originsystem":"crm","zz":1.50,"data":{"contact":{"id":"1","kind":"person","name":"\u017da","custom":{"n":12345678901234567890123.10}}}}"#);
}

/// Versions outside the range of plausible times too: a derived one is a time wherever it is read.
#[test]
fn a_time_keeps_its_scheme_once_it_is_written_down() {
    for time in [
        "1990-01-01T00:00:00+00:00",
        "2026-06-17T10:35:11.472150Z",
        "2250-01-01T00:00:00Z",
    ] {
        let body = format!(
            r#"{{"specversion":"1.0","id":"e","source":"/s","type":"crm.contact.deleted.v1","tenantid":"t","time":"{time}","data":{{"id":"1"}}}}"#
        );
        let canonical = event::canonical(body.as_bytes()).expect("valid");
        assert_eq!(
            event::decode(&canonical.body).expect("valid").version,
            canonical.event.version,
            "{time}"
        );
    }
}

#[test]
fn an_event_that_is_too_large_only_with_its_derived_attributes_is_refused_at_the_edge() {
    let frame = r#"{"specversion":"1.0","id":"e","source":"/s","type":"crm.contact.deleted.v1","tenantid":"t","data":{"id":"1","x":""}}"#;
    let body = frame.replace(
        r#""x":"""#,
        &format!(
            r#""x":"{}""#,
            "a".repeat(event::MAX_EVENT_BYTES - frame.len())
        ),
    );
    assert_eq!(body.len(), event::MAX_EVENT_BYTES);
    assert!(event::decode(body.as_bytes()).is_ok());
    assert_eq!(
        event::canonical(body.as_bytes())
            .expect_err("too large")
            .class,
        DecodeClass::TooLarge
    );
}

#[test]
fn a_batch_answers_for_each_event_of_its_own() {
    let (_, good) = examples().remove(0);
    let body = format!(r#"[{good}, {{"specversion":"1.0"}}, 7]"#);
    let results = event::canonical_batch(body.as_bytes(), 3).expect("array");
    let classes: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().err().map(|error| error.class))
        .collect();
    assert_eq!(
        classes,
        [
            None,
            Some(DecodeClass::Schema),
            Some(DecodeClass::Malformed)
        ]
    );
    assert_eq!(
        event::canonical_batch(body.as_bytes(), 2)
            .expect_err("limit")
            .class,
        DecodeClass::TooLarge
    );
    assert_eq!(
        event::canonical_batch(good.as_bytes(), 2)
            .expect_err("object")
            .class,
        DecodeClass::Malformed
    );
    assert_eq!(
        event::canonical_batch(b"[", 2).expect_err("no json").class,
        DecodeClass::Malformed
    );
}

#[test]
fn binary_mode_gives_the_same_event() {
    let data = r#"{"contact":{"id":"512","kind":"person","name":"Đuro Žižek"}}"#;
    let headers: [(&str, &[u8]); 7] = [
        ("specversion", b"1.0"),
        ("id", b"evt%20%C4%8D%22"),
        ("source", b"/apps/crm"),
        ("type", b"\"crm.contact.updated.v1\""),
        ("tenantid", b"orodje"),
        ("causationdepth", b"2"),
        ("time", b"2026-06-17T10:35:11Z"),
    ];
    let canonical =
        event::canonical_binary(headers, Some("application/json"), data.as_bytes()).expect("valid");
    assert_eq!(canonical.event.id, "evt č\"");
    assert_eq!(
        (canonical.event.event_type, canonical.event.causation_depth),
        (EventType::CrmContactUpdated, 2)
    );
    assert!(
        String::from_utf8(canonical.body)
            .expect("utf-8")
            .contains(data)
    );
}

#[track_caller]
fn check_binary(header: (&str, &[u8]), content_type: &str, data: &[u8], expected: &str) {
    let mut headers: Vec<(&str, &[u8])> = vec![
        ("specversion", b"1.0"),
        ("id", b"e"),
        ("source", b"/s"),
        ("type", b"crm.contact.deleted.v1"),
        ("tenantid", b"t"),
    ];
    headers.push(header);
    let error = event::canonical_binary(headers, Some(content_type), data).expect_err(expected);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn binary_mode_names_the_header_that_is_wrong() {
    let data = br#"{"id":"1"}"#;
    check_binary(
        ("subject", b"contact%2"),
        "application/json",
        data,
        "schema: /subject is a header that is not percent-encoded UTF-8",
    );
    check_binary(
        ("subject", b"%ff"),
        "application/json",
        data,
        "schema: /subject is a header that is not percent-encoded UTF-8",
    );
    check_binary(
        ("id", b"f"),
        "application/json",
        data,
        "schema: /id is given by two headers",
    );
    check_binary(
        ("causationdepth", b"two"),
        "application/json",
        data,
        "schema: /causationdepth must be an integer or null",
    );
    check_binary(
        ("subject", b"contact/1"),
        "application/json",
        b"{",
        "malformed: /data is not JSON: EOF while parsing an object at line 1 column 1",
    );
    check_binary(
        ("subject", b"contact/1"),
        "text/plain",
        b"hm",
        "schema: /data is required (and 1 more)",
    );
    check_binary(
        ("subject", b"contact/1"),
        "application/json",
        b"",
        "schema: /data is required",
    );
}

#[test]
fn an_own_event_is_valid_and_stays_in_its_flow() {
    let draft = Draft {
        id: derived_id(&["4711", "resolve", "2026-06-17T10:41:00Z"]),
        tenant: TenantId::parse("orodje").expect("tenant"),
        account: "keeper".to_owned(),
        time: Utc
            .with_ymd_and_hms(2026, 6, 17, 10, 41, 0)
            .single()
            .expect("time"),
        event_type: EventType::SyncRequested,
        payload: event::Payload::from(SyncRequested {
            worker: "metakocka-sync".to_owned(),
            link: 4711,
            what: SyncWhat::Resolve,
        }),
        cause: Some(Cause {
            id: "evt-1".to_owned(),
            correlation_id: "flow-1".to_owned(),
            causation_depth: 3,
            origin_system: "crm".to_owned(),
            traceparent: None,
        }),
    };
    let event = draft.clone().event();
    assert_eq!(event::decode(&event::compose(draft)), Ok(event.clone()));
    insta::assert_snapshot!(String::from_utf8(event.encode()).expect("utf-8"));
}

#[test]
fn derived_ids_keep_their_parts_apart_and_never_change() {
    assert_ne!(derived_id(&["a", "bc"]), derived_id(&["ab", "c"]));
    insta::assert_snapshot!(derived_id(&["4711", "resolve"]), @"cc1266fd-838f-50e6-8cc9-292da36e784f");
}
