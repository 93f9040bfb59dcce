//! Every command: settings first, then what it was asked for.

mod budgets;
mod config;
mod connection;
pub(crate) mod dead_letters;
mod held;
mod keys;
mod links;
mod migrate;
mod notifications;
pub(crate) mod publish;
mod simulate;
mod tenant;
mod token;
mod topology;
mod unrouted;

use runtime::Need;

use crate::cli::{Command, Keys, Kurir};
use crate::context::Context;
use crate::demo;
use crate::doctor;
use crate::exit::Done;
use crate::roles;

/// What commands on stored things need.
const STORED: &[Need] = &[Need::Database];
/// What commands at the broker need.
const BUS: &[Need] = &[Need::Amqp];
/// What commands need that take messages from the broker and leave a trace of it.
const BUS_AND_STORED: &[Need] = &[Need::Amqp, Need::Database];
/// What commands on credentials need.
const SEALED: &[Need] = &[Need::Database, Need::Keys];

pub(crate) async fn run(kurir: Kurir) -> Done {
    let file = kurir.config;
    match kurir.command {
        Command::Migrate { check, output } => {
            migrate::run(&Context::load(file, STORED)?, check, output).await
        }
        Command::Tenant(command) => tenant::run(&Context::load(file, STORED)?, command).await,
        Command::Token(command) => token::run(&Context::load(file, STORED)?, command).await,
        Command::Connection(command) => {
            connection::run(&Context::load(file, SEALED)?, command).await
        }
        Command::Unrouted(command) => {
            let needs = if command.leaves_a_trace() {
                BUS_AND_STORED
            } else {
                BUS
            };
            unrouted::run(&Context::load(file, needs)?, command).await
        }
        Command::Notifications(command) => {
            notifications::run(&Context::load(file, STORED)?, command).await
        }
        Command::Held(command) => held::run(&Context::load(file, STORED)?, command).await,
        Command::DeadLetters(command) => {
            dead_letters::run(&Context::load(file, STORED)?, command).await
        }
        Command::Budgets(given) => budgets::run(&Context::load(file, STORED)?, given).await,
        Command::Links(command) => links::run(&Context::load(file, STORED)?, command).await,
        Command::Doctor(given) => {
            // Nothing is needed: what is missing is what it tells.
            let context = Context::load(file.clone(), &[])?;
            Box::pin(doctor::run(&context, file.as_deref(), given)).await
        }
        Command::Config { defaults, output } => config::run(file, defaults, output),
        Command::Keys(Keys::New { id, output }) => keys::new(&id, output),
        Command::Keys(Keys::Reseal { output }) => {
            keys::reseal(&Context::load(file, SEALED)?, output).await
        }
        Command::Topology(command) => topology::run(&Context::load(file, BUS)?, command).await,
        Command::Publish(command) => {
            let needs = if command.http.is_some() { &[] } else { BUS };
            publish::run(&Context::load(file, needs)?, command).await
        }
        Command::Simulate(command) => simulate::run(command).await,
        Command::Up => roles::up(file).await,
        Command::Gateway => roles::gateway(file).await,
        Command::Worker { name } => roles::worker(file, name).await,
        Command::Keeper => roles::keeper(file).await,
        Command::Demo(given) => demo::run(file, given).await,
    }
}
