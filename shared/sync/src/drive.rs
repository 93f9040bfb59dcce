//! Does the steps that `next` names, on the ledger and at the partner, until the event is finished, must wait or has
//! failed. Hands its answer to `worker::decide`. No transaction is open during a remote call.

mod call;
mod ending;
mod settings;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use store::links::{ConflictCause, End, Finish, Granted, Resolution};
use tracing::Instrument as _;
use uuid::Uuid;
use worker::trace::spans;
use worker::{AckReason, DeadClass, Done, Failure, Handled, HoldCause, WaitCause, WaitsFor};

use crate::clock::Clock;
use crate::content::{Base, NaturalKey, Record};
use crate::effect::Effect;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::metrics::{Ending, Metrics, Recheck};
use crate::next::next;
use crate::outcome::Outcomes;
use crate::proof;
use crate::step::{Intent, Observations, Step, View, Work};
use crate::target::{LookError, Target};

pub use settings::Settings;

/// A claimed delivery: what the claim answered, and what the event wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub granted: Granted,
    pub work: Work,
    pub token: Uuid,
    /// The content is made under this lease.
    pub later: bool,
}

/// Between re-checks of a record that is gone, after those of the settings.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Most steps of one handling; more than any chain of parts needs.
const STEP_LIMIT: usize = 400;

pub struct Driver<'a> {
    pub ledger: &'a dyn Ledger,
    pub target: &'a dyn Target,
    pub clock: &'a dyn Clock,
    pub settings: &'a Settings,
    pub metrics: &'a Metrics,
    /// Who tells what became of an event.
    pub worker: &'static str,
    /// Makes ids of effects: v7 in production, counted in the schedule tests.
    pub new_id: &'a (dyn Fn() -> Uuid + Send + Sync),
}

