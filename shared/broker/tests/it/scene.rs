//! One test's broker, worker and stranger.

use std::sync::Arc;
use std::time::Duration;

use broker::{
    Broker, ConsumeSettings, Counters, Error, ExclusiveRun, QueueCursor, RawDelivery, Readiness,
    Settings, Worker, run,
};
use secrecy::SecretString;
use serde_json::Value;
use testkit::{Contacts, wait_until};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ports::{Ports, TENANT};

pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Scene {
    pub(crate) kit: testkit::Broker,
    pub(crate) broker: Broker,
    pub(crate) ports: Ports,
}

/// A worker under test.
pub(crate) struct Consuming {
    pub(crate) counters: Arc<Counters>,
    pub(crate) readiness: Arc<Readiness>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::on(testkit::broker().await, Ports::new()).await
    }

    pub(crate) async fn with(ports: Ports) -> Self {
        Self::on(testkit::broker().await, ports).await
    }

    pub(crate) async fn on(kit: testkit::Broker, ports: Ports) -> Self {
        let broker = connect(&kit);
        broker
            .connected(SOON)
            .await
            .expect("the test's broker answers");
        Self { kit, broker, ports }
    }

    /// The queue `<prefix>.probe<rest>`.
    pub(crate) fn queue(&self, rest: &str) -> String {
        self.kit.queue(&format!("probe{rest}"))
    }

    pub(crate) async fn consume(&self) -> Consuming {
        self.consume_with(ConsumeSettings::default()).await
    }

    pub(crate) async fn consume_with(&self, settings: ConsumeSettings) -> Consuming {
        let consuming = self.begin(settings);
        let readiness = Arc::clone(&consuming.readiness);
        wait_until("ready", SOON, async || readiness.problems(), Vec::is_empty).await;
        consuming
    }

    pub(crate) fn begin(&self, settings: ConsumeSettings) -> Consuming {
        let (counters, readiness) = (
            Arc::new(Counters::new("test", &[])),
            Arc::<Readiness>::default(),
        );
        let ports = Arc::new(self.ports.clone());
        let worker = Worker {
            handler: Arc::clone(&ports),
            claims: Arc::clone(&ports),
            holds: ports.clone(),
            fan_out: ports.clone(),
            pins: ports.clone(),
            connections: ports,
            budgets: None,
            broker: self.broker.clone(),
            publisher: self.broker.publisher(),
            settings,
            exclusive_run: ExclusiveRun::default(),
            link_of: |link| Some(*link),
            counters: Arc::clone(&counters),
            readiness: Arc::clone(&readiness),
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(worker, shutdown.clone()));
        Consuming {
            counters,
            readiness,
            shutdown,
            task,
        }
    }

    pub(crate) async fn publish(&self, events: &[Value]) {
        let stranger = self.kit.publisher().await.expect("a stranger connects");
        stranger
            .events(events)
            .await
            .expect("the events are routed");
    }

    pub(crate) async fn depth(&self, queue: &str) -> Option<u32> {
        self.kit.depth(queue).await.expect("the queue is looked at")
    }

    /// Waits until the queue holds this many.
    pub(crate) async fn holds(&self, queue: &str, messages: u32) {
        let what = format!("{messages} in {queue}");
        wait_until(
            &what,
            SOON,
            async || self.depth(queue).await,
            |depth| *depth == Some(messages),
        )
        .await;
    }

    /// Waits until the handler has seen this many.
    pub(crate) async fn handles(&self, events: usize) {
        let what = format!("{events} handled");
        wait_until(
            &what,
            SOON,
            async || self.ports.handled(),
            |handled| *handled >= events,
        )
        .await;
    }
}

pub(crate) fn connect(kit: &testkit::Broker) -> Broker {
    let settings = Settings {
        prefix: kit.prefix().to_owned(),
        ..Settings::new(SecretString::from(kit.amqp_url()))
    };
    Broker::start(settings).expect("the address is one")
}

impl Consuming {
    /// Drains, and answers what `run` answered.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        self.task.await.expect("the worker does not panic")
    }

    pub(crate) async fn ended(self) -> Result<(), Error> {
        self.task.await.expect("the worker does not panic")
    }
}

/// New contacts of the known tenant, one created event each.
pub(crate) fn created(n: usize) -> Vec<Value> {
    created_of(TENANT, n)
}

pub(crate) fn created_of(tenant: &str, n: usize) -> Vec<Value> {
    let mut contacts = Contacts::new(tenant, 1);
    (0..n).map(|_| contacts.any().created()).collect()
}

pub(crate) fn id(event: &Value) -> &str {
    event["id"].as_str().expect("an event has an id")
}

/// Without what the broker itself adds.
pub(crate) fn header_names(message: &testkit::Message) -> Vec<String> {
    let headers = message.properties.headers().as_ref().expect("headers");
    let names = headers.inner().keys().map(ToString::to_string);
    names.filter(|name| name != "x-delivery-count").collect()
}

/// Up to `n` messages of a queue; they go back.
pub(crate) async fn peek(
    broker: &Broker,
    queue: &str,
    n: usize,
) -> Result<Vec<RawDelivery>, Error> {
    let cursor = QueueCursor::open(broker, queue).await?;
    let mut seen = Vec::new();
    while seen.len() < n
        && let Some(taken) = cursor.take().await?
    {
        seen.push(taken.message);
    }
    cursor.close().await;
    Ok(seen)
}
