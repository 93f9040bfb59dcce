//! Puts events into queues, as a publisher would: persistent, confirmed.

use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use testkit::{CONTENT_TYPE, wait_for};

/// Unconfirmed messages at a time.
const WINDOW: usize = 256;
const PERSISTENT: u8 = 2;
const LIMIT: Duration = Duration::from_secs(120);

/// A message to be published.
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) body: Vec<u8>,
}

/// A publisher with a connection of its own.
pub(crate) struct Filler {
    // Closed with it.
    _connection: Connection,
    channel: Channel,
}

impl Filler {
    pub(crate) async fn start(broker: &testkit::Broker) -> Self {
        let connection = broker.connect().await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        Self {
            _connection: connection,
            channel,
        }
    }

    /// All of them to this exchange; returns when the broker has confirmed the last.
    pub(crate) async fn fill(&self, exchange: &str, messages: &[Message]) {
        for window in messages.chunks(WINDOW) {
            let mut confirms = Vec::with_capacity(window.len());
            for message in window {
                confirms.push(self.send(exchange, &message.key, message).await);
            }
            for confirm in join_all(confirms).await {
                assert_eq!(confirm.unwrap(), Confirmation::Ack(None), "not routed");
            }
        }
    }

    /// One message; the confirm may be waited for.
    pub(crate) async fn send(
        &self,
        exchange: &str,
        key: &str,
        message: &Message,
    ) -> lapin::PublisherConfirm {
        let properties = BasicProperties::default()
            .with_content_type(ShortString::from(CONTENT_TYPE))
            .with_delivery_mode(PERSISTENT)
            .with_message_id(message.id.as_str().into());
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        self.channel
            .basic_publish(
                exchange.into(),
                key.into(),
                mandatory,
                &message.body,
                properties,
            )
            .await
            .unwrap()
    }

    /// A quorum queue, as the product's are.
    pub(crate) async fn queue(&self, name: &str) {
        let mut arguments = FieldTable::default();
        let kind = lapin::types::AMQPValue::LongString("quorum".into());
        arguments.insert("x-queue-type".into(), kind);
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        self.channel
            .queue_declare(name.into(), durable, arguments)
            .await
            .unwrap();
    }

    pub(crate) async fn purge(&self, queue: &str) {
        self.channel
            .queue_purge(queue.into(), QueuePurgeOptions::default())
            .await
            .unwrap();
    }
}

/// Waits until so many messages lie ready in a queue.
pub(crate) async fn holds(broker: &testkit::Broker, queue: &str, messages: usize) {
    let what = format!("{messages} messages in {queue}");
    wait_for(&what, LIMIT, async || {
        match broker.depth(queue).await.unwrap() {
            Some(depth) if depth as usize == messages => Ok(()),
            depth => Err(depth),
        }
    })
    .await;
}
