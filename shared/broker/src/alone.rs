//! The poison guard's third claim: an event whose claim never came back twice is claimed only while nothing else
//! runs in its process. So a neighbour that merely died with the poison proves innocent, and only the guilty one is
//! held.
//!
//! One per process, shared by its workers: claims take a share before they ask, and keep it until their lease is
//! given back. A suspect takes everything, which waits for the shares that are out and lets no new ones go.

use std::sync::Arc;

use tokio::sync::{
    OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore,
};

/// Cheap to clone; all workers of a process use clones of one.
#[derive(Clone, Debug)]
pub struct Alone {
    room: Arc<RwLock<()>>,
    suspect: Arc<Semaphore>,
}

impl Default for Alone {
    fn default() -> Self {
        Self {
            room: Arc::new(RwLock::new(())),
            suspect: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Held from before a claim until its lease is given back.
#[expect(dead_code, reason = "held for their drop")]
pub(crate) enum Presence {
    Shared(Arc<OwnedRwLockReadGuard<()>>),
    Only(OwnedRwLockWriteGuard<()>, Turn),
}

/// The one place for a suspect.
pub(crate) struct Turn(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Alone {
    /// Waits while a suspect waits or runs.
    pub(crate) async fn share(&self) -> Arc<OwnedRwLockReadGuard<()>> {
        Arc::new(Arc::clone(&self.room).read_owned().await)
    }

    /// `None`: another suspect has the turn. Two that wait for each other would never start.
    pub(crate) fn turn(&self) -> Option<Turn> {
        Arc::clone(&self.suspect).try_acquire_owned().ok().map(Turn)
    }

    /// Waits until nothing else runs.
    pub(crate) async fn only(&self, turn: Turn) -> Presence {
        Presence::Only(Arc::clone(&self.room).write_owned().await, turn)
    }
}
