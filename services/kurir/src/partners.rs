//! Partner systems as commands and roles use them: the process's way out to each, its budgets, and how a connection is
//! checked and tried out. What differs between systems stands in their registrations.

use outbound::Client;
use registry::{System, TestError, Trial, URL};
use runtime::Settings;
use secrecy::SecretString;
use serde_json::{Map, Value};
use worker::budget::BudgetSpec;

use crate::exit::{Done, Exit, Failed};
use crate::fleet;

/// The system of this name, as an argument of a command line or as a connection's row has it.
///
/// # Errors
/// Refused: this build knows no such system.
pub(crate) fn system(name: &str) -> Done<&'static System> {
    fleet::system(name).ok_or_else(|| {
        Failed::new(
            Exit::Refused,
            format!("this build does not know the system {name}"),
        )
    })
}

/// # Errors
/// Refused: members are missing or not text. Values are not quoted.
pub(crate) fn check_credentials(system: &System, credentials: &SecretString) -> Done {
    system.check_credentials(credentials).map_err(|why| {
        let shape = system.credentials_shape();
        Failed::new(Exit::Refused, why).next(format!(
            "credentials for {} are a JSON object {shape}",
            system.name
        ))
    })
}

/// # Errors
/// Refused: the address of the connection is none, or its budget cannot be read.
pub(crate) fn check_settings(connection: &Map<String, Value>) -> Done {
    if let Some(budget) = connection.get("budget") {
        check_budget(budget)?;
    }
    let Some(url) = connection.get(URL) else {
        return Ok(());
    };
    let parsed = url
        .as_str()
        .and_then(|text| outbound::Url::parse(text).ok());
    parsed
        .filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
        .map(drop)
        .ok_or_else(|| Failed::new(Exit::Refused, "the connection's url is no http address"))
}

/// # Errors
/// Refused: names the member that is wrong.
pub(crate) fn check_budget(budget: &Value) -> Done {
    let any = BudgetSpec {
        windows: Vec::new(),
        in_flight: 1,
        searches: 1,
    };
    let settings = serde_json::json!({ "budget": budget });
    BudgetSpec::of(&settings, &any).map(drop).map_err(|why| {
        Failed::new(Exit::Refused, why)
            .next("a budget is {\"windows\":[{\"requests\":600,\"seconds\":60}],\"in_flight\":2}")
    })
}

/// The process's way out. Each system's calls leave through `under`, under its own policy, and count together.
pub(crate) fn client() -> Done<Client> {
    Client::new(outbound::Settings::default()).map_err(no_client)
}

/// The way out to one system.
pub(crate) fn under(client: &Client, system: &System, settings: &Settings) -> Done<Client> {
    let policy = (system.policy)(settings.section(system.name)).map_err(unreadable)?;
    client.under(policy).map_err(no_client)
}

/// How this process applies budgets.
pub(crate) fn budgets(settings: &Settings) -> Done<store::budgets::Settings> {
    let of = |system: &System| {
        let budget = (system.budget)(settings.section(system.name)).map_err(unreadable)?;
        Ok((system.name.to_owned(), budget))
    };
    let defaults: Done<_> = fleet::systems().into_iter().map(of).collect();
    Ok(store::budgets::Settings {
        defaults: defaults?,
        circuit_open: settings.worker.circuit_open,
    })
}

/// How a connection answered.
pub(crate) enum Answer {
    /// Accepted; sentences that a person should read all the same.
    Accepted(Vec<String>),
    /// The partner refuses the credentials, in its words.
    Refused(String),
}

/// Tries the credentials with one reading call.
///
/// # Errors
/// The partner cannot be reached or answers something else; says nothing about the credentials.
pub(crate) async fn test(
    settings: &Settings,
    connection: &store::connections::Connection,
    credentials: &SecretString,
) -> Done<Answer> {
    let system = system(&connection.system)?;
    let client = under(&client()?, system, settings)?;
    let tested = (system.test)(Trial {
        client: &client,
        settings: settings.section(system.name),
        connection: &connection.settings,
        credentials,
    })
    .await;
    match tested {
        Ok(tested) => Ok(Answer::Accepted(tested.warnings)),
        Err(TestError::Refused(text)) => Ok(Answer::Refused(text)),
        Err(TestError::Unusable(text)) => Err(Failed::new(Exit::Refused, text)),
        Err(TestError::PrivateAddress(text)) => {
            let name = system.name.to_uppercase();
            Err(Failed::new(Exit::Configuration, text).next(format!(
                "set KURIR_{name}__ALLOW_PRIVATE_ADDRESSES=true here and for the workers, if that is what you want"
            )))
        }
        Err(TestError::Unavailable(text)) => Err(Failed::new(Exit::Unavailable, text)
            .next("check the connection's url, then test again")),
    }
}

fn no_client(error: outbound::Error) -> Failed {
    Failed::new(Exit::Failed, error.to_string())
}

/// The rules of the section let something through that its owner cannot read.
pub(crate) fn unreadable(why: String) -> Failed {
    Failed::new(Exit::Configuration, why)
}
