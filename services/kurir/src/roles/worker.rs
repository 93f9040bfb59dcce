//! A worker's parts: its handler on the consumer loop.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use broker::{ConsumeSettings, Counters, Readiness};
use outbound::Client;
use registry::{System, Worker};
use store::fan_out::OutboxFanOut;
use sync::{Deps, Grant, LinkHolds, LinkWorker, Metrics};
use worker::Handler as _;

use super::{Process, watch};
use crate::exit::Done;
use crate::partners;

/// What the workers of one process share: one way out, and the metrics of each partner system.
#[derive(Default)]
pub(super) struct Shared {
    client: OnceLock<Client>,
    systems: BTreeMap<&'static str, Reached>,
}

/// A partner system as the workers of this process reach it.
struct Reached {
    /// Under the system's policy.
    client: Client,
    metrics: Arc<Metrics>,
}

pub(super) async fn add(process: &mut Process, registered: &'static Worker) -> Done {
    let system = registered.system;
    reach(process, system)?;
    let Reached { client, metrics } = &process.shared.systems[system.name];
    let settings = process.context.settings();
    let partner = (registered.partner)(client, settings.section(system.name))
        .map_err(partners::unreadable)?;
    let handler = LinkWorker::new(Deps {
        worker: registered.name,
        system: system.name,
        pool: process.pool.clone(),
        keys: process.context.key_ring()?,
        links: process.links.clone(),
        connections: Arc::clone(&process.connections) as _,
        budgets: Arc::clone(&process.budgets) as _,
        settings: sync::Settings {
            send_window: settings.sync.send_window,
            rechecks: settings.sync.recheck_after.clone(),
        },
        metrics: Arc::clone(metrics),
        partner,
        consumes: registered.consumes,
        facets: registered.facets,
    });
    run(process, handler)
}

/// The first worker that leads to a system makes its way out and shows its metrics.
fn reach(process: &mut Process, system: &'static System) -> Done {
    if process.shared.systems.contains_key(system.name) {
        return Ok(());
    }
    let client = match process.shared.client.get() {
        Some(client) => client.clone(),
        None => {
            let client = partners::client()?;
            process.show(client.collectors())?;
            process.shared.client.get_or_init(|| client).clone()
        }
    };
    let client = operations::connections::under(&client, system, process.context.settings())?;
    client.expect(system.name, (system.operations)());
    let metrics = Arc::new(Metrics::new(system.name));
    process.show(metrics.collectors())?;
    let reached = Reached { client, metrics };
    process.shared.systems.insert(system.name, reached);
    Ok(())
}

fn run(process: &mut Process, handler: LinkWorker) -> Done {
    let settings = process.context.settings();
    let counters = Arc::new(Counters::new(handler.name(), handler.consumes()));
    process.show(counters.collectors())?;
    let readiness = Arc::new(Readiness::default());
    let worker = broker::Worker {
        claims: Arc::new(handler.claims()),
        holds: Arc::new(LinkHolds::new(process.links.clone())),
        fan_out: Arc::new(OutboxFanOut::new(
            process.pool.clone(),
            process.context.prefix(),
        )),
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
        exclusive_run: process.exclusive_run.clone(),
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
