//! Reading a queue as it is, without decoding: the dead-letter ledger takes batches over, a person peeks. Nothing is
//! ever nacked: a batch that could not be taken over goes back with its channel, and is read again.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use worker::DeliveryMetadata;

use crate::connection::{Broker, CONNECT_LIMIT, Session};
use crate::error::Error;
use crate::headers::{DeadNote, Death, dead};
use crate::pauses::Pauses;
use crate::topology::{NOT_FOUND, code};

/// Longest pause after a failed batch or a lost channel.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// For an orderly goodbye to the channel.
const GOODBYE: Duration = Duration::from_secs(5);

/// A message as it lies in a queue.
#[derive(Clone, Debug)]
pub struct RawDelivery {
    pub body: Bytes,
    /// For a row: named properties, and the headers of the allow-list.
    pub properties: Value,
    pub headers: Value,
    /// Believed by the same rule as a worker's; of a message that the broker dead-lettered, by where it came from.
    pub metadata: DeliveryMetadata,
    /// What the worker wrote on its dead-letter copy; absent where the broker made it.
    pub note: Option<DeadNote>,
    /// The broker's own newest dead-lettering, if there was one.
    pub death: Option<Death>,
    pub exchange: String,
    pub routing_key: String,
    pub redelivered: bool,
}

impl RawDelivery {
    fn of(mut raw: lapin::message::Delivery) -> Self {
        let (properties, metadata, note, death) = dead(&raw);
        Self {
            body: Bytes::from(std::mem::take(&mut raw.data)),
            properties: properties.properties_json(),
            headers: properties.headers_json(),
            metadata,
            note,
            death,
            exchange: raw.exchange.to_string(),
            routing_key: raw.routing_key.to_string(),
            redelivered: raw.redelivered,
        }
    }

    /// The key that its publisher gave it on the events exchange, of a dead letter: as its worker noted it, or the
    /// broker. `None` of a copy of ours.
    pub fn published_under(&self) -> Option<&str> {
        let noted = self
            .note
            .as_ref()
            .and_then(|note| note.routing_key.as_deref());
        let death = self
            .death
            .as_ref()
            .filter(|death| !death.exchange.is_empty());
        noted.or_else(|| death?.routing_key.as_deref())
    }
}