/// Why a step could not be done.
enum Halt {
    Failed(Failure),
    /// The database is away or asks to repeat: a wait, no failure of the event.
    Store(store::Error),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<store::Error> for Halt {
    fn from(error: store::Error) -> Self {
        if error.is_transient() {
            Self::Store(error)
        } else {
            Self::Failed(Failure::transient(DeadClass::Internal, error.with_causes()))
        }
    }
}

/// How one step ended.
enum Flow {
    On,
    End(Handled),
}

struct Run<'a, 'b> {
    driver: &'a Driver<'b>,
    token: Uuid,
    work: Work,
    link: Link,
    open: Option<Effect>,
    observations: Observations,
    claimed_at: DateTime<Utc>,
    kind: String,
    /// None: nothing is told of this link.
    outcomes: Option<Outcomes>,
    keys_taken: Vec<(String, String)>,
    abandoned_effects: Vec<Effect>,
    keys_of_others: Vec<String>,
    started: Duration,
    deadline: Duration,
    calls: usize,
    /// A call was given up under this lease.
    gave_up: bool,
    /// Our event has made the record under this lease.
    made: bool,
}

impl<'b> Driver<'b> {
    /// `left` is the handler's time. A lease that is not given up by an ending is given back by the caller.
    pub async fn drive(&self, grant: Grant, left: Duration) -> Result<Handled, Failure> {
        let granted = grant.granted;
        let mut run = Run {
            driver: self,
            token: grant.token,
            work: grant.work,
            kind: granted.link.kind.clone(),
            outcomes: Outcomes::of(self.worker, &granted.link),
            link: Link::read(granted.link).ok_or_else(unreadable)?,
            open: granted
                .open
                .map(|row| Effect::read(row).ok_or_else(unreadable))
                .transpose()?,
            observations: Observations::default(),
            claimed_at: granted.now,
            keys_taken: granted
                .keys_taken
                .into_iter()
                .map(|taken| (taken.key, taken.record))
                .collect(),
            abandoned_effects: granted
                .abandoned_effects
                .into_iter()
                .filter_map(Effect::read)
                .collect(),
            keys_of_others: granted.keys_of_others,
            started: self.clock.elapsed(),
            deadline: self.clock.elapsed() + left,
            calls: 0,
            gave_up: false,
            made: false,
        };
        for _ in 0..STEP_LIMIT {
            let view = View {
                link: &run.link,
                open: run.open.as_ref(),
                work: &run.work,
                observations: &run.observations,
                claimed_at: run.claimed_at,
                keys_taken: &run.keys_taken,
                abandoned_effects: &run.abandoned_effects,
                keys_of_others: &run.keys_of_others,
            };
            let step = next(view, self.target);
            tracing::trace!(event.id = %run.work.event_id, link.id = run.link.id, ?step, "step");
            match run.take(step).await {
                Ok(Flow::On) => {}
                Ok(Flow::End(handled)) => return Ok(handled),
                Err(Halt::Failed(failure)) => return Err(failure),
                Err(Halt::Store(error)) => {
                    tracing::warn!(event.id = %run.work.event_id, error = %error.with_causes(), "the database did not answer");
                    return Ok(run.later(WaitCause::Store));
                }
            }
        }
        Err(Failure::transient(
            DeadClass::Internal,
            format!("no end after {STEP_LIMIT} steps"),
        ))
    }
}

impl Run<'_, '_> {
    async fn take(&mut self, step: Step) -> Result<Flow, Halt> {
        match step {
            Step::Find(keys) => self.find(keys).await,
            Step::Read(id) => {
                let record = self.driver.target.read(&id).await.map_err(look_failed)?;
                self.observations.read.insert(id, record);
                Ok(Flow::On)
            }
            Step::Confirm(record) => self.confirm(&record).await,
            Step::Abandon => self.abandon().await,
            Step::Adopt {
                record,
                despite_open,
            } => self.adopt(&record, despite_open).await,
            Step::FormerGone => {
                self.observations.former_gone = true;
                Ok(Flow::On)
            }
            Step::Note(parts) => {
                let mut finish = self.finish(End::Noted);
                finish.parts = json!(parts);
                self.end(finish, None).await
            }
            Step::Call {
                call,
                request,
                last,
            } => self.call(*call, *request, last).await,
            Step::Unchanged => self.unchanged().await,
            Step::Deleted => {
                let finish = self.finish_with_outcome(End::Deleted, "delete");
                self.end(finish, Some(AckReason::Deleted)).await
            }
            Step::AlreadyDone => {
                self.driver
                    .ledger
                    .release(self.link.id, self.token, None)
                    .await?;
                Ok(Flow::End(Handled::Done(Done(AckReason::AlreadyDone))))
            }
            Step::Resolved => {
                self.end(self.finish(End::Resolved), Some(AckReason::Resolved))
                    .await
            }
            Step::Rechecked => {
                self.metrics().rechecked(match self.calls {
                    0 => Recheck::Fine,
                    _ => Recheck::Rewritten,
                });
                let finish = self.rechecked(None);
                self.end(finish, Some(AckReason::Rechecked)).await
            }
            Step::StillGone => {
                self.metrics().rechecked(Recheck::Conflict);
                let finish = self.rechecked(Some(DAY));
                self.end(finish, Some(AckReason::Rechecked)).await
            }
            Step::Missed(until) => self.missed(until).await,
            Step::LookAgain(until) => Ok(lags(until)),
            Step::Seen => {
                let mut finish = self.finish(End::Seen);
                finish.despite_open = true;
                self.end(finish, None).await
            }
            Step::Conflict(cause, reason) => self.conflict(cause, reason).await,
            Step::InConflict => {
                Err(Failure::blocked(HoldCause::Conflict, None, "the record is in conflict").into())
            }
            Step::WaitUntil(until) => Ok(Flow::End(Handled::Wait {
                until,
                cause: WaitCause::Settle,
            })),
        }
    }

