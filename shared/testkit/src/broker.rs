//! A part of a broker per test: a virtual host of its own, and a prefix of its own in it.
//!
//! A virtual host is made and removed in one call each, with all queues, and strangers' names in it disturb
//! nobody. A broker without the management plugin has only the prefix, and keeps the queues.

use std::time::Duration;

use anyhow::Context;
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::Mutex;
use url::Url;

use crate::management::Management;
use crate::owner;
use crate::publish::Publisher;

pub(crate) const VARIABLE: &str = "KURIR_AMQP_URL";
pub(crate) const MANAGEMENT_VARIABLE: &str = "KURIR_RABBITMQ_MANAGEMENT_URL";
const VHOST: &str = "kurir_test_";
/// Where the management API is if nobody says.
const MANAGEMENT_PORT: u16 = 15_672;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const DROP_LIMIT: Duration = Duration::from_secs(5);

/// One test's own part of a broker. Removed with this value, whoever is still connected.
#[derive(Debug)]
pub struct Broker {
    amqp_url: String,
    vhost: Option<String>,
    management: Option<Management>,
    management_url: Option<String>,
    prefix: String,
    connection: Mutex<Option<Connection>>,
}

/// A message taken from a queue.
#[derive(Clone, Debug)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub redelivered: bool,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Message {
    /// Panics with the text if the body is no JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&lapin::types::AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }
}

/// An empty part of the broker of `KURIR_AMQP_URL`. The management API is at `KURIR_RABBITMQ_MANAGEMENT_URL`,
/// or on port 15672 of the same machine, or missing.
pub async fn broker() -> Broker {
    let amqp = std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!("{VARIABLE} is not set: run `make test`, or source .local/env.sh")
    });
    let management = std::env::var(MANAGEMENT_VARIABLE)
        .ok()
        .or_else(|| usual_management(&amqp));
    Broker::on(&amqp, management.as_deref()).await
}

impl Broker {
    /// An empty part of the broker at this URL.
    pub async fn on(amqp_url: &str, management_url: Option<&str>) -> Self {
        Self::make(amqp_url, management_url)
            .await
            .unwrap_or_else(|error| panic!("no broker for this test: {error:#}"))
    }

    async fn make(amqp_url: &str, management_url: Option<&str>) -> anyhow::Result<Self> {
        let name = owner::name(VHOST);
        let mut broker = Self {
            amqp_url: amqp_url.to_owned(),
            vhost: None,
            management: None,
            management_url: None,
            prefix: name.replacen(VHOST, "t", 1).replace('_', "-"),
            connection: Mutex::new(None),
        };
        let Some(url) = management_url else {
            return Ok(broker);
        };
        let management = Management::new(url)?;
        if owner::may_sweep("vhosts") {
            sweep(&management).await;
        }
        match management.make_vhost(&name).await {
            Ok(()) => {
                let mut own = Url::parse(amqp_url).context("the broker's address is no URL")?;
                own.set_path(&name);
                broker.amqp_url = own.into();
                broker.vhost = Some(name);
                broker.management = Some(management);
                broker.management_url = Some(url.to_owned());
            }
            // Only a guess, so its absence is no mistake.
            Err(_) if std::env::var(MANAGEMENT_VARIABLE).is_err() => {}
            Err(error) => return Err(error),
        }
        Ok(broker)
    }

    /// For the processes under test; the virtual host is in it.
    pub fn amqp_url(&self) -> &str {
        &self.amqp_url
    }

    /// For the processes under test.
    pub fn management_url(&self) -> Option<&str> {
        self.management_url.as_deref()
    }

    /// Begins the names of all exchanges and queues of this test, where the product says `kurir`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `<prefix>.<rest>`, for example `queue("metakocka-sync.retry.1s")`.
    pub fn queue(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    pub fn vhost(&self) -> &str {
        self.vhost.as_deref().unwrap_or("/")
    }

    /// Panics where the broker has no management plugin.
    #[track_caller]
    pub fn management(&self) -> &Management {
        self.management.as_ref().unwrap_or_else(|| {
            panic!("this test needs the broker's management API: set {MANAGEMENT_VARIABLE}")
        })
    }

    /// A connection as anybody may make one, without recovery.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let options = ConnectionProperties::default().with_connection_name("testkit".into());
        tokio::time::timeout(CONNECT_LIMIT, Connection::connect(&self.amqp_url, options))
            .await
            .with_context(|| format!("no connection within {CONNECT_LIMIT:?}"))?
            .context("no connection to the broker")
    }