/// Hands the queue's messages over in batches of at most `prefetch`, until `shutdown`; a batch is complete when nothing
/// more came for `max_wait` after its first. `Ok` acknowledges all of it. After an `Err` the channel is closed and, after
/// a pause, everything is read again. A batch under way at the shutdown is finished.
pub async fn run_batches<F, Fut, E>(
    broker: &Broker,
    queue: &str,
    prefetch: u16,
    max_wait: Duration,
    shutdown: CancellationToken,
    mut handler: F,
) where
    F: FnMut(Vec<RawDelivery>) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut pauses = Pauses::up_to(LONGEST_PAUSE);
    loop {
        let session = tokio::select! {
            session = broker.session() => session,
            () = shutdown.cancelled() => return,
        };
        let Some(session) = session else { return };
        let batches = Batches {
            queue,
            prefetch: prefetch.max(1),
            max_wait,
            shutdown: &shutdown,
        };
        match batches.read(&session, &mut handler, &mut pauses).await {
            Ok(()) => return,
            Err(reason) => tracing::warn!(queue, reason, "the queue is read again"),
        }
        tokio::select! {
            () = sleep(pauses.next()) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

struct Batches<'a> {
    queue: &'a str,
    prefetch: u16,
    max_wait: Duration,
    shutdown: &'a CancellationToken,
}

impl Batches<'_> {
    /// `Ok` at the shutdown, else why the channel ended.
    async fn read<F, Fut, E>(
        &self,
        session: &Arc<Session>,
        handler: &mut F,
        pauses: &mut Pauses,
    ) -> Result<(), String>
    where
        F: FnMut(Vec<RawDelivery>) -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: Display,
    {
        let said = |error: lapin::Error| error.to_string();
        let channel = session.connection.create_channel().await.map_err(said)?;
        channel
            .basic_qos(self.prefetch, BasicQosOptions::default())
            .await
            .map_err(said)?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = channel
            .basic_consume(self.queue.into(), "".into(), options, arguments)
            .await
            .map_err(said)?;
        let ended = || "the broker ended the consumer".to_owned();
        let result = loop {
            let first = tokio::select! {
                first = consumer.next() => first,
                () = session.over.cancelled() => break Err("the connection is over".to_owned()),
                () = self.shutdown.cancelled() => break Ok(()),
            };
            let mut raw = match first {
                Some(Ok(first)) => vec![first],
                Some(Err(error)) => break Err(error.to_string()),
                None => break Err(ended()),
            };
            let until = Instant::now() + self.max_wait;
            while raw.len() < usize::from(self.prefetch) {
                // An end of the stream is met again by the next read.
                match timeout_at(until, consumer.next()).await {
                    Ok(Some(Ok(next))) => raw.push(next),
                    Ok(Some(Err(_)) | None) | Err(_) => break,
                }
            }
            let Some(last) = raw.last().map(|last| last.acker.clone()) else {
                continue;
            };
            if let Err(error) = handler(raw.into_iter().map(RawDelivery::of).collect()).await {
                break Err(error.to_string());
            }
            // All of this channel up to here was in this batch or in one before it.
            match last.ack(BasicAckOptions { multiple: true }).await {
                Ok(true) => pauses.reset(),
                Ok(false) => {
                    break Err("the channel was lost before the acknowledgement".to_owned());
                }
                Err(error) => break Err(error.to_string()),
            }
        };
        let _ = timeout(GOODBYE, channel.close(200, "read".into())).await;
        result
    }
}

/// A person's hand in a queue: messages are taken one by one, and each is acknowledged or goes back when the hand is
/// closed, or when the process ends. What went back may lie in another order.
pub struct QueueCursor {
    channel: lapin::Channel,
    queue: String,
}

/// A message that is out of the queue until the hand is closed.
pub struct Taken {
    pub message: RawDelivery,
    /// Names it in this hand.
    pub tag: u64,
}

impl QueueCursor {
    pub async fn open(broker: &Broker, queue: &str) -> Result<Self, Error> {
        let session = broker.session_within(CONNECT_LIMIT).await?;
        Ok(Self {
            channel: session.connection.create_channel().await?,
            queue: queue.to_owned(),
        })
    }

    /// `None`: nothing is left that is not in a hand.
    pub async fn take(&self) -> Result<Option<Taken>, Error> {
        let got = self
            .channel
            .basic_get(self.queue.as_str().into(), BasicGetOptions::default())
            .await?;
        Ok(got.map(|got| Taken {
            tag: got.delivery.delivery_tag,
            message: RawDelivery::of(got.delivery),
        }))
    }

    /// A taken message is gone for good. It is sent and not answered: one that the broker did not hear of comes back.
    pub async fn remove(&self, tag: u64) -> Result<(), Error> {
        Ok(self
            .channel
            .basic_ack(tag, BasicAckOptions::default())
            .await?)
    }

    /// Puts back what was not removed.
    pub async fn close(self) {
        let _ = timeout(GOODBYE, self.channel.close(200, "looked".into())).await;
    }
}

/// Messages ready in a queue and consumers on it; unacknowledged ones are not counted. `None`: no such queue. Just after
/// the broker's start it may say 0 although all are there.
pub async fn depth(broker: &Broker, queue: &str) -> Result<Option<(u32, u32)>, Error> {
    let session = broker.session_within(CONNECT_LIMIT).await?;
    let channel = session.connection.create_channel().await?;
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    match channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await
    {
        Ok(queue) => Ok(Some((queue.message_count(), queue.consumer_count()))),
        Err(error) if code(&error) == Some(NOT_FOUND) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
