//! `kurir unrouted drop`.

use std::collections::BTreeMap;

use broker::{Broker, QueueCursor};
use event::TenantId;
use operations::count;
use serde_json::json;
use store::Pool;

use super::inspection::{Seen, UnroutedFilter, fits, see};
use super::{TAKE_LIMIT, trace};
use crate::exit::{Done, Exit, Failed};

/// Most events that one `drop` removes; each is audited.
const DROP_LIMIT: usize = 10_000;

/// What `drop` was asked for.
pub(super) struct Removal {
    pub(super) id: Option<String>,
    pub(super) filter: UnroutedFilter,
    pub(super) note: String,
    pub(super) actor: String,
    pub(super) yes: bool,
}

impl Removal {
    /// Everything is found before anything is removed; each removal is audited first.
    pub(super) async fn run(&self, broker: &Broker, queue: &str, pool: &Pool) -> Done<u64> {
        let (ready, _consumers) = broker::depth(broker, queue).await?.unwrap_or_default();
        let cursor = QueueCursor::open(broker, queue).await?;
        let mut found = Vec::new();
        for _ in 0..TAKE_LIMIT.min(ready as usize) {
            if found.len() == DROP_LIMIT {
                break;
            }
            let Some(taken) = cursor.take().await? else {
                break;
            };
            let seen = see(&taken.message);
            let named = self.id.is_none() || seen.event_id == self.id;
            if named && fits(&self.filter, &seen) {
                found.push((taken.tag, seen));
            }
        }
        if let Some(refused) = self.refusal(&found) {
            cursor.close().await;
            return Err(refused);
        }
        let mut dropped = 0;
        for (tag, seen) in found {
            let tenant = seen.tenant.as_deref().and_then(TenantId::parse);
            let detail = json!({ "event": seen, "note": self.note });
            trace(pool, &self.actor, "unrouted.drop", tenant.as_ref(), &detail).await?;
            cursor.remove(tag).await?;
            dropped += 1;
        }
        cursor.close().await;
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
