//! The leases that this worker holds, prolonged together: one statement three times per lease, however many events run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::{Claims, Leased};

use crate::exclusive_run::RunGuard;

/// Renewals per lease: one that fails does not lose it.
const RENEWALS: u32 = 3;
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// A claimed link whose handling has not ended yet: renewed until it is given back.
pub(crate) struct Lease {
    pub(crate) token: Uuid,
    pub(crate) link: Option<i64>,
    pub(crate) guard: RunGuard,
}

/// Tokens of granted claims whose handling has not ended, with their links.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<Uuid, Option<i64>>>);

impl Leases {
    pub(crate) fn add(&self, token: Uuid, link: Option<i64>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token, link);
    }

    pub(crate) fn remove(&self, token: Uuid) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&token);
    }

    fn all(&self) -> Vec<Leased> {
        let leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let leased = leases.iter().map(|(token, link)| Leased {
            token: *token,
            link: *link,
        });
        leased.collect()
    }
}

pub(crate) async fn renew<C: Claims>(
    leases: Arc<Leases>,
    claims: Arc<C>,
    worker: &'static str,
    lease: Duration,
    end: CancellationToken,
) {
    let every = lease / RENEWALS;
    let mut pause = every;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = end.cancelled() => return,
        }
        let held = leases.all();
        pause = every;
        if held.is_empty() {
            continue;
        }
        if let Err(error) = claims.renew(held).await {
            tracing::warn!(handler = worker, %error, "leases could not be renewed");
            pause = every.min(RENEW_AGAIN);
        }
    }
}
