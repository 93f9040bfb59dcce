//! What commands share: settings, the database, the key ring, the broker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use event::TenantId;
use runtime::{Check, Loaded, Need, Settings, Sources};
use secrecy::ExposeSecret as _;
use store::sealing::KeyRing;
use store::{Pool, QueuePrefix, Scope};

use crate::exit::{Done, Exit, Failed};
use crate::fleet;

/// How long a command tries to reach the database or the broker; roles try for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// What the crates that use them know of settings.
const CHECKS: &[Check] = &[
    Check {
        path: "amqp.url",
        check: |text| broker::Address::read(text).map(|_address| ()),
    },
    Check {
        path: "amqp.ca_file",
        check: |text| trust::check_file(Path::new(text)).map_err(|error| error.to_string()),
    },
    Check {
        path: "database.url",
        check: store::address::check,
    },
];

/// Settings of this process, read once.
pub(crate) struct Context {
    pub(crate) loaded: Loaded,
    /// Whose things the command line asks for; it must exist before anything is said about them.
    asked: Option<Asked>,
}

/// A tenant that the command line names.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) tenant: TenantId,
    /// An event that failed and names it is enough.
    pub(crate) or_named: bool,
}

impl Context {
    /// # Errors
    /// Every configuration error at once; nothing was opened.
    pub(crate) fn load(file: Option<PathBuf>, needs: &[Need]) -> Done<Self> {
        Self::from_sources(&Sources::of_process(file), needs)
    }

    /// As `load`, where somebody has changed what the environment says.
    pub(crate) fn from_sources(sources: &Sources, needs: &[Need]) -> Done<Self> {
        Ok(Self {
            loaded: runtime::load(sources, needs, CHECKS, &fleet::sections())?,
            asked: None,
        })
    }

    pub(crate) fn asked_for(mut self, asked: Option<Asked>) -> Self {
        self.asked = asked;
        self
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    pub(crate) fn prefix(&self) -> QueuePrefix {
        QueuePrefix::new(&self.settings().amqp.prefix)
    }

    /// The broker's address, where one is set.
    pub(crate) fn broker_address(&self) -> Option<broker::Address> {
        let url = self.settings().amqp.url.as_ref()?;
        broker::Address::read(url.expose_secret()).ok()
    }

    fn store_settings(&self) -> Done<store::Settings> {
        let url = self
            .settings()
            .database
            .url
            .clone()
            .ok_or_else(|| unasked("database.url"))?;
        let mut settings = store::Settings::new(url);
        settings.max_connections = self.settings().database.max_connections;
        Ok(settings)
    }

    /// A pool that has reached the server, trying as long as `patience`.
    pub(crate) async fn pool_within(&self, patience: Duration) -> Done<Pool> {
        self.pool_reporting(patience, |_error| ()).await
    }

    /// As `pool_within`; `tell` hears of every try that is repeated.
    pub(crate) async fn pool_reporting(
        &self,
        patience: Duration,
        tell: impl Fn(&store::Error),
    ) -> Done<Pool> {
        let settings = self.store_settings()?;
        Ok(store::pool::connect_reporting(&settings, patience, tell).await?)
    }

    /// A pool on a database that has this build's schema, and the tenant that is asked for.
    ///
    /// # Errors
    /// As `check_tenant`, besides what a database can be.
    pub(crate) async fn pool(&self) -> Done<Pool> {
        let pool = self.pool_within(PATIENCE).await?;
        check_schema(&pool).await?;
        self.check_tenant(&pool).await?;
        Ok(pool)
    }

    /// # Errors
    /// There is no such tenant: an empty list would say that all is well with it.
    pub(crate) async fn check_tenant(&self, pool: &Pool) -> Done {
        let Some(Asked { tenant, or_named }) = &self.asked else {
            return Ok(());
        };
        if store::tenants::is_known(pool, tenant, *or_named).await? {
            return Ok(());
        }
        let missing = Failed::new(Exit::NotFound, format!("no tenant '{tenant}'"));
        Err(missing.next("`kurir tenant list` shows what there is"))
    }

    pub(crate) fn key_ring(&self) -> Done<KeyRing> {
        let keys = &self.settings().keys;
        let current = keys
            .current
            .as_deref()
            .ok_or_else(|| unasked("keys.current"))?;
        let ring = keys.ring.iter().map(|(id, key)| (id.as_str(), key));
        KeyRing::new(current, ring)
            .map_err(|error| Failed::new(Exit::Configuration, error.to_string()))
    }
}

/// A command that uses a setting names it in its needs; this is what a missing name looks like.
fn unasked(path: &str) -> Failed {
    Failed::new(Exit::Configuration, format!("{path} is missing"))
}

/// # Errors
/// Migrations are pending: refused, because statements of this build would fail one by one.
pub(crate) async fn check_schema(pool: &Pool) -> Done {
    let pending = store::migrate::pending(pool).await?;
    if pending.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the database lacks {} of this build: {}",
        operations::count(pending.len() as u64, "migration"),
        pending.join(", ")
    );
    Err(Failed::new(Exit::Configuration, message)
        .next("run `kurir migrate` once, then start again"))
}

/// All tenants, or the one that was named.
pub(crate) fn scope(tenant: Option<&TenantId>) -> Scope<'_> {
    tenant.map_or(Scope::Everything, Scope::Tenant)
}
