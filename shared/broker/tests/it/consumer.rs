use std::collections::HashSet;
use std::time::Duration;

use broker::{ConsumeSettings, Properties};
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use serde_json::{Value, json};
use testkit::{stays, structured_properties, wait_until};
use worker::{AckReason, DeadClass, HoldCause, HoldVerdict, RetryPolicy};

use crate::ports::{Act, BARE, Ports};
use crate::scene::{SOON, Scene, created, created_of, header_names, id};

#[tokio::test]
async fn a_backlog_is_claimed_in_batches_and_acknowledged() {
    let scene = Scene::new().await;
    let topology = scene.broker.topology();
    topology
        .declare_worker(
            &scene.broker,
            "probe",
            &[event::EventType::CrmContactCreated],
        )
        .await
        .unwrap();
    let events = created(300);
    scene.publish(&events).await;
    scene.holds(&scene.queue(""), 300).await;
    let consuming = scene.consume().await;
    let acked = || consuming.counters.acked(AckReason::Applied);
    wait_until(
        "all acknowledged",
        SOON,
        async || acked(),
        |acked| *acked == 300,
    )
    .await;
    let handled: HashSet<String> = scene
        .ports
        .seen()
        .handled
        .iter()
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(
        (handled.len(), scene.ports.handled()),
        (300, 300),
        "each of them, once"
    );
    let calls = scene.ports.seen().claims.len();
    assert!(300 / calls >= 8, "{calls} claim calls for 300 events");
    assert!(
        scene.ports.most_running() <= 16,
        "{}",
        scene.ports.most_running()
    );
    assert_eq!(consuming.readiness.in_flight(), 0);
    consuming.stop().await.unwrap();
    assert_eq!(
        scene.depth(&scene.queue("")).await,
        Some(0),
        "nothing was acknowledged only in memory"
    );
}

#[tokio::test]
async fn a_failure_comes_back_counted_with_its_history() {
    let scene = Scene::new().await;
    let events = created(1);
    scene.ports.act(id(&events[0]), Act::FailOnce);
    let consuming = scene.consume().await;
    scene.publish(&events).await;
    scene.handles(2).await;
    assert_eq!(scene.ports.attempts(id(&events[0])), [1, 2]);
    let history = scene.ports.seen().histories[id(&events[0])].clone();
    let [attempt] = history.as_slice() else {
        panic!("{history:?}")
    };
    assert_eq!(
        (attempt.class.as_str(), attempt.code.as_str()),
        ("unavailable", "503")
    );
    // The lease was given back before the copy, with the failure's text.
    let released = scene.ports.seen().released.clone();
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].1.as_deref(), Some("503"));
    consuming.stop().await.unwrap();
}

