//! The workers of this build, by name.

use broker::{Broker, Topology};
use event::EventType;

use crate::cli::WorkerName;
use crate::context::{Context, PATIENCE};
use crate::exit::{Done, Exit, Failed};

/// What the broker and the keeper must know of a worker.
pub(crate) struct Worker {
    /// Its queues are `<prefix>.<name>` and those below it.
    pub(crate) name: &'static str,
    /// The partner system its links lead to.
    pub(crate) target_system: &'static str,
    pub(crate) consumes: &'static [EventType],
}

pub(crate) const WORKERS: &[Worker] = &[Worker {
    name: metakocka_sync::NAME,
    target_system: metakocka_sync::SYSTEM,
    consumes: metakocka_sync::CONSUMES,
}];

/// As the topology takes them.
pub(crate) fn queues() -> Vec<(&'static str, &'static [EventType])> {
    WORKERS
        .iter()
        .map(|worker| (worker.name, worker.consumes))
        .collect()
}

pub(crate) fn worker_name(name: WorkerName) -> &'static str {
    match name {
        WorkerName::MetakockaSync => metakocka_sync::NAME,
    }
}

/// A connected broker for a command, trying as long as commands do.
pub(crate) async fn broker(context: &Context, name: &str) -> Done<Broker> {
    let broker = start_broker(context, name)?;
    broker.connected(PATIENCE).await?;
    Ok(broker)
}

/// A broker for a role: connects in the background, for ever.
pub(crate) fn start_broker(context: &Context, name: &str) -> Done<Broker> {
    let amqp = &context.settings().amqp;
    let url = amqp
        .url
        .clone()
        .ok_or_else(|| Failed::new(Exit::Configuration, "amqp.url is missing"))?;
    let settings = broker::Settings {
        ca_file: amqp.ca_file.clone(),
        prefix: amqp.prefix.clone(),
        name: format!("kurir-{name}"),
        ..broker::Settings::new(url)
    };
    Ok(Broker::start(settings)?)
}

pub(crate) fn topology(context: &Context) -> Topology {
    Topology::new(&context.settings().amqp.prefix)
}
