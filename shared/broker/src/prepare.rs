//! What an event needs before the gate can answer: its tenant's connection and, for a state event, its version.
//!
//! Nearly always both are in memory. Where they are not, the store is asked in a task of its own, for all waiting
//! events together, so that receiving never waits for the database.

use std::collections::HashMap;
use std::sync::Arc;

use event::{Kind, SubjectVersion, TenantId, VersionScheme};
use worker::gate::{self, Course, Destination};
use worker::{Claims, ConnectionAnswer, DeadClass, Handler, Outcome, PinItem, PortError, decide};

use crate::intake::Work;
use crate::shared::Shared;

/// What became of an event at the gate.
pub(crate) enum Passed {
    /// To the claim.
    Ready(Work),
    Decided(Work, Outcome),
    /// Several connections or facets are to get it.
    Cut(Work, Vec<Destination>),
    /// Something is not in memory: the store must be asked.
    Unknown(Work),
}

/// A tenant's connections, and whether the store itself has said so in this round.
struct Answer {
    connections: ConnectionAnswer,
    fresh: bool,
}

/// What the store answered for one round.
#[derive(Default)]
struct Answers {
    connections: HashMap<TenantId, Answer>,
    schemes: HashMap<(TenantId, String), VersionScheme>,
}

impl<H: Handler, C: Claims<Grant = H::Grant>> Shared<H, C> {
    /// The gate with what is in memory. Never waits.
    pub(crate) fn pass(&self, work: Work) -> Passed {
        self.pass_with(work, &Answers::default())
    }

    /// Asks the store for everything that these events lack. What could not be answered is in the second list.
    pub(crate) async fn prepare(&self, mut works: Vec<Work>) -> (Vec<Passed>, Vec<Work>) {
        let answers = self.ask(&works).await;
        self.pin(&mut works, &answers).await;
        let (mut passed, mut again) = (Vec::new(), Vec::new());
        for work in works {
            match self.pass_with(work, &answers) {
                Passed::Unknown(work) => again.push(work),
                other => passed.push(other),
            }
        }
        (passed, again)
    }

    fn pass_with(&self, mut work: Work, answers: &Answers) -> Passed {
        let now = self.now();
        if let Some(wait) = gate::due(&work.job, now) {
            return Passed::Decided(work, wait);
        }
        let event = Arc::clone(&work.job.event);
        if event.kind() == Kind::Request {
            return Passed::Ready(work);
        }
        let asked = answers.connections.get(&event.tenant);
        let fresh = asked.is_some_and(|answer| answer.fresh);
        let asked = asked.map(|answer| answer.connections.clone());
        let Some(answer) = asked.or_else(|| self.remembered(&work)) else {
            return Passed::Unknown(work);
        };
        let mut several = Vec::new();
        let refused = match self.course(&answer, &work) {
            Course::To(destination) => {
                let refused = gate::connection(&destination.connection);
                work.belongs_to(destination);
                refused
            }
            Course::Cut(destinations) => {
                several = destinations;
                None
            }
            // It may have been added a moment ago: only the store refuses.
            Course::Refused(Outcome::DeadLetter {
                class: DeadClass::WrongConnection,
                ..
            }) if !fresh => {
                work.ask_store = true;
                return Passed::Unknown(work);
            }
            Course::Refused(outcome) => Some(outcome),
        };
        // A tenant that is unknown or switched off pins nothing; what is held needs its version, to give way in order.
        if let Some(outcome @ (Outcome::DeadLetter { .. } | Outcome::Ack(_))) = refused {
            return Passed::Decided(work, outcome);
        }
        if matches!(event.kind(), Kind::State { .. }) && work.job.version.is_none() {
            match &event.version {
                None => return Passed::Unknown(work),
                Some(version) => {
                    let key = (event.tenant.clone(), event.source.clone());
                    let known = answers.schemes.get(&key).copied();
                    match known.or_else(|| self.schemes.get(&event.tenant, &event.source)) {
                        None => return Passed::Unknown(work),
                        Some(scheme) if scheme == version.scheme => {}
                        // Memory may be older than a pin that an operator has changed: only the store refuses.
                        Some(_) if known.is_none() => return Passed::Unknown(work),
                        Some(scheme) => {
                            return Passed::Decided(work, other_scheme(version.scheme, scheme));
                        }
                    }
                    if let Some(outcome) = gate::future_version(&work.job, now) {
                        return Passed::Decided(work, outcome);
                    }
                    work.job.version = Some(version.value.clone());
                }
            }
        }
        // Only now: all copies have one version, that of the moment when the event was first seen.
        match refused {
            Some(outcome) => Passed::Decided(work, outcome),
            None if several.is_empty() => Passed::Ready(work),
            None => Passed::Cut(work, several),
        }
    }

