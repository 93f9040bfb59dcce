//! A worker's parts: its handler on the consumer loop.

use std::sync::Arc;

use broker::{ConsumeSettings, Counters, Readiness, Worker};
use metakocka_sync::{Deps, MetakockaSync};
use store::cuts::Cutter;
use sync::{Grant, LinkHolds};
use worker::Handler as _;

use super::{Process, watch};
use crate::cli::WorkerName;
use crate::exit::Done;
use crate::partners;

pub(super) async fn add(process: &mut Process, name: WorkerName) -> Done {
    match name {
        WorkerName::MetakockaSync => metakocka_sync(process),
    }
}

fn metakocka_sync(process: &mut Process) -> Done {
    let settings = process.settings();
    let handler = MetakockaSync::new(Deps {
        pool: process.pool.clone(),
        keys: process.context.key_ring()?,
        links: process.links.clone(),
        connections: Arc::clone(&process.connections) as _,
        budgets: Arc::clone(&process.budgets) as _,
        client: partners::client(settings)?,
        settings: partners::metakocka_sync(settings)?,
    });
    let counters = Arc::new(Counters::new(handler.name(), handler.consumes()));
    process.show(handler.collectors())?;
    process.show(counters.collectors())?;
    let readiness = Arc::new(Readiness::default());
    let worker = Worker {
        claims: Arc::new(handler.claims()),
        holds: Arc::new(LinkHolds::new(process.links.clone())),
        cuts: Arc::new(Cutter::new(process.pool.clone(), process.context.prefix())),
        pins: Arc::clone(&process.pins) as _,
        connections: Arc::clone(&process.connections) as _,
        budgets: Some(Arc::clone(&process.budgets) as _),
        broker: process.broker.clone(),
        publisher: process.broker.publisher(),
        settings: ConsumeSettings {
            slots: usize::from(settings.worker.slots),
            prefetch: settings.worker.prefetch,
            lease: settings.sync.lease,
        },
        alone: process.alone.clone(),
        link_of: |grant: &Grant| Some(grant.granted.link.id),
        counters,
        readiness,
        handler: Arc::new(handler),
    };
    let check = process.readiness.check(worker.handler.name());
    let (asked, shutdown) = (Arc::clone(&worker.readiness), process.shutdown.clone());
    let watched = watch::problems(check, shutdown.clone(), move || asked.problems());
    process.tasks.spawn("worker watch", watched);
    process
        .tasks
        .spawn(worker.handler.name(), broker::run(worker, shutdown));
    Ok(())
}
