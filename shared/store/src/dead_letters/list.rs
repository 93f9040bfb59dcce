//! Pages of dead letters.

use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{COLUMNS, DeadLetter, Filter};
use crate::{Error, Pool, Scope};

/// Where a page ended: the next one begins after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// As it was read.
    Row {
        last_at: chrono::DateTime<chrono::Utc>,
        id: Uuid,
    },
    /// Where it stands now; of an unknown one the page is empty.
    Id(Uuid),
}

impl From<&DeadLetter> for After {
    fn from(row: &DeadLetter) -> Self {
        Self::Row {
            last_at: row.last_at,
            id: row.id,
        }
    }
}

/// The latest deaths first, at most `limit`.
pub async fn list(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<DeadLetter>, Error> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from dead_letter"));
    filter.push(scope, &mut query);
    push_after(after, &mut query);
    query
        .push(" order by last_at desc, id desc limit ")
        .push_bind(limit);
    Ok(query.build_query_as().fetch_all(pool).await?)
}

/// Writes ` and …` for the rows that follow.
pub(super) fn push_after(after: Option<After>, query: &mut QueryBuilder<Postgres>) {
    match after {
        None => {}
        Some(After::Row { last_at, id }) => {
            query.push(" and (last_at, id) < (").push_bind(last_at);
            query.push(", ").push_bind(id).push(")");
        }
        Some(After::Id(id)) => {
            query.push(" and (last_at, id) < (select last_at, id from dead_letter where id = ");
            query.push_bind(id).push(")");
        }
    }
}