    fn course(&self, answer: &ConnectionAnswer, work: &Work) -> Course {
        let (event, trail) = (&work.job.event, &work.job.delivery.trail);
        gate::course(answer, event, trail, self.handler.facets())
    }

    /// What is in memory, unless it was found to be out of date.
    fn remembered(&self, work: &Work) -> Option<ConnectionAnswer> {
        let system = self.handler.target_system();
        let cached = || self.connections.cached(&work.job.event.tenant, system);
        (!work.ask_store).then(cached).flatten()
    }

    /// One question after the other: a miss is rare, and a tenant is asked for once however many events wait for it.
    async fn ask(&self, works: &[Work]) -> Answers {
        let mut answers = Answers::default();
        // A tenant is asked for in earnest if one of its events needs that.
        let (needy, others): (Vec<&Work>, Vec<&Work>) =
            works.iter().partition(|work| work.ask_store);
        let events = needy
            .into_iter()
            .chain(others)
            .map(|work| (work, &work.job.event))
            .filter(|(_, event)| event.kind() != Kind::Request);
        for (work, event) in events {
            let tenant = &event.tenant;
            if !answers.connections.contains_key(tenant) {
                let Some(answer) = self.connections_of(work).await else {
                    continue;
                };
                answers.connections.insert(tenant.clone(), answer);
            }
            let (Kind::State { .. }, Some(version)) = (event.kind(), &event.version) else {
                continue;
            };
            let key = (tenant.clone(), event.source.clone());
            // A source of a tenant that the store doesn't know is never pinned.
            let unknown = answers
                .connections
                .get(tenant)
                .is_some_and(|answer| answer.connections == ConnectionAnswer::UnknownTenant);
            if unknown || answers.schemes.contains_key(&key) {
                continue;
            }
            let scheme = self
                .pins
                .check_scheme(tenant, &event.source, version.scheme)
                .await;
            let Some(scheme) = told(scheme) else { continue };
            self.schemes.set(tenant, &event.source, scheme);
            answers.schemes.insert(key, scheme);
        }
        answers
    }

    async fn connections_of(&self, work: &Work) -> Option<Answer> {
        if let Some(connections) = self.remembered(work) {
            return Some(Answer {
                connections,
                fresh: false,
            });
        }
        let (tenant, system) = (&work.job.event.tenant, self.handler.target_system());
        let connections = told(self.connections.resolve(tenant, system).await)?;
        Some(Answer {
            connections,
            fresh: true,
        })
    }

    /// One batched statement for all state events that brought no version.
    async fn pin(&self, works: &mut [Work], answers: &Answers) {
        let lacking = |work: &Work| {
            let event = &work.job.event;
            let answer = answers.connections.get(&event.tenant);
            let wanted =
                answer.is_some_and(|answer| match self.course(&answer.connections, work) {
                    Course::To(destination) => destination.connection.enabled,
                    Course::Cut(_) | Course::Refused(Outcome::Hold { .. }) => true,
                    Course::Refused(_) => false,
                });
            wanted
                && matches!(event.kind(), Kind::State { .. })
                && event.version.is_none()
                && work.job.version.is_none()
        };
        let mut unpinned: Vec<&mut Work> = works.iter_mut().filter(|work| lacking(work)).collect();
        if unpinned.is_empty() {
            return;
        }
        let items: Vec<PinItem> = unpinned
            .iter()
            .map(|work| PinItem {
                tenant: work.job.event.tenant.clone(),
                source: work.job.event.source.clone(),
                event_id: work.job.event.id.clone(),
                received_at: work.job.delivery.received_at,
            })
            .collect();
        let versions: Vec<SubjectVersion> = told(self.pins.pin(items).await).unwrap_or_default();
        for (work, version) in unpinned.iter_mut().zip(versions) {
            work.job.version = Some(version);
        }
    }
}

fn other_scheme(given: VersionScheme, pinned: VersionScheme) -> Outcome {
    let reason = format!(
        "this source's versions are of the kind '{}', this event's is '{}': they can't be compared; \
         publish with one kind of version only",
        pinned.as_str(),
        given.as_str()
    );
    decide::dead(DeadClass::VersionScheme, reason)
}

fn told<T>(answer: Result<T, PortError>) -> Option<T> {
    answer
        .inspect_err(|error| tracing::warn!(%error, "the store did not answer before the gate"))
        .ok()
}
