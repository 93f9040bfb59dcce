//! Kurir's consumer loop around a handler that does nothing: decode, gate, settle. The store behind the gate is memory, and
//! grants every claim.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker::{Broker, ConsumeSettings, Counters, ExclusiveRun, Readiness, Settings, Worker};
use chrono::{DateTime, Utc};
use event::{EventType, SubjectVersion, TenantId, VersionScheme};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use runtime::{Log, LogFormat};
use secrecy::SecretString;
use testkit::wait_for;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::{
    AckReason, Claims, Connection, ConnectionAnswer, ConnectionState, Connections, DeadClass, Done,
    Failure, FanOut, FanOutItem, Handled, Handler, HoldItem, HoldVerdict, Holds, Job, Leased,
    PinItem, Pins, PortError, Release, RetryPolicy, Verdict,
};

use crate::bare::settled;
use crate::consumers::{Consumed, Contender, How, Watch};
use crate::contacts::TENANT;
use crate::fill::Message;
use crate::harness::Harness;

/// Its queue is `<prefix>-empty.bench`.
pub(crate) const NAME: &str = "bench";
const CONSUMES: &[EventType] = &[EventType::CrmContactCreated, EventType::CrmContactUpdated];
const SYSTEM: &str = "metakocka";
const LIMIT: Duration = Duration::from_secs(120);

/// Handler and store.
struct Empty {
    policy: RetryPolicy,
    fail_once: bool,
    connections: ConnectionAnswer,
    watch: std::sync::OnceLock<Watch>,
    finished: AtomicUsize,
    messages: usize,
    all: Notify,
}

impl Empty {
    fn new(contender: &Contender) -> Self {
        let connection = Connection {
            id: Uuid::from_u128(1),
            tenant: TenantId::parse(TENANT).unwrap(),
            system: SYSTEM.to_owned(),
            account: "default".to_owned(),
            state: ConnectionState::Ok,
            epoch: 1,
            enabled: true,
            settings: serde_json::Value::Null,
        };
        Self {
            policy: RetryPolicy {
                // The shortest retry tier.
                initial: Duration::from_millis(100),
                ..RetryPolicy::default()
            },
            fail_once: contender.how == How::FailOnce,
            connections: ConnectionAnswer::Known([Arc::new(connection)].into()),
            watch: std::sync::OnceLock::new(),
            finished: AtomicUsize::new(0),
            messages: contender.messages,
            all: Notify::new(),
        }
    }
}

impl Handler for Empty {
    type Grant = ();

    fn name(&self) -> &'static str {
        NAME
    }

    fn consumes(&self) -> &'static [EventType] {
        CONSUMES
    }

    fn target_system(&self) -> &'static str {
        SYSTEM
    }

    fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    fn handle<'a>(
        &'a self,
        job: &'a Job,
        _grant: (),
        _deadline: Duration,
    ) -> BoxFuture<'a, Result<Handled, Failure>> {
        async move {
            if self.fail_once && job.delivery.metadata.attempt == 1 {
                return Err(Failure::transient(DeadClass::Unavailable, "503"));
            }
            if self.finished.fetch_add(1, Ordering::Relaxed) + 1 == self.messages {
                self.all.notify_one();
            }
            Ok(Handled::Done(Done(AckReason::Applied)))
        }
        .boxed()
    }
}

impl Claims for Empty {
    type Grant = ();

    fn claim<'a>(
        &'a self,
        jobs: &'a [Job],
        _alone: bool,
    ) -> BoxFuture<'a, Result<Vec<Verdict<()>>, PortError>> {
        async move { Ok(jobs.iter().map(|_| Verdict::Granted(())).collect()) }.boxed()
    }

    fn release(&self, _releases: Vec<Release>) -> BoxFuture<'_, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }

    fn renew(&self, _leases: Vec<Leased>) -> BoxFuture<'_, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }
}

impl Holds for Empty {
    fn hold(&self, items: Vec<HoldItem>) -> BoxFuture<'_, Result<Vec<HoldVerdict>, PortError>> {
        async move { Ok(vec![HoldVerdict::Held; items.len()]) }.boxed()
    }
}

