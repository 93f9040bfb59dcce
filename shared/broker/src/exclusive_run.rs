//! The poison guard's third claim: an event whose claim never came back twice is claimed only while nothing else
//! runs in its process. An event that merely ran beside the harmful one completes this time; only the harmful one is
//! held.
//!
//! One per process, shared by its workers: claims take a share before they ask, and keep it until their lease is
//! given back. A poison candidate takes everything, which waits for the shares that are out and lets no new ones go.

use std::sync::Arc;

use tokio::sync::{
    OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore,
};

/// Cheap to clone; all workers of a process use clones of one.
#[derive(Clone, Debug)]
pub struct ExclusiveRun {
    runs: Arc<RwLock<()>>,
    poison_candidate: Arc<Semaphore>,
}

impl Default for ExclusiveRun {
    fn default() -> Self {
        Self {
            runs: Arc::new(RwLock::new(())),
            poison_candidate: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Held from before a claim until its lease is given back.
#[expect(dead_code, reason = "held for their drop")]
pub(crate) enum RunGuard {
    Shared(Arc<OwnedRwLockReadGuard<()>>),
    Only(OwnedRwLockWriteGuard<()>, Turn),
}

/// The one place for a poison candidate.
pub(crate) struct Turn(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl ExclusiveRun {
    /// Waits while a poison candidate waits or runs.
    pub(crate) async fn share(&self) -> Arc<OwnedRwLockReadGuard<()>> {
        Arc::new(Arc::clone(&self.runs).read_owned().await)
    }

    /// `None`: another poison candidate has the turn. Two that wait for each other would never start.
    pub(crate) fn turn(&self) -> Option<Turn> {
        Arc::clone(&self.poison_candidate)
            .try_acquire_owned()
            .ok()
            .map(Turn)
    }

    /// Waits until nothing else runs.
    pub(crate) async fn only(&self, turn: Turn) -> RunGuard {
        RunGuard::Only(Arc::clone(&self.runs).write_owned().await, turn)
    }
}
