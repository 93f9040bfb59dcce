//! The parts of a keeper side by side.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backlog_statistics::Counting;
use crate::deps::{Deps, Worker};
use crate::janitor::Janitor;
use crate::ledger::Ledger;
use crate::notices::Notices;
use crate::pace::Pace;
use crate::readiness::Readiness;
use crate::relay::Relay;
use crate::release::Releaser;
use crate::replay::Replays;

/// Which parts run. Several keepers may run the same parts.
#[derive(Clone, Debug)]
pub struct Settings {
    pub workers: Vec<Worker>,
    pub relay: bool,
    /// Off: dead letters stay in RabbitMQ, for who wants to look there (`KURIR_LEDGER=off`).
    pub ledger: bool,
    pub janitor: bool,
    pub janitor_every: Duration,
    /// Off: what is held stays held until somebody releases it by hand.
    pub release: bool,
    pub release_every: Duration,
    /// Off: replays that were ordered wait, and neighbours of a crash stay open.
    pub replay: bool,
}

/// Until the shutdown: each part finishes what it has in hand, within about 10 s. Outages of the database and the
/// broker are waited for, and said by `readiness` meanwhile.
pub async fn run(
    deps: Deps,
    settings: Settings,
    readiness: Arc<Readiness>,
    shutdown: CancellationToken,
) {
    let relay = Relay {
        pool: &deps.pool,
        publisher: deps.broker.publisher(),
        outcomes: deps.broker.topology().outcomes(),
        readiness: &readiness,
    };
    let ledger = Ledger {
        deps: deps.clone(),
        readiness: readiness.clone(),
    };
    let janitor = Janitor {
        pool: &deps.pool,
        prefix: &deps.prefix,
        workers: &settings.workers,
        every: settings.janitor_every,
        readiness: &readiness,
    };
    let releaser = Releaser {
        pool: &deps.pool,
        prefix: &deps.prefix,
        every: settings.release_every,
        readiness: &readiness,
    };
    let pace = Pace {
        pool: &deps.pool,
        prefix: &deps.prefix,
        workers: &settings.workers,
        every: settings.release_every,
        readiness: &readiness,
    };
    let replays = Replays {
        pool: &deps.pool,
        prefix: &deps.prefix,
        readiness: &readiness,
    };
    let notices = Notices {
        pool: &deps.pool,
        metrics: &readiness.metrics,
    };
    let counting = Counting {
        pool: &deps.pool,
        metrics: &readiness.metrics,
    };
    readiness.metrics.expect_workers(
        settings
            .workers
            .iter()
            .map(|worker| (worker.name.as_str(), worker.target_system.as_str())),
    );
    let end = || shutdown.clone();
    tokio::join!(
        when(settings.relay, relay.run(end())),
        when(settings.ledger, ledger.run(&settings.workers, end())),
        when(settings.janitor, janitor.run(end())),
        when(settings.release, releaser.run(end())),
        when(settings.release, pace.run(end())),
        when(settings.replay, replays.run(end())),
        notices.run(end()),
        counting.run(end())
    );
}

async fn when(on: bool, part: impl Future<Output = ()>) {
    if on {
        part.await;
    }
}
