use bytes::Bytes;
use lapin::types::FieldArray;
use serde_json::json;
use worker::DeadClass;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid instant")
}

fn raw(exchange: &str, headers: &[(&str, AMQPValue)]) -> lapin::message::Delivery {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    let mut raw = lapin::message::Delivery::mock(1, exchange.into(), "key".into(), false, vec![]);
    raw.properties = BasicProperties::default()
        .with_message_id("evt-1".into())
        .with_headers(table);
    raw
}

fn read(exchange: &str, headers: &[(&str, AMQPValue)]) -> Delivery {
    delivery(&raw(exchange, headers), Bytes::from_static(b"{}"), at(0))
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn retry(delivery: &Delivery, counted: bool, reason: &str) -> Properties {
    let to = Destination::RetryTier {
        counted,
        due: None,
        class: DeadClass::Unavailable,
        reason,
    };
    forward(delivery, to, at(3))
}

const TRUSTED: &str = "";

#[test]
fn ours_are_believed_only_from_the_default_exchange() {
    let headers = [
        (ATTEMPT, AMQPValue::LongLongInt(7)),
        (GENERATION, AMQPValue::LongLongInt(2)),
        (REPLAY, text("batch")),
        (CONNECTION, text("00000000-0000-0000-0000-000000000001")),
        (PERMIT, AMQPValue::LongLongInt(1_800_000_000_000)),
        (TRACEPARENT, text("00-1-2-01")),
    ];
    let stranger = read("kurir.events", &headers);
    assert_eq!(stranger.metadata, DeliveryMetadata::default());
    assert_eq!(stranger.headers, json!({"traceparent": "00-1-2-01"}));
    let ours = read(TRUSTED, &headers);
    assert_eq!((ours.metadata.attempt, ours.metadata.generation), (7, 2));
    assert_eq!(ours.metadata.connection, Some(Uuid::from_u128(1)));
    assert_eq!(ours.metadata.permit_until, Some(at(0)));
    // Counters and permit are in the delivery metadata only: a row made of it starts anew.
    let kept: Vec<_> = ours.headers.as_object().unwrap().keys().cloned().collect();
    assert_eq!(kept, [TRACEPARENT, CONNECTION, GENERATION, REPLAY]);
}

#[test]
fn numbers_are_read_whatever_their_width() {
    let widths = [
        AMQPValue::ShortShortInt(5),
        AMQPValue::ShortShortUInt(5),
        AMQPValue::ShortInt(5),
        AMQPValue::ShortUInt(5),
        AMQPValue::LongInt(5),
        AMQPValue::LongUInt(5),
        AMQPValue::LongLongInt(5),
    ];
    for width in widths {
        assert_eq!(
            read(TRUSTED, &[(ATTEMPT, width.clone())]).metadata.attempt,
            5,
            "{width:?}"
        );
    }
    for (nonsense, attempt) in [
        (AMQPValue::LongLongInt(-3), 1),
        (AMQPValue::LongLongInt(i64::MAX), u32::MAX),
        (text("5"), 1),
        (AMQPValue::Boolean(true), 1),
    ] {
        assert_eq!(
            read(TRUSTED, &[(ATTEMPT, nonsense.clone())])
                .metadata
                .attempt,
            attempt,
            "{nonsense:?}"
        );
    }
}

#[test]
fn a_copy_holds_what_is_on_the_list_and_nothing_else() {
    let mut death = FieldTable::default();
    death.insert("queue".into(), text("q"));
    let hostile = [
        (
            "CC",
            AMQPValue::FieldArray(FieldArray::from(vec![text("elsewhere")])),
        ),
        (
            "BCC",
            AMQPValue::FieldArray(FieldArray::from(vec![text("elsewhere")])),
        ),
        (
            "x-death",
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(death)])),
        ),
        ("x-first-death-reason", text("expired")),
        ("x-last-death-queue", text("q")),
        ("x-delivery-count", AMQPValue::LongLongInt(3)),
        ("x-acquired-count", AMQPValue::LongLongInt(3)),
        (DEAD_CLASS, text("refused")),
        (LINK, text("9")),
        (PERMIT, AMQPValue::LongLongInt(1)),
        (DUE, AMQPValue::LongLongInt(1)),
        ("custom", text("x")),
        ("ce-source", text("urn:x")),
        ("ce-long", text(&"x".repeat(HEADER_BYTES + 1))),
        (ATTEMPT, AMQPValue::LongLongInt(2)),
        (WAITS, AMQPValue::LongLongInt(4)),
        (GENERATION, AMQPValue::LongLongInt(1)),
    ];
    let mut received = raw(TRUSTED, &hostile);
    received.properties = received
        .properties
        .with_expiration("1".into())
        .with_user_id("root".into())
        .with_priority(9)
        .with_reply_to("r".into())
        .with_cluster_id("c".into())
        .with_app_id("crm".into());
    let received = delivery(&received, Bytes::from_static(b"{}"), at(0));
    let copy = retry(&received, true, "503");
    insta::assert_json_snapshot!(json!([copy.properties_json(), copy.headers_json()]), @r#"
    [
      {
        "app_id": "crm",
        "message_id": "evt-1"
      },
      {
        "ce-source": "urn:x",
        "x-attempt": 3,
        "x-first-received": 1800000000000,
        "x-generation": 1,
        "x-history": "[{\"at\":\"2027-01-15T08:00:03Z\",\"class\":\"unavailable\",\"code\":\"503\",\"ms\":3000}]",
        "x-waits": 4
      }
    ]
    "#);
    let written = copy.to_amqp(None).unwrap();
    assert_eq!(*written.delivery_mode(), Some(2));
    let dropped = (
        written.expiration(),
        written.user_id(),
        written.priority(),
        written.reply_to(),
        written.cluster_id(),
    );
    assert_eq!(dropped, (&None, &None, &None, &None, &None));
    let attempt = written.headers().as_ref().unwrap().inner()[ATTEMPT].clone();
    assert_eq!(
        attempt,
        AMQPValue::LongLongInt(3),
        "always written in one width"
    );
}

