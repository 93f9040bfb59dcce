//! What is accepted, how it is handed on, and what a sender hears when the broker does not confirm.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use gateway::{Accepted, EventStatus, MAX_BATCH_EVENTS, Outcome, PublishError, Settings};
use serde_json::{Value, json};
use testkit::wait_until;
use tokio::sync::Notify;

use crate::{CRM_SOURCE, CRM_TOKEN, PATH, contact, generous, start};

fn accepted(ids: &[&str]) -> Value {
    let event = |id: &&str| EventStatus {
        id: (*id).to_owned(),
        source: CRM_SOURCE.to_owned(),
        status: Outcome::Accepted,
    };
    serde_json::to_value(Accepted {
        events: ids.iter().map(event).collect(),
    })
    .expect("json")
}

#[tokio::test]
async fn an_event_is_confirmed_before_the_sender_hears_202() {
    let gateway = start(&generous()).await;
    let answer = gateway
        .http
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(202);
    assert_eq!(answer.json(), accepted(&["evt-1"]));
    let published = gateway.bus.published.lock().expect("lock").clone();
    let [message] = published.as_slice() else {
        panic!("{published:?}")
    };
    insta::assert_json_snapshot!(json!({
        "routing_key": message.routing_key,
        "message_id": message.message_id,
        "type": message.event_type,
        "timestamp": message.timestamp,
        "correlation_id": message.correlation_id,
        "headers": message.headers,
        "body": serde_json::from_slice::<Value>(&message.body).expect("json"),
    }));
}

