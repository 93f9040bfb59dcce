//! Two connections per process, kept open for ever: one consumes, one publishes. A connection that has published is
//! blocked as a whole during a memory or disk alarm, acks included, so it must not be the one that consumes.
//!
//! lapin's own recovery stays off: it replays a consumer whose deliveries we could no longer tell from the new
//! ones. Instead each opening is a new `Session` with a new epoch, and what belonged to the old one ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{ConnectionProperties, Event};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trust::Refusal;

use crate::address::Address;
use crate::error::Error;
use crate::metrics::{Line, Metrics};
use crate::pauses::Pauses;
use crate::topology::Topology;
use crate::wire;

/// Opening a connection, TCP and handshake together, unless the address says otherwise.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A session that lived this long starts the pauses from the shortest again.
const STEADY: Duration = Duration::from_secs(10);
/// How long an orderly close may take before the socket is simply dropped.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// lapin tells a lost socket only to those who use it: we look this often.
const LOOK: Duration = Duration::from_millis(200);
/// Longest frame, unless the address says otherwise: the brokers' own default. Said before the handshake, lapin's buffers of
/// 32 frames are made in one piece and cost only what passes through them; learned in the handshake, they are grown and
/// filled with zeros: 16 MB for a process at rest.
const FRAME_BYTES: u32 = 128 * 1024;

#[derive(Clone, Debug)]
pub struct Settings {
    /// As [`Address`] reads it.
    pub url: SecretString,
    /// PEM of authorities that are believed beside the system's and the well-known ones, for `amqps://`.
    pub ca_file: Option<PathBuf>,
    /// First part of every exchange and queue name.
    pub prefix: String,
    /// Shown in the broker's list of connections, with `-consume` or `-publish` after it.
    pub name: String,
    /// Unless the address says otherwise.
    pub heartbeat: Duration,
}

impl Settings {
    pub const DEFAULT_PREFIX: &'static str = "kurir";
    pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);

    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            ca_file: None,
            prefix: Self::DEFAULT_PREFIX.to_owned(),
            name: "kurir".to_owned(),
            heartbeat: Self::DEFAULT_HEARTBEAT,
        }
    }

    fn address(&self) -> Result<AMQPUri, Error> {
        let mut address = Address::read(self.url.expose_secret())
            .map_err(Error::Address)?
            .uri();
        let heartbeat = u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX);
        address.query.heartbeat.get_or_insert(heartbeat.max(1));
        address.query.frame_max.get_or_insert(FRAME_BYTES);
        Ok(address)
    }

    /// Whom an encrypted connection believes. Read once: a new authority is believed after a restart.
    fn authorities(&self, address: &AMQPUri) -> Result<OwnedTLSConfig, Error> {
        if address.scheme == AMQPScheme::AMQP {
            return Ok(OwnedTLSConfig::default());
        }
        // The library adds the well-known ones.
        let mut believed = trust::of_system();
        if let Some(file) = &self.ca_file {
            believed.extend(trust::of_file(file).map_err(Error::Authorities)?);
        }
        Ok(OwnedTLSConfig {
            cert_chain: Some(trust::pem(&believed)),
            ..OwnedTLSConfig::default()
        })
    }
}

/// One of the two connections, as readiness sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Being opened, for the first time or again; with the last reason why it could not be.
    #[default]
    Connecting,
    Failing(String),
    /// As `Failing`, and trying again does not help: what stands between is TLS. In words that name the setting, and hold no
    /// secret.
    Untrusted(&'static str),
    Connected,
    /// Open, but the broker takes no messages (memory or disk alarm): confirms wait.
    Blocked(String),
    Closed,
}

impl Health {
    pub fn connected(&self) -> bool {
        matches!(self, Self::Connected | Self::Blocked(_))
    }
}

/// Both connections and the consumers that are present, by queue name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub consume: Health,
    pub publish: Health,
    pub consumers: BTreeMap<String, bool>,
}

/// One opening of a connection.
pub(crate) struct Session {
    pub(crate) connection: lapin::Connection,
    pub(crate) epoch: u64,
    /// Cancelled when this opening is over: nothing of it may be used or acknowledged afterwards.
    pub(crate) over: CancellationToken,
    blocked: watch::Receiver<Option<String>>,
}

impl Session {
    pub(crate) fn blocked(&self) -> Option<String> {
        // The reason may have come before anybody listened; the library's own note of it can't be missed.
        let blocked = self.connection.status().blocked();
        blocked.then(|| {
            self.blocked
                .borrow()
                .clone()
                .unwrap_or_else(|| "an alarm".to_owned())
        })
    }