impl FanOut for Empty {
    fn fan_out(&self, _item: FanOutItem) -> BoxFuture<'_, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }
}

impl Connections for Empty {
    fn cached(&self, _tenant: &TenantId, _system: &str) -> Option<ConnectionAnswer> {
        // The first question of all is the first delivery.
        self.watch.get_or_init(Watch::start);
        Some(self.connections.clone())
    }

    fn resolve<'a>(
        &'a self,
        _tenant: &'a TenantId,
        _system: &'a str,
    ) -> BoxFuture<'a, Result<ConnectionAnswer, PortError>> {
        async { Ok(self.connections.clone()) }.boxed()
    }
}

impl Pins for Empty {
    fn pin(&self, items: Vec<PinItem>) -> BoxFuture<'_, Result<Vec<SubjectVersion>, PortError>> {
        let micros = |item: &PinItem| item.received_at.timestamp_micros();
        let versions = items
            .iter()
            .map(|item| SubjectVersion::from_micros(micros(item)));
        let versions = versions.collect();
        async { Ok(versions) }.boxed()
    }

    fn check_scheme<'a>(
        &'a self,
        _tenant: &'a TenantId,
        _source: &'a str,
        scheme: VersionScheme,
    ) -> BoxFuture<'a, Result<VersionScheme, PortError>> {
        async move { Ok(scheme) }.boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// Exchanges and queues of its own: the events of other parts are none of its business.
pub(crate) fn prefix(harness: &Harness) -> String {
    format!("{}-empty", harness.broker.prefix())
}

pub(crate) fn queue(harness: &Harness) -> String {
    format!("{}.{NAME}", prefix(harness))
}

/// In the contender's process.
pub(crate) async fn run(contender: Contender) -> Consumed {
    if contender.how == How::EmptyLogged {
        runtime::telemetry::start(&Log {
            format: LogFormat::Json,
            filter: "info,lapin=off".to_owned(),
        })
        .unwrap();
    }
    let broker = Broker::start(Settings {
        prefix: contender.prefix.clone(),
        ..Settings::new(SecretString::from(contender.amqp.clone()))
    })
    .unwrap();
    let (ports, readiness) = (
        Arc::new(Empty::new(&contender)),
        Arc::<Readiness>::default(),
    );
    let worker = Worker {
        handler: Arc::clone(&ports),
        claims: Arc::clone(&ports),
        holds: Arc::clone(&ports) as _,
        fan_out: Arc::clone(&ports) as _,
        pins: Arc::clone(&ports) as _,
        connections: Arc::clone(&ports) as _,
        budgets: None,
        broker: broker.clone(),
        publisher: broker.publisher(),
        settings: ConsumeSettings {
            slots: contender.slots,
            prefetch: contender.prefetch,
            ..ConsumeSettings::default()
        },
        exclusive_run: ExclusiveRun::default(),
        link_of: |()| None,
        counters: Arc::new(Counters::new(NAME, CONSUMES)),
        readiness: Arc::clone(&readiness),
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(broker::run(worker, shutdown.clone()));
    tokio::time::timeout(LIMIT, ports.all.notified())
        .await
        .unwrap();
    // The last acknowledgements.
    while readiness.in_flight() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let consumed = ports.watch.get().unwrap().stop();
    settled().await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    broker.close().await;
    consumed
}

/// Its queue and retry tiers.
pub(crate) async fn declare(harness: &Harness) {
    let broker = Broker::start(Settings {
        prefix: prefix(harness),
        ..Settings::new(SecretString::from(harness.broker.amqp_url().to_owned()))
    })
    .unwrap();
    wait_for("the queues of the empty worker", LIMIT, async || {
        broker
            .topology()
            .declare_worker(&broker, NAME, CONSUMES)
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    broker.close().await;
}

/// Straight into its queue, so that only one worker gets them.
pub(crate) fn messages(harness: &Harness, count: usize) -> Vec<Message> {
    let mut messages = harness.messages(1..count as u64 + 1, 1);
    for message in &mut messages {
        message.key = queue(harness);
    }
    messages
}