#[tokio::test]
async fn the_three_modes_put_the_same_event_on_the_bus() {
    let gateway = start(&generous()).await;
    let event = contact("evt-č");
    gateway
        .http
        .post_event(PATH, &event)
        .await
        .expect("answer")
        .expect(202);
    gateway
        .http
        .post_binary(PATH, &event)
        .await
        .expect("answer")
        .expect(202);
    gateway
        .http
        .post_batch(PATH, std::slice::from_ref(&event))
        .await
        .expect("answer")
        .expect(202);
    let published = gateway.bus.published.lock().expect("lock").clone();
    let decoded: Vec<_> = published
        .iter()
        .map(|message| event::decode(&message.body).expect("valid"))
        .collect();
    assert_eq!(decoded.len(), 3);
    assert!(
        decoded.iter().all(|event| *event == decoded[0]),
        "{decoded:#?}"
    );
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order_and_may_be_empty() {
    let gateway = start(&generous()).await;
    let batch = [contact("b"), contact("a"), contact("b")];
    let answer = gateway
        .http
        .post_batch(PATH, &batch)
        .await
        .expect("answer")
        .expect(202);
    assert_eq!(answer.json(), accepted(&["b", "a", "b"]));
    let answer = gateway
        .http
        .post_batch(PATH, &[])
        .await
        .expect("answer")
        .expect(202);
    assert_eq!(answer.json(), json!({ "events": [] }));
}

#[tokio::test]
async fn one_bad_event_keeps_its_whole_batch_off_the_bus() {
    let gateway = start(&generous()).await;
    let batch = [
        contact("a"),
        crate::with("/data/contact/name", Value::Null),
        contact("c"),
    ];
    let problem = gateway
        .http
        .post_batch(PATH, &batch)
        .await
        .expect("answer")
        .expect(422)
        .json();
    assert_eq!(
        problem["errors"],
        json!([{ "pointer": "/1/data/contact/name", "detail": "is required" }])
    );
    assert!(gateway.bus.published.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn the_same_event_again_is_accepted_again_with_the_same_bytes() {
    let gateway = start(&generous()).await;
    for _ in 0..2 {
        gateway
            .http
            .post_event(PATH, &contact("evt-1"))
            .await
            .expect("answer")
            .expect(202);
    }
    let published = gateway.bus.published.lock().expect("lock").clone();
    assert_eq!(published.len(), 2);
    assert_eq!(published[0], published[1]);
}

#[tokio::test]
async fn without_the_brokers_confirm_there_is_no_202() {
    let gateway = start(&generous()).await;
    for error in [PublishError::NotPublished, PublishError::Unknown] {
        *gateway.bus.refused.lock().expect("lock") = vec![("evt-1".to_owned(), error)];
        let answer = gateway
            .http
            .post_event(PATH, &contact("evt-1"))
            .await
            .expect("answer")
            .expect(503);
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert_eq!(
            answer.json()["events"][0]["status"],
            json!(match error {
                PublishError::NotPublished => "not_published",
                PublishError::Unknown => "unknown",
                PublishError::Never => unreachable!("told apart below"),
            })
        );
    }
}

#[tokio::test]
async fn what_can_never_be_published_is_not_asked_for_again() {
    let gateway = start(&generous()).await;
    *gateway.bus.refused.lock().expect("lock") = vec![
        ("b".to_owned(), PublishError::Never),
        ("c".to_owned(), PublishError::NotPublished),
    ];
    let batch = [contact("a"), contact("b"), contact("c")];
    let answer = gateway
        .http
        .post_batch(PATH, &batch)
        .await
        .expect("answer")
        .expect(500);
    assert_eq!(answer.header("retry-after"), None);
    let problem = answer.json();
    let statuses: Vec<&str> = problem["events"]
        .as_array()
        .expect("listed")
        .iter()
        .map(|event| event["status"].as_str().expect("text"))
        .collect();
    assert_eq!(statuses, ["accepted", "unpublishable", "not_published"]);
    assert_eq!(problem["type"], "urn:kurir:problem:unpublishable");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("do not send it again"), "{detail}");
}

/// A body in UTF-8, said to be encoded as nothing.
#[tokio::test]
async fn an_encoding_that_is_none_is_taken_and_no_other() {
    let gateway = start(&generous()).await;
    for (encodings, status) in [
        (&["identity"][..], 202),
        (&["Identity"], 202),
        (&[" IDENTITY "], 202),
        (&[""], 202),
        (&[" , identity,"], 202),
        (&["identity, identity"], 202),
        (&["identity", ""], 202),
        (&["gzip"], 415),
        (&["identity, gzip"], 415),
        (&["identity", "br"], 415),
        (&["identity;q=1"], 415),
        (&["deflate"], 415),
        (&["x"], 415),
    ] {
        let mut request = gateway
            .http
            .client()
            .post(gateway.http.address(PATH))
            .header("content-type", "application/cloudevents+json")
            .body(contact("evt-1").to_string());
        for encoding in encodings {
            request = request.header("content-encoding", *encoding);
        }
        let answer = gateway.http.send(request).await.expect("answer");
        assert_eq!(answer.status, status, "{encodings:?}: {}", answer.json());
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_taken_in_all_modes() {
    let gateway = start(&generous()).await;
    let event = contact("evt-1");
    let data = event["data"].to_string();
    let post = |content_type: &str, body: String| {
        let request = gateway.http.client().post(gateway.http.address(PATH));
        request.header("content-type", content_type).body(body)
    };
    let mut binary = post("application/json", format!("\u{feff}{data}"));
    for name in ["specversion", "id", "source", "type", "tenantid", "time"] {
        let value = event[name].as_str().expect("text");
        binary = binary.header(format!("ce-{name}"), value);
    }
    let requests = [
        post("application/cloudevents+json", format!("\u{feff}{event}")),
        post(
            "application/cloudevents-batch+json",
            format!("\u{feff}[{event}]"),
        ),
        binary,
    ];
    for request in requests {
        let answer = gateway.http.send(request).await.expect("answer");
        answer.expect(202);
    }
    let published = gateway.bus.published.lock().expect("lock").clone();
    assert_eq!(published.len(), 3);
    for message in &published {
        assert_eq!(message.body.first(), Some(&b'{'), "the mark is on the bus");
        let decoded = event::decode(&message.body).expect("valid");
        assert_eq!(
            decoded,
            event::decode(event.to_string().as_bytes()).expect("valid")
        );
    }
}

#[tokio::test]
async fn a_batch_that_is_confirmed_in_part_says_which() {
    let gateway = start(&generous()).await;
    *gateway.bus.refused.lock().expect("lock") = vec![("b".to_owned(), PublishError::Unknown)];
    let batch = [contact("a"), contact("b"), contact("c")];
    let answer = gateway
        .http
        .post_batch(PATH, &batch)
        .await
        .expect("answer")
        .expect(503);
    insta::assert_json_snapshot!(answer.json());
}

#[tokio::test]
async fn a_publisher_that_never_answers_is_not_waited_for_for_ever() {
    let gateway = start(&generous()).await;
    *gateway.bus.held.lock().expect("lock") = Some(Arc::new(Notify::new()));
    let request = tokio::spawn({
        let http = gateway.http.clone();
        async move {
            http.post_event(PATH, &contact("evt-1"))
                .await
                .expect("answer")
        }
    });
    let answer =
        tokio::time::timeout(gateway::PUBLISH_LIMIT + Duration::from_secs(5), request).await;
    assert_eq!(
        answer
            .expect("in time")
            .expect("no panic")
            .expect(503)
            .json()["events"][0]["status"],
        "unknown"
    );
}

#[tokio::test]
async fn a_token_for_one_source_publishes_for_that_source_only() {
    let gateway = start(&generous()).await;
    let http = gateway.http.with_token(CRM_TOKEN);
    http.post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(202);
    let other = crate::with("/source", json!("urn:kurir:orodje:crm:other"));
    let problem = http
        .post_event(PATH, &other)
        .await
        .expect("answer")
        .expect(403)
        .json();
    assert_eq!(problem["errors"][0]["pointer"], "/source");
}

fn tight(events_per_second: u32) -> Settings {
    let number = |number| NonZeroU32::new(number).expect("not zero");
    Settings {
        events_per_second: number(events_per_second),
        burst: number(1),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_tenant_over_its_rate_is_told_when_to_come_again() {
    let gateway = start(&tight(1)).await;
    // The burst is never less than a batch.
    let batch: Vec<Value> = (0..MAX_BATCH_EVENTS)
        .map(|n| contact(&format!("evt-{n}")))
        .collect();
    gateway
        .http
        .post_batch(PATH, &batch)
        .await
        .expect("answer")
        .expect(202);
    let answer = gateway
        .http
        .post_batch(PATH, &batch)
        .await
        .expect("answer")
        .expect(429);
    let wait: u64 = answer
        .header("retry-after")
        .and_then(|wait| wait.parse().ok())
        .expect("seconds");
    assert!((1..=100).contains(&wait), "{wait}");
    // On a slow machine a second has passed meanwhile, and one or another may go.
    let mut accepted = 0;
    let answer = loop {
        let sent = gateway.http.post_event(PATH, &contact("evt-x")).await;
        let answer = sent.expect("answer");
        if answer.status == 429 {
            break answer;
        }
        answer.expect(202);
        accepted += 1;
        assert!(accepted < MAX_BATCH_EVENTS, "nothing holds it back");
    };
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        gateway.bus.published.lock().expect("lock").len(),
        MAX_BATCH_EVENTS + accepted
    );
}

#[tokio::test]
async fn requests_beyond_the_places_are_told_to_come_again() {
    let gateway = start(&Settings {
        max_in_flight: 1,
        ..generous()
    })
    .await;
    let go = Arc::new(Notify::new());
    *gateway.bus.held.lock().expect("lock") = Some(go.clone());
    let first = tokio::spawn({
        let http = gateway.http.clone();
        async move {
            http.post_event(PATH, &contact("evt-1"))
                .await
                .expect("answer")
        }
    });
    let begun = async || gateway.bus.published.lock().expect("lock").len();
    wait_until(
        "the first request is being published",
        Duration::from_secs(5),
        begun,
        |begun| *begun == 1,
    )
    .await;
    let answer = gateway
        .http
        .post_event(PATH, &contact("evt-2"))
        .await
        .expect("answer")
        .expect(503);
    assert_eq!(answer.json()["type"], "urn:kurir:problem:overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    go.notify_one();
    first.await.expect("no panic").expect(202);
    *gateway.bus.held.lock().expect("lock") = None;
    gateway
        .http
        .post_event(PATH, &contact("evt-2"))
        .await
        .expect("answer")
        .expect(202);
}
