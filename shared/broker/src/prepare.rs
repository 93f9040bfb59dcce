//! What an event needs before the gate can answer: its tenant's connection and, for a state event, its version.
//!
//! Nearly always both are in memory. Where they are not, the store is asked in a task of its own, for all waiting
//! events together, so that receiving never waits for the database.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use event::{Kind, SubjectVersion, TenantId, VersionScheme};
use worker::{
    Claims, ConnectionAnswer, DeadClass, Handler, Outcome, PinItem, PortError, decide, gate,
};

use crate::consume::Shared;
use crate::intake::Work;

/// Sources whose version scheme is remembered; beyond it all are asked again.
const SCHEMES_LIMIT: usize = 10_000;

/// Version schemes as the store has pinned them.
#[derive(Debug, Default)]
pub(crate) struct Schemes(Mutex<HashMap<(TenantId, String), VersionScheme>>);

impl Schemes {
    fn get(&self, tenant: &TenantId, source: &str) -> Option<VersionScheme> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(tenant.clone(), source.to_owned())).copied()
    }

    fn set(&self, tenant: &TenantId, source: &str, scheme: VersionScheme) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SCHEMES_LIMIT {
            known.clear();
        }
        known.insert((tenant.clone(), source.to_owned()), scheme);
    }
}

/// What became of an event at the gate.
pub(crate) enum Passed {
    /// To the claim.
    Ready(Work),
    Decided(Work, Outcome),
    /// Something is not in memory: the store must be asked.
    Unknown(Work),
}

/// What the store answered for one round.
#[derive(Default)]
struct Answers {
    connections: HashMap<TenantId, ConnectionAnswer>,
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
        let event = std::sync::Arc::clone(&work.job.event);
        if event.kind() == Kind::Request {
            return Passed::Ready(work);
        }
        let asked = answers.connections.get(&event.tenant).cloned();
        let remembered = || {
            (!work.ask_store)
                .then(|| {
                    self.connections
                        .cached(&event.tenant, self.handler.target_system())
                })
                .flatten()
        };
        let Some(answer) = asked.or_else(remembered) else {
            return Passed::Unknown(work);
        };
        let refused = gate::connection(&answer).err();
        // A tenant that is unknown or switched off pins nothing; what is held needs its version, to give way in order.
        if let Some(outcome @ (Outcome::DeadLetter { .. } | Outcome::Ack(_))) = refused {
            return Passed::Decided(work, outcome);
        }
        if let ConnectionAnswer::Known(connection) = answer {
            work.job.connection = Some(connection);
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
        match refused {
            Some(outcome) => Passed::Decided(work, outcome),
            None => Passed::Ready(work),
        }
    }

    /// One question after the other: a miss is rare, and a tenant is asked for once however many events wait for it.
    async fn ask(&self, works: &[Work]) -> Answers {
        let mut answers = Answers::default();
        let events = works
            .iter()
            .map(|work| &work.job.event)
            .filter(|event| event.kind() != Kind::Request);
        for event in events {
            let tenant = &event.tenant;
            if !answers.connections.contains_key(tenant) {
                let answer = self
                    .connections
                    .resolve(tenant, self.handler.target_system())
                    .await;
                let Some(answer) = told(answer) else { continue };
                answers.connections.insert(tenant.clone(), answer);
            }
            let (Kind::State { .. }, Some(version)) = (event.kind(), &event.version) else {
                continue;
            };
            let key = (tenant.clone(), event.source.clone());
            // A source of a tenant that the store doesn't know is never pinned.
            let unknown = answers.connections.get(tenant) == Some(&ConnectionAnswer::UnknownTenant);
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

    /// One batched statement for all state events that brought no version.
    async fn pin(&self, works: &mut [Work], answers: &Answers) {
        let lacking = |work: &Work| {
            let event = &work.job.event;
            let answer = answers.connections.get(&event.tenant);
            let wanted = match answer {
                Some(ConnectionAnswer::Known(connection)) => connection.enabled,
                Some(ConnectionAnswer::NoConnection) => true,
                Some(ConnectionAnswer::UnknownTenant) | None => false,
            };
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
