//! What the server, the control routes and the handle share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, ClockKind};
use crate::error::Error;
use crate::fault::RandomFault;
use crate::kept::Kept;
use crate::simulated::Simulated;
use crate::world::World;

/// Outages that may be asked for at a time.
const OUTAGES: usize = 4;

/// How a simulator of any system starts. The default: not strict, no faults, the real clock, everybody may control it, empty.
pub struct Settings<S: Simulated> {
    pub strict: bool,
    /// Of the random faults: the same calls in the same order meet the same faults.
    pub seed: u64,
    pub random_faults: Vec<RandomFault<S::Fault, S::Call>>,
    pub clock: ClockKind,
    /// Asked for as `Authorization: Bearer …` on `/_sim/…`, if set.
    pub control_token: Option<SecretString>,
    /// What the accounts hold at the start.
    pub snapshot: Option<S::Snapshot>,
    /// A file that keeps what they hold, for the next start. One that is there counts more than `snapshot`; one that is not
    /// is made, and ids begin where no earlier simulator's did, because somebody may remember those.
    pub state: Option<PathBuf>,
}

impl<S: Simulated> Default for Settings<S> {
    fn default() -> Self {
        Settings {
            strict: false,
            seed: 0,
            random_faults: Vec::new(),
            clock: ClockKind::Real,
            control_token: None,
            snapshot: None,
            state: None,
        }
    }
}

pub(crate) struct Shared<S: Simulated> {
    world: Mutex<World<S>>,
    pub(crate) clock: Clock,
    pub(crate) control_token: Option<SecretString>,
    /// One call at a time in each, where the system says so.
    lanes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Calls under way: they go on when their caller leaves, and end with the simulator.
    pub(crate) calls: TaskTracker,
    pub(crate) stopped: CancellationToken,
    outages: mpsc::Sender<Duration>,
    kept: Option<Kept>,
    /// Whether the state file was there; `None` without one.
    pub(crate) went_on: Option<bool>,
}

impl<S: Simulated> Shared<S> {
    /// What is shared, and where outages are asked for.
    pub(crate) fn new(
        system: S,
        settings: Settings<S>,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Duration>), Error> {
        let (outages, asked) = mpsc::channel(OUTAGES);
        let clock = Clock::new(settings.clock);
        let Settings { strict, seed, .. } = settings;
        let mut world = World::new(system, strict, seed, settings.random_faults)?;
        if let Some(snapshot) = settings.snapshot {
            world.restore(snapshot)?;
        }
        let mut went_on = None;
        let kept = match &settings.state {
            None => None,
            Some(path) => {
                let (kept, snapshot) = Kept::open(path)?;
                went_on = Some(snapshot.is_some());
                match snapshot {
                    Some(snapshot) => world.restore(snapshot)?,
                    None => world.system.begin_ids(clock.now()),
                }
                Some(kept)
            }
        };
        let shared = Shared {
            world: Mutex::new(world),
            clock,
            control_token: settings.control_token,
            lanes: Mutex::default(),
            calls: TaskTracker::new(),
            stopped: CancellationToken::new(),
            outages,
            kept,
            went_on,
        };
        Ok((Arc::new(shared), asked))
    }

    /// The world as it is now: writes that are due are done.
    pub(crate) fn world(&self) -> MutexGuard<'_, World<S>> {
        // A panic of one call must not take the others down; a call changes an account completely or not at all.
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(self.clock.now());
        world
    }

    /// Comes back when what has changed is where the next start finds it.
    pub(crate) async fn keep(self: &Arc<Self>) {
        let Some(kept) = &self.kept else { return };
        let asked = self.world().changes();
        let shared = Arc::clone(self);
        let now = move || {
            let world = shared.world();
            (world.changes(), world.system.snapshot())
        };
        kept.keep(asked, now).await;
    }

    /// Waits for the calls before this one in its lane.
    pub(crate) async fn wait_in(&self, lane: String) -> OwnedMutexGuard<()> {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(lane).or_default())
        };
        if let Ok(free) = Arc::clone(&lane).try_lock_owned() {
            return free;
        }
        self.world().queued();
        lane.lock_owned().await
    }

    /// Stops listening for a while, in real time; open connections are reset.
    pub(crate) fn outage(&self, lasting: Duration) -> Result<(), Error> {
        self.outages
            .try_send(lasting)
            .map_err(|_full| Error::Full("more outages than OUTAGES"))
    }
}
