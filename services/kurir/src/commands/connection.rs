//! `kurir connection`: tenants' accounts at partners. Credentials come from a file, a variable or standard input, and
//! leave only sealed.

use std::io::{IsTerminal as _, Read as _};

use secrecy::SecretString;
use serde_json::{Map, Value, json};
use store::connections::{self, Changed, NewConnection, Resumed};
use store::{Pool, Scope};
use uuid::Uuid;

use registry::{System, URL};

use crate::cli::{Connection, Credentials, Which};
use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::output::{Page, at, count, one_more, short, table};
use crate::partners::{self, Answer};

/// Longer credentials are no credentials.
const CREDENTIALS_LIMIT: u64 = 64 * 1024;
const REASON_WIDTH: usize = 60;

pub(crate) async fn run(context: &Context, command: Connection) -> Done {
    // Asked for before anything is opened: a wrong file is told at once.
    match command {
        Connection::Add {
            tenant,
            system,
            account,
            url,
            settings,
            credentials,
            output,
        } => {
            let system = partners::system(&system)?;
            let credentials = read(&credentials, system)?;
            let mut settings: Map<String, Value> = settings.into_iter().collect();
            if let Some(url) = url {
                settings.insert(URL.to_owned(), url.into());
            }
            partners::check_settings(&settings)?;
            let pool = context.pool().await?;
            let new = NewConnection {
                tenant,
                system: system.name.to_owned(),
                account,
                settings,
                credentials,
            };
            let changed =
                connections::add(&pool, &context.key_ring()?, &context.prefix(), &new).await?;
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
        Connection::Test { which, output } => {
            let pool = context.pool().await?;
            let connection = find(&pool, &which).await?;
            let (credentials, epoch) = connections::credentials(
                &pool,
                &context.key_ring()?,
                Scope::Everything,
                connection.id,
            )
            .await?;
            match partners::test(context.settings(), &connection, &credentials).await? {
                Answer::Accepted(warnings) => {
                    let resumed =
                        connections::resume(&pool, Scope::Everything, connection.id, epoch).await?;
                    output.show(&json!({ "ok": true, "warnings": warnings, "connection": resumed.connection, "waiting": resumed.waiting }), |_| {
                        let accepted = format!("{} accepts the credentials of {}, account {}", connection.system, connection.tenant, connection.account);
                        let notes = warnings.iter().map(|warning| format!("note: {warning}"));
                        let lines = [accepted, goes_on(&resumed)].into_iter().chain(notes);
                        lines.collect::<Vec<_>>().join("\n")
                    })
                }
                Answer::Refused(refused) => {
                    connections::suspend(&pool, connection.id, epoch, &refused).await?;
                    Err(Failed::new(Exit::Refused, format!("{} refuses the credentials: {refused}", connection.system))
                        .next(format!("`kurir connection update {} < credentials.json`, then test again; its events are held meanwhile", connection.id)))
                }
            }
        }
        Connection::Update {
            which,
            credentials,
            output,
        } => {
            let pool = context.pool().await?;
            let connection = find(&pool, &which).await?;
            let credentials = read(&credentials, partners::system(&connection.system)?)?;
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

fn read(given: &Credentials, system: &System) -> Done<SecretString> {
    let mut text = String::new();
    match (&given.credentials_file, &given.credentials_env) {
        (Some(path), _) => {
            let file = std::fs::File::open(path).map_err(|error| {
                Failed::new(
                    Exit::Refused,
                    format!("{} cannot be read: {error}", path.display()),
                )
            })?;
            file.take(CREDENTIALS_LIMIT + 1).read_to_string(&mut text)?;
        }
        (None, Some(name)) => {
            text = std::env::var(name).map_err(|_unset| {
                Failed::new(
                    Exit::Refused,
                    format!("the environment variable {name} is not set"),
                )
            })?;
        }
        (None, None) => {
            if std::io::stdin().is_terminal() {
                return Err(Failed::new(Exit::Usage, "credentials are read from standard input, and that is a terminal")
                    .next("kurir connection ... < credentials.json, or --credentials-file, or --credentials-env"));
            }
            std::io::stdin()
                .lock()
                .take(CREDENTIALS_LIMIT + 1)
                .read_to_string(&mut text)?;
        }
    }
    if text.len() as u64 > CREDENTIALS_LIMIT {
        return Err(Failed::new(
            Exit::Refused,
            format!("credentials are at most {CREDENTIALS_LIMIT} bytes"),
        ));
    }
    let credentials = SecretString::from(text);
    partners::check_credentials(system, &credentials)?;
    Ok(credentials)
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