    fn usable(&self) -> bool {
        !self.over.is_cancelled() && self.connection.status().connected()
    }
}

type Current = watch::Receiver<Option<Arc<Session>>>;

struct Inner {
    settings: Settings,
    consume: Current,
    publish: Current,
    status: watch::Sender<Status>,
    metrics: Metrics,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// The process's two connections. Cheap to clone; they stay open until `close`, or until the last clone is gone.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

impl Broker {
    /// Returns at once; both connections are opened in the background, for ever. Errs only on an address that can
    /// never work.
    pub fn start(settings: Settings) -> Result<Self, Error> {
        let address = settings.address()?;
        let authorities = settings.authorities(&address)?;
        let status = watch::Sender::new(Status::default());
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let metrics = Metrics::default();
        let open = |line: Line| {
            let (sender, receiver) = watch::channel(None);
            let keeper = Keeper {
                address: address.clone(),
                authorities: authorities.clone(),
                name: settings.name.clone(),
                line,
                current: sender,
                status: status.clone(),
                metrics: metrics.clone(),
                closing: closing.clone(),
            };
            tasks.spawn(keeper.keep_open());
            receiver
        };
        let (consume, publish) = (open(Line::Consume), open(Line::Publish));
        Ok(Self(Arc::new(Inner {
            settings,
            consume,
            publish,
            status,
            metrics,
            closing,
            tasks,
        })))
    }

    pub fn topology(&self) -> Topology {
        Topology::new(&self.0.settings.prefix)
    }

    /// Metrics of both connections and of publishing, to be registered once per process.
    pub fn collectors(&self) -> Vec<Box<dyn prometheus::core::Collector>> {
        self.0.metrics.collectors()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Changes as connections and consumers come and go.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.status.subscribe()
    }

    /// Waits until both connections are open.
    pub async fn connected(&self, within: Duration) -> Result<(), Error> {
        let mut status = self.status();
        let both = status.wait_for(|now| now.consume.connected() && now.publish.connected());
        let reached = timeout(within, both).await.is_ok_and(|seen| seen.is_ok());
        if reached {
            return Ok(());
        }
        let now = self.0.status.borrow();
        Err(failure(&now.consume)
            .or_else(|| failure(&now.publish))
            .unwrap_or(Error::TimedOut(within.as_secs())))
    }

    /// Closes both connections in order and waits for it: acks written last would be left behind otherwise. Stop the
    /// consumers first. The second time it only waits.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// The open consuming connection; waits while there is none. `None` once the broker was closed.
    pub(crate) async fn session(&self) -> Option<Arc<Session>> {
        wait_for_session(self.0.consume.clone()).await
    }

