//! A worker of links, whatever its partner: one claimed event, or one request about a link, from the grant to its end.
//! What an event means and what the partner can do comes from the service (`Partner`).

mod accounts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use event::{EventType, TenantId};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use store::Pool;
use store::links::Links;
use store::sealing::KeyRing;
use uuid::Uuid;
use worker::{
    AckReason, Budgets, Connection, ConnectionAnswer, ConnectionState, Connections, DeadClass,
    Done, Facets, Failure, Handled, Handler, HoldCause, Job, RetryPolicy, WaitCause,
};

use self::accounts::{Accounts, NoAccount, TURN_WAIT};
use crate::claims::{LinkClaims, Plan};
use crate::clock::MonotonicClock;
use crate::content::Content;
use crate::drive::{Driver, Grant, Settings};
use crate::effect::Effect;
use crate::metrics::Metrics;
use crate::partner::{Account, Partner};
use crate::step::Intent;
use crate::targets::Targets;

/// Room for a look-up, a write of 120 s and a look at what became of it, twice.
const DEADLINE: Duration = Duration::from_secs(300);

/// What a worker of links stands on.
pub struct Deps {
    /// The worker's name, and the system that its links lead to.
    pub worker: &'static str,
    pub system: &'static str,
    pub pool: Pool,
    /// Opens the credentials of connections.
    pub keys: KeyRing,
    pub links: Links,
    pub connections: Arc<dyn Connections>,
    /// What the fleet may ask of each connection.
    pub budgets: Arc<dyn Budgets>,
    pub settings: Settings,
    /// Those of the partner's system; workers of one system share them.
    pub metrics: Arc<Metrics>,
    pub partner: Arc<dyn Partner>,
    /// What is routed to it.
    pub consumes: &'static [EventType],
    /// What it makes of that.
    pub facets: Facets,
}

/// See the module. One per process and worker: it keeps opened accounts.
pub struct LinkWorker {
    worker: &'static str,
    system: &'static str,
    links: Links,
    connections: Arc<dyn Connections>,
    accounts: Accounts,
    settings: Settings,
    policy: RetryPolicy,
    metrics: Arc<Metrics>,
    partner: Arc<dyn Partner>,
    consumes: &'static [EventType],
    facets: Facets,
}

impl LinkWorker {
    pub fn new(deps: Deps) -> Self {
        Self {
            worker: deps.worker,
            system: deps.system,
            accounts: Accounts::new(
                deps.pool,
                deps.keys,
                deps.budgets,
                Arc::clone(&deps.partner),
            ),
            links: deps.links,
            connections: deps.connections,
            settings: deps.settings,
            policy: RetryPolicy {
                deadline: DEADLINE,
                ..RetryPolicy::default()
            },
            metrics: deps.metrics,
            partner: deps.partner,
            consumes: deps.consumes,
            facets: deps.facets,
        }
    }

    /// The claims that grant what this worker handles.
    pub fn claims(&self) -> LinkClaims {
        let planner: Arc<dyn Partner> = Arc::clone(&self.partner);
        LinkClaims::new(self.links.clone(), planner, self.worker, self.system)
    }

    async fn run(&self, job: &Job, grant: Grant, deadline: Duration) -> Result<Handled, Failure> {
        let begun = Instant::now();
        let now = grant.granted.now;
        let connection = match &job.connection {
            Some(connection) => Arc::clone(connection),
            None => match self.connection_of(&grant).await? {
                Ok(connection) => connection,
                Err(handled) => return Ok(handled),
            },
        };
        let account = match self.accounts.of(&connection).await {
            Ok(account) => account,
            Err(NoAccount::Store(error)) if error.is_transient() => {
                tracing::warn!(error = %error.with_causes(), "credentials could not be read");
                return Ok(Handled::Wait {
                    until: now,
                    cause: WaitCause::Store,
                });
            }
            Err(NoAccount::Store(store::Error::Missing { .. })) => return Err(no_connection()),
            Err(NoAccount::Store(error)) => {
                return Err(Failure::transient(DeadClass::Internal, error.with_causes()));
            }
            Err(NoAccount::Unusable { epoch, why }) => {
                return Err(Failure::blocked(HoldCause::Suspended, Some(epoch), why));
            }
        };
        let Some(_turn) = account.turn().await else {
            return Ok(limited(now, begun, TURN_WAIT));
        };
        let mut grant = self.named(job, grant)?;
        if grant.later {
            make(&*account.partner, job, &mut grant).await?;
        }
        let target = account.partner.target(&grant, job);
        let driver = Driver {
            ledger: &self.links,
            target: &*target,
            clock: &MonotonicClock::default(),
            settings: &self.settings,
            metrics: &self.metrics,
            worker: self.worker,
            new_id: &Uuid::now_v7,
        };
        let answer = driver
            .drive(grant, deadline.saturating_sub(begun.elapsed()))
            .await;
        match (answer, target.limited()) {
            // Our own limits are no failure of the event.
            (Err(Failure::Transient { .. }), Some(until)) => Ok(limited(
                now,
                begun,
                until.saturating_duration_since(Instant::now()),
            )),
            (answer, _) => answer,
        }
    }

