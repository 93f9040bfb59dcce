use std::collections::HashSet;
use std::time::Duration;

use broker::ConsumeSettings;
use lapin::options::QueueDeleteOptions;
use serde_json::Value;
use testkit::instance::Rabbit;
use testkit::wait_until;
use worker::{AckReason, RETRY_TIERS};

use crate::ports::{Act, Ports};
use crate::scene::{SOON, Scene, created, id};

/// The broker tells only the consumer; channel and connection stay open.
#[tokio::test]
async fn a_deleted_queue_is_declared_and_consumed_again() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let channel = scene.kit.channel().await.unwrap();
    channel
        .queue_delete(
            scene.queue("").as_str().into(),
            QueueDeleteOptions::default(),
        )
        .await
        .unwrap();
    let opened = || consuming.counters.consumers_opened.get();
    wait_until(
        "consuming again",
        SOON,
        async || opened(),
        |opened| *opened == 2,
    )
    .await;
    scene.publish(&created(3)).await;
    scene.handles(3).await;
    assert_eq!(consuming.readiness.problems(), Vec::<String>::new());
    consuming.stop().await.unwrap();
}

/// The consumer hears nothing of it, and its channel lives on: only the copy comes back.
#[tokio::test]
async fn a_deleted_retry_or_dead_letter_queue_is_declared_again_by_the_copy_for_it() {
    let scene = Scene::new().await;
    let events = created(2);
    scene.ports.act(id(&events[0]), Act::FailOnce);
    scene.ports.act(id(&events[1]), Act::Refuse);
    let consuming = scene.consume().await;
    let channel = scene.kit.channel().await.unwrap();
    let retry_tiers = RETRY_TIERS.map(|retry_tier| format!(".retry.{}", retry_tier.name));
    for queue in retry_tiers.iter().map(String::as_str).chain([".dead"]) {
        let options = QueueDeleteOptions::default();
        channel
            .queue_delete(scene.queue(queue).as_str().into(), options)
            .await
            .unwrap();
    }
    scene.publish(&events).await;
    // One of them twice.
    scene.handles(3).await;
    scene.holds(&scene.queue(".dead"), 1).await;
    wait_until(
        "nothing in hand",
        SOON,
        async || consuming.readiness.in_flight(),
        |left| *left == 0,
    )
    .await;
    assert_eq!(consuming.counters.consumers_opened.get(), 1);
    consuming.stop().await.unwrap();
}

/// What was running is handled to its end, but its acknowledgement belongs to a channel that is gone.
#[tokio::test]
async fn a_delivery_of_a_lost_channel_is_never_acknowledged_on_another() {
    let scene = Scene::new().await;
    let events = created(5);
    scene.ports.act(id(&events[0]), Act::Stay);
    let consuming = scene.consume().await;
    scene.publish(&events[..1]).await;
    scene.handles(1).await;
    let management = scene.kit.management();
    // All at once: a client that closes the listed connections one by one also closes what was opened in between.
    wait_until(
        "both connections are listed",
        SOON,
        async || management.connections(scene.kit.vhost()).await.unwrap(),
        |names| {
            let has = |end: &str| names.iter().any(|name| name.ends_with(end));
            has("-consume") && has("-publish")
        },
    )
    .await;
    management
        .close_connections(scene.kit.vhost())
        .await
        .unwrap();
    // Redelivered, and claimed as a stranger by the same process.
    scene.handles(2).await;
    let tokens: HashSet<_> = scene.ports.seen().tokens[id(&events[0])]
        .iter()
        .copied()
        .collect();
    assert_eq!(tokens.len(), 2);
    scene.ports.go_on();
    let lost = || consuming.counters.settle_lost.get();
    wait_until(
        "one acknowledgement is lost",
        SOON,
        async || lost(),
        |lost| *lost == 1,
    )
    .await;
    scene.publish(&events[1..]).await;
    scene.handles(6).await;
    wait_until(
        "nothing in hand",
        SOON,
        async || consuming.readiness.in_flight(),
        |left| *left == 0,
    )
    .await;
    assert_eq!(consuming.counters.acked(AckReason::Applied), 6);
    consuming.stop().await.unwrap();
    assert_eq!(scene.depth(&scene.queue("")).await, Some(0));
}

