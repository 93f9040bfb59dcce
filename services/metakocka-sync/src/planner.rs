//! From an event to what the link engine should make of it. Next in an event's way: the claim (`sync::claims`), then
//! `sync::LinkWorker` with the account that `open` makes.

use std::sync::Arc;

use event::Payload;
use outbound::Client;
use secrecy::SecretString;
use sync::{Account, Partner, Plan, Planner, Targets};
use worker::budget::PermitPool;
use worker::{Connection, Job};

use crate::account::CompanyAccount;
use crate::contact::content;
use crate::registration::NAME;
use crate::settings::Settings;

/// The worker, as the link engine asks it.
pub struct MetakockaSync {
    client: Client,
    settings: Settings,
}

impl MetakockaSync {
    /// `client`: the process's way out, under the policy of this system.
    pub fn new(client: Client, settings: Settings) -> Self {
        Self { client, settings }
    }
}

impl Planner for MetakockaSync {
    fn plan(&self, job: &Job, _targets: &mut Targets) -> Result<Plan, String> {
        match &job.event.payload {
            Payload::ContactSaved(saved) => content(&saved.contact).map(Plan::Save),
            Payload::ContactDeleted(_) => Ok(Plan::Delete),
            _ => Err(format!("{} is not for {NAME}", job.event.event_type)),
        }
    }
}

impl Partner for MetakockaSync {
    fn open(
        &self,
        connection: &Connection,
        credentials: &SecretString,
        epoch: i64,
        permits: Arc<PermitPool>,
    ) -> Result<Box<dyn Account>, String> {
        let client = self
            .settings
            .company(&self.client, &connection.settings, credentials)?
            .with_permit_pool(permits);
        Ok(Box::new(CompanyAccount { client, epoch }))
    }
}