#[test]
fn a_wait_counts_apart_and_keeps_the_first_receipt() {
    let received = read(
        TRUSTED,
        &[(
            FIRST_RECEIVED,
            AMQPValue::LongLongInt(at(-60).timestamp_millis()),
        )],
    );
    let to = Destination::RetryTier {
        counted: false,
        due: Some(at(20)),
        class: DeadClass::Unavailable,
        reason: "busy",
    };
    let copy = forward(&received, to, at(1)).headers;
    assert_eq!((&copy[ATTEMPT], &copy[WAITS]), (&json!(1), &json!(1)));
    assert_eq!(copy[FIRST_RECEIVED], json!(at(-60).timestamp_millis()));
    assert_eq!(copy[DUE], json!(at(20).timestamp_millis()));
}

#[test]
fn the_trace_of_a_publish_replaces_the_one_that_was_brought() {
    let brought = [
        (TRACEPARENT, text("00-1-1-01")),
        (TRACESTATE, text("other=1")),
        ("ce-type", text("t")),
    ];
    let received = read("kurir.events", &brought);
    let copy = retry(&received, true, "503");
    let written = |trace: Option<&TraceContext>| {
        let properties = copy.to_amqp(trace).unwrap();
        let table = properties.headers().clone().unwrap();
        [TRACEPARENT, TRACESTATE, "ce-type"].map(|name| table.inner().get(name).cloned())
    };
    // Nobody records here: it goes on as it came.
    assert_eq!(written(None), brought.clone().map(|(_, value)| Some(value)));
    let ours = TraceContext {
        traceparent: "00-9-9-01".into(),
        tracestate: None,
    };
    assert_eq!(
        written(Some(&ours)),
        [Some(text("00-9-9-01")), None, Some(text("t"))],
        "a stranger's state does not belong to our span"
    );
}

