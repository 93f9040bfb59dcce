//! Tries a connection out with one cheap call that stores nothing, and says what an operator should know.

use metakocka::{DEVELOPMENT_ROOT, Error, Metakocka};
use outbound::{Client, NotSent};
use secrecy::SecretString;
use serde_json::Value;

use crate::accounts::{Credentials, root};
use crate::settings::Settings;

/// Metakocka accepts the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// Sentences for a person; the connection works all the same.
    pub warnings: Vec<String>,
}

/// Why a connection did not pass. Texts are redacted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// What is stored is no connection to Metakocka: repair it.
    #[error("{0}")]
    Unusable(String),
    /// Metakocka refuses the key, the company or our address (codes 3 and 4): suspend the connection.
    #[error("metakocka refuses the credentials: {0}")]
    Refused(String),
    /// The address may not be called from here; says which setting allows it.
    #[error(
        "{0}; for a simulator or a server in your own network allow private addresses (metakocka.allow_private_addresses)"
    )]
    PrivateAddress(String),
    /// Says nothing about the credentials.
    #[error("{0}")]
    Unavailable(String),
}

/// One reading call with these credentials. `connection` is the connection's own settings, `credentials` its JSON.
pub async fn connection_test(
    client: &Client,
    settings: &Settings,
    connection: &Value,
    credentials: &SecretString,
) -> Result<Tested, TestError> {
    let credentials = Credentials::read(credentials).map_err(TestError::Unusable)?;
    let root = root(connection, &settings.root).map_err(TestError::Unusable)?;
    let mut warnings = Vec::new();
    if root.scheme() == "http" {
        warnings.push(format!(
            "{root} is not encrypted: the secret key can be read on the way"
        ));
    }
    if root.as_str().trim_end_matches('/') == DEVELOPMENT_ROOT.trim_end_matches('/') {
        warnings.push("this is Metakocka's development system, not the real company".to_owned());
    }
    let metakocka = Metakocka::new(
        client,
        root,
        &credentials.company_id(),
        credentials.secret_key,
        settings.client.clone(),
    );
    match metakocka.check_credentials().await {
        Ok(()) => Ok(Tested { warnings }),
        Err(Error::Credentials { text }) => Err(TestError::Refused(text)),
        Err(Error::NotSent {
            kind: NotSent::Address,
            text,
        }) => Err(TestError::PrivateAddress(text)),
        Err(other) => Err(TestError::Unavailable(other.to_string())),
    }
}
