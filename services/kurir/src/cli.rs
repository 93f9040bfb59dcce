//! The command line: which commands there are. What each takes and does stands in its file.

use std::path::PathBuf;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use event::TenantId;

use crate::commands::budgets::Budgets;
use crate::commands::config::Config;
use crate::commands::connection::Connection;
use crate::commands::dead_letters::DeadLetters;
use crate::commands::held::Held;
use crate::commands::keys::Keys;
use crate::commands::links::Links;
use crate::commands::migrate::Migrate;
use crate::commands::notifications::Notifications;
use crate::commands::publish::Publish;
#[cfg(feature = "simulate")]
use crate::commands::simulate::Simulate;
use crate::commands::tenant::Tenant;
use crate::commands::token::Token;
use crate::commands::topology::Topology;
use crate::commands::unrouted::Unrouted;
#[cfg(feature = "demo")]
use crate::demo::Demo;
use crate::doctor::Doctor;
use crate::exit;
use crate::roles::Worker;

/// Carries every change of a CRM's records on to the systems that must know of it.
#[derive(Debug, Parser)]
#[command(
    name = "kurir",
    version,
    after_help = "`kurir COMMAND --help` explains a command with an example; `kurir --help` also lists the exit codes.",
    after_long_help = exit::TABLE,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110
)]
pub(crate) struct Kurir {
    /// Settings file (TOML); `kurir config --help` says more
    #[arg(
        long,
        value_name = "FILE",
        env = "KURIR_CONFIG",
        hide_env_values = true,
        global = true
    )]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs all roles in one process
    #[command(
        after_help = "Example:\n  kurir migrate && kurir up\n\nStops in order on SIGTERM or Ctrl-C, within 35 seconds; a second one stops at once."
    )]
    Up,
    /// Runs the gateway: takes events over HTTP and publishes them
    #[command(after_help = "Example:\n  KURIR_GATEWAY__LISTEN=0.0.0.0:8080 kurir gateway")]
    Gateway,
    /// Runs one worker; start as many processes of it as the load needs
    Worker(Worker),
    /// Runs the keeper: outbox, dead-letter ledger, janitor; any number of processes
    #[command(after_help = "Example:\n  kurir keeper")]
    Keeper,
    /// Brings the database's schema up to date; the second time it does nothing
    Migrate(Migrate),
    /// The exchanges and queues at the broker
    #[command(subcommand)]
    Topology(Topology),
    /// Publishes CloudEvents from a file or standard input
    Publish(Publish),
    /// Tenants
    #[command(subcommand)]
    Tenant(Tenant),
    /// Tokens that upstream apps use at the gateway
    #[command(subcommand)]
    Token(Token),
    /// Tenants' accounts at partner systems
    #[command(subcommand)]
    Connection(Connection),
    /// Events that wait until their cause is gone
    #[command(subcommand)]
    Held(Held),
    /// Events that no worker's queue took
    #[command(subcommand)]
    Unrouted(Unrouted),
    /// What people were to be told: suspended connections
    #[command(subcommand)]
    Notifications(Notifications),
    /// Events that nothing but an edit or a repair helps
    #[command(name = "dead-letters", subcommand)]
    DeadLetters(DeadLetters),
    /// What each connection may ask of its partner: used, left, waited for
    Budgets(Budgets),
    /// Records and their copies in partner systems
    #[command(subcommand)]
    Links(Links),
    #[cfg(feature = "simulate")]
    /// Stand-ins for partner systems, with faults on request
    Simulate(Simulate),
    /// Looks at everything the fleet stands on and says what to do; changes nothing
    Doctor(Doctor),
    /// Shows the settings in force, secrets hidden, and where each comes from
    Config(Config),
    /// Keys that seal credentials in the database
    #[command(subcommand)]
    Keys(Keys),
    #[cfg(feature = "demo")]
    /// Shows everything at work: an invented day of contact events against a simulated partner
    Demo(Demo),
}

impl Kurir {
    /// This process's arguments, and the tenant whose things they ask for.
    pub(crate) fn of_arguments() -> Result<(Self, Option<TenantId>), clap::Error> {
        let given = Self::command().try_get_matches()?;
        let tenant = asked_tenant(&given);
        Ok((Self::from_arg_matches(&given)?, tenant))
    }
}

/// The tenant that the command itself is given with `--tenant`, whichever command it is.
fn asked_tenant(given: &ArgMatches) -> Option<TenantId> {
    let mut given = given;
    while let Some((_name, inner)) = given.subcommand() {
        given = inner;
    }
    let tenant = given.try_get_one::<TenantId>("tenant").ok()?;
    tenant.cloned()
}
