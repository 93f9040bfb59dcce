use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use testkit::{Broker, Contacts, Route, broker, structured_properties, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

async fn declare_events(broker: &Broker, queue: &str) {
    let channel = broker.channel().await.expect("a channel");
    channel
        .exchange_declare(
            broker.queue("events").into(),
            ExchangeKind::Topic,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("an exchange");
    channel
        .queue_declare(
            queue.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await
        .expect("a queue");
    channel
        .queue_bind(
            queue.into(),
            broker.queue("events").into(),
            "crm.contact.created.v1.#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a binding");
}

#[tokio::test]
async fn an_event_is_published_as_its_own_type_and_tenant_say() {
    let broker = broker().await;
    let queue = broker.queue("seen");
    declare_events(&broker, &queue).await;
    let publisher = broker.publisher().await.expect("a publisher");
    let mut contact = Contacts::new("orodje", 1).organization();

    let created = contact.created();
    assert_eq!(
        publisher.event(&created).await.expect("a confirm"),
        Route::Routed
    );
    assert_eq!(
        publisher
            .event(&contact.updated())
            .await
            .expect("a confirm"),
        Route::Returned,
        "nobody has bound updated"
    );

    assert_eq!(broker.depth(&queue).await.expect("a count"), Some(1));
    let taken = broker.take(&queue, 10).await.expect("messages");
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].json(), created);
    assert_eq!(taken[0].routing_key, "crm.contact.created.v1.orodje");
    assert_eq!(
        taken[0]
            .properties
            .message_id()
            .as_ref()
            .map(|id| id.as_str()),
        created["id"].as_str()
    );
    assert_eq!(broker.depth(&queue).await.expect("a count"), Some(0));
}

#[tokio::test]
async fn a_stranger_may_send_any_header() {
    let broker = broker().await;
    let queue = broker.queue("seen");
    declare_events(&broker, &queue).await;
    let publisher = broker.publisher().await.expect("a publisher");
    let mut headers = FieldTable::default();
    headers.insert("x-attempt".into(), AMQPValue::LongLongInt(99));
    headers.insert("x-death".into(), AMQPValue::LongString("nonsense".into()));

    let event = Contacts::new("orodje", 1).person().created();
    let properties = structured_properties(&event).with_headers(headers);
    publisher
        .raw("", &queue, b"not JSON", properties)
        .await
        .expect("a confirm");

    let taken = broker.take(&queue, 1).await.expect("messages");
    assert_eq!(
        taken[0].header("x-attempt"),
        Some(&AMQPValue::LongLongInt(99))
    );
    assert_eq!(taken[0].body, b"not JSON");
}

#[tokio::test]
async fn a_queue_that_is_not_there_has_no_depth() {
    let broker = broker().await;
    assert_eq!(
        broker
            .depth(&broker.queue("nothing"))
            .await
            .expect("an answer"),
        None
    );
    let publisher = broker.publisher().await.expect("a publisher");
    let sent = publisher
        .raw(
            "",
            &broker.queue("nothing"),
            b"{}",
            BasicProperties::default(),
        )
        .await;
    assert_eq!(sent.expect("a confirm"), Route::Returned);
}

#[tokio::test]
async fn two_tests_share_nothing_and_their_part_goes_with_them() {
    let (one, other) = tokio::join!(broker(), broker());
    let queue = one.queue("seen");
    declare_events(&one, &queue).await;
    assert_ne!(one.prefix(), other.prefix());
    assert_eq!(other.depth(&queue).await.expect("an answer"), None);

    let vhost = one.vhost().to_owned();
    assert_eq!(
        one.management().queues(&vhost).await.expect("a list").len(),
        1
    );
    drop(one);
    assert!(
        other.management().queues(&vhost).await.is_err(),
        "{vhost} is still there"
    );
}

#[tokio::test]
async fn connections_can_be_closed_from_the_servers_side() {
    let broker = broker().await;
    let connection = broker.connect().await.expect("a connection");
    // The list is some seconds late.
    wait_until(
        "the server closes the connection",
        LIMIT,
        async || {
            broker
                .management()
                .close_connections(broker.vhost())
                .await
                .expect("an answer");
            connection.status().connected()
        },
        |connected| !connected,
    )
    .await;
}