    /// A new channel of the test's connection, which is made again if the broker was restarted.
    pub async fn channel(&self) -> anyhow::Result<Channel> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = connection
            .as_ref()
            .filter(|connection| connection.status().connected())
            // lapin keeps the error of a channel that the broker closed under its number, and numbers come round after 2 047
            // channels: then another connection helps.
            && let Ok(channel) = connection.create_channel().await
        {
            return Ok(channel);
        }
        let made = self.connect().await?;
        let channel = made.create_channel().await?;
        *connection = Some(made);
        Ok(channel)
    }

    /// Publishes with confirms.
    pub async fn publisher(&self) -> anyhow::Result<Publisher> {
        Publisher::new(self.channel().await?, &self.prefix).await
    }

    /// Messages that are ready in this queue (full name), by its own count; those delivered and not yet
    /// acknowledged are not in it. `None` if there is no such queue.
    pub async fn depth(&self, queue: &str) -> anyhow::Result<Option<u32>> {
        Ok(self.look_at(queue).await?.map(|(ready, _)| ready))
    }

    /// Consumers of this queue (full name). `None` if there is no such queue.
    pub async fn consumers(&self, queue: &str) -> anyhow::Result<Option<u32>> {
        Ok(self.look_at(queue).await?.map(|(_, consumers)| consumers))
    }

    async fn look_at(&self, queue: &str) -> anyhow::Result<Option<(u32, u32)>> {
        let channel = self
            .channel()
            .await
            .context("no channel to look at a queue")?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        match channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await
        {
            Ok(found) => {
                let counts = (found.message_count(), found.consumer_count());
                channel
                    .close(200, "seen".into())
                    .await
                    .with_context(|| format!("closing the channel that looked at {queue}"))?;
                Ok(Some(counts))
            }
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(anyhow::Error::new(error).context(format!("looking at {queue}"))),
        }
    }

    /// Takes what is ready in this queue (full name), at most `most`; it is acknowledged, so gone.
    pub async fn take(&self, queue: &str, most: usize) -> anyhow::Result<Vec<Message>> {
        let channel = self.channel().await?;
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(got) = channel
                .basic_get(queue.into(), BasicGetOptions::default())
                .await
                .with_context(|| format!("taking from {queue}"))?
            else {
                break;
            };
            let delivery = got.delivery;
            delivery.ack(BasicAckOptions::default()).await?;
            taken.push(Message {
                exchange: delivery.exchange.to_string(),
                routing_key: delivery.routing_key.to_string(),
                redelivered: delivery.redelivered,
                properties: delivery.properties,
                body: delivery.data,
            });
        }
        channel.close(200, "taken".into()).await?;
        Ok(taken)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let (Some(management), Some(vhost)) = (self.management.take(), self.vhost.take()) else {
            return;
        };
        owner::farewell(DROP_LIMIT, async move {
            // A new client: the pooled connections of the old one live in the test's runtime.
            management.reconnected().delete_vhost(&vhost).await
        });
    }
}

const NOT_FOUND: u16 = 404;

fn is_not_found(error: &lapin::Error) -> bool {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => error.get_id() == NOT_FOUND,
        _ => false,
    }
}

fn usual_management(amqp: &str) -> Option<String> {
    let amqp = Url::parse(amqp).ok()?;
    let mut url = Url::parse("http://localhost").ok()?;
    url.set_host(amqp.host_str()).ok()?;
    url.set_port(Some(MANAGEMENT_PORT)).ok()?;
    url.set_username(amqp.username()).ok()?;
    url.set_password(amqp.password()).ok()?;
    Some(url.into())
}

/// Best effort: somebody else may be sweeping too.
async fn sweep(management: &Management) {
    for vhost in management.vhosts().await.unwrap_or_default() {
        if owner::is_left_behind(&vhost, VHOST) {
            let _ = management.delete_vhost(&vhost).await;
        }
    }
}
