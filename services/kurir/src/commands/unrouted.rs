//! `kurir unrouted`: events that no worker's queue took, in the queue where they are kept. The queue is the only copy: what
//! is not routed or dropped goes back when the command ends, however it ends.

use std::collections::BTreeMap;

use broker::{Broker, Hand, RawDelivery};
use clap::ValueEnum as _;
use event::{DecodeClass, EventType, Identity, TenantId};
use serde::Serialize;
use serde_json::json;
use store::{Pool, Scope, audit};
use worker::failpoint;

use crate::cli::unrouted::{Unrouted, UnroutedFilter, Why};
use crate::context::Context;
use crate::exit::{Done, Exit, Failed};
use crate::fleet::{broker, topology, workers};
use crate::output::{Page, count, table};

/// Most messages that one command takes out of the queue; the next one goes on.
const TAKE_LIMIT: usize = 100_000;
/// Most events that one `drop` removes; each is audited.
const DROP_LIMIT: usize = 10_000;

impl Unrouted {
    /// Whether it changes something, and says so in the database.
    pub(crate) fn leaves_a_trace(&self) -> bool {
        !matches!(self, Self::List { .. })
    }
}

/// What is known of one of them.
#[derive(Clone, Debug, Serialize)]
struct Seen {
    event_id: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    tenant: Option<String>,
    subject: Option<String>,
    source: Option<String>,
    routing_key: String,
    #[serde(serialize_with = "named")]
    why: Why,
    bytes: usize,
}

fn named<S: serde::Serializer>(why: &Why, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name(*why))
}

