//! `kurir connection`: tenants' accounts at partners. Credentials come from a file, a variable or standard input, and
//! leave only sealed.

mod credentials;

use clap::{Args, Subcommand};
use event::TenantId;
use operations::connections::{Outcome, check_settings, system};
use operations::count;
use registry::URL;
use serde_json::{Map, Value, json};
use store::connections::{self, Changed, NewConnection, Resumed};
use store::{Pool, Scope};
use uuid::Uuid;

use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::fleet;
use crate::fleet::system_names;
use crate::output::{Output, Page, at, one_more, short, table};
use crate::partners;
use crate::values::{LIST_LIMIT, connection_id, limit, tenant};
use credentials::Credentials;

#[derive(Debug, Subcommand)]
pub(crate) enum Connection {
    /// Connects a tenant to a partner and lets go the events that waited for it
    Add(Add),
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

#[derive(Debug, Args)]
#[command(after_help = format!("\
Credentials are a JSON object, read from standard input, --credentials-file or --credentials-env, never from the
command line. They are sealed and never shown again. Their members:{}

A tenant may have several accounts at one partner, each with a name of its own. An event goes to all that are on. What was
published before is not carried to an account that is added later.

Examples:
  kurir connection add --tenant acme --system metakocka < credentials.json
  kurir connection add --tenant acme --system metakocka --account croatia < credentials-croatia.json", crate::fleet::credentials_help()))]
pub(crate) struct Add {
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
    settings: Vec<(String, Value)>,
    #[command(flatten)]
    credentials: Credentials,
    #[command(flatten)]
    output: Output,
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

const REASON_WIDTH: usize = 60;

pub(crate) async fn run(context: &Context, command: Connection) -> Done {
    // Asked for before anything is opened: a wrong file is told at once.
    match command {
        Connection::Add(given) => add(context, given).await,
        Connection::List {
            tenant,
            limit,
            output,
        } => {
            let pool = context.pool().await?;
            let rows = connections::list(&pool, scope(tenant.as_ref()), one_more(limit)).await?;
            output.page(&Page::whole(rows, limit), |rows| {
                let heads = [
                    "id", "tenant", "system", "account", "state", "changed", "settings", "reason",
                ];
                table(
                    &heads,
                    rows.iter().map(row).collect(),
                    "no connections yet; `kurir connection add` adds one",
                )
            })
        }
        Connection::Test { which, output } => test(context, &which, output).await,
        Connection::Update {
            which,
            credentials,
            output,
        } => {
            let pool = context.pool().await?;
            let connection = find(&pool, &which).await?;
            let credentials = credentials.read(system(&fleet::systems(), &connection.system)?)?;
            let changed = connections::update_credentials(
                &pool,
                &context.key_ring()?,
                Scope::Everything,
                connection.id,
                &credentials,
            )
            .await?;
            output.show(&changed, |changed| {
                format!(
                    "replaced the credentials; next: `kurir connection test {}`",
                    changed.id
                )
            })
        }
        Connection::Enable { which, output } => {
            let pool = context.pool().await?;
            let id = find(&pool, &which).await?.id;
            let connection = connections::set_enabled(&pool, Scope::Everything, id, true).await?;
            output.show(&connection, |one| format!("{} is on", named(one)))
        }
        Connection::Disable { which, output } => {
            let pool = context.pool().await?;
            let id = find(&pool, &which).await?.id;
            let connection = connections::set_enabled(&pool, Scope::Everything, id, false).await?;
            output.show(&connection, |one| {
                format!(
                    "{} is off: its events are acknowledged without being carried on",
                    named(one)
                )
            })
        }
    }
}

async fn add(context: &Context, given: Add) -> Done {
    let Add {
        tenant,
        system,
        account,
        url,
        settings,
        credentials,
        output,
    } = given;
    let system = operations::connections::system(&fleet::systems(), &system)?;
    let credentials = credentials.read(system)?;
    let mut settings: Map<String, Value> = settings.into_iter().collect();
    if let Some(url) = url {
        settings.insert(URL.to_owned(), url.into());
    }
    check_settings(&settings)?;
    let pool = context.pool().await?;
    let new = NewConnection {
        tenant,
        system: system.name.to_owned(),
        account,
        settings,
        credentials,
    };
    let changed = connections::add(&pool, &context.key_ring()?, &context.prefix(), &new).await?;
    output.show(&changed, |changed| {
        let Changed { connection, .. } = changed;
        let added = format!(
            "added connection {} of {} to {}, account {}",
            connection.id, connection.tenant, connection.system, connection.account
        );
        format!(
            "{added}\n{}\nnext: `kurir connection test {}`",
            let_go(changed),
            changed.connection.id
        )
    })
}

async fn test(context: &Context, which: &Which, output: Output) -> Done {
    let pool = context.pool().await?;
    let connection = find(&pool, which).await?;
    let ring = context.key_ring()?;
    let partners = partners::of(context.settings())?;
    match partners.test_and_note(&pool, &ring, &connection).await? {
        Outcome::Accepted { warnings, resumed } => {
            let told = json!({
                "ok": true,
                "warnings": warnings,
                "connection": resumed.connection,
                "waiting": resumed.waiting,
            });
            output.show(&told, |_| {
                let accepted = format!(
                    "{} accepts the credentials of {}, account {}",
                    connection.system, connection.tenant, connection.account
                );
                let notes = warnings.iter().map(|warning| format!("note: {warning}"));
                let lines = [accepted, goes_on(&resumed)].into_iter().chain(notes);
                lines.collect::<Vec<_>>().join("\n")
            })
        }
        Outcome::Refused(refused) => {
            let refused = format!("{} refuses the credentials: {refused}", connection.system);
            Err(Failed::new(Exit::Refused, refused).next(format!(
                "`kurir connection update {} < credentials.json`, then test again; its events are held meanwhile",
                connection.id
            )))
        }
    }
}

fn let_go(changed: &Changed) -> String {
    match changed.released {
        0 => "no events were waiting for it".to_owned(),
        released => format!("let go {} that had waited for it", count(released, "event")),
    }
}

fn goes_on(resumed: &Resumed) -> String {
    match resumed.waiting {
        0 => "no events were waiting for it".to_owned(),
        waiting => format!(
            "{} waited for it: the keeper lets them go, the newest of each record, at the pace of the budget",
            count(waiting, "event")
        ),
    }
}

async fn find(pool: &Pool, which: &Which) -> Done<connections::Connection> {
    Ok(match (which.id, &which.tenant, &which.system) {
        (Some(id), ..) => connections::get(pool, Scope::Everything, id).await?,
        (None, Some(tenant), Some(system)) => {
            connections::find(pool, tenant, system, which.account.as_deref()).await?
        }
        (None, ..) => {
            return Err(Failed::new(
                Exit::Usage,
                "which connection? name its id, or --tenant and --system",
            ));
        }
    })
}

/// In a message about one of perhaps several.
fn named(connection: &connections::Connection) -> String {
    format!(
        "{} of {}, account {},",
        connection.system, connection.tenant, connection.account
    )
}

fn row(row: &connections::Connection) -> Vec<String> {
    let state = if row.enabled {
        row.state.clone()
    } else {
        "off".to_owned()
    };
    let settings = match row.settings.as_object() {
        Some(settings) if !settings.is_empty() => row.settings.to_string(),
        _ => String::new(),
    };
    let id: Uuid = row.id;
    vec![
        id.to_string(),
        row.tenant.clone(),
        row.system.clone(),
        row.account.clone(),
        state,
        at(row.updated_at),
        settings,
        short(
            row.state_reason.as_deref().unwrap_or_default(),
            REASON_WIDTH,
        ),
    ]
}

fn setting(text: &str) -> Result<(String, Value), String> {
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
