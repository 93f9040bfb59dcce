//! What the server, the control routes and the handle share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::clock::{Clock, ClockKind};
use super::core::{CompanyOptions, Readings};
use super::fault::RandomFault;
use super::kept::Kept;
use super::world::{Snapshot, World};

/// Outages that may be asked for at a time.
const OUTAGES: usize = 4;

/// How a simulator starts. The default is one company `4711` with the key `sim-key`, kind readings, no faults, the real clock.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    pub companies: Vec<CompanyOptions>,
    pub readings: Readings,
    pub strict: bool,
    /// Of the random faults: the same calls in the same order meet the same faults.
    pub seed: u64,
    pub random_faults: Vec<RandomFault>,
    pub clock: ClockKind,
    /// Asked for as `Authorization: Bearer …` on `/_sim/…`, if set.
    pub control_token: Option<SecretString>,
    /// What the companies hold at the start.
    pub snapshot: Option<Snapshot>,
    /// A file that keeps what they hold, for the next start. One that is there counts more than `snapshot`; one that is not
    /// is made, and the companies' ids begin where no earlier simulator's did, because somebody may remember those.
    pub state: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            companies: vec![CompanyOptions::new("4711", "sim-key")],
            readings: Readings::kind(),
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

pub(super) struct Shared {
    world: Mutex<World>,
    pub(super) clock: Clock,
    pub(super) control_token: Option<SecretString>,
    /// One reading call at a time per company, where a reading of the contract says so.
    lanes: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// Calls under way: they go on when their caller leaves, and end with the simulator.
    pub(super) calls: TaskTracker,
    pub(super) stopped: CancellationToken,
    outages: mpsc::Sender<Duration>,
    kept: Option<Kept>,
    /// Whether the state file was there.
    pub(super) went_on: bool,
}

impl Shared {
    pub(super) fn new(options: &Options) -> Result<(Arc<Self>, mpsc::Receiver<Duration>), Error> {
        let (outages, asked) = mpsc::channel(OUTAGES);
        let mut world = World::new(options)?;
        let clock = Clock::new(options.clock);
        let mut went_on = false;
        let kept = match &options.state {
            None => None,
            Some(path) => {
                let (kept, snapshot) = Kept::open(path)?;
                went_on = snapshot.is_some();
                match snapshot {
                    Some(snapshot) => world.restore(snapshot)?,
                    None => world.begin_ids(clock.now()),
                }
                Some(kept)
            }
        };
        let shared = Shared {
            lanes: world
                .companies
                .keys()
                .map(|id| (id.clone(), Arc::default()))
                .collect(),
            world: Mutex::new(world),
            clock,
            control_token: options.control_token.clone(),
            calls: TaskTracker::new(),
            stopped: CancellationToken::new(),
            outages,
            kept,
            went_on,
        };
        Ok((Arc::new(shared), asked))
    }

    /// The world as it is now: writes that are due are done.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        // A panic of one call must not take the others down; a call changes a company completely or not at all.
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(self.clock.now());
        world
    }

    /// Comes back when what has changed is where the next start finds it.
    pub(super) async fn keep(self: &Arc<Self>) {
        if let Some(kept) = &self.kept {
            kept.keep(self).await;
        }
    }

    pub(super) fn lane(&self, company_id: &str) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.lanes.get(company_id).cloned()
    }

    /// Stops listening for a while, in real time; open connections are reset.
    pub(super) fn outage(&self, lasting: Duration) -> Result<(), Error> {
        self.outages
            .try_send(lasting)
            .map_err(|_full| Error::Full("more outages than OUTAGES"))
    }
}
