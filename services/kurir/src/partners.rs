//! Partner systems as the command line knows them: which credentials and settings a connection has, and how it is
//! tried out. What their calls mean stands in their clients.

use std::time::Duration;

use metakocka_sync::{TestError, connection_test};
use outbound::address::Private;
use outbound::{Client, Url};
use runtime::{Reserve, Settings};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use worker::budget::{BudgetSpec, Window};

use crate::cli::System;
use crate::exit::{Done, Exit, Failed};

/// Setting of a connection: the partner's address.
pub(crate) const URL: &str = "url";
const SECRET_KEY: &str = "secret_key";
const COMPANY_ID: &str = "company_id";

/// # Errors
/// Refused: members are missing or not text. Values are not quoted.
pub(crate) fn check_credentials(system: System, credentials: &SecretString) -> Done {
    let System::Metakocka = system;
    let shape = "a JSON object {\"secret_key\": \"...\", \"company_id\": \"...\"}";
    let refused = |why: String| {
        Failed::new(Exit::Refused, why).next(format!("credentials for metakocka are {shape}"))
    };
    let object: Map<String, Value> = serde_json::from_str(credentials.expose_secret())
        .map_err(|_quotes_them| refused("the credentials are not a JSON object".to_owned()))?;
    let has = |name: &str| match object.get(name) {
        Some(Value::String(text)) => !text.is_empty(),
        // Shown as text and as number in the vendor's examples.
        Some(Value::Number(_)) => name == COMPANY_ID,
        _ => false,
    };
    if let Some(missing) = [SECRET_KEY, COMPANY_ID].into_iter().find(|name| !has(name)) {
        return Err(refused(format!(
            "the credentials lack `{missing}`, or it is not text"
        )));
    }
    match object
        .keys()
        .find(|name| ![SECRET_KEY, COMPANY_ID].contains(&name.as_str()))
    {
        Some(unknown) => Err(refused(format!(
            "the credentials have an unknown member `{unknown}`"
        ))),
        None => Ok(()),
    }
}

/// # Errors
/// Refused: the address of the connection is none, or its budget cannot be read.
pub(crate) fn check_settings(_system: System, connection: &Map<String, Value>) -> Done {
    if let Some(budget) = connection.get("budget") {
        check_budget(budget)?;
    }
    match connection.get(URL) {
        None => Ok(()),
        Some(url) => parse_url(url).map(drop),
    }
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

fn parse_url(url: &Value) -> Done<Url> {
    let parsed = url.as_str().and_then(|text| Url::parse(text).ok());
    parsed
        .filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
        .ok_or_else(|| Failed::new(Exit::Refused, "the connection's url is no http address"))
}

/// The process's way out, for all connections of all partners.
pub(crate) fn client(settings: &Settings) -> Done<Client> {
    let settings = outbound::Settings {
        connect_timeout: settings.metakocka.connect_timeout,
        private: if settings.metakocka.allow_private_addresses {
            Private::Allow
        } else {
            Private::Refuse
        },
        ..outbound::Settings::default()
    };
    Client::new(settings).map_err(|error| Failed::new(Exit::Failed, error.to_string()))
}

/// The worker's settings from the process's.
pub(crate) fn metakocka_sync(settings: &Settings) -> Done<metakocka_sync::Settings> {
    let given = &settings.metakocka;
    let defaults = metakocka::Settings::default();
    let client = metakocka::Settings {
        read_timeout: given.read_timeout,
        write_timeout: given.write_timeout,
        quota_backoff: given.quota_backoff,
        settle: metakocka::Settle {
            add_partner: given.create_settle,
            update_partner: given.update_settle,
        },
        lookup_lag: given.lookup_lag,
        ..defaults
    };
    Ok(metakocka_sync::Settings {
        client,
        sync: sync::Settings {
            send_window: settings.sync.send_window,
            two_step_reserve: settings.sync.reserve == Reserve::TwoStep,
            rechecks: settings.sync.recheck_after.clone(),
        },
        ..metakocka_sync::Settings::new(parse_url(&given.url.clone().into())?)
    })
}

/// How this process applies budgets.
pub(crate) fn budgets(settings: &Settings) -> store::budgets::Settings {
    store::budgets::Settings {
        defaults: [(
            System::Metakocka.as_str().to_owned(),
            default_budget(settings),
        )]
        .into(),
        circuit_open: settings.worker.circuit_open,
    }
}

/// What a connection may do that names no budget of its own.
fn default_budget(settings: &Settings) -> BudgetSpec {
    let given = &settings.metakocka;
    let window = (given.calls_per_second > 0).then(|| Window {
        requests: given.calls_per_second,
        per: Duration::from_secs(1),
        burst: Some(given.call_burst),
    });
    BudgetSpec {
        windows: window.into_iter().collect(),
        in_flight: u32::from(given.in_flight),
        // Metakocka answers the searches of one company one after another (contract §1.7).
        searches: 1,
    }
}

/// How a connection answered.
pub(crate) enum Trial {
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
) -> Done<Trial> {
    let tested = connection_test(
        &client(settings)?,
        &metakocka_sync(settings)?,
        &connection.settings,
        credentials,
    )
    .await;
    match tested {
        Ok(tested) => Ok(Trial::Accepted(tested.warnings)),
        Err(TestError::Refused(text)) => Ok(Trial::Refused(text)),
        Err(TestError::Unusable(text)) => Err(Failed::new(Exit::Refused, text)),
        Err(TestError::PrivateAddress(text)) => Err(Failed::new(Exit::Configuration, text)
            .next("set KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES=true here and for the workers, if that is what you want")),
        Err(TestError::Unavailable(text)) => Err(Failed::new(Exit::Unavailable, text).next("check the connection's url, then test again")),
    }
}
