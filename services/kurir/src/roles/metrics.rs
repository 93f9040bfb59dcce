//! What every process shows of itself at `/metrics`: build, readiness, database pool, log lines. Read at each scrape.

use std::time::Duration;

use inbound::Readiness;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use store::Pool;

use crate::exit::{Done, Exit, Failed};

/// Upper bounds in seconds.
const PING_BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
/// The revision that the binary was built from, where the build says it.
const REVISION: &str = match option_env!("KURIR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Registers what a part of the process counts.
///
/// # Errors
/// Failed: two parts use one name; a mistake of this build.
pub(super) fn register(
    registry: &prometheus::Registry,
    collectors: Vec<Box<dyn Collector>>,
) -> Done {
    for collector in collectors {
        registry
            .register(collector)
            .map_err(|error| Failed::new(Exit::Failed, format!("metrics: {error}")))?;
    }
    Ok(())
}

/// A registry that already shows the process itself (`process_*`, build).
///
/// # Errors
/// As `register`.
pub(super) fn registry() -> Done<prometheus::Registry> {
    let registry = prometheus::Registry::new();
    let build = made(IntGaugeVec::new(
        Opts::new(
            "kurir_build_info",
            "1, with the version of this build in its labels.",
        ),
        &["version", "revision"],
    ));
    build
        .with_label_values(&[env!("CARGO_PKG_VERSION"), REVISION])
        .set(1);
    let process = prometheus::process_collector::ProcessCollector::for_self();
    register(&registry, vec![Box::new(build), Box::new(process)])?;
    Ok(registry)
}

fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a metric's name, labels and help are well formed")
}

/// How the process is, as `/readyz` would say.
pub(super) struct Health {
    readiness: Readiness,
    ready: IntGauge,
    checks: IntGaugeVec,
    draining: IntGauge,
}

impl Health {
    pub(super) fn new(readiness: Readiness) -> Self {
        Self {
            readiness,
            ready: made(IntGauge::new(
                "kurir_ready",
                "1 while the process has all it needs, else 0: /readyz says what is missing.",
            )),
            checks: made(IntGaugeVec::new(
                Opts::new(
                    "kurir_check_ready",
                    "1 for each need of the process that is met, else 0.",
                ),
                &["check"],
            )),
            draining: made(IntGauge::new(
                "kurir_shutdown_draining",
                "1 from the moment the process was asked to stop.",
            )),
        }
    }
}

impl Collector for Health {
    fn desc(&self) -> Vec<&Desc> {
        let parts: [&dyn Collector; 3] = [&self.ready, &self.checks, &self.draining];
        parts.into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let report = self.readiness.report();
        self.ready.set(report.ready.into());
        self.draining.set(report.draining.into());
        for (name, check) in &report.checks {
            self.checks.with_label_values(&[name]).set(check.ok.into());
        }
        let parts: [&dyn Collector; 3] = [&self.ready, &self.checks, &self.draining];
        parts.into_iter().flat_map(Collector::collect).collect()
    }
}

/// The process's connections to the database.
pub(super) struct DatabasePool {
    pool: Pool,
    connections: IntGaugeVec,
    limit: IntGauge,
}

impl DatabasePool {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool,
            connections: made(IntGaugeVec::new(
                Opts::new(
                    "kurir_db_pool_connections",
                    "Connections to the database, used by a statement or idle.",
                ),
                &["state"],
            )),
            limit: made(IntGauge::new(
                "kurir_db_pool_limit",
                "The most connections that this process opens to the database.",
            )),
        }
    }
}

impl Collector for DatabasePool {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.connections.desc();
        all.extend(self.limit.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let idle = self.pool.num_idle();
        let used = usize::try_from(self.pool.size())
            .unwrap_or(usize::MAX)
            .saturating_sub(idle);
        for (state, count) in [("idle", idle), ("used", used)] {
            self.connections
                .with_label_values(&[state])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.limit
            .set(self.pool.options().get_max_connections().into());
        let mut all = self.connections.collect();
        all.extend(self.limit.collect());
        all
    }
}

/// Log lines of the process, and traces that could not be handed over.
pub(super) struct Telemetry {
    lines: IntCounterVec,
    lost: prometheus::IntCounter,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            lines: made(IntCounterVec::new(
                Opts::new("kurir_log_messages_total", "Log lines written, by level."),
                &["level"],
            )),
            lost: made(prometheus::IntCounter::new(
                "kurir_trace_export_failures_total",
                "Batches of spans that the trace collector did not take. The work itself is not affected.",
            )),
        }
    }
}

impl Collector for Telemetry {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.lines.desc();
        all.extend(self.lost.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for level in [
            tracing::Level::ERROR,
            tracing::Level::WARN,
            tracing::Level::INFO,
        ] {
            let name = level.as_str().to_ascii_lowercase();
            catch_up(
                &self.lines.with_label_values(&[&name]),
                runtime::telemetry::log_lines(level),
            );
        }
        catch_up(&self.lost, runtime::telemetry::export_failures());
        let mut all = self.lines.collect();
        all.extend(self.lost.collect());
        all
    }
}

/// Counted elsewhere: the metric follows, and never goes back.
fn catch_up(counter: &prometheus::IntCounter, now: u64) {
    counter.inc_by(now.saturating_sub(counter.get()));
}

/// How long the database takes to answer the simplest question, asked by the readiness check.
#[derive(Clone)]
pub(super) struct Ping(Histogram);

impl Default for Ping {
    fn default() -> Self {
        Self(made(Histogram::with_opts(
            HistogramOpts::new(
                "kurir_db_ping_duration_seconds",
                "How long the database took to answer one small question, the wait for a free connection of the pool included. Asked every two seconds.",
            )
            .buckets(PING_BUCKETS.to_vec()),
        )))
    }
}

impl Ping {
    pub(super) fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.0.clone())
    }

    pub(super) fn took(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}
