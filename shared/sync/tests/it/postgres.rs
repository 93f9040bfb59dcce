//! The real SQL functions, their clock set by the schedule.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use store::links::{
    ClaimItem, ClaimVerdict, Completed, Completion, DeadItem, Finish, Finished, HeldItem,
    HeldVerdict, LinkRow, Links, Recorded, Reservation, Reserved, Resolution, Resolved,
};
use sync::Ledger;
use uuid::Uuid;

use crate::sim_store::{
    DeadRow, EffectView, HeldRow, LinkView, OutRow, SimStore, Snapshot, WORKER,
};

#[derive(Clone)]
pub(crate) struct Postgres {
    pool: PgPool,
    links: Links,
}

impl Postgres {
    /// One connection: `kurir.now` is a setting of the session.
    pub(crate) async fn connect(url: &str, lease: Duration) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect(url)
            .await
            .expect("the test database");
        Self {
            links: Links::new(pool.clone(), "kurir", lease),
            pool,
        }
    }

    pub(crate) fn with_lease(&self, lease: Duration) -> Self {
        Self {
            links: Links::new(self.pool.clone(), "kurir", lease),
            pool: self.pool.clone(),
        }
    }

    pub(crate) async fn empty(&self) {
        sqlx::query(
            "truncate link, effect, link_event, natural_key_claim, unsettled_claim, link_history, held, dead_letter,
             dead_letter_history, outbox restart identity cascade",
        )
        .execute(&self.pool)
        .await
        .expect("empty tables");
    }
}

impl Ledger for Postgres {
    fn reserve(&self, item: Reservation) -> BoxFuture<'_, Result<Reserved, store::Error>> {
        Ledger::reserve(&self.links, item)
    }
    fn complete(&self, item: Completion) -> BoxFuture<'_, Result<Completed, store::Error>> {
        Ledger::complete(&self.links, item)
    }
    fn resolve(&self, item: Resolution) -> BoxFuture<'_, Result<Resolved, store::Error>> {
        Ledger::resolve(&self.links, item)
    }
    fn finish(&self, item: Finish) -> BoxFuture<'_, Result<Finished, store::Error>> {
        Ledger::finish(&self.links, item)
    }
    fn release(
        &self,
        link: i64,
        token: Uuid,
        error: Option<String>,
    ) -> BoxFuture<'_, Result<(), store::Error>> {
        Ledger::release(&self.links, link, token, error)
    }
}

fn number(value: i32) -> u32 {
    u32::try_from(value).expect("counts up")
}

