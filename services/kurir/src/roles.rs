//! What every role is made of: settings, log lines, health routes, the database, the broker, and an orderly end.
//! Which parts a role has stands in its own file.

mod declare;
mod gateway;
mod keeper;
mod metrics;
mod up;
mod watch;
mod worker;

pub(crate) use up::up_until;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, ExclusiveRun};
use clap::Args;
use inbound::Readiness;
use prometheus::Registry;
use prometheus::core::Collector;
use runtime::telemetry::Traces;
use runtime::{DRAIN_LIMIT, Ended, Ending, Need, Role, Settings, TaskError, Tasks};
use store::Pool;
use store::budgets::Budgets;
use store::connection_cache::ConnectionCache;
use store::links::Links;
use store::pins::EventPins;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, check_schema};
use crate::exit::{Done, Exit, Failed};
use crate::fleet;
use crate::partners;
use crate::traces;

/// A role waits for its database for ever; this is as good as that and still a duration.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// After their drain workers close the broker's connection and give leases back; only then a task counts as stuck.
const GOODBYE: Duration = Duration::from_secs(8);
/// For the database's connections to be closed in order.
const LAST_WORD: Duration = Duration::from_secs(2);
/// The check that stands until every part has its own.
const PARTS: &str = "parts";
/// The health routes answer at most this long after everything else has ended.
const HEALTH_GRACE: Duration = Duration::from_secs(1);

