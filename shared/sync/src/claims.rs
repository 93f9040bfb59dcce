//! The engine behind the consumer loop's ports: batches of claims and holds, over `store::links`.

use std::sync::Arc;

use event::{Cause, EventKind, Payload, SyncWhat};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use store::links::{ClaimItem, ClaimVerdict, HeldItem, HeldVerdict, LinkKey, Links, SentReference};
use worker::{
    AckReason, Claims, DeadClass, HoldCause, HoldItem, HoldVerdict, Holds, Job, Leased, PortError,
    Release, Verdict, WaitsFor,
};

use crate::content::{Content, NaturalKey};
use crate::drive::Grant;
use crate::step::{Intent, Work};
use crate::targets::Targets;

/// What a capability makes of an event, without any I/O.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Save(Content),
    /// What is known of it; the rest costs something and is made under the lease (`Account::make`), once per event: a repeat
    /// carries what the first call carried.
    Later(Content),
    Delete,
}

pub trait Planner: Send + Sync + 'static {
    /// `targets` answers with the ids of other links' records; the event waits until there is one for each that is asked for.
    /// Asked again once they are known, and must ask for the same ones. `Job::link_kind` says which facet is meant.
    ///
    /// # Errors
    /// The event's data cannot be expressed at the partner; it names the field.
    fn plan(&self, job: &Job, targets: &mut Targets) -> Result<Plan, String>;
}

/// `worker::Claims` over the link engine.
pub struct LinkClaims {
    links: Links,
    planner: Arc<dyn Planner>,
    /// Who claims, and the system that its links lead to.
    worker: &'static str,
    system: &'static str,
}

impl LinkClaims {
    pub fn new(
        links: Links,
        planner: Arc<dyn Planner>,
        worker: &'static str,
        system: &'static str,
    ) -> Self {
        Self {
            links,
            planner,
            worker,
            system,
        }
    }

    fn item(&self, job: &Job) -> Result<(ClaimItem, Prepared), Refused> {
        let event = &job.event;
        let delivery = &job.delivery;
        let mut item = ClaimItem {
            link: Err(0),
            tenant: event.tenant.as_str().to_owned(),
            k: None,
            source: event.source.clone(),
            event_id: event.id.clone(),
            generation: job.generation(),
            token: job.token,
            natural_keys: Vec::new(),
            event_type: event.event_type.as_str().to_owned(),
            subject: event.subject.clone(),
            body: delivery.body.to_vec(),
            properties: delivery.properties.clone(),
            headers: delivery.headers.clone(),
            facet: job.facet,
            claim_as: None,
            content: None,
            references: Vec::new(),
            later: false,
        };
        if let (EventKind::Request, Payload::SyncRequested(request)) =
            (event.kind(), &event.payload)
        {
            item.link = Err(request.link);
            item.claim_as = Some(format!("{:?}", request.what).to_lowercase());
            return Ok((item, Prepared::Request(request.what)));
        }
        let (EventKind::State { .. } | EventKind::Fact, Some(connection), Some(k)) =
            (event.kind(), job.connection.as_ref(), job.order_key())
        else {
            return Err(Refused(
                DeadClass::Internal,
                format!("{} cannot be claimed here", event.event_type),
            ));
        };
        let unmappable = |reason| Refused(DeadClass::Unmappable, reason);
        let mut targets = Targets::unknown(event);
        let plan = self.planner.plan(job, &mut targets).map_err(unmappable)?;
        item.references = targets.asked().map_err(unmappable)?;
        let key = LinkKey {
            tenant: item.tenant.clone(),
            kind: job.link_kind().to_owned(),
            source_system: event.system.clone(),
            source_account: event.account.clone(),
            source_id: event.link_id().to_owned(),
            target_system: self.system.to_owned(),
            connection_id: connection.id,
        };
        if item.references.iter().any(|one| one.is_of(&key)) {
            return Err(unmappable("it names its own record".to_owned()));
        }
        item.link = Ok(key);
        item.k = Some(k.clone());
        item.later = matches!(plan, Plan::Later(_));
        let intent = match plan {
            Plan::Save(content) | Plan::Later(content) => {
                item.content = Some(content.digest());
                item.natural_keys = content.keys.iter().map(|key| key.0.clone()).collect();
                Intent::Content { k, content }
            }
            Plan::Delete => Intent::Deleted { k },
        };
        let later = item.later;
        Ok((item, Prepared::Event(intent, later)))
    }
}

struct Refused(DeadClass, String);

enum Prepared {
    /// Its content is made later, where the second says so.
    Event(Intent, bool),
    Request(SyncWhat),
}

impl Claims for LinkClaims {
    type Grant = Grant;

