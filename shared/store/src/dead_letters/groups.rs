//! Dead letters by cause: what fails alike has one fingerprint.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::Filter;
use crate::row::row;
use crate::{Error, Pool, Scope};

row! {
    /// Dead letters of one fingerprint.
    pub struct Group {
        pub fingerprint: String,
        pub dead_letters: i64,
        /// How many tenants they belong to; what belongs to none is not counted.
        pub tenants: i64,
        pub first_at: DateTime<Utc>,
        pub last_at: DateTime<Utc>,
        /// The dead letter of it that died last, with its class, worker and message.
        pub example: Uuid,
        pub class: String,
        pub worker: String,
        pub message: Option<String>,
    }
}

/// The largest first. `after`: the fingerprint that the page before ended with.
pub async fn groups(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Group>, Error> {
    // By tenant first: counting distinct tenants would sort all dead letters.
    let mut query = QueryBuilder::new(
        "with cause as materialized (
           select fingerprint, sum(dead_letters)::bigint as dead_letters, count(tenant) as tenants, min(first_at) as first_at,
             max(last_at) as last_at
           from (select fingerprint, tenant, count(*) as dead_letters, min(first_at) as first_at, max(last_at) as last_at
             from dead_letter",
    );
    filter.push(scope, &mut query);
    query.push(" group by fingerprint, tenant) by_tenant group by fingerprint), page as materialized (select * from cause");
    if let Some(after) = after {
        query.push(
            " where (dead_letters, fingerprint) < (select dead_letters, fingerprint from cause where fingerprint = ",
        );
        query.push_bind(after.to_owned()).push(")");
    }
    query.push(" order by dead_letters desc, fingerprint desc limit ");
    query.push_bind(limit);
    query.push(
        ") select page.*, e.id as example, e.class, e.worker, e.message
         from page cross join lateral (select id, class, worker, message from dead_letter",
    );
    filter.push(scope, &mut query);
    query.push(
        " and fingerprint = page.fingerprint order by last_at desc, id desc limit 1) e
         order by dead_letters desc, fingerprint desc",
    );
    Ok(query.build_query_as().fetch_all(pool).await?)
}
