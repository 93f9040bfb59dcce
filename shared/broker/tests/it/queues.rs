use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::{Properties, RawDelivery, depth, run_batches};
use bytes::Bytes;
use lapin::options::{BasicGetOptions, BasicNackOptions};
use testkit::wait_until;
use tokio_util::sync::CancellationToken;

use crate::ports::Act;
use crate::scene::{SOON, Scene, created, id, peek};

const WAIT: Duration = Duration::from_millis(50);

/// Everything a queue holds, read in batches; the first batch fails.
#[tokio::test]
async fn a_batch_that_was_not_taken_over_is_read_again() {
    let scene = Scene::new().await;
    scene
        .broker
        .topology()
        .declare_worker(&scene.broker, "probe", &[])
        .await
        .unwrap();
    let (queue, publisher) = (scene.queue(".dead"), scene.broker.publisher());
    for n in 0..25 {
        let body = Bytes::from(n.to_string());
        publisher
            .publish("", &queue, body, &Properties::default())
            .await
            .unwrap();
    }
    assert_eq!(depth(&scene.broker, &queue).await.unwrap(), Some((25, 0)));
    assert_eq!(depth(&scene.broker, "missing").await.unwrap(), None);
    assert_eq!(peek(&scene.broker, &queue, 3).await.unwrap().len(), 3);
    scene.holds(&queue, 25).await;

    let (calls, bodies) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let shutdown = CancellationToken::new();
    let taking = |batch: Vec<RawDelivery>| {
        let (calls, bodies) = (Arc::clone(&calls), Arc::clone(&bodies));
        async move {
            assert!(batch.len() <= 10, "{}", batch.len());
            if calls.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err("the database is away");
            }
            bodies.lock().unwrap().extend(
                batch
                    .into_iter()
                    .map(|raw| String::from_utf8(raw.body.to_vec()).unwrap()),
            );
            Ok(())
        }
    };
    let reading = run_batches(&scene.broker, &queue, 10, WAIT, shutdown.clone(), taking);
    let watching = async {
        wait_until(
            "all taken over",
            SOON,
            async || bodies.lock().unwrap().len(),
            |taken| *taken >= 25,
        )
        .await;
        shutdown.cancel();
    };
    tokio::join!(reading, watching);
    let mut taken: Vec<u32> = bodies
        .lock()
        .unwrap()
        .iter()
        .map(|body| body.parse().unwrap())
        .collect();
    taken.sort_unstable();
    assert_eq!(
        taken,
        (0..25).collect::<Vec<_>>(),
        "nothing missing, nothing twice"
    );
    assert_eq!(scene.depth(&queue).await, Some(0));
}

#[tokio::test]
async fn a_dead_letter_says_why_and_after_how_many_attempts() {
    let scene = Scene::new().await;
    let event = created(1).remove(0);
    scene.ports.act(id(&event), Act::Refuse);
    let consuming = scene.consume().await;
    scene.publish(std::slice::from_ref(&event)).await;
    scene.holds(&scene.queue(".dead"), 1).await;
    let dead = peek(&scene.broker, &scene.queue(".dead"), 1)
        .await
        .unwrap()
        .remove(0);
    let note = dead.note.expect("a worker's copy has a note");
    assert_eq!(
        (note.class.as_str(), note.message.as_str(), note.link),
        ("refused", "no such tax number", Some(7))
    );
    assert_eq!(note.fingerprint, "refused:no such tax number");
    assert_eq!(
        (
            dead.metadata.attempt,
            dead.metadata.history.len(),
            dead.death
        ),
        (1, 1, None)
    );
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&dead.body).unwrap(),
        event,
        "byte for byte"
    );
    assert_eq!(dead.properties["message_id"], event["id"]);
    assert_eq!(consuming.counters.dead(worker::DeadClass::Refused), 1);
    consuming.stop().await.unwrap();
}

