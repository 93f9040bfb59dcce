//! Clients by connection, kept so that its credentials are opened once and its handlings take turns in this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metakocka::Metakocka;
use outbound::{Client, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use store::sealing::KeyRing;
use store::{Pool, Scope, connections};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;
use worker::{Budgets, Connection};

use crate::settings::Settings;

/// Most clients kept; beyond that an arbitrary one makes room.
pub(crate) const CAPACITY: usize = 1_000;
/// Handlings of one connection at once, for each call it may have in flight: while one asks the database, the next
/// calls. More would only take each other's turn and throw their look-ups away.
const HANDLINGS_PER_CALL: usize = 2;
/// How long a handling waits for its turn in memory.
pub(crate) const TURN_WAIT: Duration = Duration::from_secs(1);

/// The credentials of a connection, as its JSON holds them.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    pub(crate) secret_key: SecretString,
    company_id: Value,
}

impl Credentials {
    /// `Err` never quotes them.
    pub(crate) fn read(json: &SecretString) -> Result<Self, String> {
        let shape = "the credentials must be {\"secret_key\": \"...\", \"company_id\": \"...\"}";
        serde_json::from_str(json.expose_secret()).map_err(|_quotes_them| shape.to_owned())
    }

    /// Shown as text and as number in the vendor's examples (contract §1.2).
    pub(crate) fn company_id(&self) -> String {
        match &self.company_id {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// The root a connection's calls go to.
pub(crate) fn root(connection: &Value, default: &Url) -> Result<Url, String> {
    let Some(url) = connection.get("url") else {
        return Ok(default.clone());
    };
    url.as_str()
        .and_then(|text| Url::parse(text).ok())
        .filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
        .ok_or_else(|| "the connection's url is no http address".to_owned())
}

/// One connection with opened credentials.
pub(crate) struct Account {
    pub(crate) client: Metakocka,
    /// The epoch these credentials belong to.
    pub(crate) epoch: i64,
    turns: Arc<Semaphore>,
}

impl Account {
    /// None: too many other handlings of this connection are under way.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        tokio::time::timeout(TURN_WAIT, turn).await.ok()?.ok()
    }
}

/// Why there is no account.
pub(crate) enum NoAccount {
    Store(store::Error),
    /// The connection cannot be used as it is stored; a person must look, at this epoch.
    Unusable {
        epoch: i64,
        why: String,
    },
}

pub(crate) struct Accounts {
    pool: Pool,
    keys: KeyRing,
    client: Client,
    budgets: Arc<dyn Budgets>,
    /// Held while credentials are opened: two clients of one connection would double its turns.
    known: Mutex<HashMap<Uuid, Arc<Account>>>,
}

impl Accounts {
    pub(crate) fn new(
        pool: Pool,
        keys: KeyRing,
        client: Client,
        budgets: Arc<dyn Budgets>,
    ) -> Self {
        Self {
            pool,
            keys,
            client,
            budgets,
            known: Mutex::default(),
        }
    }

    /// Kept until the connection's epoch grows.
    pub(crate) async fn of(
        &self,
        connection: &Connection,
        settings: &Settings,
    ) -> Result<Arc<Account>, NoAccount> {
        let mut known = self.known.lock().await;
        if let Some(account) = known.get(&connection.id)
            && account.epoch >= connection.epoch
        {
            return Ok(Arc::clone(account));
        }
        let unusable = |epoch: i64| move |why: String| NoAccount::Unusable { epoch, why };
        let scope = Scope::Tenant(&connection.tenant);
        let opened = connections::credentials(&self.pool, &self.keys, scope, connection.id).await;
        let (json, epoch) = match opened {
            Ok(opened) => opened,
            Err(store::Error::Sealed(error)) => {
                let why = format!("its credentials cannot be opened: {error}");
                return Err(unusable(connection.epoch)(why));
            }
            Err(error) => return Err(NoAccount::Store(error)),
        };
        let credentials = Credentials::read(&json).map_err(unusable(epoch))?;
        let root = root(&connection.settings, &settings.root).map_err(unusable(epoch))?;
        let purse = self.budgets.purse(connection);
        let in_flight = usize::try_from(purse.spec().in_flight).unwrap_or(usize::MAX);
        let client = Metakocka::new(
            &self.client,
            root,
            &credentials.company_id(),
            credentials.secret_key,
            settings.client.clone(),
        )
        .with_purse(purse);
        let turns = in_flight.max(1).saturating_mul(HANDLINGS_PER_CALL);
        let account = Arc::new(Account {
            client,
            epoch,
            turns: Arc::new(Semaphore::new(turns.min(Semaphore::MAX_PERMITS))),
        });
        if known.len() >= CAPACITY
            && let Some(any) = known.keys().next().copied()
        {
            known.remove(&any);
        }
        known.insert(connection.id, Arc::clone(&account));
        Ok(account)
    }
}
