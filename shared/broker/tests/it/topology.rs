use std::collections::BTreeMap;

use broker::{Error, Finding, Properties, Topology};
use bytes::Bytes;
use event::EventType;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use testkit::{Route, wait_until};
use worker::RETRY_TIERS;

use crate::scene::{SOON, Scene, created};

const CONSUMES: &[EventType] = &[EventType::CrmContactCreated];

#[tokio::test]
async fn declared_walked_and_checked() {
    let scene = Scene::new().await;
    let topology = scene.broker.topology();
    let wanted: &[(&str, &[EventType])] = &[("probe", CONSUMES)];

    let missing = topology.check(&scene.broker, wanted).await.unwrap();
    assert_eq!(
        missing.len(),
        14,
        "5 of the events, the outcomes and 8 of the worker: {missing:?}"
    );
    assert!(
        missing
            .iter()
            .all(|finding| matches!(finding, Finding::Missing { .. }))
    );
    assert_eq!(
        scene.depth(&scene.queue("")).await,
        None,
        "a check creates nothing"
    );

    for _ in 0..2 {
        topology
            .declare_worker(&scene.broker, "probe", CONSUMES)
            .await
            .unwrap();
    }
    assert_eq!(topology.check(&scene.broker, wanted).await.unwrap(), []);

    // To its worker; what nobody is bound for is kept, and the publisher is not told.
    scene.publish(&created(1)).await;
    scene.holds(&scene.queue(""), 1).await;
    let stranger = scene.kit.publisher().await.unwrap();
    let events = topology.events();
    let route = stranger
        .raw(
            &events,
            "crm.contact.merged.v1.acme",
            b"{}",
            Default::default(),
        )
        .await
        .unwrap();
    assert_eq!(route, Route::Routed);
    scene.holds(&topology.unrouted(), 1).await;

    // Through a retry tier and back, with the delivery metadata.
    scene.kit.take(&scene.queue(""), 10).await.unwrap();
    let mut copy = Properties::of_event("evt-1", "crm.contact.created.v1");
    copy.headers.insert("x-attempt".to_owned(), 2.into());
    let retry_tier = topology.retry_tier("probe", RETRY_TIERS[0]);
    let begin = std::time::Instant::now();
    scene
        .broker
        .publisher()
        .publish("", &retry_tier, Bytes::from_static(b"body"), &copy)
        .await
        .unwrap();
    scene.holds(&scene.queue(""), 1).await;
    assert!(
        begin.elapsed() >= RETRY_TIERS[0].delay,
        "back after {:?}",
        begin.elapsed()
    );
    let back = scene.kit.take(&scene.queue(""), 1).await.unwrap().remove(0);
    assert_eq!((back.exchange.as_str(), back.redelivered), ("", false));
    assert_eq!(back.header("x-attempt"), Some(&AMQPValue::LongLongInt(2)));
}

#[tokio::test]
async fn another_argument_is_named_and_nothing_is_changed() {
    let scene = Scene::new().await;
    let retry_tier = scene.queue(".retry.1s");
    let (text, number) = (
        |text: &str| AMQPValue::LongString(text.into()),
        AMQPValue::LongLongInt,
    );
    let arguments: BTreeMap<ShortString, AMQPValue> = BTreeMap::from([
        ("x-queue-type".into(), text("quorum")),
        ("x-message-ttl".into(), number(2000)),
        ("x-dead-letter-exchange".into(), text("")),
        ("x-dead-letter-routing-key".into(), text(&scene.queue(""))),
        ("x-dead-letter-strategy".into(), text("at-least-once")),
        ("x-overflow".into(), text("reject-publish")),
        ("x-delivery-limit".into(), number(1_000_000)),
    ]);
    let arguments = FieldTable::from(arguments);
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let channel = scene.kit.channel().await.unwrap();
    channel
        .queue_declare(retry_tier.as_str().into(), durable, arguments)
        .await
        .unwrap();

    let error = scene
        .begin(Default::default())
        .ended()
        .await
        .expect_err("a wrong topology ends the start");
    assert!(matches!(error, Error::Topology(_)), "{error:?}");
    let shown = error.to_string().replace(scene.kit.prefix(), "kurir");
    insta::assert_snapshot!(shown, @"queue kurir.probe.retry.1s exists with x-message-ttl = 2000, this version needs 1000; nothing was changed. When it is empty and unused, remove it and start again: rabbitmqctl delete_queue kurir.probe.retry.1s");

    let topology = Topology::new(scene.kit.prefix());
    let findings = topology
        .check(&scene.broker, &[("probe", CONSUMES)])
        .await
        .unwrap();
    let differing = findings
        .iter()
        .filter(|finding| matches!(finding, Finding::Differs(_)))
        .count();
    assert_eq!(differing, 1, "{findings:?}");
    assert!(matches!(error, Error::Topology(_)));
}

#[tokio::test]
async fn the_status_names_the_consumers_that_are_present() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let status = scene.broker.status();
    let present = || status.borrow().consumers.get(&scene.queue("")).copied();
    assert_eq!(present(), Some(true));
    consuming.stop().await.unwrap();
    wait_until(
        "no consumer any more",
        SOON,
        async || present(),
        |present| *present == Some(false),
    )
    .await;
}

/// A stray policy can shorten our limits, and only the management API tells of it, and of bindings.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "an operator's tool, not ours")]
async fn a_policy_and_a_lost_binding_are_found_by_the_management_api() {
    let scene = Scene::new().await;
    let topology = scene.broker.topology();
    topology
        .declare_worker(&scene.broker, "probe", CONSUMES)
        .await
        .unwrap();
    let base = scene
        .kit
        .management_url()
        .expect("this test needs the management API")
        .to_owned();
    let (http, vhost) = (testkit::Http::new(base.as_str()), scene.kit.vhost());
    let wanted: &[(&str, &[EventType])] = &[("probe", CONSUMES)];
    let found = async || {
        let queues = http
            .get(&format!("/api/queues/{vhost}"))
            .await
            .unwrap()
            .json();
        let bindings = http
            .get(&format!("/api/bindings/{vhost}"))
            .await
            .unwrap()
            .json();
        topology.check_management(&queues, &bindings, wanted)
    };
    // The API is some seconds late.
    wait_until("nothing to find", SOON, found, Vec::is_empty).await;

    let policy = serde_json::json!({"pattern": "probe$", "definition": {"message-ttl": 60_000}, "apply-to": "queues"});
    let put = reqwest::Client::new()
        .put(format!("{base}/api/policies/{vhost}/stray"))
        .json(&policy)
        .send()
        .await;
    assert!(put.unwrap().status().is_success());
    let (queue, key) = (scene.queue(""), "crm.contact.created.v1.#");
    let channel = scene.kit.channel().await.unwrap();
    let unbound = channel.queue_unbind(
        queue.as_str().into(),
        topology.events().as_str().into(),
        key.into(),
        FieldTable::default(),
    );
    unbound.await.unwrap();
    let findings = wait_until("both are found", SOON, found, |findings| {
        findings.len() == 2
    })
    .await;
    let shown: Vec<String> = findings
        .iter()
        .map(|finding| finding.to_string().replace(scene.kit.prefix(), "kurir"))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    queue kurir.probe is changed by the policy 'stray' ({"message-ttl":60000}): the smaller value counts; remove it with: rabbitmqctl clear_policy 'stray'
    queue kurir.probe is not bound to kurir.events with 'crm.contact.created.v1.#'; its worker binds it at its start
    "#);
}