#[tokio::test]
async fn too_many_failures_are_a_dead_letter() {
    let policy = RetryPolicy {
        max_attempts: 2,
        initial: Duration::from_millis(50),
        ..RetryPolicy::default()
    };
    let scene = Scene::with(Ports::with(RetryPolicy {
        deadline: Duration::from_millis(200),
        ..policy
    }))
    .await;
    let events = created(1);
    scene.ports.act(id(&events[0]), Act::Hang);
    let consuming = scene.consume().await;
    scene.publish(&events).await;
    scene.holds(&scene.queue(".dead"), 1).await;
    assert_eq!(scene.ports.attempts(id(&events[0])), [1, 2]);
    assert_eq!(consuming.counters.dead(DeadClass::Exhausted), 1);
    assert_eq!(consuming.counters.timeouts.get(), 2);
    consuming.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_person_must_repair_is_held() {
    let scene = Scene::new().await;
    let mut events = created(2);
    scene
        .ports
        .act(id(&events[0]), Act::Block(HoldCause::Suspended));
    scene.ports.act(id(&events[1]), Act::Panic);
    let mut unconnected = created_of(BARE, 1);
    // Without a version it is pinned first: what is held gives way in order.
    unconnected[0].as_object_mut().unwrap().remove("time");
    events.append(&mut unconnected);
    let consuming = scene.consume().await;
    scene.publish(&events).await;
    wait_until(
        "held",
        SOON,
        async || scene.ports.seen().held.len(),
        |held| *held == 3,
    )
    .await;
    let held: HashSet<_> = scene.ports.seen().held.iter().cloned().collect();
    let expected = [
        (id(&events[0]).to_owned(), HoldCause::Suspended),
        (id(&events[1]).to_owned(), HoldCause::Panic),
        (id(&events[2]).to_owned(), HoldCause::NoConnection),
    ];
    assert_eq!(held, HashSet::from(expected));
    assert_eq!(scene.ports.seen().pinned, [id(&events[2])]);
    assert_eq!(
        scene.ports.seen().released.len(),
        2,
        "the claimed ones gave their leases back"
    );
    consuming.stop().await.unwrap();
    assert_eq!(scene.depth(&scene.queue("")).await, Some(0));
}

#[tokio::test]
async fn a_hold_whose_cause_is_gone_is_handled_as_if_just_received() {
    let scene = Scene::new().await;
    let events = created(1);
    scene
        .ports
        .act(id(&events[0]), Act::Block(HoldCause::Suspended));
    scene
        .ports
        .hold_verdicts(vec![HoldVerdict::Held, HoldVerdict::CauseGone]);
    let consuming = scene.consume().await;
    scene.publish(&events).await;
    wait_until(
        "held in the end",
        SOON,
        async || scene.ports.seen().held.len(),
        |held| *held == 2,
    )
    .await;
    let tokens: HashSet<_> = scene.ports.seen().tokens[id(&events[0])]
        .iter()
        .copied()
        .collect();
    assert_eq!(tokens.len(), 2, "a new token for each claim");
    assert_eq!(scene.ports.attempts(id(&events[0])), [1, 1]);
    consuming.stop().await.unwrap();
}

#[tokio::test]
async fn a_cause_that_comes_and_goes_does_not_spin() {
    let scene = Scene::new().await;
    let events = created(1);
    scene
        .ports
        .act(id(&events[0]), Act::Block(HoldCause::Suspended));
    scene.ports.hold_verdicts(vec![HoldVerdict::CauseGone; 9]);
    let consuming = scene.consume().await;
    scene.publish(&events).await;
    scene.holds(&scene.queue(".retry.5s"), 1).await;
    assert_eq!(scene.ports.handled(), 3);
    consuming.stop().await.unwrap();
}

#[tokio::test]
async fn what_can_never_be_handled_is_a_dead_letter_that_says_why() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let stranger = scene.kit.publisher().await.unwrap();
    let events = scene.broker.topology().events();
    let key = |tenant: &str| format!("crm.contact.created.v1.{tenant}");
    let good = created(1).remove(0);
    let send = async |key: String, body: String, properties: BasicProperties| {
        stranger
            .raw(&events, &key, body.as_bytes(), properties)
            .await
            .unwrap();
    };
    let plain = BasicProperties::default;
    let changed = |member: &str, value: Value| {
        let mut event = good.clone();
        event[member] = value;
        event.to_string()
    };
    send(key("acme"), "{".to_owned(), plain()).await;
    send(key("acme"), changed("specversion", json!("0.3")), plain()).await;
    send(
        key("acme"),
        changed("type", json!("crm.contact.merged.v1")),
        plain(),
    )
    .await;
    send(
        key("acme"),
        changed("type", json!("crm.contact.created.v2")),
        plain(),
    )
    .await;
    let deleted = testkit::Contacts::new("acme", 2).any().deleted();
    send(key("acme"), deleted.to_string(), plain()).await;
    send(key("acme"), changed("data", json!({})), plain()).await;
    send(
        key("acme"),
        changed("padding", json!("x".repeat(300 * 1024))),
        plain(),
    )
    .await;
    send(key("other"), good.to_string(), plain()).await;
    send(
        key("acme"),
        good.to_string(),
        plain().with_message_id("another".into()),
    )
    .await;
    let strange = created_of("nobody", 1).remove(0);
    send(
        key("nobody"),
        strange.to_string(),
        structured_properties(&strange),
    )
    .await;
    scene.holds(&scene.queue(".dead"), 10).await;
    let dead = crate::scene::peek(&scene.broker, &scene.queue(".dead"), 20)
        .await
        .unwrap();
    let mut said: Vec<String> = dead
        .iter()
        .filter_map(|raw| raw.note.as_ref())
        .map(|note| format!("{}: {}", note.class, note.message))
        .collect();
    said.sort_unstable();
    insta::assert_snapshot!(said.join("\n"));
    assert_eq!(
        (scene.ports.handled(), scene.ports.seen().claims.len()),
        (0, 0)
    );
    consuming.stop().await.unwrap();
}