/// Running handlers end and are acknowledged; what was not claimed is the broker's again, untouched.
#[tokio::test]
async fn a_stop_acknowledges_what_was_done_and_nothing_else() {
    let scene = Scene::new().await;
    let events = created(60);
    for event in &events {
        scene.ports.act(id(event), Act::Stay);
    }
    let consuming = scene
        .consume_with(ConsumeSettings {
            slots: 4,
            prefetch: 32,
            ..ConsumeSettings::default()
        })
        .await;
    scene.publish(&events).await;
    scene.handles(4).await;
    wait_until(
        "the prefetch is full",
        SOON,
        async || consuming.readiness.in_flight(),
        |n| *n == 32,
    )
    .await;
    let readiness = std::sync::Arc::clone(&consuming.readiness);
    let counters = std::sync::Arc::clone(&consuming.counters);
    let ending = async {
        wait_until(
            "stopping",
            SOON,
            async || readiness.problems(),
            |now| *now == ["is stopping"],
        )
        .await;
        scene.ports.go_on();
    };
    let (stopped, ()) = tokio::join!(consuming.stop(), ending);
    stopped.unwrap();
    assert_eq!(
        (scene.ports.handled(), counters.acked(AckReason::Applied)),
        (4, 4)
    );
    assert_eq!(counters.settle_lost.get(), 0);
    scene.holds(&scene.queue(""), 56).await;
    // Claimed ones that never started gave their claims back.
    let claimed: usize = scene
        .ports
        .seen()
        .claims
        .iter()
        .map(|(ids, _)| ids.len())
        .sum();
    assert_eq!(scene.ports.seen().released.len(), claimed - 4);
    let done: HashSet<String> = scene
        .ports
        .seen()
        .handled
        .iter()
        .map(|(id, _)| id.clone())
        .collect();
    let left: HashSet<String> = scene
        .kit
        .take(&scene.queue(""), 100)
        .await
        .unwrap()
        .iter()
        .map(|message| message.json()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        done.intersection(&left).count(),
        0,
        "what was done does not come again"
    );
    assert_eq!(done.len() + left.len(), 60);
}

/// 25 s are enough for a call; a handler that takes longer is dropped and its lease given back. Until then the lease is
/// prolonged.
#[tokio::test]
async fn a_handler_that_does_not_end_is_stopped_without_an_outcome() {
    let scene = Scene::new().await;
    let events = created(1);
    scene.ports.act(id(&events[0]), Act::Hang);
    let consuming = scene.consume().await;
    scene.publish(&events).await;
    scene.handles(1).await;
    let counters = std::sync::Arc::clone(&consuming.counters);
    let begin = std::time::Instant::now();
    consuming.stop().await.unwrap();
    let took = begin.elapsed();
    assert!(
        (Duration::from_secs(24)..Duration::from_secs(35)).contains(&took),
        "{took:?}"
    );
    assert_eq!((counters.aborted.get(), scene.ports.running()), (1, 0));
    let (renewed, released) = {
        let seen = scene.ports.seen();
        (seen.renewed, seen.released.len())
    };
    assert!(renewed >= 2, "{renewed}");
    assert_eq!(released, 1);
    scene.holds(&scene.queue(""), 1).await;
    assert_eq!(
        scene.depth(&scene.queue(".retry.1s")).await,
        Some(0),
        "a stop is no failure"
    );
}

/// Killed and started again while a backlog is worked off: nothing is lost, and no process had to be restarted.
#[tokio::test]
async fn a_killed_broker_is_waited_for() {
    let rabbit = Rabbit::start().await;
    let scene = Scene::on(rabbit.broker().await, Ports::new()).await;
    let consuming = scene.consume().await;
    rabbit.flush().await;
    let events = created(400);
    for event in &events[200..] {
        scene.ports.act(id(event), Act::FailOnce);
    }
    scene.publish(&events).await;
    scene.handles(100).await;
    rabbit.kill().await;
    wait_until(
        "the loss is seen",
        SOON,
        async || consuming.readiness.ready(),
        |ready| !ready,
    )
    .await;
    rabbit.start_again().await;
    const AGAIN: Duration = Duration::from_secs(45);
    wait_until(
        "ready again",
        AGAIN,
        async || consuming.readiness.problems(),
        Vec::is_empty,
    )
    .await;
    let reached = |place: usize, event: &Value| {
        let last = if place < 200 { 1 } else { 2 };
        scene.ports.attempts(id(event)).contains(&last)
    };
    let done = || {
        events
            .iter()
            .enumerate()
            .filter(|(place, event)| reached(*place, event))
            .count()
    };
    wait_until(
        "all handled in the end",
        AGAIN,
        async || done(),
        |done| *done == 400,
    )
    .await;
    wait_until(
        "nothing in hand",
        SOON,
        async || consuming.readiness.in_flight(),
        |left| *left == 0,
    )
    .await;
    consuming.stop().await.unwrap();
    assert_eq!(scene.depth(&scene.queue("")).await, Some(0));
    assert_eq!(scene.depth(&scene.queue(".dead")).await, Some(0));
}