    /// The same within `within`, for callers that must answer.
    pub(crate) async fn session_within(&self, within: Duration) -> Result<Arc<Session>, Error> {
        match timeout(within, self.session()).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) => Err(Error::Disconnected("closed".to_owned())),
            Err(_) => Err(failure(&self.0.status.borrow().consume)
                .unwrap_or(Error::TimedOut(within.as_secs()))),
        }
    }

    /// The open publishing connection, if there is one right now.
    pub(crate) fn publishing_now(&self) -> Option<Arc<Session>> {
        self.0
            .publish
            .borrow()
            .as_ref()
            .filter(|session| session.usable())
            .cloned()
    }

    pub(crate) fn set_consumer(&self, queue: &str, present: bool) {
        self.0.status.send_if_modified(|status| {
            status.consumers.insert(queue.to_owned(), present) != Some(present)
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Why a connection that cannot be opened is not there.
fn failure(health: &Health) -> Option<Error> {
    match health {
        Health::Failing(reason) => Some(Error::Disconnected(reason.clone())),
        Health::Untrusted(why) => Some(Error::Untrusted(why)),
        Health::Connecting | Health::Connected | Health::Blocked(_) | Health::Closed => None,
    }
}

async fn wait_for_session(mut current: Current) -> Option<Arc<Session>> {
    loop {
        {
            let open = current
                .wait_for(|session| session.as_ref().is_some_and(|session| session.usable()))
                .await
                .ok()?;
            if let Some(session) = open.as_ref() {
                return Some(Arc::clone(session));
            }
        }
    }
}

struct Keeper {
    address: AMQPUri,
    authorities: OwnedTLSConfig,
    name: String,
    line: Line,
    current: watch::Sender<Option<Arc<Session>>>,
    status: watch::Sender<Status>,
    metrics: Metrics,
    closing: CancellationToken,
}

impl Keeper {
    async fn keep_open(self) {
        let mut pauses = Pauses::default();
        let mut epoch = 0;
        let limit = self.address.query.connection_timeout;
        let limit = limit.map_or(CONNECT_LIMIT, Duration::from_millis);
        loop {
            epoch += 1;
            let opened = tokio::select! {
                opened = timeout(limit, self.open()) => opened,
                () = self.closing.cancelled() => break,
            };
            match opened {
                Ok(Ok(connection)) => {
                    let since = Instant::now();
                    self.attend(connection, epoch).await;
                    if since.elapsed() >= STEADY {
                        pauses.reset();
                    }
                }
                Ok(Err(error)) => match trust::refusal(&error).map(untrusted) {
                    Some(why) => self.untrusted(why, &error),
                    None => self.failing(error.to_string()),
                },
                Err(_) => self.failing(format!("no answer within {} s", limit.as_secs_f32())),
            }
            tokio::select! {
                () = sleep(pauses.next()) => {}
                () = self.closing.cancelled() => break,
            }
        }
        self.show(Health::Closed);
    }

    async fn open(&self) -> lapin::Result<lapin::Connection> {
        let name = format!("{}-{}", self.name, self.line.as_str());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        wire::connect(self.address.clone(), properties, self.authorities.clone()).await
    }

    /// Returns when this opening is over.
    async fn attend(&self, connection: lapin::Connection, epoch: u64) {
        // One listener only: several would share the events between them.
        let mut events = Box::pin(connection.events_listener());
        let (blocked, blocked_seen) = watch::channel(None);
        let session = Arc::new(Session {
            connection,
            epoch,
            over: CancellationToken::new(),
            blocked: blocked_seen,
        });
        self.current.send_replace(Some(Arc::clone(&session)));
        self.metrics.connected(self.line);
        self.show(Health::Connected);
        tracing::info!(line = ?self.line, epoch, "connected to the broker");
        let reason = loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(line = ?self.line, reason, "the broker takes no messages");
                        blocked.send_replace(Some(reason.clone()));
                        self.show(Health::Blocked(reason));
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!(line = ?self.line, "the broker takes messages again");
                        blocked.send_replace(None);
                        self.show(Health::Connected);
                    }
                    // Also told for a single channel: only the connection's own state decides.
                    Some(Event::Error(error)) if !session.connection.status().connected() => break error.to_string(),
                    Some(_) => {}
                    None => break "closed".to_owned(),
                },
                () = sleep(LOOK) => if !session.connection.status().connected() {
                    break "the connection was lost".to_owned();
                },
                () = self.closing.cancelled() => {
                    let close = session.connection.close(200, "closing".into());
                    if !matches!(timeout(CLOSE_LIMIT, close).await, Ok(Ok(()))) {
                        tracing::warn!(line = ?self.line, "the connection could not be closed in order");
                    }
                    break "closed by us".to_owned();
                }
            }
        };
        session.over.cancel();
        self.current.send_replace(None);
        if !self.closing.is_cancelled() {
            self.failing(reason);
        }
    }

    fn failing(&self, reason: String) {
        tracing::warn!(line = ?self.line, reason, "not connected to the broker");
        self.show(Health::Failing(reason));
    }

    fn untrusted(&self, why: &'static str, error: &lapin::Error) {
        tracing::warn!(line = ?self.line, reason = why, %error, "not connected to the broker");
        self.show(Health::Untrusted(why));
    }

    fn show(&self, health: Health) {
        let blocked = matches!(health, Health::Blocked(_));
        self.metrics.is(self.line, health.connected(), blocked);
        self.status.send_modify(|status| match self.line {
            Line::Consume => status.consume = health,
            Line::Publish => status.publish = health,
        });
    }
}

/// What helps against it.
fn untrusted(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => {
            "its certificate is signed by an authority that is not believed here: set amqp.ca_file to the PEM file with that authority's certificate"
        }
        Refusal::OtherHost => {
            "its certificate is not for the host that amqp.url names: use the name that stands in the certificate"
        }
        Refusal::NotTls => {
            "it does not speak TLS at this port: amqps is usually port 5671, amqp 5672"
        }
        Refusal::Expired | Refusal::Unusable | Refusal::WantsCertificate => refusal.what(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_refused_without_repeating_it() {
        let settings = Settings::new(SecretString::from("http://user:s3cret@host"));
        let refused = settings
            .address()
            .expect_err("not an amqp address")
            .to_string();
        assert!(!refused.contains("s3cret"), "{refused}");
    }
}
