//! Replays at their pace: each running one is taken by one keeper, which gives it a turn every quarter of a second. A
//! turn is one transaction of the store; the outbox carries the dead letters away, and their ends come back as rows.
//! Killed at any line, another keeper takes the replay when the lease is over and finds everything in the rows
//! (docs/tests.md, crash window 18).

use std::time::{Duration, Instant};

use store::dead_letters::replay::{self, Moved};
use store::{Error, Pool, QueuePrefix};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::failpoint;

use crate::readiness::{Part, Readiness};

/// Between two turns of a replay.
const TICK: Duration = Duration::from_millis(250);
/// How often neighbours of a crash are looked for.
const NEIGHBOURS: Duration = Duration::from_secs(5);
/// How often it is looked for dead letters that nothing lets go any more.
const STANDSTILLS: Duration = Duration::from_secs(1);
/// How often replays that ended long ago are removed.
const PRUNE: Duration = Duration::from_secs(3600);
/// After an error of the database.
const PAUSE: Duration = Duration::from_secs(1);
/// A round is at most 16 turns of a few statements.
const SILENCE: Duration = Duration::from_secs(60);

pub(crate) struct Replays<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) prefix: &'a QueuePrefix,
    pub(crate) readiness: &'a Readiness,
}

/// When something was done last.
#[derive(Default)]
struct Done {
    neighbours: Option<Instant>,
    standstills: Option<Instant>,
    pruned: Option<Instant>,
}

impl Replays<'_> {
    /// Until the shutdown; the turn in hand is finished and the replays are given back.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        self.readiness.expect(Part::Replays, SILENCE);
        let owner = Uuid::new_v4();
        let mut done = Done::default();
        while !shutdown.is_cancelled() {
            let pause = match self.round(owner, &mut done).await {
                Ok(()) => {
                    self.readiness.worked(Part::Replays);
                    TICK
                }
                Err(error) => {
                    tracing::warn!(error = %error.with_causes(), "the replays do not go on");
                    self.readiness.hindered(Part::Replays, error.to_string());
                    PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
        if let Err(error) = replay::release(self.pool, owner).await {
            // They are free when the lease is over.
            tracing::warn!(error = %error.with_causes(), "the replays could not be given back");
        }
    }

    async fn round(&self, owner: Uuid, done: &mut Done) -> Result<(), Error> {
        if due(&mut done.neighbours, NEIGHBOURS)
            && let Some((replay, dead_letters)) = replay::order_neighbours(self.pool).await?
        {
            tracing::info!(%replay, dead_letters, "neighbours of a crash are replayed once");
        }
        if due(&mut done.standstills, STANDSTILLS) {
            replay::stand_still(self.pool).await?;
        }
        if due(&mut done.pruned, PRUNE) {
            let pruned = replay::prune(self.pool).await?;
            self.readiness.metrics.pruned.inc_by(pruned);
        }
        for id in replay::waiting(self.pool, owner).await? {
            let Some(turn) = replay::take_turn(self.pool, self.prefix, owner, id).await? else {
                continue;
            };
            if turn.moved.sent > 0 {
                failpoint::hit("replay_before_commit");
            }
            let moved = turn.commit().await?;
            if moved.sent > 0 {
                failpoint::hit("replay_after_commit");
            }
            self.readiness.metrics.replayed.inc_by(moved.sent as u64);
            log(id, &moved);
        }
        Ok(())
    }
}

fn due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

fn log(replay: Uuid, moved: &Moved) {
    if let Some(reason) = &moved.stopped {
        tracing::warn!(
            %replay,
            reason,
            "the replay stopped itself: repair the cause, then `kurir dead-letters replays resume {replay}`"
        );
    }
    if moved.done {
        tracing::info!(%replay, "the replay is done");
    }
}
