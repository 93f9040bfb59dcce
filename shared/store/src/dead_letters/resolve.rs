//! Dead letters that a person closes, or opens again.

use serde::Serialize;
use serde_json::json;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::Filter;
use crate::{Error, Pool, Scope};

/// Dead letters of one transaction.
pub const RESOLVE_STEP: i64 = 500;

/// Who closes or opens dead letters, and why.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// For the history.
    pub actor: &'a str,
    /// For whoever asks later; required to resolve.
    pub note: &'a str,
}

/// How many dead letters were closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Resolved {
    pub dead_letters: u64,
}

/// How many dead letters match.
pub async fn matching(pool: &Pool, scope: Scope<'_>, filter: &Filter) -> Result<u64, Error> {
    let mut query = QueryBuilder::new("select count(*) from dead_letter");
    filter.push(scope, &mut query);
    let count: i64 = query.build_query_scalar().fetch_one(pool).await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Closes the open dead letters that match now, in steps of [`RESOLVE_STEP`]: killed half-way the rest stays open, and the
/// same call goes on. Closed ones, and those that die meanwhile, are not touched.
///
/// # Errors
/// `Missing` or `Conflict` where one id was named that is not there or not open; `Invalid` without a note.
pub async fn resolve(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
    change: Change<'_>,
) -> Result<Resolved, Error> {
    if change.note.trim().is_empty() {
        return Err(Error::Invalid(
            "a note is needed: it says why nothing more is to be done".to_owned(),
        ));
    }
    let now = sqlx::query_scalar("select kurir_now()")
        .fetch_one(pool)
        .await?;
    let open = Filter {
        state: Some("open".to_owned()),
        until: filter.until.or(Some(now)),
        ..filter.clone()
    };
    let mut resolved = Resolved::default();
    loop {
        let mut query = QueryBuilder::new("with chosen as (select id from dead_letter");
        open.push(scope, &mut query);
        query.push(" order by id limit ").push_bind(RESOLVE_STEP);
        query.push(
            " for update), moved as (update dead_letter d set state = 'resolved', resolved_at = kurir_now(),
              row_version = d.row_version + 1, resolved_by = ",
        );
        query.push_bind(change.actor.to_owned()).push(", note = ");
        query.push_bind(change.note.to_owned());
        query.push(
            " from chosen where d.id = chosen.id and d.state = 'open' returning d.id, d.generation)
             insert into dead_letter_history (dead_id, generation, kind, at, actor, detail)
             select id, generation, 'resolve', kurir_now(), ",
        );
        query.push_bind(change.actor.to_owned()).push(", ");
        query
            .push_bind(json!({ "note": change.note }))
            .push(" from moved");
        let moved = query.build().execute(pool).await?.rows_affected();
        if moved == 0 {
            break;
        }
        resolved.dead_letters += moved;
    }
    if let (0, Some([id])) = (resolved.dead_letters, filter.ids.as_deref()) {
        return Err(not_in(pool, scope, *id, "open", "resolved").await?);
    }
    Ok(resolved)
}

/// Opens a dead letter again that a person or Kurir had closed: it can be edited and replayed. The second time it is refused.
///
/// # Errors
/// `Missing` outside of the scope; `Conflict` where it is open or replaying, or where its event is held.
pub async fn reopen(
    pool: &Pool,
    scope: Scope<'_>,
    id: Uuid,
    change: Change<'_>,
) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let held: Option<i64> = sqlx::query_scalar(
        "select h.id from dead_letter d join held h on h.tenant = d.tenant and h.source = d.source
           and h.event_id = d.event_id and h.worker = d.worker
         where d.id = $1 and ($2::text is null or d.tenant = $2) order by h.id limit 1",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(held) = held {
        return Err(Error::Conflict(format!(
            "the event of dead letter '{id}' is held ({held}); release it instead"
        )));
    }
    let generation: Option<i32> = sqlx::query_scalar(
        "update dead_letter set state = 'open', resolved_at = null, resolved_by = null, held_for = null,
           note = nullif($3, ''),
           row_version = row_version + 1
         where id = $1 and ($2::text is null or tenant = $2) and state in ('resolved', 'overtaken', 'discarded')
         returning generation",
    )
    .bind(id)
    .bind(scope.tenant())
    .bind(change.note)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(generation) = generation else {
        return Err(not_in(pool, scope, id, "closed", "opened again").await?);
    };
    sqlx::query(
        "insert into dead_letter_history (dead_id, generation, kind, at, actor, detail)
         values ($1, $2, 'reopen', kurir_now(), $3, $4)",
    )
    .bind(id)
    .bind(generation)
    .bind(change.actor)
    .bind(json!({ "note": change.note }))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Why a dead letter that was named could not be moved.
pub(super) async fn not_in(
    pool: &Pool,
    scope: Scope<'_>,
    id: Uuid,
    wanted: &str,
    what: &str,
) -> Result<Error, Error> {
    let state: Option<String> = sqlx::query_scalar(
        "select state from dead_letter where id = $1 and ($2::text is null or tenant = $2)",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(pool)
    .await?;
    Ok(match state {
        None => Error::missing("dead letter", id),
        Some(state) => Error::Conflict(format!(
            "dead letter '{id}' is {state}, only one that is {wanted} can be {what}"
        )),
    })
}