    async fn abandon(&mut self) -> Result<Flow, Halt> {
        let recheck = self.driver.settings.rechecks.first().copied();
        let effect = self.open.clone().ok_or_else(no_effect)?;
        self.metrics().ended(effect.operation, Ending::Abandoned);
        self.gave_up = true;
        self.resolve(Resolution::Abandoned {
            effect: effect.id,
            link: self.link.id,
            begun: self.claimed_at,
            recheck: recheck.unwrap_or(Duration::from_secs(60)),
        })
        .await
    }

    async fn missed(&mut self, until: DateTime<Utc>) -> Result<Flow, Halt> {
        let mut finish = self.finish(End::Missed);
        finish.despite_open = true;
        match self.end(finish, None).await? {
            Flow::On => Ok(lags(until)),
            lost @ Flow::End(_) => Ok(lost),
        }
    }

    async fn find(&mut self, keys: Vec<NaturalKey>) -> Result<Flow, Halt> {
        let hits = if keys.is_empty() {
            Vec::new()
        } else {
            self.driver.target.find(&keys).await.map_err(look_failed)?
        };
        self.observations.found.push((keys, hits));
        Ok(Flow::On)
    }

    async fn resolve(&mut self, resolution: Resolution) -> Result<Flow, Halt> {
        let resolved = self.driver.ledger.resolve(resolution).await?;
        // Whoever moved it: the link is read anew, and `next` asks again.
        self.update(resolved.link, resolved.open)?;
        Ok(Flow::On)
    }

    async fn confirm(&mut self, record: &Record) -> Result<Flow, Halt> {
        let effect = self.open.clone().ok_or_else(no_effect)?;
        let change = proof::change_by_record(&effect, &self.link, record);
        self.metrics().ended(effect.operation, Ending::Found);
        let own = effect.last && effect.k.is_some() && effect.k.as_ref() == self.work.intent.k();
        self.complete(
            &effect,
            change,
            json!({ "proven": "by look-up" }),
            !own,
            false,
        )
        .await
    }

    async fn adopt(&mut self, record: &Record, despite_open: bool) -> Result<Flow, Halt> {
        let base = Base::of_record(record);
        let mut finish = self.finish(End::Adopted);
        finish.target_id = Some(record.id.clone());
        finish.base = json!(base);
        finish.despite_open = despite_open;
        let finished = self.driver.ledger.finish(finish).await?;
        self.update(finished.link, finished.open)?;
        match finished.taken {
            Some(_)
                if self.link.former_target_id.as_deref() == Some(record.id.as_str())
                    && !self.observations.former_gone =>
            {
                self.observations.former_gone = true;
                Ok(Flow::On)
            }
            Some(other) => {
                let reason = format!(
                    "the partner's record {} already belongs to link {other}",
                    record.id
                );
                self.conflict(ConflictCause::RecordTaken, reason).await
            }
            None if finished.guarded => Ok(self.lost()),
            None => Ok(Flow::On),
        }
    }

    async fn conflict(&mut self, cause: ConflictCause, reason: String) -> Result<Flow, Halt> {
        let mut finish = self.finish(End::Conflict);
        finish.note = json!({ "reason": reason });
        finish.cause = Some(cause);
        if cause == ConflictCause::Gone {
            finish.recheck = self.driver.settings.rechecks.first().copied().or(Some(DAY));
            finish.recheck_step = 0;
        }
        // Several hits are a conflict beside an effect whose outcome is open, too.
        finish.despite_open = self.open.is_some();
        let requested = self.work.intent.k().is_none();
        if requested {
            self.metrics().rechecked(Recheck::Conflict);
        }
        match self.end(finish, Some(AckReason::Rechecked)).await? {
            Flow::End(Handled::Done(_)) if !requested => {
                let key = (cause == ConflictCause::KeyTaken).then(|| self.keys_taken.first());
                Err(match key.flatten() {
                    Some((key, _record)) => {
                        let free = WaitsFor::Key {
                            kind: self.kind.clone(),
                            key: key.clone(),
                        };
                        Failure::waits_for(HoldCause::Conflict, free, reason)
                    }
                    None => Failure::blocked(HoldCause::Conflict, None, reason),
                }
                .into())
            }
            flow => Ok(flow),
        }
    }