    /// A content that names other records is planned once more, with their ids.
    fn named(&self, job: &Job, mut grant: Grant) -> Result<Grant, Failure> {
        let Intent::Content { content, .. } = &mut grant.work.intent else {
            return Ok(grant);
        };
        let found_references = &grant.granted.found_references;
        if found_references.is_empty() {
            return Ok(grant);
        }
        let mut targets = Targets::found(&job.event, found_references);
        let planned = self.partner.plan(job, &mut targets);
        match planned.map_err(|reason| Failure::permanent(DeadClass::Unmappable, reason))? {
            Plan::Save(named) | Plan::Later(named) if targets.complete() => *content = named,
            _ => {
                let reason = "its second plan names other records than its first";
                return Err(Failure::permanent(DeadClass::Internal, reason));
            }
        }
        Ok(grant)
    }

    /// Of the link that a request names, whichever of the tenant's that is. Inner `Err`: nothing to do now.
    async fn connection_of(
        &self,
        grant: &Grant,
    ) -> Result<Result<Arc<Connection>, Handled>, Failure> {
        let link = &grant.granted.link;
        let system = self.system;
        let tenant = TenantId::parse(&link.tenant).ok_or_else(no_connection)?;
        let cached = self.connections.cached(&tenant, system);
        let mut found = cached.and_then(|answer| among(&answer, link.connection_id));
        if found.is_none() {
            // Added a moment ago, or not in memory.
            match self.connections.resolve(&tenant, system).await {
                Ok(answer) => found = among(&answer, link.connection_id),
                Err(error) => {
                    tracing::warn!(%error, "the connection of a link could not be resolved");
                    return Ok(Err(Handled::Wait {
                        until: grant.granted.now,
                        cause: WaitCause::Store,
                    }));
                }
            }
        }
        match found {
            None => Err(no_connection()),
            Some(connection) if !connection.enabled => {
                Ok(Err(Handled::Done(Done(AckReason::Disabled))))
            }
            Some(connection) if connection.state == ConnectionState::Suspended => {
                Err(Failure::blocked(
                    HoldCause::Suspended,
                    Some(connection.epoch),
                    "the connection is suspended",
                ))
            }
            Some(connection) => Ok(Ok(connection)),
        }
    }
}

impl Handler for LinkWorker {
    type Grant = Grant;

    fn name(&self) -> &'static str {
        self.worker
    }

    fn consumes(&self) -> &'static [EventType] {
        self.consumes
    }

    fn facets(&self) -> Facets {
        self.facets
    }

    fn target_system(&self) -> &'static str {
        self.system
    }

    fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    fn handle<'a>(
        &'a self,
        job: &'a Job,
        grant: Grant,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Handled, Failure>> {
        self.run(job, grant, deadline).boxed()
    }
}

/// What the first call of this event carried, or a new one.
async fn make(account: &dyn Account, job: &Job, grant: &mut Grant) -> Result<(), Failure> {
    let earlier = grant.granted.earlier.take().and_then(Effect::read);
    let Intent::Content { content, .. } = &mut grant.work.intent else {
        return Ok(());
    };
    let known = std::mem::take(content);
    let made = match earlier {
        Some(effect) => remembered(known, effect),
        None => {
            let parts = known.parts.clone();
            let made = account.make(known, grant, job).await?;
            if made.parts != parts {
                // A call carries one part at most: an earlier one does not say what the others were.
                let reason =
                    "its worker makes parts under the lease, which a repeat could not make again";
                return Err(Failure::permanent(DeadClass::Internal, reason));
            }
            made
        }
    };
    if let Intent::Content { content, .. } = &mut grant.work.intent {
        *content = made;
    }
    Ok(())
}

/// What the earlier call of this event carried stands in for what would be made anew. What is known counts as it is now: a
/// repaired event, or a reference that leads elsewhere, is not answered with what was sent before.
fn remembered(mut known: Content, earlier: Effect) -> Content {
    for (name, value) in earlier.request.fields {
        known.fields.entry(name).or_insert(value);
    }
    known
}

fn among(answer: &ConnectionAnswer, id: Uuid) -> Option<Arc<Connection>> {
    match answer {
        ConnectionAnswer::Known(known) => known.iter().find(|one| one.id == id).cloned(),
        ConnectionAnswer::NoConnection | ConnectionAnswer::UnknownTenant => None,
    }
}

fn limited(now: DateTime<Utc>, begun: Instant, wait: Duration) -> Handled {
    let until = TimeDelta::from_std(begun.elapsed() + wait).unwrap_or_default();
    Handled::Wait {
        until: now + until,
        cause: WaitCause::Limited,
    }
}

fn no_connection() -> Failure {
    Failure::blocked(
        HoldCause::NoConnection,
        None,
        "the link's connection does not exist any more",
    )
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use uuid::Uuid;

    use super::*;
    use crate::effect::{EffectState, Operation, Request};

    fn content(pairs: &[(&str, &str)]) -> Content {
        let field = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
        Content {
            fields: pairs.iter().map(field).collect(),
            ..Content::default()
        }
    }

    #[test]
    fn what_is_known_counts_and_what_was_made_is_remembered() {
        let earlier = Effect {
            id: Uuid::nil(),
            source: String::new(),
            event_id: "e".to_owned(),
            k: None,
            operation: Operation::Create,
            state: EffectState::Failed,
            last: true,
            request: Request {
                fields: content(&[("entry", "old"), ("text", "Welcome")]).fields,
                ..Request::default()
            },
            target_id: None,
            sent_at: Some(Utc::now()),
            settle_at: None,
        };
        let made = remembered(content(&[("entry", "moved")]), earlier);
        assert_eq!(made, content(&[("entry", "moved"), ("text", "Welcome")]));
    }
}
