use std::time::{Duration, Instant};

use broker::{Health, Properties, PublishError};
use bytes::Bytes;
use futures_util::future::join_all;
use testkit::instance::Rabbit;
use testkit::wait_until;

use crate::ports::Ports;
use crate::scene::{SOON, Scene, header_names};

const BODY: Bytes = Bytes::from_static(b"{}");

async fn declared() -> (Scene, String) {
    let scene = Scene::new().await;
    scene
        .broker
        .topology()
        .declare_worker(&scene.broker, "probe", &[])
        .await
        .unwrap();
    let queue = scene.queue("");
    (scene, queue)
}

#[tokio::test]
async fn acknowledged_but_returned_is_a_failure() {
    let (scene, queue) = declared().await;
    let publisher = scene.broker.publisher();
    let nothing = Properties::default();
    let returned = publisher.publish("", "nobody", BODY, &nothing).await;
    assert!(
        matches!(returned, Err(PublishError::Returned { code: 312, .. })),
        "{returned:?}"
    );
    publisher
        .publish("", &queue, BODY, &nothing)
        .await
        .expect("the channel is as good as before");
    let invalid = publisher
        .publish("", &"k".repeat(256), BODY, &nothing)
        .await;
    assert!(
        matches!(invalid, Err(PublishError::Invalid(_))),
        "{invalid:?}"
    );
    scene.holds(&queue, 1).await;
}

/// The broker says nothing of the message, it only closes the channel.
#[tokio::test]
async fn a_missing_exchange_fails_and_the_next_message_has_a_new_channel() {
    let (scene, queue) = declared().await;
    let publisher = scene.broker.publisher();
    let failed = publisher
        .publish("missing", "key", BODY, &Properties::default())
        .await;
    assert!(matches!(failed, Err(PublishError::Closed(_))), "{failed:?}");
    publisher
        .publish("", &queue, BODY, &Properties::default())
        .await
        .expect("a new channel");
}

#[tokio::test]
async fn more_than_a_window_at_once_are_all_confirmed() {
    let (scene, queue) = declared().await;
    let publisher = scene.broker.publisher();
    let nothing = Properties::default();
    let all = join_all((0..600).map(|_| publisher.publish("", &queue, BODY, &nothing))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    scene.holds(&queue, 600).await;
}

#[tokio::test]
async fn a_row_keeps_what_is_allowed_and_nothing_else() {
    let (scene, queue) = declared().await;
    let properties = serde_json::json!({"message_id": "evt-1", "type": "t", "timestamp": 1_800_000_000, "expiration": "1"});
    let headers = serde_json::json!({
        "ce-source": "urn:x", "x-attempt": 1, "x-generation": 3, "CC": "elsewhere", "x-death": "no", "x-dead-class": "refused",
    });
    scene
        .broker
        .publisher()
        .publish_json("", &queue, BODY, &properties, &headers)
        .await
        .unwrap();
    scene.holds(&queue, 1).await;
    let message = scene.kit.take(&queue, 1).await.unwrap().remove(0);
    let names = header_names(&message);
    assert_eq!(names, ["ce-source", "x-attempt", "x-generation"]);
    assert_eq!(
        message
            .properties
            .message_id()
            .as_ref()
            .map(|id| id.as_str()),
        Some("evt-1")
    );
    assert_eq!(
        (
            message.properties.expiration(),
            *message.properties.delivery_mode()
        ),
        (&None, Some(2))
    );
}

#[tokio::test]
async fn a_lost_connection_fails_at_once_and_comes_back_by_itself() {
    let (scene, queue) = declared().await;
    let publisher = scene.broker.publisher();
    publisher
        .publish("", &queue, BODY, &Properties::default())
        .await
        .unwrap();
    let status = scene.broker.status();
    let closed = async || {
        scene
            .kit
            .management()
            .close_connections(scene.kit.vhost())
            .await
            .unwrap()
    };
    // The management API lists a connection some seconds after it was made.
    wait_until("connections to close", SOON, closed, |closed| *closed >= 2).await;
    let seen = async || status.borrow().publish.clone();
    wait_until("the loss is seen", SOON, seen, |health| !health.connected()).await;
    let begin = Instant::now();
    let failed = publisher
        .publish("", &queue, BODY, &Properties::default())
        .await;
    assert!(
        failed.is_ok() || begin.elapsed() < Duration::from_secs(2),
        "{failed:?} after {:?}",
        begin.elapsed()
    );
    let again = async || {
        publisher
            .publish("", &queue, BODY, &Properties::default())
            .await
            .is_ok()
    };
    wait_until("published again", SOON, again, |published| *published).await;
}

/// Memory alarm: the first confirm does not come, then the broker has said so and nothing is tried.
#[tokio::test]
async fn an_alarm_blocks_publishing_and_is_over_by_itself() {
    let rabbit = Rabbit::start().await;
    let scene = Scene::on(rabbit.broker().await, Ports::new()).await;
    scene
        .broker
        .topology()
        .declare_worker(&scene.broker, "probe", &[])
        .await
        .unwrap();
    let (queue, nothing) = (scene.queue(""), Properties::default());
    let publisher = scene.broker.publisher();
    rabbit
        .ctl(&["set_vm_memory_high_watermark", "0.00001"])
        .await;
    let unknown = publisher.publish("", &queue, BODY, &nothing).await;
    assert!(matches!(unknown, Err(PublishError::Unknown)), "{unknown:?}");
    let health = scene.broker.status().borrow().publish.clone();
    assert!(matches!(health, Health::Blocked(_)), "{health:?}");
    let begin = Instant::now();
    let closed = publisher.publish("", &queue, BODY, &nothing).await;
    assert!(
        matches!(closed, Err(PublishError::Closed(_))) && begin.elapsed() < Duration::from_secs(1),
        "{closed:?}"
    );
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.8"]).await;
    let again = async || publisher.publish("", &queue, BODY, &nothing).await.is_ok();
    wait_until("published again", SOON, again, |published| *published).await;
    // The one of unknown fate arrived, as it may.
    scene.holds(&queue, 2).await;
}
