//! Messages as a stranger publishes them: raw, with whatever properties and headers.

use std::time::Duration;

use anyhow::{Context, bail};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use serde_json::Value;

const CONFIRM_LIMIT: Duration = Duration::from_secs(10);
const PERSISTENT: u8 = 2;

/// Of a structured CloudEvent.
pub const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// A channel with confirms.
#[derive(Debug)]
pub struct Publisher {
    channel: Channel,
    exchange: String,
}

/// What the broker said of a message it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// At least one queue has it.
    Routed,
    /// No queue wanted it, and it is gone.
    Returned,
}

impl Publisher {
    pub(crate) async fn new(channel: Channel, prefix: &str) -> anyhow::Result<Self> {
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            channel,
            exchange: format!("{prefix}.events"),
        })
    }

    /// One structured event to `<prefix>.events`, under the key that its own `type` and `tenantid` make.
    pub async fn event(&self, event: &Value) -> anyhow::Result<Route> {
        let (kind, tenant) = (&event["type"], &event["tenantid"]);
        let key = format!(
            "{}.{}",
            kind.as_str().context("the event has no type")?,
            tenant.as_str().context("the event has no tenantid")?
        );
        self.raw(
            &self.exchange,
            &key,
            event.to_string().as_bytes(),
            structured_properties(event),
        )
        .await
    }

    /// Several, one after the other.
    pub async fn events<'a>(
        &self,
        events: impl IntoIterator<Item = &'a Value>,
    ) -> anyhow::Result<()> {
        for event in events {
            if self.event(event).await? == Route::Returned {
                bail!("no queue wanted {event}");
            }
        }
        Ok(())
    }

    /// Anything to anywhere, mandatory, confirmed.
    pub async fn raw(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> anyhow::Result<Route> {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let confirm = self
            .channel
            .basic_publish(
                exchange.into(),
                routing_key.into(),
                mandatory,
                body,
                properties,
            )
            .await?;
        match tokio::time::timeout(CONFIRM_LIMIT, confirm)
            .await
            .with_context(|| format!("no confirm within {CONFIRM_LIMIT:?}"))??
        {
            Confirmation::Ack(None) => Ok(Route::Routed),
            Confirmation::Ack(Some(_returned)) => Ok(Route::Returned),
            other => bail!("the broker did not take it: {other:?}"),
        }
    }

    /// For what is not here.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

/// What `docs/events.md` asks of a publisher: content type, persistence, and `message_id` equal to `id`.
pub fn structured_properties(event: &Value) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_content_type(ShortString::from(CONTENT_TYPE))
        .with_delivery_mode(PERSISTENT)
        .with_headers(FieldTable::default());
    match event["id"].as_str() {
        Some(id) if id.len() <= usize::from(u8::MAX) => properties.with_message_id(id.into()),
        _ => properties,
    }
}