fn name(why: Why) -> String {
    why.to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

pub(crate) async fn run(context: &Context, command: Unrouted) -> Done {
    let broker = broker(context, "unrouted").await?;
    let queue = topology(context).unrouted();
    let done = match command {
        Unrouted::List {
            filter,
            limit,
            output,
        } => {
            let (seen, left) = look(&broker, &queue, &filter, limit as usize).await?;
            if seen.is_empty()
                && filter.tenant.is_some()
                && context.settings().database.url.is_some()
            {
                // Refuses a tenant that does not exist. Without a database nobody can tell.
                context.pool().await?;
            }
            let page = Page::looked_at(
                seen,
                left.then(|| format!("only {limit} were looked at, --limit looks at more")),
            );
            output.page(&page, |seen| {
                let heads = ["event", "type", "tenant", "routing key", "why"];
                table(
                    &heads,
                    seen.iter().map(row).collect(),
                    "nothing is unrouted",
                )
            })
        }
        Unrouted::Route {
            filter,
            actor,
            output,
        } => {
            let pool = context.pool().await?;
            let routed = route(context, &broker, &queue, &filter).await?;
            if routed.routed > 0 {
                let detail = json!({ "events": routed.routed });
                trace(
                    &pool,
                    &actor,
                    "unrouted.route",
                    filter.tenant.as_ref(),
                    &detail,
                )
                .await?;
            }
            output.show(&routed, |routed| {
                let left = match routed.left {
                    0 => "none is left".to_owned(),
                    left => format!(
                        "{} left: `kurir unrouted list` says why",
                        count(left, "event")
                    ),
                };
                format!("routed {}; {left}", count(routed.routed, "event"))
            })
        }
        Unrouted::Drop {
            id,
            filter,
            note,
            yes,
            actor,
            output,
        } => {
            let pool = context.pool().await?;
            let removal = Removal {
                id,
                filter,
                note,
                actor,
                yes,
            };
            let dropped = removal.run(&broker, &queue, &pool).await?;
            output.show(&json!({ "dropped": dropped }), |_| {
                format!("dropped {}", count(dropped, "event"))
            })
        }
    };
    broker.close().await;
    done
}

/// At most `limit` are taken out, and all put back. Also says whether there are more.
async fn look(
    broker: &Broker,
    queue: &str,
    filter: &UnroutedFilter,
    limit: usize,
) -> Done<(Vec<Seen>, bool)> {
    let (ready, _consumers) = broker::depth(broker, queue).await?.unwrap_or_default();
    let hand = Hand::open(broker, queue).await?;
    let mut found = Vec::new();
    for _ in 0..limit {
        let Some(taken) = hand.take().await? else {
            break;
        };
        let seen = see(&taken.message);
        if fits(filter, &seen) {
            found.push(seen);
        }
    }
    hand.close().await;
    Ok((found, ready as usize > limit))
}

#[derive(Debug, Default, Serialize)]
struct Routed {
    routed: u64,
    left: u64,
}

/// Publishes what can be routed, waits for the confirm, then removes it. What was there at the beginning only: an event
/// that comes back unrouted is not met twice.
async fn route(
    context: &Context,
    broker: &Broker,
    queue: &str,
    filter: &UnroutedFilter,
) -> Done<Routed> {
    let exchange = topology(context).events();
    let publisher = broker.publisher();
    let (ready, _consumers) = broker::depth(broker, queue).await?.unwrap_or_default();
    let hand = Hand::open(broker, queue).await?;
    let mut routed = Routed::default();
    for _ in 0..TAKE_LIMIT.min(ready as usize) {
        let Some(taken) = hand.take().await? else {
            break;
        };
        let seen = see(&taken.message);
        if seen.why != Why::Routable || !fits(filter, &seen) {
            routed.left += 1;
            continue;
        }
        let raw = taken.message;
        let published = publisher
            .publish_json(
                &exchange,
                &raw.routing_key,
                raw.body,
                &raw.properties,
                &raw.headers,
            )
            .await;
        if let Err(error) = published {
            hand.close().await;
            return Err(Failed::new(
                Exit::Unavailable,
                format!("routed {}, then: {error}", count(routed.routed, "event")),
            )
            .next("nothing is lost; `kurir unrouted route` goes on"));
        }
        failpoint::hit("unrouted_after_publish");
        hand.remove(taken.tag).await?;
        routed.routed += 1;
    }
    hand.close().await;
    Ok(routed)
}

/// What `drop` was asked for.
struct Removal {
    id: Option<String>,
    filter: UnroutedFilter,
    note: String,
    actor: String,
    yes: bool,
}

impl Removal {
    /// Everything is found before anything is removed; each removal is audited first.
    async fn run(&self, broker: &Broker, queue: &str, pool: &Pool) -> Done<u64> {
        let (ready, _consumers) = broker::depth(broker, queue).await?.unwrap_or_default();
        let hand = Hand::open(broker, queue).await?;
        let mut found = Vec::new();
        for _ in 0..TAKE_LIMIT.min(ready as usize) {
            if found.len() == DROP_LIMIT {
                break;
            }
            let Some(taken) = hand.take().await? else {
                break;
            };
            let seen = see(&taken.message);
            let named = self.id.is_none() || seen.event_id == self.id;
            if named && fits(&self.filter, &seen) {
                found.push((taken.tag, seen));
            }
        }
        if let Some(refused) = self.refusal(&found) {
            hand.close().await;
            return Err(refused);
        }
        let mut dropped = 0;
        for (tag, seen) in found {
            let tenant = seen.tenant.as_deref().and_then(TenantId::parse);
            let detail = json!({ "event": seen, "note": self.note });
            trace(pool, &self.actor, "unrouted.drop", tenant.as_ref(), &detail).await?;
            hand.remove(tag).await?;
            dropped += 1;
        }
        hand.close().await;
        Ok(dropped)
    }

    fn refusal(&self, found: &[(u64, Seen)]) -> Option<Failed> {
        match found {
            [] => Some(
                Failed::new(Exit::NotFound, "no such event is unrouted")
                    .next("`kurir unrouted list` shows what there is"),
            ),
            [_] => None,
            _ if self.yes => None,
            many => {
                let mut types: BTreeMap<&str, u64> = BTreeMap::new();
                for (_, seen) in many {
                    *types
                        .entry(seen.event_type.as_deref().unwrap_or("unreadable"))
                        .or_default() += 1;
                }
                let types: Vec<String> = types
                    .into_iter()
                    .map(|(name, events)| format!("{events} {name}"))
                    .collect();
                Some(
                    Failed::new(
                        Exit::Refused,
                        format!(
                            "this removes {} for good ({})",
                            count(many.len() as u64, "event"),
                            types.join(", ")
                        ),
                    )
                    .next("repeat with --yes"),
                )
            }
        }
    }
}

async fn trace(
    pool: &Pool,
    actor: &str,
    what: &str,
    tenant: Option<&TenantId>,
    detail: &serde_json::Value,
) -> Done {
    let mut connection = pool.acquire().await.map_err(store::Error::from)?;
    let scope = tenant.map_or(Scope::Everything, Scope::Tenant);
    audit::write(&mut connection, actor, what, scope, detail).await?;
    Ok(())
}

fn fits(filter: &UnroutedFilter, seen: &Seen) -> bool {
    let tenant = filter.tenant.as_ref().map(TenantId::as_str);
    (tenant.is_none() || seen.tenant.as_deref() == tenant)
        && (filter.event_type.is_none() || seen.event_type == filter.event_type)
        && filter.why.is_none_or(|why| why == seen.why)
}

fn see(raw: &RawDelivery) -> Seen {
    let (identity, class) = match event::decode(&raw.body) {
        Ok(event) => (
            Identity {
                id: Some(event.id.clone()),
                source: Some(event.source.clone()),
                event_type: Some(event.event_type.as_str().to_owned()),
                tenant: Some(event.tenant.as_str().to_owned()),
                subject: Some(event.subject.clone()),
            },
            None,
        ),
        Err(error) => (*error.identity, Some(error.class)),
    };
    Seen {
        why: why(&identity, class, &raw.routing_key),
        event_id: identity.id,
        event_type: identity.event_type,
        tenant: identity.tenant,
        subject: identity.subject,
        source: identity.source,
        routing_key: raw.routing_key.clone(),
        bytes: raw.body.len(),
    }
}

/// Its key is never mended here: the broker lets a publisher write only keys of its own tenant, and the body could name
/// another.
fn why(identity: &Identity, class: Option<DecodeClass>, routing_key: &str) -> Why {
    let Some(text) = identity.event_type.as_deref() else {
        return Why::Unreadable;
    };
    let Some(known) = EventType::parse(text) else {
        return match class {
            _ if EventType::is_newer_major(text) => Why::NewerMajor,
            Some(DecodeClass::Malformed) => Why::Unreadable,
            _ => Why::UnknownType,
        };
    };
    let key = format!("{text}.{}", identity.tenant.as_deref().unwrap_or_default());
    if key != routing_key {
        Why::WrongKey
    } else if workers()
        .iter()
        .any(|worker| worker.consumes.contains(&known))
    {
        Why::Routable
    } else {
        Why::NoWorker
    }
}

fn row(seen: &Seen) -> Vec<String> {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let why = match seen.why {
        Why::Routable => "a worker takes it now: `kurir unrouted route`",
        Why::NewerMajor => "a newer version than this build knows: deploy first",
        Why::UnknownType => "no type of this build",
        Why::NoWorker => "no worker of this build takes this type",
        Why::WrongKey => "its routing key is not its type and tenant",
        Why::Unreadable => "no CloudEvent",
    };
    vec![
        optional(&seen.event_id),
        optional(&seen.event_type),
        optional(&seen.tenant),
        seen.routing_key.clone(),
        why.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_no_queue_took_it() {
        let of = |event_type: Option<&str>, key: &str| {
            let identity = Identity {
                event_type: event_type.map(str::to_owned),
                tenant: Some("acme".to_owned()),
                ..Identity::default()
            };
            name(why(&identity, None, key))
        };
        assert_eq!(
            [
                of(None, "x"),
                of(
                    Some("crm.contact.created.v1"),
                    "crm.contact.created.v1.acme"
                ),
                of(
                    Some("crm.contact.created.v1"),
                    "crm.contact.created.v1.other"
                ),
                of(
                    Some("crm.contact.created.v9"),
                    "crm.contact.created.v9.acme"
                ),
                of(Some("sync.completed.v1"), "sync.completed.v1.acme"),
                of(Some("shop.order.created.v1"), "shop.order.created.v1.acme"),
            ],
            [
                "unreadable",
                "routable",
                "wrong-key",
                "newer-major",
                "no-worker",
                "unknown-type"
            ]
        );
    }
}
