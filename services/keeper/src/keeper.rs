//! The parts of a keeper side by side.

use std::sync::Arc;
use std::time::Duration;

use store::links::Links;
use store::{Pool, QueuePrefix};
use tokio_util::sync::CancellationToken;
use worker::{Connections, Pins};

use crate::census::Counting;
use crate::janitor::Janitor;
use crate::ledger::Ledger;
use crate::notices::Notices;
use crate::pace::Pace;
use crate::readiness::Readiness;
use crate::relay::Relay;
use crate::release::Releaser;
use crate::replay::Replays;

/// A worker whose dead letters and links this keeper looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its queues are `<prefix>.<name>` and `<prefix>.<name>.dead`.
    pub name: String,
    /// The partner system that its links lead to.
    pub target_system: String,
}

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

/// What it works with.
#[derive(Clone)]
pub struct Deps {
    pub pool: Pool,
    pub broker: broker::Broker,
    pub prefix: QueuePrefix,
    pub links: Links,
    pub connections: Arc<dyn Connections>,
    pub pins: Arc<dyn Pins>,
}

/// Until the shutdown: each part finishes what it has in hand, within about 10 s. Outages of the database and the
/// broker are waited for, and said by `readiness` meanwhile.
pub async fn run(
    deps: Deps,
    settings: Settings,
    readiness: Arc<Readiness>,
    shutdown: CancellationToken,
) {
    let relay = async {
        if settings.relay {
            let relay = Relay {
                pool: &deps.pool,
                publisher: deps.broker.publisher(),
                readiness: &readiness,
            };
            relay.run(shutdown.clone()).await;
        }
    };
    let ledger = async {
        if settings.ledger {
            let ledger = Ledger {
                deps: deps.clone(),
                readiness: readiness.clone(),
            };
            ledger.run(&settings.workers, shutdown.clone()).await;
        }
    };
    let janitor = async {
        if settings.janitor {
            let janitor = Janitor {
                pool: &deps.pool,
                prefix: &deps.prefix,
                workers: &settings.workers,
                every: settings.janitor_every,
                readiness: &readiness,
            };
            janitor.run(shutdown.clone()).await;
        }
    };
    let releaser = async {
        if settings.release {
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
            tokio::join!(releaser.run(shutdown.clone()), pace.run(shutdown.clone()));
        }
    };
    let replays = async {
        if settings.replay {
            let replays = Replays {
                pool: &deps.pool,
                prefix: &deps.prefix,
                readiness: &readiness,
            };
            replays.run(shutdown.clone()).await;
        }
    };
    let notices = Notices {
        pool: &deps.pool,
        measures: &readiness.measures,
    };
    let counting = Counting {
        pool: &deps.pool,
        measures: &readiness.measures,
    };
    readiness.measures.expect_workers(
        settings
            .workers
            .iter()
            .map(|worker| (worker.name.as_str(), worker.target_system.as_str())),
    );
    tokio::join!(
        relay,
        ledger,
        janitor,
        releaser,
        replays,
        notices.run(shutdown.clone()),
        counting.run(shutdown.clone())
    );
}
