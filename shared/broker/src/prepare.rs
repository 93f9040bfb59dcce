//! What an event needs before the gate can answer: its tenant's connection and, for a state event, its version.
//!
//! Nearly always both are in memory. Where they are not, the store is asked in a task of its own, for all waiting
//! events together, so that receiving never waits for the database.

use std::collections::HashMap;
use std::sync::Arc;

use event::{EventKind, SubjectVersion, TenantId, VersionScheme};
use worker::gate::{self, Destination, Route};
use worker::{Claims, ConnectionAnswer, DeadClass, Handler, Outcome, PinItem, PortError, decide};

use crate::parse::InFlight;
use crate::shared::Shared;

/// What became of an event at the gate.
pub(crate) enum Passed {
    /// To the claim.
    Ready(InFlight),
    Decided(InFlight, Outcome),
    /// Several connections or facets are to get it.
    FanOut(InFlight, Vec<Destination>),
    /// Something is not in memory: the store must be asked.
    Unknown(InFlight),
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
    pub(crate) fn pass(&self, in_flight: InFlight) -> Passed {
        self.pass_with(in_flight, &Answers::default())
    }

    /// Asks the store for everything that these events lack. What could not be answered is in the second list.
    pub(crate) async fn prepare(
        &self,
        mut deliveries: Vec<InFlight>,
    ) -> (Vec<Passed>, Vec<InFlight>) {
        let answers = self.ask(&deliveries).await;
        self.pin(&mut deliveries, &answers).await;
        let (mut passed, mut again) = (Vec::new(), Vec::new());
        for in_flight in deliveries {
            match self.pass_with(in_flight, &answers) {
                Passed::Unknown(in_flight) => again.push(in_flight),
                other => passed.push(other),
            }
        }
        (passed, again)
    }

    fn pass_with(&self, mut in_flight: InFlight, answers: &Answers) -> Passed {
        let now = self.now();
        if let Some(wait) = gate::due(&in_flight.job, now) {
            return Passed::Decided(in_flight, wait);
        }
        let event = Arc::clone(&in_flight.job.event);
        if event.kind() == EventKind::Request {
            return Passed::Ready(in_flight);
        }
        let asked = answers.connections.get(&event.tenant);
        let fresh = asked.is_some_and(|answer| answer.fresh);
        let asked = asked.map(|answer| answer.connections.clone());
        let Some(answer) = asked.or_else(|| self.remembered(&in_flight)) else {
            return Passed::Unknown(in_flight);
        };
        let mut several = Vec::new();
        let refused = match self.route(&answer, &in_flight) {
            Route::To(destination) => {
                let refused = gate::connection(&destination.connection);
                in_flight.belongs_to(destination);
                refused
            }
            Route::FanOut(destinations) => {
                several = destinations;
                None
            }
            // It may have been added a moment ago: only the store refuses.
            Route::Refused(Outcome::DeadLetter {
                class: DeadClass::WrongConnection,
                ..
            }) if !fresh => {
                in_flight.ask_store = true;
                return Passed::Unknown(in_flight);
            }
            Route::Refused(outcome) => Some(outcome),
        };
        // A tenant that is unknown or switched off pins nothing; what is held needs its version, to give way in order.
        if let Some(outcome @ (Outcome::DeadLetter { .. } | Outcome::Ack(_))) = refused {
            return Passed::Decided(in_flight, outcome);
        }
        if matches!(event.kind(), EventKind::State { .. }) && in_flight.job.version.is_none() {
            match &event.version {
                None => return Passed::Unknown(in_flight),
                Some(version) => {
                    let key = (event.tenant.clone(), event.source.clone());
                    let known = answers.schemes.get(&key).copied();
                    match known.or_else(|| self.schemes.get(&event.tenant, &event.source)) {
                        None => return Passed::Unknown(in_flight),
                        Some(scheme) if scheme == version.scheme => {}
                        // Memory may be older than a pin that an operator has changed: only the store refuses.
                        Some(_) if known.is_none() => return Passed::Unknown(in_flight),
                        Some(scheme) => {
                            return Passed::Decided(
                                in_flight,
                                other_scheme(version.scheme, scheme),
                            );
                        }
                    }
                    if let Some(outcome) = gate::future_version(&in_flight.job, now) {
                        return Passed::Decided(in_flight, outcome);
                    }
                    in_flight.job.version = Some(version.value.clone());
                }
            }
        }
        // Only now: all copies have one version, that of the moment when the event was first seen.
        match refused {
            Some(outcome) => Passed::Decided(in_flight, outcome),
            None if several.is_empty() => Passed::Ready(in_flight),
            None => Passed::FanOut(in_flight, several),
        }
    }