/// What kills before a claim ends in the same queue, made by the broker; where it came from decides what is believed.
#[tokio::test]
async fn the_delivery_limit_leads_to_the_dead_letter_queue() {
    let scene = Scene::new().await;
    declare(&scene).await;
    let (queue, dead) = (scene.queue(""), scene.queue(".dead"));
    scene.publish(&created(1)).await;
    scene.holds(&queue, 1).await;
    deliver_too_often(&scene).await;
    scene.holds(&dead, 1).await;
    let raw = peek(&scene.broker, &dead, 1).await.unwrap().remove(0);
    let death = raw.death.expect("the broker's own entry");
    assert_eq!(
        (death.queue.as_str(), death.reason.as_str()),
        (queue.as_str(), "delivery_limit")
    );
    assert_eq!(death.exchange, scene.broker.topology().events());
    assert_eq!(
        (raw.note, raw.metadata),
        (None, worker::DeliveryMetadata::default())
    );
}

async fn declare(scene: &Scene) {
    let topology = scene.broker.topology();
    let consumes = &[event::EventType::CrmContactCreated];
    let declared = topology.declare_worker(&scene.broker, "probe", consumes);
    declared.await.unwrap();
}

async fn publish_for(scene: &Scene, key: &str, milliseconds: &str) {
    let stranger = scene.kit.publisher().await.unwrap();
    let properties = lapin::BasicProperties::default().with_expiration(milliseconds.into());
    let events = scene.broker.topology().events();
    let sent = stranger.raw(&events, key, b"{}", properties).await;
    assert_eq!(sent.unwrap(), testkit::Route::Routed);
}

/// As it would expire where it is kept; the queue is looked at for three times as long.
#[tokio::test]
async fn what_a_publisher_lets_live_briefly_is_kept_unrouted_and_dead() {
    let scene = Scene::new().await;
    declare(&scene).await;
    let topology = scene.broker.topology();
    publish_for(&scene, "crm.contact.merged.v1.acme", "0").await;
    publish_for(&scene, "crm.contact.merged.v1.acme", "700").await;
    scene.holds(&topology.unrouted(), 2).await;
    publish_for(&scene, "crm.contact.created.v1.acme", "0").await;
    scene.holds(&scene.queue(".dead"), 1).await;
    // Given up by the broker for another reason, before its time.
    publish_for(&scene, "crm.contact.created.v1.acme", "60000").await;
    scene.holds(&scene.queue(""), 1).await;
    deliver_too_often(&scene).await;
    scene.holds(&scene.queue(".dead"), 2).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(scene.depth(&topology.unrouted()).await, Some(2));
    assert_eq!(scene.depth(&topology.unrouted_entry()).await, Some(0));
    for queue in [topology.unrouted(), scene.queue(".dead")] {
        for message in scene.kit.take(&queue, 9).await.unwrap() {
            assert_eq!(
                message.properties.expiration(),
                &None,
                "{queue}: {message:?}"
            );
            let kept = queue == topology.unrouted();
            // The tools read the key under which it was published.
            assert!(!kept || message.routing_key == "crm.contact.merged.v1.acme");
        }
    }
}

#[tokio::test]
async fn an_expired_event_says_so_and_under_which_key_it_came() {
    let scene = Scene::new().await;
    declare(&scene).await;
    publish_for(&scene, "crm.contact.created.v1.acme", "1").await;
    scene.holds(&scene.queue(".dead"), 1).await;
    let dead = peek(&scene.broker, &scene.queue(".dead"), 1).await.unwrap();
    let key = Some("crm.contact.created.v1.acme");
    assert_eq!(dead[0].published_under(), key);
    let death = dead[0].death.as_ref().expect("the broker's own entry");
    assert_eq!(
        (death.reason.as_str(), death.expiration),
        ("expired", Some(1))
    );
}

/// One delivery more than the queue's limit.
async fn deliver_too_often(scene: &Scene) {
    let queue = scene.queue("");
    let channel = scene.kit.channel().await.unwrap();
    for _ in 0..31 {
        let get = async || {
            channel
                .basic_get(queue.as_str().into(), BasicGetOptions::default())
                .await
                .unwrap()
        };
        let again = wait_until("delivered again", SOON, get, Option::is_some)
            .await
            .expect("waited for");
        again
            .delivery
            .nack(BasicNackOptions {
                requeue: true,
                multiple: false,
            })
            .await
            .unwrap();
    }
}
