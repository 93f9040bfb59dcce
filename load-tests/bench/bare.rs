//! The smallest consumers that lapin allows: receive, decode the JSON, acknowledge.

use std::hint::black_box;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use tokio::time::sleep;

use crate::consumers::{Consumed, Contender, Watch};

/// As many as Kurir takes together.
const BATCH: usize = 32;
const SETTLED: Duration = Duration::from_millis(500);

pub(crate) struct Open {
    connection: Connection,
    channel: Channel,
    pub(crate) consumer: Consumer,
}

impl Open {
    pub(crate) async fn new(contender: &Contender) -> Self {
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&contender.amqp, properties)
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .basic_qos(contender.prefetch, BasicQosOptions::default())
            .await
            .unwrap();
        let consumer = channel
            .basic_consume(
                contender.queue.as_str().into(),
                "bench".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        Self {
            connection,
            channel,
            consumer,
        }
    }

    /// In order: acknowledgements written last would be left behind otherwise.
    async fn close(self) {
        settled().await;
        self.channel.close(200, "done".into()).await.unwrap();
        self.connection.close(200, "done".into()).await.unwrap();
    }
}

/// A quorum queue's channel holds back acknowledgements while many of them are under way, and forgets them when it is
/// closed at once (up to a whole prefetch of them, seen with RabbitMQ 3.10).
pub(crate) async fn settled() {
    sleep(SETTLED).await;
}

fn decode(delivery: &Delivery) {
    black_box(serde_json::from_slice::<serde_json::Value>(&delivery.data).unwrap());
}

pub(crate) async fn each(contender: Contender) -> Consumed {
    let mut open = Open::new(&contender).await;
    let mut watch = None;
    for _ in 0..contender.messages {
        let delivery = open.consumer.next().await.unwrap().unwrap();
        watch.get_or_insert_with(Watch::start);
        decode(&delivery);
        assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    }
    let consumed = watch.unwrap().stop();
    open.close().await;
    consumed
}

pub(crate) async fn batch(contender: Contender) -> Consumed {
    let mut open = Open::new(&contender).await;
    let mut watch = None;
    let mut left = contender.messages;
    while left > 0 {
        let first = open.consumer.next().await.unwrap().unwrap();
        watch.get_or_insert_with(Watch::start);
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Some(Some(next)) = open.consumer.next().now_or_never()
        {
            batch.push(next.unwrap());
        }
        batch.iter().for_each(decode);
        let acks = batch
            .iter()
            .map(|delivery| delivery.ack(BasicAckOptions::default()));
        for sent in join_all(acks).await {
            assert!(sent.unwrap());
        }
        left -= batch.len();
    }
    let consumed = watch.unwrap().stop();
    open.close().await;
    consumed
}
