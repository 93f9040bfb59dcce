//! An event that several connections are to get.

use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use testkit::{structured_properties, wait_until};
use uuid::Uuid;

use crate::ports::{Act, BARE, CHAIN, EAST, WEST};
use crate::scene::{SOON, Scene, created, created_of, id};

/// As a fanned-out copy comes: straight into the worker's queue, or from outside where `exchange` says so.
async fn send(scene: &Scene, exchange: &str, event: &Value, connection: Uuid) {
    let mut headers = FieldTable::default();
    headers.insert(
        "x-connection".into(),
        AMQPValue::LongString(connection.to_string().into()),
    );
    let key = match exchange {
        "" => scene.queue(""),
        _ => format!(
            "crm.contact.created.v1.{}",
            event["tenantid"].as_str().unwrap()
        ),
    };
    let sender = scene.kit.publisher().await.unwrap();
    let properties = structured_properties(event).with_headers(headers);
    sender
        .raw(exchange, &key, event.to_string().as_bytes(), properties)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_event_for_several_connections_is_fanned_out_and_not_handled() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let event = created_of(CHAIN, 1).remove(0);
    // Whose own header says that it is for one of them is not believed.
    send(&scene, &scene.broker.topology().events(), &event, WEST).await;
    wait_until(
        "the fan-out",
        SOON,
        async || scene.ports.seen().fan_out.clone(),
        |fan_out| *fan_out == [(id(&event).to_owned(), vec![WEST, EAST])],
    )
    .await;
    scene.holds(&scene.queue(""), 0).await;
    consuming.stop().await.unwrap();
    assert_eq!(scene.depth(&scene.queue("")).await, Some(0));
    assert!(scene.ports.seen().claims.is_empty());
}

#[tokio::test]
async fn a_fan_out_that_fails_is_repeated_before_the_event_is_acknowledged() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let warm = created_of(CHAIN, 1).remove(0);
    scene.publish(std::slice::from_ref(&warm)).await;
    wait_until(
        "the first fan-out",
        SOON,
        async || scene.ports.seen().fan_out.len(),
        |fan_out| *fan_out == 1,
    )
    .await;
    let event = created_of(CHAIN, 1).remove(0);
    scene.ports.fail_fan_outs(2);
    scene.publish(std::slice::from_ref(&event)).await;
    wait_until(
        "the third try",
        SOON,
        async || scene.ports.seen().fan_out.len(),
        |fan_out| *fan_out == 4,
    )
    .await;
    scene.holds(&scene.queue(""), 0).await;
    consuming.stop().await.unwrap();
    assert_eq!(scene.depth(&scene.queue("")).await, Some(0));
}

#[tokio::test]
async fn a_copy_is_for_the_connection_it_names_and_so_are_its_own_copies() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let event = created_of(CHAIN, 1).remove(0);
    scene.ports.act(id(&event), Act::FailOnce);
    send(&scene, "", &event, EAST).await;
    let retry_tier = scene.queue(".retry.1s");
    let copy = wait_until(
        "the copy",
        SOON,
        async || scene.kit.take(&retry_tier, 1).await.unwrap().pop(),
        Option::is_some,
    )
    .await
    .unwrap();
    let named = |message: &testkit::Message| {
        let headers = message.properties.headers().clone().unwrap();
        headers.inner().get("x-connection").cloned()
    };
    assert_eq!(
        named(&copy),
        Some(AMQPValue::LongString(EAST.to_string().into()))
    );
    assert_eq!(scene.ports.seen().claimed_for[id(&event)], Some(EAST));
    // Of one that names none and needs no fan-out too: what is added later gets nothing of it.
    let alone = created(1).remove(0);
    scene.ports.act(id(&alone), Act::FailOnce);
    scene.publish(std::slice::from_ref(&alone)).await;
    let copy = wait_until(
        "the copy",
        SOON,
        async || scene.kit.take(&retry_tier, 1).await.unwrap().pop(),
        Option::is_some,
    )
    .await
    .unwrap();
    let only = Uuid::from_u128(1).to_string();
    assert_eq!(named(&copy), Some(AMQPValue::LongString(only.into())));
    assert!(scene.ports.seen().fan_out.is_empty());
    consuming.stop().await.unwrap();
}

#[tokio::test]
async fn a_copy_for_a_connection_that_its_tenant_does_not_have_is_a_dead_letter() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    // Another tenant's, and one of a tenant that has none.
    let events = [
        created_of(CHAIN, 1).remove(0),
        created(1).remove(0),
        created_of(BARE, 1).remove(0),
    ];
    for (event, named) in events.iter().zip([Uuid::from_u128(1), WEST, EAST]) {
        send(&scene, "", event, named).await;
    }
    scene.holds(&scene.queue(".dead"), 3).await;
    let dead = crate::scene::peek(&scene.broker, &scene.queue(".dead"), 9)
        .await
        .unwrap();
    for raw in dead {
        let note = raw.note.unwrap();
        assert_eq!(note.class, "wrong_connection");
        assert!(
            note.message.contains("kurir dead-letters replay"),
            "{}",
            note.message
        );
    }
    {
        let seen = scene.ports.seen();
        assert!(seen.claims.is_empty() && seen.fan_out.is_empty() && seen.held.is_empty());
    }
    consuming.stop().await.unwrap();
}

#[tokio::test]
async fn a_version_is_pinned_before_the_fan_out() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let mut event = created_of(CHAIN, 1).remove(0);
    event.as_object_mut().unwrap().remove("time");
    scene.publish(std::slice::from_ref(&event)).await;
    wait_until(
        "the fan-out",
        SOON,
        async || scene.ports.seen().fan_out.len(),
        |fan_out| *fan_out == 1,
    )
    .await;
    assert_eq!(scene.ports.seen().pinned, [id(&event)]);
    consuming.stop().await.unwrap();
}
