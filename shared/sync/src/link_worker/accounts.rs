//! Accounts by connection, kept so that credentials are opened once and the handlings of a connection take turns in
//! this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use store::sealing::KeyRing;
use store::{Pool, Scope, connections};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;
use worker::{Budgets, Connection};

use crate::partner::{Account, Partner};

/// Most accounts kept; beyond that an arbitrary one makes room.
const CAPACITY: usize = 1_000;
/// Handlings of one connection at once, for each call it may have in flight: while one asks the database, the next
/// calls. More would only take each other's turn and throw their look-ups away.
const HANDLINGS_PER_CALL: usize = 2;
/// How long a handling waits for its turn in memory.
pub(super) const TURN_WAIT: Duration = Duration::from_secs(1);

/// One connection with opened credentials.
pub(super) struct Opened {
    pub(super) partner: Box<dyn Account>,
    /// The epoch these credentials belong to.
    epoch: i64,
    turns: Arc<Semaphore>,
}

impl Opened {
    /// None: too many other handlings of this connection are under way.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        tokio::time::timeout(TURN_WAIT, turn).await.ok()?.ok()
    }
}

/// Why there is no account.
pub(super) enum NoAccount {
    Store(store::Error),
    /// The connection cannot be used as it is stored; a person must look, at this epoch.
    Unusable {
        epoch: i64,
        why: String,
    },
}

pub(super) struct Accounts {
    pool: Pool,
    keys: KeyRing,
    budgets: Arc<dyn Budgets>,
    partner: Arc<dyn Partner>,
    /// Held while credentials are opened: two accounts of one connection would double its turns.
    known: Mutex<HashMap<Uuid, Arc<Opened>>>,
}

impl Accounts {
    pub(super) fn new(
        pool: Pool,
        keys: KeyRing,
        budgets: Arc<dyn Budgets>,
        partner: Arc<dyn Partner>,
    ) -> Self {
        Self {
            pool,
            keys,
            budgets,
            partner,
            known: Mutex::default(),
        }
    }

    /// Kept until the connection's epoch grows.
    pub(super) async fn of(&self, connection: &Connection) -> Result<Arc<Opened>, NoAccount> {
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
        let permits = self.budgets.permit_pool(connection);
        let in_flight = usize::try_from(permits.spec().in_flight).unwrap_or(usize::MAX);
        let partner = self
            .partner
            .open(connection, &json, epoch, permits)
            .map_err(unusable(epoch))?;
        let turns = in_flight.max(1).saturating_mul(HANDLINGS_PER_CALL);
        let account = Arc::new(Opened {
            partner,
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