    /// An ending or an observation, guarded. A guard that fails is never the end of the event.
    async fn end(&mut self, finish: Finish, done: Option<AckReason>) -> Result<Flow, Halt> {
        let finished = self
            .driver
            .ledger
            .finish(finish)
            .instrument(spans::complete(self.link.id))
            .await?;
        self.update(finished.link, finished.open)?;
        if finished.guarded {
            return Ok(self.lost());
        }
        Ok(done.map_or(Flow::On, |reason| Flow::End(Handled::Done(Done(reason)))))
    }

    /// Of the database, as near as our own clock can tell.
    fn now(&self) -> DateTime<Utc> {
        self.claimed_at + (self.driver.clock.elapsed() - self.started)
    }

    /// A re-check ends; the next one as the settings say, and afterwards every `then`.
    fn rechecked(&self, then: Option<Duration>) -> Finish {
        let mut finish = self.finish(End::Rechecked);
        let step = self.link.recheck_step + 1;
        finish.recheck = usize::try_from(step)
            .ok()
            .and_then(|step| self.driver.settings.rechecks.get(step))
            .copied()
            .or(then);
        finish.recheck_step = step;
        finish
    }

    /// Our token or our effect is somebody else's: the end only if the content is applied.
    fn lost(&self) -> Flow {
        match self.work.intent.k() {
            Some(k) if self.link.covers(k) => {
                Flow::End(Handled::Done(Done(AckReason::AlreadyDone)))
            }
            _ => self.wait(WaitCause::TokenLost),
        }
    }

    fn wait(&self, cause: WaitCause) -> Flow {
        Flow::End(self.later(cause))
    }

    /// As soon as a retry tier allows.
    fn later(&self, cause: WaitCause) -> Handled {
        Handled::Wait {
            until: self.claimed_at,
            cause,
        }
    }

    fn update(
        &mut self,
        link: store::links::LinkRow,
        open: Option<store::links::EffectRow>,
    ) -> Result<(), Halt> {
        self.link = Link::read(link).ok_or_else(unreadable)?;
        self.open = open
            .map(|row| Effect::read(row).ok_or_else(unreadable))
            .transpose()?;
        Ok(())
    }

    fn metrics(&self) -> &Metrics {
        self.driver.metrics
    }

    fn finish(&self, end: End) -> Finish {
        let content = match &self.work.intent {
            Intent::Content { content, .. } => Some(content),
            _ => None,
        };
        Finish {
            link: self.link.id,
            token: self.token,
            end,
            k: self.work.intent.k().cloned(),
            source: self.work.source.clone(),
            event_id: self.work.event_id.clone(),
            generation: self.work.generation,
            target_id: self.link.target_id.clone(),
            base: json!(self.link.base),
            parts: json!({}),
            natural_keys: content
                .map(|content| content.keys.iter().map(|key| key.0.clone()).collect()),
            note: json!({}),
            despite_open: false,
            recheck: None,
            recheck_step: self.link.recheck_step,
            cause: None,
            begun: self.claimed_at,
            outcome: None,
        }
    }
}

/// Comes back when a look may show more.
fn lags(until: DateTime<Utc>) -> Flow {
    Flow::End(Handled::Wait {
        until,
        cause: WaitCause::Lag,
    })
}

fn look_failed(error: LookError) -> Halt {
    error.0.into()
}

fn no_effect() -> Halt {
    Failure::transient(DeadClass::Internal, "the open effect has gone").into()
}

fn unreadable() -> Failure {
    Failure::transient(
        DeadClass::Internal,
        "the link was written by a newer build of Kurir",
    )
}