    fn route(&self, answer: &ConnectionAnswer, in_flight: &InFlight) -> Route {
        let (event, metadata) = (&in_flight.job.event, &in_flight.job.delivery.metadata);
        gate::route(answer, event, metadata, self.handler.facets())
    }

    /// What is in memory, unless it was found to be out of date.
    fn remembered(&self, in_flight: &InFlight) -> Option<ConnectionAnswer> {
        let system = self.handler.target_system();
        let cached = || self.connections.cached(&in_flight.job.event.tenant, system);
        (!in_flight.ask_store).then(cached).flatten()
    }

    /// One question after the other: a miss is rare, and a tenant is asked for once however many events wait for it.
    async fn ask(&self, deliveries: &[InFlight]) -> Answers {
        let mut answers = Answers::default();
        // A tenant is asked for in earnest if one of its events needs that.
        let (to_ask, others): (Vec<&InFlight>, Vec<&InFlight>) =
            deliveries.iter().partition(|in_flight| in_flight.ask_store);
        let events = to_ask
            .into_iter()
            .chain(others)
            .map(|in_flight| (in_flight, &in_flight.job.event))
            .filter(|(_, event)| event.kind() != EventKind::Request);
        for (in_flight, event) in events {
            let tenant = &event.tenant;
            if !answers.connections.contains_key(tenant) {
                let Some(answer) = self.connections_of(in_flight).await else {
                    continue;
                };
                answers.connections.insert(tenant.clone(), answer);
            }
            let (EventKind::State { .. }, Some(version)) = (event.kind(), &event.version) else {
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
            let Some(scheme) = or_logged(scheme) else {
                continue;
            };
            self.schemes.set(tenant, &event.source, scheme);
            answers.schemes.insert(key, scheme);
        }
        answers
    }

    async fn connections_of(&self, in_flight: &InFlight) -> Option<Answer> {
        if let Some(connections) = self.remembered(in_flight) {
            return Some(Answer {
                connections,
                fresh: false,
            });
        }
        let (tenant, system) = (&in_flight.job.event.tenant, self.handler.target_system());
        let connections = or_logged(self.connections.resolve(tenant, system).await)?;
        Some(Answer {
            connections,
            fresh: true,
        })
    }

    /// One batched statement for all state events that brought no version.
    async fn pin(&self, deliveries: &mut [InFlight], answers: &Answers) {
        let lacking = |in_flight: &InFlight| {
            let event = &in_flight.job.event;
            let answer = answers.connections.get(&event.tenant);
            let wanted =
                answer.is_some_and(|answer| match self.route(&answer.connections, in_flight) {
                    Route::To(destination) => destination.connection.enabled,
                    Route::FanOut(_) | Route::Refused(Outcome::Hold { .. }) => true,
                    Route::Refused(_) => false,
                });
            wanted
                && matches!(event.kind(), EventKind::State { .. })
                && event.version.is_none()
                && in_flight.job.version.is_none()
        };
        let mut unpinned: Vec<&mut InFlight> = deliveries
            .iter_mut()
            .filter(|in_flight| lacking(in_flight))
            .collect();
        if unpinned.is_empty() {
            return;
        }
        let items: Vec<PinItem> = unpinned
            .iter()
            .map(|in_flight| PinItem {
                tenant: in_flight.job.event.tenant.clone(),
                source: in_flight.job.event.source.clone(),
                event_id: in_flight.job.event.id.clone(),
                received_at: in_flight.job.delivery.received_at,
            })
            .collect();
        let versions: Vec<SubjectVersion> =
            or_logged(self.pins.pin(items).await).unwrap_or_default();
        for (in_flight, version) in unpinned.iter_mut().zip(versions) {
            in_flight.job.version = Some(version);
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

fn or_logged<T>(answer: Result<T, PortError>) -> Option<T> {
    answer
        .inspect_err(|error| tracing::warn!(%error, "the store did not answer before the gate"))
        .ok()
}
