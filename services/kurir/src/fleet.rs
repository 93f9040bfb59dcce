//! The workers of this build. Everything that depends on which there are asks here: command line, queues, settings,
//! metrics, budgets, doctor, docs.

use std::fmt::Write as _;
use std::sync::OnceLock;

use broker::{Broker, Topology};
use clap::builder::PossibleValuesParser;
use event::EventType;
use registry::{System, Worker};
use runtime::Section;

use crate::context::{Context, PATIENCE};
use crate::exit::{Done, Exit, Failed};

/// A new worker is one line here.
pub const WORKERS: &[&Worker] = &[&metakocka_sync::WORKER];

static RUNNING: OnceLock<&'static [&'static Worker]> = OnceLock::new();

/// Once, before anything asks for them; later calls change nothing.
pub(crate) fn begin(workers: &'static [&'static Worker]) {
    // Somebody who calls `run` twice has the same list.
    let _ = RUNNING.set(workers);
}

/// Those of the running binary.
pub(crate) fn workers() -> &'static [&'static Worker] {
    RUNNING.get().copied().unwrap_or(WORKERS)
}

/// The partner systems that they lead to, each once.
pub(crate) fn systems() -> Vec<&'static System> {
    let mut systems: Vec<&'static System> = Vec::new();
    for worker in workers() {
        if systems.iter().all(|known| known.name != worker.system.name) {
            systems.push(worker.system);
        }
    }
    systems
}

/// The settings that services own.
pub(crate) fn sections() -> Vec<&'static Section> {
    systems().iter().map(|system| system.section).collect()
}

/// As the topology takes them.
pub(crate) fn queues() -> Vec<(&'static str, &'static [EventType])> {
    workers()
        .iter()
        .map(|worker| (worker.name, worker.consumes))
        .collect()
}

/// For clap: the names of workers.
pub(crate) fn worker_names() -> PossibleValuesParser {
    PossibleValuesParser::new(workers().iter().map(|worker| worker.name))
}

/// For clap: the names of systems.
pub(crate) fn system_names() -> PossibleValuesParser {
    PossibleValuesParser::new(systems().into_iter().map(|system| system.name))
}

/// What each system's credentials are, a line each, for help.
pub(crate) fn credentials_help() -> String {
    let mut text = String::new();
    for system in systems() {
        let _ = write!(text, "\n  {}: {}", system.name, system.credentials_shape());
    }
    text
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
