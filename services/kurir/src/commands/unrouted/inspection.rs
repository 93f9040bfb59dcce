//! What is known of an unrouted event, and why no queue took it.

use broker::RawDelivery;
use clap::{Args, ValueEnum};
use event::{DecodeClass, EventType, Identity, TenantId};
use serde::{Serialize, Serializer};

use crate::fleet::workers;
use crate::values::tenant;

/// Which unrouted events.
#[derive(Debug, Args)]
pub(crate) struct UnroutedFilter {
    /// Only of this tenant
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Why no queue took them
    #[arg(long)]
    pub(crate) why: Option<Why>,
}

/// Why no queue took an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Why {
    /// Its worker exists now: `unrouted route` delivers it
    Routable,
    /// A later version of a known type: deploy first
    NewerMajor,
    /// No type of this build
    UnknownType,
    /// A known type that no worker of this build takes
    NoWorker,
    /// Its routing key is not its type and tenant
    WrongKey,
    /// No CloudEvent
    Unreadable,
}

/// What is known of one of them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seen {
    pub(super) event_id: Option<String>,
    #[serde(rename = "type")]
    pub(super) event_type: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) source: Option<String>,
    pub(super) routing_key: String,
    #[serde(serialize_with = "named")]
    pub(super) why: Why,
    pub(super) bytes: usize,
}

fn named<S: Serializer>(why: &Why, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name(*why))
}

fn name(why: Why) -> String {
    why.to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

pub(super) fn fits(filter: &UnroutedFilter, seen: &Seen) -> bool {
    let tenant = filter.tenant.as_ref().map(TenantId::as_str);
    (tenant.is_none() || seen.tenant.as_deref() == tenant)
        && (filter.event_type.is_none() || seen.event_type == filter.event_type)
        && filter.why.is_none_or(|why| why == seen.why)
}

pub(super) fn see(raw: &RawDelivery) -> Seen {
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