/// A copied `x-death` would be counted on, `CC` and `BCC` would route the copy a second time, and another user's `user_id`
/// closes the channel: none of it may reach a copy, nor be believed.
#[tokio::test]
async fn hostile_headers_reach_nobody() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let (event, target) = (created(1).remove(0), scene.kit.queue("unrouted"));
    scene.ports.act(id(&event), Act::FailOnce);
    let mut headers = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    headers.insert(
        "BCC".into(),
        AMQPValue::FieldArray(FieldArray::from(vec![])),
    );
    headers.insert("x-attempt".into(), AMQPValue::LongLongInt(99));
    headers.insert("x-generation".into(), AMQPValue::LongLongInt(7));
    headers.insert("x-permit".into(), AMQPValue::LongLongInt(4_000_000_000_000));
    headers.insert(
        "x-connection".into(),
        text("00000000-0000-0000-0000-000000000009"),
    );
    headers.insert("x-dead-class".into(), text("refused"));
    headers.insert("x-custom".into(), text("kept nowhere"));
    headers.insert("ce-source".into(), text("urn:x"));
    headers.insert(
        "traceparent".into(),
        text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    );
    let mut death = FieldTable::default();
    death.insert("queue".into(), text("kurir.probe"));
    headers.insert(
        "x-death".into(),
        AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(death)])),
    );
    // CC is obeyed by the broker for the stranger's own publish; a copy must not obey it again.
    headers.insert(
        "CC".into(),
        AMQPValue::FieldArray(FieldArray::from(vec![text("nobody.wants.this")])),
    );
    let properties = structured_properties(&event)
        .with_headers(headers)
        .with_expiration("60000".into())
        .with_priority(5)
        .with_reply_to("somewhere".into());
    let key = format!("crm.contact.created.v1.{}", crate::ports::TENANT);
    let stranger = scene.kit.publisher().await.unwrap();
    stranger
        .raw(
            &scene.broker.topology().events(),
            &key,
            event.to_string().as_bytes(),
            properties,
        )
        .await
        .unwrap();
    let retry_tier = scene.queue(".retry.1s");
    let copy = wait_until(
        "the copy",
        SOON,
        async || scene.kit.take(&retry_tier, 1).await.unwrap().pop(),
        Option::is_some,
    );
    let copy = copy.await.expect("waited for");
    let names = header_names(&copy);
    assert_eq!(
        names,
        [
            "ce-source",
            "traceparent",
            "x-attempt",
            "x-connection",
            "x-first-received",
            "x-history"
        ]
    );
    let own = uuid::Uuid::from_u128(1).to_string();
    assert_eq!(
        copy.header("x-connection"),
        Some(&AMQPValue::LongString(own.into())),
        "the stranger's was not believed: this is what the gate found out"
    );
    assert_eq!(
        copy.header("x-attempt"),
        Some(&AMQPValue::LongLongInt(2)),
        "99 was not believed"
    );
    let dropped = (
        copy.properties.expiration(),
        copy.properties.priority(),
        copy.properties.reply_to(),
    );
    assert_eq!(dropped, (&None, &None, &None));
    assert_eq!(
        copy.properties.message_id().as_ref().map(|id| id.as_str()),
        Some(id(&event))
    );
    assert_eq!(
        scene.depth(&target).await,
        Some(0),
        "the copy went to one queue"
    );
    consuming.stop().await.unwrap();
}

