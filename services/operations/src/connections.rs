//! Connections: whether what is given for one can be right, and whether its partner accepts it.

use outbound::Client;
use registry::{System, TestError, Trial, URL};
use runtime::Settings;
use secrecy::SecretString;
use serde_json::{Map, Value};
use store::Pool;
use store::Scope;
use store::connections::{self, Connection, Resumed};
use store::sealing::KeyRing;
use worker::budget::BudgetSpec;

use crate::{Done, Failed, Kind};

/// # Errors
/// Refused: members are missing or not text. Values are not quoted.
pub fn check_credentials(system: &System, credentials: &SecretString) -> Done {
    system.check_credentials(credentials).map_err(|why| {
        let shape = system.credentials_shape();
        Failed::new(Kind::Refused, why).next(format!(
            "credentials for {} are a JSON object {shape}",
            system.name
        ))
    })
}

/// # Errors
/// Refused: the address of the connection is none, or its budget cannot be read.
pub fn check_settings(connection: &Map<String, Value>) -> Done {
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
        .ok_or_else(|| Failed::new(Kind::Refused, "the connection's url is no http address"))
}

/// # Errors
/// Refused: names the member that is wrong.
pub fn check_budget(budget: &Value) -> Done {
    let any = BudgetSpec {
        windows: Vec::new(),
        in_flight: 1,
        searches: 1,
    };
    let settings = serde_json::json!({ "budget": budget });
    BudgetSpec::of(&settings, &any).map(drop).map_err(|why| {
        Failed::new(Kind::Refused, why)
            .next("a budget is {\"windows\":[{\"requests\":600,\"seconds\":60}],\"in_flight\":2}")
    })
}

/// How a connection answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Accepted; sentences that a person should read all the same.
    Accepted(Vec<String>),
    /// The partner refuses the credentials, in its words.
    Refused(String),
}

/// What a test changed.
#[derive(Debug)]
pub enum Outcome {
    /// A suspended connection goes on.
    Accepted {
        warnings: Vec<String>,
        resumed: Box<Resumed>,
    },
    /// The connection is suspended; the partner's words.
    Refused(String),
}

/// The way to the partner systems of this build.
pub struct Partners<'a> {
    pub systems: Vec<&'static System>,
    /// The process's way out; each system's calls leave under its own policy.
    pub client: Client,
    pub settings: &'a Settings,
}

impl Partners<'_> {
    /// Tries the credentials with one reading call.
    ///
    /// # Errors
    /// The partner cannot be reached or answers something else; says nothing about the credentials.
    pub async fn test(&self, connection: &Connection, credentials: &SecretString) -> Done<Answer> {
        let system = system(&self.systems, &connection.system)?;
        let settings = self.settings.section(system.name);
        let client = under(&self.client, system, self.settings)?;
        let tested = (system.test)(Trial {
            client: &client,
            settings,
            connection: &connection.settings,
            credentials,
        })
        .await;
        match tested {
            Ok(tested) => Ok(Answer::Accepted(tested.warnings)),
            Err(TestError::Refused(text)) => Ok(Answer::Refused(text)),
            Err(error) => Err(untested(system, error)),
        }
    }

    /// Tries the stored credentials: a suspended connection goes on if they are accepted, and is suspended if they are
    /// refused.
    ///
    /// # Errors
    /// As [`Partners::test`], or the credentials do not open; nothing was changed then.
    pub async fn test_and_note(
        &self,
        pool: &Pool,
        ring: &KeyRing,
        connection: &Connection,
    ) -> Done<Outcome> {
        let everything = Scope::Everything;
        let id = connection.id;
        let (credentials, epoch) = connections::credentials(pool, ring, everything, id).await?;
        match self.test(connection, &credentials).await? {
            Answer::Accepted(warnings) => Ok(Outcome::Accepted {
                warnings,
                resumed: Box::new(connections::resume(pool, everything, id, epoch).await?),
            }),
            Answer::Refused(text) => {
                connections::suspend(pool, id, epoch, &text).await?;
                Ok(Outcome::Refused(text))
            }
        }
    }
}

/// The system of this name, as somebody names it or as a connection's row has it.
///
/// # Errors
/// Refused: this build knows no such system.
pub fn system(systems: &[&'static System], name: &str) -> Done<&'static System> {
    let known = systems.iter().find(|system| system.name == name);
    known.copied().ok_or_else(|| {
        Failed::new(
            Kind::Refused,
            format!("this build does not know the system {name}"),
        )
    })
}

/// The way out to one system.
///
/// # Errors
/// Its settings cannot be read, or there is no way out at all.
pub fn under(client: &Client, system: &System, settings: &Settings) -> Done<Client> {
    let policy = (system.policy)(settings.section(system.name))
        .map_err(|why| Failed::new(Kind::Configuration, why))?;
    client
        .under(policy)
        .map_err(|error| Failed::new(Kind::Failed, error.to_string()))
}

fn untested(system: &System, error: TestError) -> Failed {
    match error {
        TestError::Refused(text) | TestError::Unusable(text) => Failed::new(Kind::Refused, text),
        TestError::PrivateAddress(text) => {
            let name = system.name.to_uppercase();
            Failed::new(Kind::Configuration, text).next(format!(
                "set KURIR_{name}__ALLOW_PRIVATE_ADDRESSES=true here and for the workers, if that is what you want"
            ))
        }
        TestError::Unavailable(text) => {
            Failed::new(Kind::Unavailable, text).next("check the connection's url, then test again")
        }
    }
}