/// Runs the gateway until it is asked to stop.
pub(crate) async fn gateway(file: Option<PathBuf>) -> Done {
    let mut process = Process::start(
        file,
        Role::Gateway,
        "gateway",
        &[Need::Amqp, Need::Database],
    )
    .await?;
    gateway::add(&mut process).await?;
    process.run().await
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  KURIR_WORKER__SLOTS=32 kurir worker metakocka-sync")]
pub(crate) struct Worker {
    #[arg(value_parser = fleet::worker_names())]
    name: String,
}

/// Runs one worker until it is asked to stop.
pub(crate) async fn worker(file: Option<PathBuf>, Worker { name }: Worker) -> Done {
    let needs = [Need::Amqp, Need::Database, Need::Keys];
    let registered = fleet::workers()
        .iter()
        .find(|worker| worker.name == name)
        .ok_or_else(|| Failed::new(Exit::Usage, format!("no worker is called {name}")))?;
    let mut process = Process::start(file, Role::Worker, registered.name, &needs).await?;
    worker::add(&mut process, registered).await?;
    process.run().await
}

/// Runs the keeper until it is asked to stop.
pub(crate) async fn keeper(file: Option<PathBuf>) -> Done {
    let mut process =
        Process::start(file, Role::Keeper, "keeper", &[Need::Amqp, Need::Database]).await?;
    keeper::add(&mut process).await?;
    process.run().await
}

/// Runs all roles until they are asked to stop.
pub(crate) async fn up(file: Option<PathBuf>) -> Done {
    let context = Context::load(file, up::NEEDS)?;
    let traces = traces::start(&context, "up")?;
    let shutdown = runtime::signals::shutdown()?;
    let done = up_until(context, shutdown, |_| {}).await;
    traces.end().await;
    done
}

/// One process of the fleet, while it is put together and while it runs.
pub(crate) struct Process {
    pub(crate) context: Context,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: Tasks,
    pub(crate) readiness: Readiness,
    /// What the parts count; shown at `/metrics` of the health listener.
    pub(crate) registry: Registry,
    pub(crate) pool: Pool,
    pub(crate) broker: Broker,
    pub(crate) links: Links,
    pub(crate) connections: Arc<ConnectionCache>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) pins: Arc<EventPins>,
    /// One for all workers of the process: a poison candidate runs alone in it.
    pub(crate) exclusive_run: ExclusiveRun,
    shared: worker::Shared,
    /// Where it listens, by name, for the line that says so.
    pub(crate) listening: Vec<(&'static str, SocketAddr)>,
    health: Option<HealthServer>,
    /// Those that end with the process's parts.
    traces: Option<Traces>,
    /// Cancelled last: until then probes are answered.
    ended: CancellationToken,
}

type HealthServer = tokio::task::JoinHandle<inbound::Served>;

impl Process {
    async fn start(file: Option<PathBuf>, role: Role, name: &str, needs: &[Need]) -> Done<Self> {
        let context = Context::load(file, needs)?;
        let traces = traces::start(&context, name)?;
        let mut process = Self::build(context, role, name, runtime::signals::shutdown()?).await?;
        process.traces = Some(traces);
        Ok(process)
    }

    /// Answers probes first, then waits for the database; the broker is connected in the background.
    pub(crate) async fn build(
        context: Context,
        role: Role,
        name: &str,
        shutdown: CancellationToken,
    ) -> Done<Self> {
        let readiness = Readiness::new();
        // Probes are answered before the parts have named their needs: not ready until all of them have.
        readiness.check(PARTS);
        let registry = metrics::registry()?;
        metrics::register(
            &registry,
            vec![
                Box::new(metrics::Health::new(readiness.clone())),
                Box::new(metrics::Telemetry::default()),
            ],
        )?;
        let ended = CancellationToken::new();
        let mut listening = Vec::new();
        let mut health = None;
        if let Some(address) = context.settings().health.of(role) {
            let (listener, address) = listen(address, "health", role.health_variable()).await?;
            listening.push(("health", address));
            health = Some(serve_health(listener, &readiness, &registry, &ended));
        }
        let database = readiness.check("database");
        database.not_ready("connecting");
        let broker = fleet::start_broker(&context, name)?;
        let pool = tokio::select! {
            pool = context.pool_reporting(FOR_EVER, |error| database.not_ready(&error.to_string())) => pool?,
            () = shutdown.cancelled() => return Err(Failed::new(Exit::Unavailable, "asked to stop before the database could be reached")),
        };
        check_schema(&pool).await?;
        let ping = metrics::Ping::default();
        metrics::register(
            &registry,
            vec![
                ping.collector(),
                Box::new(metrics::DatabasePool::new(pool.clone())),
            ],
        )?;
        metrics::register(&registry, broker.collectors())?;
        let settings = context.settings();
        let mut tasks = Tasks::new(shutdown.clone(), DRAIN_LIMIT + GOODBYE);
        tasks.spawn(
            "database watch",
            watch::database(pool.clone(), database, ping, shutdown.clone()),
        );
        tasks.spawn(
            "broker watch",
            watch::broker(broker.clone(), readiness.check("broker"), shutdown.clone()),
        );
        Ok(Self {
            links: Links::new(pool.clone(), &settings.amqp.prefix, settings.sync.lease),
            connections: Arc::new(ConnectionCache::start(pool.clone())),
            budgets: Arc::new(Budgets::start(
                pool.clone(),
                partners::budgets(context.settings())?,
            )),
            pins: Arc::new(EventPins::start(pool.clone()).await?),
            context,
            shutdown,
            tasks,
            readiness,
            registry,
            pool,
            broker,
            exclusive_run: ExclusiveRun::default(),
            shared: worker::Shared::default(),
            listening,
            health,
            traces: None,
            ended,
        })
    }

    /// Shows what a part counts.
    pub(crate) fn show(&self, collectors: Vec<Box<dyn Collector>>) -> Done {
        metrics::register(&self.registry, collectors)
    }

    pub(crate) fn settings(&self) -> &Settings {
        self.context.settings()
    }

    /// Runs until it is asked to stop or a part of it fails, then drains: probes say so, work in hand ends, the broker's
    /// connection is closed in order.
    pub(crate) async fn run(mut self) -> Done {
        self.readiness.check(PARTS).ready("all there");
        let draining = self.readiness.clone();
        let asked = self.shutdown.clone();
        self.tasks.spawn(
            "readiness",
            watch::ready(
                self.readiness.clone(),
                self.listening.clone(),
                self.shutdown.clone(),
            ),
        );
        let drain = tokio::spawn(async move {
            asked.cancelled().await;
            draining.drain();
        });
        let ending = self.tasks.run().await;
        drain.abort();
        let last_spans = async {
            if let Some(traces) = self.traces.take() {
                traces.end().await;
            }
        };
        let connections = async {
            // A database that does not answer is not waited for: its connections end with the process.
            let _ = tokio::join!(
                self.broker.close(),
                tokio::time::timeout(LAST_WORD, self.pool.close())
            );
        };
        tokio::join!(last_spans, connections);
        self.ended.cancel();
        if let Some(health) = self.health.take()
            && let Err(error) = health.await
        {
            tracing::warn!(%error, "the health routes ended badly");
        }
        tracing::info!("stopped");
        verdict(ending)
    }
}

/// Answers probes and shows metrics until `ended`.
fn serve_health(
    listener: TcpListener,
    readiness: &Readiness,
    registry: &Registry,
    ended: &CancellationToken,
) -> HealthServer {
    let routes =
        inbound::health_routes(readiness.clone()).merge(inbound::metrics_routes(registry.clone()));
    tokio::spawn(inbound::serve(
        listener,
        inbound::fallbacks(routes),
        ended.clone().cancelled_owned(),
        HEALTH_GRACE,
    ))
}

/// A port for one of our own entrances.
pub(crate) async fn listen(
    address: SocketAddr,
    name: &str,
    variable: &str,
) -> Done<(TcpListener, SocketAddr)> {
    let refused = |error: std::io::Error| {
        Failed::new(
            Exit::Unavailable,
            format!("cannot listen on {address} ({name}): {error}"),
        )
        .next(format!(
            "stop what is there, or set another address: {variable}=127.0.0.1:0 takes any free port"
        ))
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

/// Anything but an orderly end is a failure of the process, so that whoever supervises it starts it again.
fn verdict(ending: Ending) -> Done {
    if ending.is_orderly() {
        return Ok(());
    }
    let mut exit = Exit::Failed;
    let mut reasons = Vec::new();
    for (name, ended) in ending.tasks {
        match ended {
            Ended::Orderly => {}
            Ended::Early => reasons.push(format!("{name} ended by itself")),
            Ended::Aborted => reasons.push(format!(
                "{name} was stopped in the middle: its drain took too long"
            )),
            Ended::Panicked(text) => reasons.push(format!("{name} panicked: {text}")),
            Ended::Failed(error) => {
                if needs_a_person(&error) {
                    exit = Exit::Configuration;
                }
                reasons.push(format!("{name}: {error}"));
            }
        }
    }
    Err(Failed::new(exit, reasons.join("; ")))
}

/// Starting again would not help: the broker holds another topology.
fn needs_a_person(error: &TaskError) -> bool {
    matches!(
        error.downcast_ref(),
        Some(
            broker::Error::Topology(_) | broker::Error::Address(_) | broker::Error::Authorities(_)
        )
    )
}
