//! One company of Metakocka with opened credentials.

use metakocka::Metakocka;
use outbound::Client;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use sync::{Account, Grant, Target};
use worker::Job;

use crate::contact::{PartnerTarget, View};
use crate::settings::Settings;

/// As a connection's JSON holds them.
#[derive(Deserialize)]
struct Credentials {
    secret_key: SecretString,
    company_id: Value,
}

impl Credentials {
    /// Shown as text and as number in the vendor's examples (contract §1.2).
    fn company_id(&self) -> String {
        match &self.company_id {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

impl Settings {
    /// The client of a connection. `Err` never quotes the credentials.
    pub(crate) fn company(
        &self,
        client: &Client,
        connection: &Value,
        credentials: &SecretString,
    ) -> Result<Metakocka, String> {
        let credentials: Credentials =
            serde_json::from_str(credentials.expose_secret()).map_err(|_quotes_them| {
                let shape = crate::METAKOCKA.credentials_shape();
                format!("the credentials must be {shape}")
            })?;
        let root = registry::root(connection, &self.root)?;
        let company = credentials.company_id();
        Ok(Metakocka::new(
            client,
            root,
            &company,
            credentials.secret_key,
            self.client.clone(),
        ))
    }
}

pub(crate) struct CompanyAccount {
    pub(crate) client: Metakocka,
    pub(crate) epoch: i64,
}

impl Account for CompanyAccount {
    fn target<'a>(&'a self, grant: &Grant, job: &Job) -> Box<dyn Target + 'a> {
        let view = View::of(grant, &job.event.payload);
        Box::new(PartnerTarget::new(self.client.clone(), self.epoch, view))
    }
}
