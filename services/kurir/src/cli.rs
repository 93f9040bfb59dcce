//! The command line: names, arguments and help. What a command does stands in `commands`.

pub(crate) mod budgets;
pub(crate) mod dead_letters;
pub(crate) mod held;
mod moment;
pub(crate) mod notifications;
pub(crate) mod unrouted;

use std::path::PathBuf;

use clap::{ArgMatches, Args, Parser, Subcommand};
use event::TenantId;
use uuid::Uuid;

use crate::commands::simulate::{self, Simulate};
use crate::exit;
use crate::fleet::{system_names, worker_names};
use crate::output::Output;

/// Most rows of one page.
pub(crate) const MOST_ROWS: i64 = 1000;
/// Rows that a list shows unless asked for more.
const LIST_LIMIT: &str = "50";

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
    #[command(after_help = "Example:\n  KURIR_WORKER__SLOTS=32 kurir worker metakocka-sync")]
    Worker {
        #[arg(value_parser = worker_names())]
        name: String,
    },
    /// Runs the keeper: outbox, dead-letter ledger, janitor; any number of processes
    #[command(after_help = "Example:\n  kurir keeper")]
    Keeper,
    /// Brings the database's schema up to date; the second time it does nothing
    #[command(
        after_help = "Example:\n  KURIR_DATABASE_URL=postgres://kurir:secret@localhost/kurir kurir migrate"
    )]
    Migrate {
        /// Only says what is missing; exit code 1 if anything is
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        output: Output,
    },
    /// The exchanges and queues at the broker
    #[command(subcommand)]
    Topology(Topology),
    /// Publishes CloudEvents from a file or standard input
    #[command(after_help = "\
One event, a JSON array of events, or one event per line. Each is checked before anything is published.
Over HTTP the token is read from KURIR_TOKEN or --token-file.

Examples:
  kurir publish contact.json
  kurir publish --http http://127.0.0.1:8080 --token-file token < events.jsonl")]
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
    Held(held::Held),
    /// Events that no worker's queue took
    #[command(subcommand)]
    Unrouted(unrouted::Unrouted),
    /// What people were to be told: suspended connections
    #[command(subcommand)]
    Notifications(notifications::Notifications),
    /// Events that nothing but an edit or a repair helps
    #[command(name = "dead-letters", subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// What each connection may ask of its partner: used, left, waited for
    #[command(after_help = "Example:\n  kurir budgets --tenant acme")]
    Budgets(budgets::Budgets),
    /// Records and their copies in partner systems
    #[command(subcommand)]
    Links(Links),
    /// Stand-ins for partner systems, with faults on request
    #[command(after_help = simulate::help())]
    Simulate(Simulate),
    /// Looks at everything the fleet stands on and says what to do; changes nothing
    #[command(after_help = "\
Broker, queues, policies, permissions, database, clocks, credentials, partners and settings, in less than a minute. What
cannot be looked at is told as \"not checked\", with the reason. Each line that is not ok names the next command. Some
answers need RabbitMQ's management API: set KURIR_RABBITMQ_MANAGEMENT_URL.

Exit code 0 if there is no problem (there may be warnings), 1 if there is one.

Examples:
  kurir doctor
  kurir doctor --no-partners --role-url http://127.0.0.1:9092 --role-url http://127.0.0.1:9093
  kurir doctor --json | jq '.findings[] | select(.verdict == \"problem\")'")]
    Doctor(Doctor),
    /// Shows the settings in force, secrets hidden, and where each comes from
    #[command(after_help = "\
Settings come from the defaults, then the file of --config or KURIR_CONFIG, then the environment. A setting
`worker.slots` is the variable KURIR_WORKER__SLOTS; lists are separated by commas. KURIR_AMQP_URL,
KURIR_DATABASE_URL, KURIR_RABBITMQ_MANAGEMENT_URL and KURIR_LOG_FORMAT work under these plain names.

