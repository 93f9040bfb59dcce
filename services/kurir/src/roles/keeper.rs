//! The keeper's parts.

use std::sync::Arc;

use keeper::{Deps, Readiness, Settings, Worker};

use super::declare::{self, What};
use super::{Process, watch};
use crate::exit::Done;
use crate::fleet::workers;

pub(super) async fn add(process: &mut Process) -> Done {
    let given = &process.settings().keeper;
    let settings = Settings {
        workers: workers()
            .iter()
            .map(|worker| Worker {
                name: worker.name.to_owned(),
                target_system: worker.system.name.to_owned(),
                facets: worker.facets,
            })
            .collect(),
        relay: given.outbox,
        ledger: given.ledger,
        janitor: given.janitor,
        janitor_every: given.janitor_every,
        release: given.release,
        release_every: given.release_every,
        replay: given.replay,
    };
    let deps = Deps {
        pool: process.pool.clone(),
        broker: process.broker.clone(),
        prefix: process.context.prefix(),
        links: process.links.clone(),
        connections: Arc::clone(&process.connections) as _,
        pins: Arc::clone(&process.pins) as _,
    };
    let readiness = Arc::new(Readiness::default());
    process.show(readiness.collectors())?;
    let check = process.readiness.check("keeper");
    let queues = process.readiness.check("queues");
    let asked = Arc::clone(&readiness);
    let (shutdown, watched) = (process.shutdown.clone(), process.shutdown.clone());
    process.tasks.spawn(
        "keeper watch",
        watch::problems(check, watched, move || asked.problems()),
    );
    process.tasks.spawn("keeper", async move {
        declare::until_done(What::Workers, &deps.broker, &queues, &shutdown).await?;
        let broker = deps.broker.clone();
        let keeping = declare::kept_up(What::Workers, &broker, &queues, &shutdown);
        let work = Box::pin(keeper::run(deps, settings, readiness, shutdown.clone()));
        tokio::join!(work, keeping);
        Ok::<_, broker::Error>(())
    });
    Ok(())
}
