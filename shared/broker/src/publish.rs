//! Publishing that knows what became of the message: persistent, mandatory, confirmed within 10 s. Acknowledged but
//! returned is a failure, because the broker acknowledges what it could not route. Nothing is repeated here: the
//! owner of the message (an outbox row, an unsettled delivery, an HTTP request) repeats it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use event::headers::{TRACEPARENT, TRACESTATE};
use lapin::Confirmation;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::Span;
use worker::trace::{self, Relation, TraceContext, spans};

use crate::connection::{Broker, Session};
use crate::error::{CONFIRM_LIMIT, PublishError};
use crate::headers::Properties;

/// Unconfirmed messages of one channel; whoever comes next waits for a place.
pub(crate) const UNCONFIRMED_LIMIT: usize = 256;

/// A confirm channel that is opened again by itself. Clones share the channel and its window, and keep the broker's
/// connections open.
#[derive(Clone)]
pub struct Publisher {
    broker: Broker,
    channel: Arc<Mutex<Option<Confirming>>>,
}

#[derive(Clone)]
struct Confirming {
    channel: lapin::Channel,
    session: Arc<Session>,
    window: Arc<Semaphore>,
}

impl Broker {
    /// A confirm channel of its own on the publishing connection.
    pub fn publisher(&self) -> Publisher {
        Publisher {
            broker: self.clone(),
            channel: Arc::new(Mutex::new(None)),
        }
    }
}

impl Publisher {
    /// `Ok` means: on disk in a queue. Fails at once while there is no connection. Dropping the future does not
    /// take the message back.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        body: Bytes,
        properties: &Properties,
    ) -> Result<(), PublishError> {
        let too_long =
            |what: &str| PublishError::Invalid(format!("the {what} is longer than 255 bytes"));
        let to = ShortString::try_new(exchange).map_err(|_refused| too_long("exchange"))?;
        let key = ShortString::try_new(routing_key).map_err(|_refused| too_long("routing key"))?;
        let span = spans::publish(
            exchange,
            routing_key,
            properties.message_id.as_deref(),
            properties.correlation_id.as_deref(),
            body.len(),
        );
        let trace = own_trace(&span, properties);
        let properties = properties.to_amqp(trace.as_ref()).map_err(too_long)?;
        let sent = async {
            let confirming = self.confirming().await?;
            let closed = |_| PublishError::Closed("the channel's window is gone".to_owned());
            let permit = Arc::clone(&confirming.window)
                .acquire_owned()
                .await
                .map_err(closed)?;
            // In a task of its own: the place in the window is given back when the broker has answered or the channel
            // is gone, not when the caller stops waiting.
            let answer = tokio::spawn(send(confirming, permit, to, key, body, properties));
            answer
                .await
                .unwrap_or_else(|ended| Err(PublishError::Closed(ended.to_string())))
        };
        let began = Instant::now();
        let answer = match timeout(CONFIRM_LIMIT, sent).await {
            Ok(answer) => answer,
            Err(_) => {
                self.replace().await;
                Err(PublishError::Unknown)
            }
        };
        self.broker
            .metrics()
            .published(exchange, &answer, began.elapsed());
        if let Err(error) = &answer {
            spans::failed(&span, error.as_str());
        }
        answer
    }

    /// A channel that owes a confirm for this long gets no more messages; unless the broker said that it takes none,
    /// then they are all confirmed later.
    async fn replace(&self) {
        let silent = self
            .channel
            .lock()
            .await
            .take_if(|open| open.session.blocked().is_none());
        if let Some(silent) = silent {
            tracing::warn!("a confirm is overdue: the publishing channel is opened again");
            tokio::spawn(async move {
                // Its waiting publishers learn it from the close, or from the end of the connection.
                let _ = timeout(
                    CONFIRM_LIMIT,
                    silent.channel.close(200, "a confirm is overdue".into()),
                )
                .await;
            });
        }
    }

    /// A row that holds properties and headers as JSON; whatever is not on the allow-list stays out.
    pub async fn publish_json(
        &self,
        exchange: &str,
        routing_key: &str,
        body: Bytes,
        properties: &Value,
        headers: &Value,
    ) -> Result<(), PublishError> {
        let properties = Properties::from_json(properties, headers);
        self.publish(exchange, routing_key, body, &properties).await
    }

    async fn confirming(&self) -> Result<Confirming, PublishError> {
        let session = self
            .broker
            .publishing_now()
            .ok_or_else(|| PublishError::Closed("not connected to the broker".to_owned()))?;
        if let Some(reason) = session.blocked() {
            return Err(PublishError::Closed(format!(
                "the broker takes no messages: {reason}"
            )));
        }
        let mut current = self.channel.lock().await;
        if let Some(open) = current.as_ref()
            && open.session.epoch == session.epoch
            && open.channel.status().connected()
        {
            return Ok(open.clone());
        }
        let failed = |error: lapin::Error| PublishError::Closed(error.to_string());
        let channel = session.connection.create_channel().await.map_err(failed)?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(failed)?;
        let opened = Confirming {
            channel,
            session,
            window: Arc::new(Semaphore::new(UNCONFIRMED_LIMIT)),
        };
        *current = Some(opened.clone());
        Ok(opened)
    }
}

/// What the message carries on. The context that it brought from another trace, a publisher's, is linked.
fn own_trace(span: &Span, properties: &Properties) -> Option<TraceContext> {
    let own = trace::context_of(span)?;
    let brought = |name: &str| properties.headers.get(name).and_then(Value::as_str);
    if let Some(traceparent) = brought(TRACEPARENT)
        && !own.is_of_the_trace_of(traceparent)
    {
        trace::join(span, traceparent, brought(TRACESTATE), Relation::Link);
    }
    Some(own)
}

async fn send(
    confirming: Confirming,
    _place: OwnedSemaphorePermit,
    exchange: ShortString,
    routing_key: ShortString,
    body: Bytes,
    properties: lapin::BasicProperties,
) -> Result<(), PublishError> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let failed = |error: lapin::Error| PublishError::Closed(error.to_string());
    let confirm = confirming
        .channel
        .basic_publish(exchange, routing_key, options, &body, properties)
        .await
        .map_err(failed)?;
    match confirm.await.map_err(failed)? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            Err(PublishError::Returned {
                code: returned.reply_code,
                text: returned.reply_text.to_string(),
                exchange: returned.delivery.exchange.to_string(),
                routing_key: returned.delivery.routing_key.to_string(),
            })
        }
        Confirmation::Nack(None) => Err(PublishError::Nacked),
        Confirmation::NotRequested => Err(PublishError::Closed(
            "the channel does not confirm".to_owned(),
        )),
    }
}