Examples:
  kurir config
  kurir config --defaults > kurir.toml      every setting, explained, to start a file from")]
    Config {
        /// Prints the commented defaults instead
        #[arg(long, conflicts_with = "json")]
        defaults: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Keys that seal credentials in the database
    #[command(subcommand)]
    Keys(Keys),
    /// Shows everything at work: an invented day of contact events against a simulated partner
    #[command(after_help = "\
Needs a broker and a database of its own (`make demo` starts private ones); it creates tenants named `demo-...`.
Ends by itself and removes nothing: `kurir links list` shows the records afterwards.

Example:
  DEMO_SEED=7 make demo")]
    Demo(Demo),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    /// Compares what is at the broker with what this build needs; exit code 4 if they differ
    #[command(after_help = "\
Policies can only be seen through the management API: set KURIR_RABBITMQ_MANAGEMENT_URL.

Example:
  kurir topology check")]
    Check {
        #[command(flatten)]
        output: Output,
    },
    /// Declares everything; what exists already stays
    #[command(
        after_help = "Roles do this at their start; it is for set-ups where they may not.\n\nExample:\n  kurir topology declare"
    )]
    Declare {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// File with events; `-` or nothing is standard input
    pub(crate) file: Option<PathBuf>,
    /// Through the gateway at this address, instead of the broker
    #[arg(long, value_name = "URL")]
    pub(crate) http: Option<String>,
    /// File that holds the token for --http
    #[arg(long, value_name = "FILE", requires = "http")]
    pub(crate) token_file: Option<PathBuf>,
    /// Publishes what was given without checking it (to see what becomes of bad input)
    #[arg(long)]
    pub(crate) unchecked: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Adds a tenant
    #[command(after_help = "Example:\n  kurir tenant add acme --name \"Acme d.o.o.\"")]
    Add {
        /// 1 to 64 letters, digits, `_` or `-`
        #[arg(value_parser = tenant)]
        id: TenantId,
        /// For people
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Lists tenants
    #[command(after_help = "Example:\n  kurir tenant list --json | jq -r '.[].id'")]
    List {
        /// Begins after this id
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Makes a token; it is shown once and never again
    #[command(
        after_help = "Example:\n  kurir token create --tenant acme --name crm --source urn:kurir:acme:crm:default"
    )]
    Create {
        /// Whose it is
        #[arg(long, value_parser = tenant)]
        tenant: TenantId,
        /// Who uses it, for the list
        #[arg(long)]
        name: String,
        /// Only events of this source; without it, any of the tenant's
        #[arg(long)]
        source: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Lists tokens, newest first; never their secrets
    #[command(after_help = "Example:\n  kurir token list --tenant acme")]
    List {
        /// Only of this tenant
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Revokes a token; gateways believe it at most `gateway.token_cache_seconds` longer
    #[command(after_help = "Example:\n  kurir token revoke 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e")]
    Revoke {
        /// Id of the token
        #[arg(value_parser = token_id)]
        id: Uuid,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Credentials {
    /// File with the credentials as a JSON object
    #[arg(long, value_name = "FILE", conflicts_with = "credentials_env")]
    pub(crate) credentials_file: Option<PathBuf>,
    /// Environment variable with the credentials as a JSON object
    #[arg(long, value_name = "NAME")]
    pub(crate) credentials_env: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Connection {
    /// Connects a tenant to a partner and lets go the events that waited for it
    #[command(after_help = format!("\
Credentials are a JSON object, read from standard input, --credentials-file or --credentials-env, never from the
command line. They are sealed and never shown again. Their members:{}

A tenant may have several accounts at one partner, each with a name of its own. An event goes to all that are on. What was
published before is not carried to an account that is added later.

Examples:
  kurir connection add --tenant acme --system metakocka < credentials.json
  kurir connection add --tenant acme --system metakocka --account croatia < credentials-croatia.json", crate::fleet::credentials_help()))]
    Add {
        /// Whose account it is
        #[arg(long, value_parser = tenant)]
        tenant: TenantId,
        /// The partner system
        #[arg(long, value_parser = system_names())]
        system: String,
        /// A name for the account, to tell several of one partner apart
        #[arg(long, default_value = "default", value_parser = account)]
        account: String,
        /// The partner's address, where it is not the usual one
        #[arg(long)]
        url: Option<String>,
        /// A setting of the connection: NAME=VALUE, the value as JSON or text; may be repeated
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
        settings: Vec<(String, serde_json::Value)>,
        #[command(flatten)]
        credentials: Credentials,
        #[command(flatten)]
        output: Output,
    },
    /// Lists connections; never their credentials
    #[command(after_help = "Example:\n  kurir connection list --tenant acme")]
    List {
        /// Only of this tenant
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Asks the partner whether it accepts the credentials; a suspended connection goes on if it does
    #[command(
        after_help = "Only reads at the partner.\n\nExample:\n  kurir connection test --tenant acme --system metakocka"
    )]
    Test {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Replaces the credentials
    #[command(
        after_help = "Then run `kurir connection test`.\n\nExample:\n  kurir connection update --tenant acme --system metakocka < credentials.json"
    )]
    Update {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        credentials: Credentials,
        #[command(flatten)]
        output: Output,
    },
    /// Switches a connection on
    #[command(after_help = "Example:\n  kurir connection enable --tenant acme --system metakocka")]
    Enable {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Switches a connection off: its events are acknowledged and dropped, not kept
    #[command(after_help = "Example:\n  kurir connection disable --tenant acme --system metakocka")]
    Disable {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
}

/// A connection, by id or by tenant and system, and by account where these are several.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Id of the connection
    #[arg(value_parser = connection_id, required_unless_present_all = ["tenant", "system"], conflicts_with_all = ["tenant", "system", "account"])]
    pub(crate) id: Option<Uuid>,
    /// Or whose account, with --system
    #[arg(long, value_parser = tenant, requires = "system")]
    pub(crate) tenant: Option<TenantId>,
    /// The partner system, with --tenant
    #[arg(long, requires = "tenant", value_parser = system_names())]
    pub(crate) system: Option<String>,
    /// Its account, where the tenant has several there
    #[arg(long, requires = "system")]
    pub(crate) account: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Asks no partner system
    #[arg(long)]
    pub(crate) no_partners: bool,
    /// Only connections of this tenant
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// Also asks the role whose health routes are here; may be repeated
    #[arg(long = "role-url", value_name = "URL")]
    pub(crate) role_urls: Vec<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Links {
    /// Lists records and their copies
    #[command(after_help = "Example:\n  kurir links list --tenant acme --state conflict")]
    List {
        /// Only of this tenant
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// pending, linked, conflict, deleted or alias
        #[arg(long, value_parser = ["pending", "linked", "conflict", "deleted", "alias"])]
        state: Option<String>,
        /// The record's id at its source: `512` or `contact/512`
        #[arg(long, value_name = "ID")]
        record: Option<String>,
        /// The record's id at the partner
        #[arg(long, value_name = "ID")]
        target: Option<String>,
        /// Begins after this link
        #[arg(long, value_name = "ID")]
        after: Option<i64>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Tells one record's whole story: versions, calls to the partner, what waits, what happened
    #[command(
        after_help = "Example:\n  kurir links show 12\n  kurir links show contact/512 --tenant acme"
    )]
    Show {
        /// The link's number, or the record as kind/id
        record: String,
        /// Whose record; needed where several tenants have one of this id
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        output: Output,
    },
    /// Says that the conflict of a record is settled, also where no event of it is held
    #[command(after_help = "\
`kurir links show` says what must be done before. Held events of the record leave by themselves then. What is still a
conflict is one again with the next look.

Example:
  kurir links settle 12")]
    Settle {
        /// The link's number, or the record as kind/id
        record: String,
        /// Whose record; needed where several tenants have one of this id
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// Who does it, for the history
        #[arg(long, default_value = "kurir cli", env = "USER", hide_env = true)]
        actor: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Makes a key and prints the settings that use it
    #[command(after_help = "\
The key is printed once and stored nowhere. Keep older keys in keys.ring: they open what they sealed.

Example:
  kurir keys new --id 2026-08 >> kurir.env")]
    New {
        /// Its name in the ring; lower-case letters, digits, `-` and `_`
        #[arg(long, default_value = "k1", value_parser = key_id)]
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Seals all credentials with keys.current, so that older keys can leave the ring
    #[command(after_help = "\
Every role must have the new key in its ring before. Run again, it finds nothing to do.

Example, with the old and the new key in keys.ring and the new one as keys.current:
  kurir keys reseal")]
    Reseal {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Demo {
    /// Another seed is another day
    #[arg(long, env = "DEMO_SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Goes on running after the summary, until Ctrl-C
    #[arg(long, env = "KEEP", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    pub(crate) keep: bool,
}

/// The tenant that the command itself is given with `--tenant`, whichever command it is.
pub(crate) fn asked_tenant(given: &ArgMatches) -> Option<TenantId> {
    let mut given = given;
    while let Some((_name, inner)) = given.subcommand() {
        given = inner;
    }
    let tenant = given.try_get_one::<TenantId>("tenant").ok()?;
    tenant.cloned()
}

pub(crate) fn tenant(text: &str) -> Result<TenantId, String> {
    TenantId::parse(text)
        .ok_or_else(|| "a tenant id is 1 to 64 letters, digits, `_` or `-`".to_owned())
}

pub(crate) fn limit(text: &str) -> Result<i64, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST_ROWS).contains(limit))
        .ok_or_else(|| format!("a number from 1 to {MOST_ROWS}"))
}

/// A long id; who has a short number has one of something else.
fn number(text: &str, what: &str, list: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_no_uuid| {
        let expected = format!(
            "{what} looks like 3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11; `{list}` shows what there is"
        );
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            format!("{expected}. A short number is a held event's (`kurir held show {text}`) or a link's (`kurir links show {text}`)")
        } else {
            expected
        }
    })
}

fn connection_id(text: &str) -> Result<Uuid, String> {
    number(text, "a connection's id", "kurir connection list")
}

fn token_id(text: &str) -> Result<Uuid, String> {
    number(text, "a token's id", "kurir token list")
}

fn setting(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("expected NAME=VALUE")?;
    Ok((
        name.to_owned(),
        serde_json::from_str(value).unwrap_or_else(|_| value.into()),
    ))
}

/// It stands in lists and messages.
fn account(text: &str) -> Result<String, String> {
    const LONGEST: usize = 64;
    let fits = (1..=LONGEST).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("a name of 1 to {LONGEST} characters on one line"))
}

fn key_id(text: &str) -> Result<String, String> {
    let fits = (1..=60).contains(&text.len())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
        });
    fits.then(|| text.to_owned())
        .ok_or_else(|| "1 to 60 lower-case letters, digits, `-` or `_`".to_owned())
}

fn cause(text: &str) -> Result<worker::HoldCause, String> {
    worker::HoldCause::parse(text).ok_or_else(|| {
        let known: Vec<&str> = worker::HoldCause::ALL
            .iter()
            .map(|cause| cause.as_str())
            .collect();
        format!("one of {}", known.join(", "))
    })
}
