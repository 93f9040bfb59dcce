//! The ports as Kurir's own crates fill them: tokens from Postgres, messages through RabbitMQ.

use broker::Properties;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::Value;

use crate::ports::{Message, Principal, Publish, PublishError, Tokens, TokensAway};

/// Written into the AMQP property `app_id`.
const APP_ID: &str = concat!("kurir-gateway/", env!("CARGO_PKG_VERSION"));

/// Tokens of the store.
#[derive(Clone, Debug)]
pub struct StoredTokens(pub store::Pool);

impl Tokens for StoredTokens {
    fn authenticate<'a>(
        &'a self,
        token: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<Principal>, TokensAway>> {
        async move {
            let bearer = store::tokens::authenticate(&self.0, token)
                .await
                .map_err(|error| TokensAway(error.to_string()))?;
            Ok(bearer.map(|bearer| Principal {
                token: bearer.token,
                tenant: bearer.tenant,
                source: bearer.source,
            }))
        }
        .boxed()
    }
}

/// The events exchange of a broker.
#[derive(Clone)]
pub struct Bus {
    pub publisher: broker::Publisher,
    /// Name of the topic exchange, `kurir.events` unless the prefix is another.
    pub exchange: String,
}

impl Publish for Bus {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), PublishError>> {
        async move {
            let mut properties = Properties::of_event(&message.message_id, message.event_type);
            properties.timestamp = message.timestamp;
            properties.correlation_id = Some(message.correlation_id);
            properties.app_id = Some(APP_ID.to_owned());
            let headers = message.headers.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
            properties.headers.extend(headers);
            let sent = self.publisher.publish(&self.exchange, &message.routing_key, message.body, &properties).await;
            sent.map_err(|error| {
                tracing::warn!(event.id = %message.message_id, %error, "an event was not confirmed");
                match error {
                    broker::PublishError::Unknown => PublishError::Unknown,
                    broker::PublishError::Invalid(_) => PublishError::Never,
                    broker::PublishError::Returned { .. }
                    | broker::PublishError::Nacked
                    | broker::PublishError::Closed(_) => PublishError::NotPublished,
                }
            })
        }
        .boxed()
    }
}
