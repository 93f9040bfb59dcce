//! Every command: settings first, then what it was asked for.

pub(crate) mod budgets;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod dead_letters;
pub(crate) mod held;
pub(crate) mod keys;
pub(crate) mod links;
pub(crate) mod migrate;
pub(crate) mod notifications;
pub(crate) mod publish;
#[cfg(feature = "simulate")]
pub(crate) mod simulate;
pub(crate) mod tenant;
pub(crate) mod token;
pub(crate) mod topology;
pub(crate) mod unrouted;
pub(crate) mod waiting;

use event::TenantId;
use runtime::Need;

use crate::cli::{Command, Kurir};
use crate::commands::keys::Keys;
use crate::context::{Asked, Context};
#[cfg(feature = "demo")]
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

/// `tenant`: whose things are asked for.
pub(crate) async fn run(kurir: Kurir, tenant: Option<TenantId>) -> Done {
    let file = kurir.config;
    let or_named = matches!(
        kurir.command,
        Command::Held(_) | Command::DeadLetters(_) | Command::Unrouted(_)
    );
    let asked = tenant.map(|tenant| Asked { tenant, or_named });
    let load = |needs| -> Done<Context> {
        Ok(Context::load(file.clone(), needs)?.asked_for(asked.clone()))
    };
    match kurir.command {
        Command::Migrate(given) => migrate::run(&load(STORED)?, given).await,
        Command::Tenant(command) => tenant::run(&load(STORED)?, command).await,
        Command::Token(command) => token::run(&load(STORED)?, command).await,
        Command::Connection(command) => connection::run(&load(SEALED)?, command).await,
        Command::Unrouted(command) => {
            let needs = if command.leaves_a_trace() {
                BUS_AND_STORED
            } else {
                BUS
            };
            unrouted::run(&load(needs)?, command).await
        }
        Command::Notifications(command) => notifications::run(&load(STORED)?, command).await,
        Command::Held(command) => held::run(&load(STORED)?, command).await,
        Command::DeadLetters(command) => dead_letters::run(&load(STORED)?, command).await,
        Command::Budgets(given) => budgets::run(&load(STORED)?, given).await,
        Command::Links(command) => links::run(&load(STORED)?, command).await,
        Command::Doctor(given) => {
            // Nothing is needed: what is missing is what it tells.
            let context = load(&[])?;
            Box::pin(doctor::run(&context, file.as_deref(), given)).await
        }
        Command::Config(given) => config::run(file, given),
        Command::Keys(Keys::New { id, output }) => keys::new(&id, output),
        Command::Keys(Keys::Reseal { output }) => keys::reseal(&load(SEALED)?, output).await,
        Command::Topology(command) => topology::run(&load(BUS)?, command).await,
        Command::Publish(command) => {
            let needs = if command.http.is_some() { &[] } else { BUS };
            publish::run(&load(needs)?, command).await
        }
        #[cfg(feature = "simulate")]
        Command::Simulate(command) => simulate::run(command).await,
        Command::Up => roles::up(file).await,
        Command::Gateway => roles::gateway(file).await,
        Command::Worker(given) => roles::worker(file, given).await,
        Command::Keeper => roles::keeper(file).await,
        #[cfg(feature = "demo")]
        Command::Demo(given) => demo::run(file, given).await,
    }
}
