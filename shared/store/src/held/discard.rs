//! A person gives held events up: each ends as a discarded dead letter, and older content of its record comes back.

use serde::Serialize;

use super::{Filter, get, last_id, list};
use crate::links::Links;
use crate::{Error, Pool, Scope};

/// Rows of one step of `discard`.
const STEP: i64 = 200;

/// What was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Discarded {
    pub events: u64,
}

/// One row, as it was seen. `false`: released, given up or overtaken by a newer event meanwhile. Audited, and told in the
/// link's history, in the same transaction.
pub async fn discard_one(
    links: &Links,
    scope: Scope<'_>,
    id: i64,
    actor: &str,
    note: &str,
) -> Result<bool, Error> {
    let (row, _message) = get(links.pool(), scope, id).await?;
    links.discard(&row.tenant, id, actor, note).await
}

/// Everything that matches and was there at the beginning, one by one: killed half-way, the rest is still there. What
/// comes back as the older content of a record, and is held again, stays.
pub async fn discard(
    links: &Links,
    scope: Scope<'_>,
    filter: &Filter,
    actor: &str,
    note: &str,
) -> Result<Discarded, Error> {
    let pool: &Pool = links.pool();
    let filter = Filter {
        up_to: Some(last_id(pool).await?),
        ..filter.clone()
    };
    let mut discarded = Discarded::default();
    let mut after = None;
    loop {
        let rows = list(pool, scope, &filter, after, STEP).await?;
        let Some(last) = rows.last() else {
            return Ok(discarded);
        };
        after = Some(last.id);
        for row in &rows {
            if links.discard(&row.tenant, row.id, actor, note).await? {
                discarded.events += 1;
            }
        }
    }
}