    fn claim<'a>(
        &'a self,
        jobs: &'a [Job],
        exclusive: bool,
    ) -> BoxFuture<'a, Result<Vec<Verdict<Grant>>, PortError>> {
        async move {
            let mut verdicts: Vec<Option<Verdict<Grant>>> = Vec::with_capacity(jobs.len());
            let mut asked = Vec::new();
            let mut items = Vec::new();
            for (index, job) in jobs.iter().enumerate() {
                match self.item(job) {
                    Ok((item, prepared)) => {
                        items.push(item);
                        asked.push((index, prepared));
                        verdicts.push(None);
                    }
                    Err(Refused(class, reason)) => {
                        verdicts.push(Some(Verdict::Dead { class, reason }))
                    }
                }
            }
            if !items.is_empty() {
                let answers = self.links.claim(self.worker, items, exclusive).await?;
                for ((index, prepared), answer) in asked.into_iter().zip(answers) {
                    verdicts[index] = Some(verdict(&jobs[index], prepared, answer));
                }
            }
            verdicts
                .into_iter()
                .map(|verdict| {
                    verdict.ok_or_else(|| PortError("a claim was left unanswered".to_owned()))
                })
                .collect()
        }
        .boxed()
    }

    fn release(&self, releases: Vec<Release>) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            let tokens: Vec<_> = releases.iter().map(|release| release.token).collect();
            let links: Vec<_> = releases.iter().map(|release| release.link).collect();
            let errors: Vec<_> = releases
                .into_iter()
                .map(|release| release.last_error)
                .collect();
            Ok(self.links.release(&tokens, &links, &errors).await?)
        }
        .boxed()
    }

    fn renew(&self, leases: Vec<Leased>) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            let (tokens, links): (Vec<_>, Vec<_>) = leases
                .into_iter()
                .map(|lease| (lease.token, lease.link))
                .unzip();
            Ok(self.links.renew(&tokens, &links).await.map(|_count| ())?)
        }
        .boxed()
    }
}

fn verdict(job: &Job, prepared: Prepared, answer: ClaimVerdict) -> Verdict<Grant> {
    match answer {
        ClaimVerdict::Granted(granted) => {
            let later = matches!(prepared, Prepared::Event(_, true));
            let intent = match prepared {
                Prepared::Event(intent, _) => intent,
                Prepared::Request(SyncWhat::Resolve) => Intent::Resolve,
                Prepared::Request(SyncWhat::Recheck) => Intent::Recheck {
                    keys: granted
                        .natural_keys
                        .iter()
                        .cloned()
                        .map(NaturalKey)
                        .collect(),
                },
            };
            let work = Work {
                source: job.event.source.clone(),
                event_id: job.event.id.clone(),
                generation: job.generation(),
                intent,
                cause: job.order_key().map(|_| Cause::from(&*job.event)),
                refers: granted
                    .found_references
                    .iter()
                    .map(SentReference::from)
                    .collect(),
            };
            Verdict::Granted(Grant {
                later,
                granted: *granted,
                work,
                token: job.token,
            })
        }
        ClaimVerdict::Duplicate => Verdict::Ack(AckReason::Duplicate),
        ClaimVerdict::Superseded => Verdict::Ack(AckReason::Superseded),
        ClaimVerdict::Stale => Verdict::Ack(AckReason::Stale),
        ClaimVerdict::AlreadyHeld => Verdict::Ack(AckReason::AlreadyHeld),
        ClaimVerdict::Held => Verdict::Ack(AckReason::Held),
        ClaimVerdict::Busy { left } => Verdict::Busy { left },
        ClaimVerdict::Exclusive => Verdict::Exclusive,
        ClaimVerdict::Lacks(reference) => Verdict::Hold {
            cause: HoldCause::Prerequisite,
            reason: format!(
                "{} {} is not at the partner yet",
                reference.kind, reference.source_id
            ),
            waits_for: Some(WaitsFor::Record {
                kind: reference.kind,
                source_system: reference.source_system,
                source_account: reference.source_account,
                source_id: reference.source_id,
            }),
        },
        ClaimVerdict::NotYours { owner } => Verdict::Dead {
            class: DeadClass::Internal,
            reason: format!("the link of this record belongs to {owner}"),
        },
        ClaimVerdict::Conflict { reason, key } => Verdict::Hold {
            cause: HoldCause::Conflict,
            reason: reason.unwrap_or_else(|| "the record is in conflict".to_owned()),
            waits_for: key.map(|key| WaitsFor::Key {
                kind: job.link_kind().to_owned(),
                key,
            }),
        },
    }
}

/// `worker::Holds` over `store::links`.
pub struct LinkHolds {
    links: Links,
}

impl LinkHolds {
    pub fn new(links: Links) -> Self {
        Self { links }
    }
}

impl Holds for LinkHolds {
    fn hold(&self, items: Vec<HoldItem>) -> BoxFuture<'_, Result<Vec<HoldVerdict>, PortError>> {
        async move {
            let rows = items.into_iter().map(held).collect();
            let verdicts = self.links.hold(rows).await?;
            Ok(verdicts
                .into_iter()
                .map(|verdict| match verdict {
                    HeldVerdict::Held => HoldVerdict::Held,
                    HeldVerdict::CauseGone => HoldVerdict::CauseGone,
                    HeldVerdict::Covered => HoldVerdict::Covered,
                })
                .collect())
        }
        .boxed()
    }
}

fn held(item: HoldItem) -> HeldItem {
    let event = &item.job.event;
    HeldItem {
        worker: item.worker.to_owned(),
        tenant: event.tenant.as_str().to_owned(),
        target_system: item.target_system.to_owned(),
        connection_id: item.job.connection.as_ref().map(|connection| connection.id),
        epoch: item.epoch,
        cause: item.cause.as_str().to_owned(),
        person: item.cause.needs_a_person(),
        detail: item.reason,
        kind: item.job.link_kind().to_owned(),
        source_system: event.system.clone(),
        source_account: event.account.clone(),
        source_id: event.link_id().to_owned(),
        k: item.job.order_key(),
        link: match &event.payload {
            Payload::SyncRequested(request) => Some(request.link),
            _ => None,
        },
        source: event.source.clone(),
        event_id: event.id.clone(),
        generation: item.job.generation(),
        event_type: event.event_type.as_str().to_owned(),
        subject: event.subject.clone(),
        body: item.job.delivery.body.to_vec(),
        properties: item.job.delivery.properties.clone(),
        headers: item.job.delivery.headers.clone(),
        release_at: item.release_at,
        waits_for: item.waits_for,
    }
}
