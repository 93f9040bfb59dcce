//! What is known of a refused body: the record, the event and the tenant that it names, as far as they can be read.

use event::{DecodeClass, Identity};
use serde_json::{Value, json};

use crate::decode::{refused, smallest, with};

fn subject(body: &[u8]) -> Option<String> {
    refused(body).identity.subject
}

#[test]
fn a_record_is_found_though_another_field_is_wrong() {
    let all = Some("contact/512".to_owned());
    for (pointer, value) in [
        ("/data/contact/kind", json!("robot")),
        ("/data/contact/emails", json!("none")),
        ("/data/contact/name", json!("Maja\u{0}")),
        ("/data/contact/name", Value::Null),
        ("/time", json!("1970-01-01T00:00:00Z")),
        ("/specversion", json!("0.3")),
        ("/causationdepth", json!(17)),
        ("/correlationid", json!("č".repeat(128))),
        // What data says of itself counts, as it would in a valid event.
        ("/subject", json!("contact/513")),
        ("/id", json!(7)),
        ("/data/contact/id", json!(512)),
        ("/tenantid", json!("a b")),
        ("/type", json!("crm.contact.updated.v9")),
        ("/type", Value::Null),
    ] {
        assert_eq!(subject(&with(pointer, value)), all, "{pointer}");
    }
    let deleted = json!({
        "specversion": "1.0", "id": "e", "source": "/s", "type": "crm.contact.deleted.v1", "tenantid": "t",
        "data": { "id": "512", "reason": 7, "merged_into": "9" },
    });
    assert_eq!(subject(deleted.to_string().as_bytes()), all);
}

#[test]
fn without_an_id_a_given_subject_is_all_there_is() {
    for id in [
        Value::Null,
        json!(""),
        json!(true),
        json!({ "id": "9" }),
        json!([]),
    ] {
        let mut event = smallest();
        event["data"]["contact"]["id"] = id;
        assert_eq!(subject(event.to_string().as_bytes()), None);
        event["subject"] = json!("contact/512");
        assert_eq!(
            subject(event.to_string().as_bytes()).as_deref(),
            Some("contact/512")
        );
    }
}

/// Read as far as it is JSON.
#[test]
fn what_breaks_off_is_known_by_what_stands_before() {
    let whole = r#"{"id":"evt-1","source":"/apps/crm","type":"crm.contact.updated.v1","tenantid":"orodje","data":{"contact":{"id":"512","name":"Ma"#;
    let names = |body: &[u8]| {
        let error = refused(body);
        assert_eq!(error.class, DecodeClass::Malformed);
        let Identity {
            id,
            source,
            event_type,
            tenant,
            subject,
        } = *error.identity;
        [id, source, event_type, tenant, subject].map(Option::unwrap_or_default)
    };
    let all = [
        "evt-1",
        "/apps/crm",
        "crm.contact.updated.v1",
        "orodje",
        "contact/512",
    ];
    for end in ["", "\\ud800\"}}}", "\\x\"}}}", "\n\"}}}", "\"}}", "\",}}}"] {
        assert_eq!(names(format!("{whole}{end}").as_bytes()), all, "{end}");
    }
    assert_eq!(names(&[whole.as_bytes(), b"\xe8\"}}}"].concat()), all);
    let earlier = whole.split(",\"data\"").next().expect("there");
    assert_eq!(
        names(earlier.as_bytes()),
        ["evt-1", "/apps/crm", "crm.contact.updated.v1", "orodje", ""]
    );
    assert_eq!(names(b"<event/>"), [""; 5]);
    // Nothing before the mistake is lost by its being deep.
    let deep = format!("{earlier},\"x\":{}", "{\"id\":".repeat(10_000));
    assert_eq!(names(deep.as_bytes())[0], "evt-1");
}