#[test]
fn a_dead_copy_tells_its_death_and_is_read_back() {
    let received = read(TRUSTED, &[(ATTEMPT, AMQPValue::LongLongInt(12))]);
    let long = "č".repeat(2_000);
    let to = Destination::Dead {
        class: DeadClass::Exhausted,
        fingerprint: "exhausted:503",
        reason: &long,
        link: Some(42),
        key: None,
    };
    let copy = forward(&received, to, at(5));
    let mut arrived = raw(TRUSTED, &[]);
    arrived.properties = copy.to_amqp(None).unwrap();
    let (properties, metadata, note, death) = dead(&arrived);
    let note = note.expect("a note");
    assert_eq!(
        (note.class.as_str(), note.fingerprint.as_str()),
        ("exhausted", "exhausted:503")
    );
    assert_eq!(
        (note.at, note.link, note.message.len()),
        (at(5), Some(42), DEAD_MESSAGE)
    );
    assert_eq!(
        (metadata.attempt, metadata.history.len(), death),
        (12, 1, None)
    );
    assert_eq!(properties.message_id.as_deref(), Some("evt-1"));
    // What is published again is alive.
    let replayed = Properties::from_json(&properties.properties_json(), &properties.headers_json());
    assert!(
        replayed
            .headers
            .keys()
            .all(|name| !DEAD.contains(&name.as_str())),
        "{replayed:?}"
    );
}

#[test]
fn the_brokers_own_dead_letter_is_believed_by_where_it_came_from() {
    let died_in = |exchange: &str| {
        let mut entry = FieldTable::default();
        for (name, value) in [
            ("queue", "kurir.w"),
            ("exchange", exchange),
            ("reason", "delivery_limit"),
        ] {
            entry.insert(name.into(), text(value));
        }
        entry.insert("count".into(), AMQPValue::LongLongInt(1));
        let deaths = AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(entry)]));
        dead(&raw(
            TRUSTED,
            &[("x-death", deaths), (ATTEMPT, AMQPValue::LongLongInt(4))],
        ))
    };
    let (_, metadata, _, death) = died_in("kurir.events");
    assert_eq!(metadata.attempt, 1, "a stranger's");
    assert_eq!(
        death.map(|death| (death.queue, death.reason)),
        Some(("kurir.w".into(), "delivery_limit".into()))
    );
    let (_, metadata, _, _) = died_in("");
    assert_eq!(metadata.attempt, 4, "a copy of ours");
}

#[test]
fn the_history_keeps_the_last_ten_within_four_kilobytes() {
    let mut received = read(TRUSTED, &[]);
    for round in 0..30 {
        let copy = retry(&received, true, &format!("{round} {}", "x".repeat(1_000)));
        let json = copy.headers[HISTORY].as_str().unwrap();
        assert!(json.len() <= HISTORY_BYTES, "{}", json.len());
        let mut arrived = raw(TRUSTED, &[]);
        arrived.properties = copy.to_amqp(None).unwrap();
        received = delivery(&arrived, Bytes::new(), at(0));
        assert!(received.metadata.history.len() <= DeliveryMetadata::HISTORY_LIMIT);
        assert!(
            received
                .metadata
                .history
                .last()
                .unwrap()
                .code
                .starts_with(&round.to_string())
        );
    }
    assert_eq!(received.metadata.attempt, 31);
    // Waiting for the same thing again and again is one entry.
    for _ in 0..5 {
        let copy = retry(&received, false, "busy");
        let mut arrived = raw(TRUSTED, &[]);
        arrived.properties = copy.to_amqp(None).unwrap();
        received = delivery(&arrived, Bytes::new(), at(0));
    }
    let waits = received
        .metadata
        .history
        .iter()
        .filter(|attempt| attempt.code == "busy")
        .count();
    assert_eq!((waits, received.metadata.waits), (1, 5));
}

#[test]
fn texts_that_a_database_refuses_are_escaped() {
    let bytes = AMQPValue::LongString(vec![b'a', 0, 0xff].into());
    let received = read("kurir.events", &[("ce-x", bytes)]);
    assert_eq!(received.headers, json!({"ce-x": "a\u{2400}\u{fffd}"}));
}

#[test]
fn what_amqp_cannot_hold_is_named() {
    let too_long = Properties {
        message_id: Some("x".repeat(256)),
        ..Properties::default()
    };
    assert_eq!(too_long.to_amqp(None).unwrap_err(), "message id");
}