impl SimStore for Postgres {
    fn set_now(&self, now: DateTime<Utc>) -> BoxFuture<'_, ()> {
        async move {
            sqlx::query("select set_config('kurir.now', $1, false)")
                .bind(now.to_rfc3339())
                .execute(&self.pool)
                .await
                .expect("a setting");
        }
        .boxed()
    }
    fn claim(&self, items: Vec<ClaimItem>, alone: bool) -> BoxFuture<'_, Vec<ClaimVerdict>> {
        async move {
            self.links
                .claim(WORKER, items, alone)
                .await
                .unwrap_or_else(|error| panic!("claim: {}", error.with_causes()))
        }
        .boxed()
    }
    fn renew(&self, tokens: Vec<Uuid>) -> BoxFuture<'_, ()> {
        async move {
            self.links
                .renew(&tokens, &vec![None; tokens.len()])
                .await
                .expect("renew");
        }
        .boxed()
    }
    fn record_dead_letters(&self, item: DeadItem) -> BoxFuture<'_, Recorded> {
        async move {
            self.links
                .record_dead_letters(vec![item])
                .await
                .unwrap_or_else(|error| panic!("record: {}", error.with_causes()))
                .remove(0)
        }
        .boxed()
    }
    fn hold(&self, item: HeldItem) -> BoxFuture<'_, HeldVerdict> {
        async move {
            self.links
                .hold(vec![item])
                .await
                .unwrap_or_else(|error| panic!("hold: {}", error.with_causes()))
                .remove(0)
        }
        .boxed()
    }
    fn take_outbox(&self) -> BoxFuture<'_, Vec<OutRow>> {
        async move {
            let rows: Vec<(Vec<u8>, i32)> = sqlx::query_as(
                "with taken as (delete from outbox where exchange = '' returning seq, body, headers)
                 select body, coalesce((headers ->> 'x-generation')::int, 0) from taken order by seq",
            )
            .fetch_all(&self.pool)
            .await
            .expect("outbox");
            rows.into_iter().map(|(body, generation)| OutRow { body, generation: number(generation) }).collect()
        }
        .boxed()
    }
    fn due(&self) -> BoxFuture<'_, Vec<(i64, &'static str)>> {
        async move {
            let rows: Vec<(i64, bool)> = sqlx::query_as(
                "select l.id, e.id is not null from link l
                 left join effect e on e.link_id = l.id and e.state in ('sent', 'unknown')
                 where (l.lease_token is null or l.lease_until <= kurir_now())
                   and (l.state <> 'conflict' or (l.conflict_cause = 'gone' and e.id is null))
                   and ((e.id is not null and coalesce(e.settle_at, kurir_now()) <= kurir_now())
                     or (e.id is null and l.recheck_at <= kurir_now()))
                 order by l.id",
            )
            .fetch_all(&self.pool)
            .await
            .expect("due");
            rows.into_iter()
                .map(|(link, open)| (link, if open { "resolve" } else { "recheck" }))
                .collect()
        }
        .boxed()
    }
    fn replay(&self, id: Uuid) -> BoxFuture<'_, bool> {
        async move {
            let done = sqlx::query(
                "with d as (update dead_letter set state = 'replaying', generation = generation + 1 where id = $1 and state = 'open' returning *)
                 insert into outbox (tenant, exchange, routing_key, body, headers)
                 select tenant, '', 'kurir.' || worker, body, jsonb_build_object('x-generation', generation) from d",
            )
            .bind(id)
            .execute(&self.pool)
            .await
            .expect("replay");
            done.rows_affected() == 1
        }
        .boxed()
    }
    fn release_held(&self, source: String, event: String) -> BoxFuture<'_, bool> {
        async move {
            let released: i64 = sqlx::query_scalar(
                "select release_held(array(select id from held where source = $1 and event_id = $2), 'kurir', '{}', 'operator')",
            )
            .bind(source)
            .bind(event)
            .fetch_one(&self.pool)
            .await
            .expect("release");
            released == 1
        }
        .boxed()
    }
    fn discard(&self, event: String) -> BoxFuture<'_, bool> {
        async move {
            let held: Option<i64> = sqlx::query_scalar("select id from held where event_id = $1")
                .bind(event)
                .fetch_optional(&self.pool)
                .await
                .expect("held");
            match held {
                Some(id) => self
                    .links
                    .discard(crate::world::TENANT, id, "operator", "given up")
                    .await
                    .unwrap_or_else(|error| panic!("discard: {}", error.with_causes())),
                None => false,
            }
        }
        .boxed()
    }
    fn snapshot(&self) -> BoxFuture<'_, Snapshot> {
        async move {
            type Row = (sqlx::types::Json<LinkRow>, Option<DateTime<Utc>>, bool);
            let links: Vec<Row> = sqlx::query_as("select link_json(l), l.recheck_at, open_effect(l.id) is not null from link l order by l.id")
                .fetch_all(&self.pool)
                .await
                .expect("links");
            let held: Vec<(String, String, i32)> =
                sqlx::query_as("select event_id, reason, generation from held").fetch_all(&self.pool).await.expect("held");
            type Dead = (Uuid, String, String, String, i32, Vec<String>);
            let dead: Vec<Dead> = sqlx::query_as(
                "select id, event_id, state, class, generation,
                   array(select value ->> 'operation' from jsonb_array_elements(coalesce(partly_applied, '[]'))) from dead_letter",
            )
                .fetch_all(&self.pool)
                .await
                .expect("dead letters");
            let effects: Vec<(String, String, String, bool)> =
                sqlx::query_as("select event_id, operation, state, last from effect order by id").fetch_all(&self.pool).await.expect("effects");
            let effects = effects.into_iter().map(|(event_id, operation, state, last)| EffectView { event_id, operation, state, last }).collect();
            let (kept, unsettled): (i64, i64) = sqlx::query_as("select (select count(*) from link_event), (select count(*) from unsettled_claim)")
                .fetch_one(&self.pool)
                .await
                .expect("counts");
            let mut held: Vec<HeldRow> =
                held.into_iter().map(|(event_id, reason, generation)| HeldRow { event_id, reason, generation: number(generation) }).collect();
            held.sort();
            let mut dead: Vec<DeadRow> = dead
                .into_iter()
                .map(|(id, event_id, state, class, generation, partly)| DeadRow { id, event_id, state, class, generation: number(generation), partly })
                .collect();
            dead.sort();
            let keys: Vec<(String, i64)> =
                sqlx::query_as("select natural_key, link_id from natural_key_claim order by natural_key collate \"C\"")
                    .fetch_all(&self.pool)
                    .await
                    .expect("keys");
            Snapshot {
                links: links.into_iter().map(|(row, recheck_due, open)| LinkView { row: row.0, recheck_due, open }).collect(),
                held,
                dead,
                effects,
                kept: usize::try_from(kept).expect("counts"),
                unsettled: usize::try_from(unsettled).expect("counts"),
                keys,
            }
        }
        .boxed()
    }
}