#[tokio::test]
async fn a_copy_that_is_back_too_early_waits_on_uncounted() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let event = created(1).remove(0);
    let mut copy = Properties::of_event(id(&event), "crm.contact.created.v1");
    let due = chrono::Utc::now() + chrono::TimeDelta::milliseconds(1_500);
    copy.headers.insert("x-attempt".to_owned(), 4.into());
    copy.headers
        .insert("x-due".to_owned(), due.timestamp_millis().into());
    let body = Bytes::from(event.to_string());
    scene
        .broker
        .publisher()
        .publish("", &scene.queue(""), body, &copy)
        .await
        .unwrap();
    scene.handles(1).await;
    assert!(chrono::Utc::now() >= due - chrono::TimeDelta::milliseconds(60));
    assert_eq!(scene.ports.attempts(id(&event)), [4]);
    assert!(consuming.counters.waited() >= 1);
    consuming.stop().await.unwrap();
}

#[tokio::test]
async fn poison_candidates_run_exclusively_one_after_the_other() {
    let scene = Scene::new().await;
    let events = created(40);
    for poison_candidate in &events[5..7] {
        scene.ports.poison_candidate(id(poison_candidate));
    }
    // A neighbour is still busy when the first poison candidate comes: it is waited for.
    scene.ports.act(id(&events[3]), Act::Stay);
    scene.ports.open_claims(false);
    let consuming = scene.consume().await;
    scene.publish(&events).await;
    wait_until(
        "all received",
        SOON,
        async || consuming.readiness.in_flight(),
        |n| *n == 40,
    )
    .await;
    scene.ports.open_claims(true);
    // Both are in one claim: the second is sent away, or they would wait for each other.
    scene.holds(&scene.queue(".retry.5s"), 1).await;
    let alone = || {
        scene
            .ports
            .seen()
            .claims
            .iter()
            .filter(|(_, alone)| *alone)
            .count()
    };
    let quiet = Duration::from_millis(300);
    stays(
        "no poison candidate is claimed beside a handler",
        quiet,
        async || alone(),
        |alone| *alone == 0,
    )
    .await;
    scene.ports.go_on();
    scene.handles(40).await;
    assert_eq!((alone(), scene.ports.beside_poison_candidates()), (2, 0));
    assert_eq!(consuming.counters.exclusive_runs.get(), 2);
    consuming.stop().await.unwrap();
}

#[tokio::test]
async fn one_bad_row_fails_alone() {
    let scene = Scene::new().await;
    let events = created(20);
    scene.ports.bad_row(id(&events[7]));
    // One slot, kept busy, so that the others are claimed together.
    scene.ports.act(id(&events[0]), Act::Stay);
    let consuming = scene
        .consume_with(ConsumeSettings {
            slots: 8,
            prefetch: 32,
            ..ConsumeSettings::default()
        })
        .await;
    scene.publish(&events).await;
    scene.handles(19).await;
    wait_until(
        "its own failure",
        SOON,
        async || consuming.counters.retried(),
        |retried| *retried >= 1,
    )
    .await;
    scene.ports.go_on();
    assert_eq!(scene.ports.attempts(id(&events[7])), Vec::<u32>::new());
    consuming.stop().await.unwrap();
}

/// A store that is away costs time, no message and no attempt.
#[tokio::test]
async fn nothing_is_decided_while_the_store_is_away() {
    let scene = Scene::new().await;
    let events = created(20);
    scene.ports.store_away(3);
    scene.ports.fail_claims(25);
    let consuming = scene.consume().await;
    scene.publish(&events).await;
    scene.handles(20).await;
    let attempts: HashSet<u32> = scene
        .ports
        .seen()
        .handled
        .iter()
        .map(|(_, attempt)| *attempt)
        .collect();
    assert_eq!(attempts, HashSet::from([1]));
    let acked = || consuming.counters.acked(AckReason::Applied);
    wait_until(
        "all acknowledged",
        SOON,
        async || acked(),
        |acked| *acked == 20,
    )
    .await;
    consuming.stop().await.unwrap();
}
