//! Every bad input has one clear, documented answer: this table is what docs/events.md promises.

use std::fmt::Write as _;

use gateway::{MAX_BATCH_BYTES, MAX_BATCH_EVENTS};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use testkit::Http;

use crate::{PATH, contact, generous, start, with};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

type Case = (&'static str, RequestBuilder);

fn post(http: &Http, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    http.client()
        .post(http.address(PATH))
        .header("content-type", content_type)
        .body(body)
}

fn event(http: &Http, event: &Value) -> RequestBuilder {
    post(http, STRUCTURED, event.to_string())
}

fn cases(http: &Http) -> Vec<Case> {
    let mut worst = contact("evt-1");
    worst["specversion"] = json!("0.3");
    worst["time"] = json!("včeraj");
    worst["data"]["contact"]["emails"] = json!([{ "value": 1 }, { "value": "žiga@" }]);
    let binary = |http: &Http| {
        post(http, "application/json", contact("x")["data"].to_string())
            .header("ce-specversion", "1.0")
            .header("ce-id", "evt-1")
            .header("ce-source", "/crm")
            .header("ce-type", "crm.contact.updated.v1")
    };
    let mut stranger = with("/tenantid", json!("vrtnar"));
    stranger["source"] = json!("/crm");
    let many: Vec<Value> = (0..=MAX_BATCH_EVENTS)
        .map(|n| contact(&n.to_string()))
        .collect();
    vec![
        ("not JSON", post(http, STRUCTURED, "<contact/>")),
        (
            "cut off",
            post(
                http,
                STRUCTURED,
                contact("evt-1").to_string()[..60].to_owned(),
            ),
        ),
        (
            "not UTF-8",
            post(http, STRUCTURED, b"{\"id\":\"\xff\"}".to_vec()),
        ),
        ("a list instead of an event", post(http, STRUCTURED, "[]")),
        (
            "an event instead of a batch",
            post(http, BATCH, contact("evt-1").to_string()),
        ),
        ("empty body", post(http, STRUCTURED, "")),
        (
            "wrong specversion",
            event(http, &with("/specversion", json!("0.3"))),
        ),
        (
            "unknown type",
            event(http, &with("/type", json!("crm.deal.won.v1"))),
        ),
        (
            "newer major",
            event(http, &with("/type", json!("crm.contact.updated.v2"))),
        ),
        (
            "a type of Kurir's own",
            event(
                http,
                &json!({
                    "specversion": "1.0", "id": "evt-1", "source": "/crm", "type": "sync.failed.v1", "tenantid": "orodje",
                    "data": { "entity": "contact", "record_id": "1", "target_system": "metakocka", "class": "x", "message": "x" },
                }),
            ),
        ),
        (
            "another tenant",
            event(http, &{
                let mut other = with("/tenantid", json!("vrtnar"));
                other["source"] = json!("urn:kurir:vrtnar:crm:main");
                other
            }),
        ),
        (
            "two tenants in one event",
            event(http, &with("/source", json!("urn:kurir:vrtnar:crm:main"))),
        ),
        (
            "a tenant id that can be none",
            event(http, &with("/tenantid", json!("oro.dje"))),
        ),
        ("no id", event(http, &with("/id", Value::Null))),
        (
            "a time without a zone",
            event(http, &with("/time", json!("2026-06-17T10:35:11"))),
        ),
        (
            "a subject of another record",
            event(http, &with("/subject", json!("contact/513"))),
        ),
        (
            "a wrong type in data",
            event(http, &with("/data/contact/tax_id", json!(87654321))),
        ),
        (
            "a character that no database keeps",
            event(http, &with("/data/contact/name", json!("Maja\u{0}"))),
        ),
        (
            "a loop of events",
            event(http, &with("/causationdepth", json!(17))),
        ),
        ("many things at once", event(http, &worst)),
        (
            "a batch with two bad events",
            post(
                http,
                BATCH,
                json!([
                    contact("evt-1"),
                    with("/data/contact/kind", json!("robot")),
                    with("/type", json!("crm.contact.updated.v9")),
                ])
                .to_string(),
            ),
        ),
        (
            "a batch with a stranger's event",
            post(
                http,
                BATCH,
                Value::from(vec![
                    with("/data/contact/kind", json!("robot")),
                    with("/tenantid", json!("vrtnar")),
                    stranger,
                ])
                .to_string(),
            ),
        ),
        (
            "a batch with an event that is no JSON",
            post(
                http,
                BATCH,
                format!(
                    "[{},{},7,{},{}]",
                    contact("evt-1"),
                    contact("evt-2").to_string().replace("d.o.o.", "\\ud800"),
                    with("/data/contact/kind", json!("robot")),
                    &contact("evt-5").to_string()[..60],
                ),
            ),
        ),
        (
            "a time that is none",
            event(http, &with("/time", json!("0001-01-01T00:00:00Z"))),
        ),
        (
            "a correlation id of 256 bytes",
            event(http, &with("/correlationid", json!("č".repeat(128)))),
        ),
        (
            "a correlation id of 256 bytes in a batch",
            post(
                http,
                BATCH,
                json!([
                    contact("evt-1"),
                    with("/correlationid", json!("č".repeat(128)))
                ])
                .to_string(),
            ),
        ),
        (
            "UTF-16",
            post(
                http,
                STRUCTURED,
                format!("\u{feff}{}", contact("evt-1"))
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<u8>>(),
            ),
        ),
        (
            "too many events in a batch",
            post(http, BATCH, Value::from(many).to_string()),
        ),
        (
            "a batch that is too large",
            post(http, BATCH, " ".repeat(MAX_BATCH_BYTES + 1)),
        ),
        (
            "a body of 1 MiB",
            event(
                http,
                &with("/data/contact/note", json!("ž".repeat(512 * 1024))),
            ),
        ),
        (
            "an event of 300 kB in a batch",
            post(
                http,
                BATCH,
                json!([with("/data/contact/note", json!("a".repeat(300_000)))]).to_string(),
            ),
        ),
        ("binary mode without a tenant", binary(http)),
        (
            "binary mode with a broken header",
            binary(http)
                .header("ce-tenantid", "orodje")
                .header("ce-subject", "contact/%zz"),
        ),
        (
            "binary mode with the same attribute twice",
            binary(http)
                .header("ce-tenantid", "orodje")
                .header("ce-id", "evt-2"),
        ),
        (
            "binary mode with data that is no JSON",
            binary(http).header("ce-tenantid", "orodje").body("{"),
        ),
        (
            "no content type",
            http.client()
                .post(http.address(PATH))
                .body(contact("evt-1").to_string()),
        ),
        (
            "JSON without CloudEvents",
            post(http, "application/json", contact("evt-1").to_string()),
        ),
        (
            "another format of CloudEvents",
            post(http, "application/cloudevents+xml", "<event/>"),
        ),
        (
            "a compressed body",
            event(http, &contact("evt-1")).header("content-encoding", "gzip"),
        ),
        ("another method", http.client().put(http.address(PATH))),
        (
            "another path",
            http.client().post(http.address("/v1/event")),
        ),
    ]
}

#[tokio::test]
async fn each_bad_input_has_its_answer_and_nothing_reaches_the_bus() {
    let gateway = start(&generous()).await;
    let mut table = String::new();
    for (name, request) in cases(&gateway.http) {
        let answer = gateway
            .http
            .send(request)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            answer.header("content-type"),
            Some(inbound::PROBLEM_JSON),
            "{name}"
        );
        assert!(answer.header("x-request-id").is_some(), "{name}");
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status, "{name}");
        writeln!(
            table,
            "## {name}\n{} {}",
            answer.status,
            problem["type"].as_str().expect("type")
        )
        .expect("text");
        writeln!(table, "{}", problem["detail"].as_str().expect("detail")).expect("text");
        for error in problem["errors"].as_array().into_iter().flatten() {
            writeln!(
                table,
                "  {} {}",
                error["pointer"],
                error["detail"].as_str().expect("detail")
            )
            .expect("text");
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
    assert!(gateway.bus.published.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn who_has_no_token_learns_nothing_else() {
    let gateway = start(&generous()).await;
    let nobody = Http::new(gateway.http.address(""));
    let answer = nobody
        .post(PATH, "text/plain", "hello")
        .await
        .expect("answer")
        .expect(401);
    assert_eq!(
        answer.header("www-authenticate"),
        Some(r#"Bearer realm="kurir""#)
    );
    assert_eq!(answer.header("content-type"), Some(inbound::PROBLEM_JSON));
    let answer = nobody
        .with_token("kurir_wrong")
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(401);
    insta::assert_json_snapshot!(answer.json(), @r#"
    {
      "detail": "the token is not known or has been revoked",
      "status": 401,
      "title": "Unauthorized",
      "type": "urn:kurir:problem:unauthorized"
    }
    "#);
}

/// Non-ASCII text, unknown members, odd but legal events: accepted as they are.
#[tokio::test]
async fn what_is_odd_but_legal_is_accepted() {
    let gateway = start(&generous()).await;
    for (pointer, value) in [
        ("/data/contact/name", json!("Šđčćž ΩЖ漢字 🐝")),
        ("/data/contact/score", json!({ "nested": [1, 2.5, null] })),
        ("/unknownattribute", json!("x")),
        ("/id", json!("č".repeat(127))),
        ("/source", json!("https://crm.example/apps/1?x=2#y")),
        ("/time", json!("1990-01-01T00:00:00Z")),
        ("/subjectversion", json!("0")),
        ("/correlationid", json!("č".repeat(127))),
        ("/time", json!("2099-01-01T00:00:00+14:00")),
        ("/subjectversion", json!("99999999999999999999")),
        ("/data/contact/emails", json!([])),
    ] {
        gateway
            .http
            .post_event(PATH, &with(pointer, value))
            .await
            .expect("answer")
            .expect(202);
    }
}

/// AMQP headers are ours alone: nothing of a request but its `ce-` attributes gets into the message.
#[tokio::test]
async fn hostile_headers_stay_outside() {
    let gateway = start(&generous()).await;
    let request = post(&gateway.http, STRUCTURED, contact("evt-1").to_string())
        .header("cc", "other.queue")
        .header("x-death", "1")
        .header("x-attempt", "12")
        .header("x-generation", "7")
        .header("ce-tenantid", "vrtnar");
    gateway
        .http
        .send(request)
        .await
        .expect("answer")
        .expect(202);
    let published = gateway.bus.published.lock().expect("lock").clone();
    let names: Vec<&str> = published[0].headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["ce-type", "ce-source", "ce-tenantid", "ce-partitionkey"]
    );
    assert_eq!(published[0].routing_key, "crm.contact.updated.v1.orodje");
}
