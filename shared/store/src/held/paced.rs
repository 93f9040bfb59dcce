//! What leaves at the pace of a connection's budget: events that waited for permits, for a repair or for a circuit.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::row::row;
use crate::{Error, Pool, QueuePrefix};

/// Rows of one lane that are counted for one connection and worker; more read as this many.
pub const COUNT_LIMIT: i64 = 1000;
/// A released event may pass the gate without another permit for this long.
pub const PERMIT_FOR: Duration = Duration::from_secs(60);
/// Lane 0 gets at least this part of every release.
pub const INTERACTIVE_PERCENT: u8 = 20;

row! {
    /// Events of one connection and worker that could go now if the budget allows; its connection is healthy.
    pub struct Waiting {
        pub tenant: String,
        pub connection: Uuid,
        pub worker: String,
        /// Lane 0; counted up to [`COUNT_LIMIT`], as the others.
        pub interactive: i64,
        /// Lane 1.
        pub live: i64,
        /// Lane 2.
        pub bulk: i64,
        /// Why they wait: `budget`, `suspended`, `circuit`.
        pub reasons: Vec<String>,
        /// The longest wait of those that were counted.
        pub oldest_at: DateTime<Utc>,
    }
}

impl Waiting {
    /// In all lanes.
    pub fn rows(&self) -> i64 {
        self.interactive + self.live + self.bulk
    }
}

/// Connections that are healthy and switched on and have events waiting for permits, for their repair or for a circuit,
/// whose time has come. Of `workers` only; the order is that of their ids.
pub async fn waiting_connections(pool: &Pool, workers: &[String]) -> Result<Vec<Waiting>, Error> {
    Ok(sqlx::query_as(
        "select c.tenant, c.id as connection, w.worker, n.interactive, n.live, n.bulk, n.reasons, n.oldest_at
         from connection c cross join unnest($1::text[]) as w(worker) cross join lateral (
           select count(*) filter (where lane = 0) as interactive, count(*) filter (where lane = 1) as live,
             count(*) filter (where lane > 1) as bulk, array_agg(distinct reason order by reason) as reasons,
             min(held_at) as oldest_at
           from unnest(array[0, 1, 2]) as of(of_lane) cross join lateral (
             select h.lane, h.reason, h.held_at from held h
             where h.connection_id = c.id and h.worker = w.worker and h.tenant = c.tenant
               and h.reason in ('budget', 'suspended', 'circuit') and h.lane = of_lane
               and (h.release_at is null or h.release_at <= (select kurir_now()))
             order by h.lane, h.id limit $2) one) n
         where c.state = 'ok' and c.enabled and n.oldest_at is not null
         order by c.id, w.worker",
    )
    .bind(workers)
    .bind(COUNT_LIMIT)
    .fetch_all(pool)
    .await?)
}

/// How a release is shared between the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneShares {
    /// Of 100, at least one row: lane 0 goes first with this many, the other lanes in their order with the rest, and what
    /// they leave is lane 0's again.
    pub interactive_percent: u8,
}

impl Default for LaneShares {
    fn default() -> Self {
        Self {
            interactive_percent: INTERACTIVE_PERCENT,
        }
    }
}

impl LaneShares {
    fn interactive(self, rows: i64) -> i64 {
        (rows * i64::from(self.interactive_percent) / 100)
            .max(1)
            .min(rows)
    }
}

/// Lets at most `rows` of a connection's waiting events go to one worker, in the caller's transaction; answers how many.
/// Each carries a permit for [`PERMIT_FOR`]. Nothing of a connection that is suspended or switched off goes, whatever
/// the caller saw before.
pub async fn release_paced(
    transaction: &mut PgConnection,
    prefix: &QueuePrefix,
    worker: &str,
    connection: Uuid,
    shares: LaneShares,
    rows: i64,
) -> Result<u64, Error> {
    // Each step sees what the one before it took only through its number: a row is in one lane.
    let released: i64 = sqlx::query_scalar(
        "with may as materialized (
           select h.id, h.lane from held h join connection c on c.id = h.connection_id and c.tenant = h.tenant
           where h.connection_id = $1 and h.worker = $2 and h.reason in ('budget', 'suspended', 'circuit')
             and (h.release_at is null or h.release_at <= (select kurir_now())) and c.state = 'ok' and c.enabled
             and h.lane = 0 order by h.id limit $4 for update of h skip locked),
         reserved as (select id from may order by id limit $3),
         rest as materialized (
           select h.id, h.lane from held h join connection c on c.id = h.connection_id and c.tenant = h.tenant
           where h.connection_id = $1 and h.worker = $2 and h.reason in ('budget', 'suspended', 'circuit')
             and (h.release_at is null or h.release_at <= (select kurir_now())) and c.state = 'ok' and c.enabled
             and h.lane > 0 order by h.lane, h.id limit $4 - (select count(*) from reserved) for update of h skip locked),
         more as (select id from may order by id
           offset (select count(*) from reserved) limit $4 - (select count(*) from reserved) - (select count(*) from rest))
         select release_held(array(select id from reserved union all select id from rest union all select id from more), $5,
           jsonb_build_object('x-permit', (extract(epoch from kurir_now()) * 1000)::bigint + $6), null)",
    )
    .bind(connection)
    .bind(worker)
    .bind(shares.interactive(rows))
    .bind(rows)
    .bind(prefix.as_str())
    .bind(PERMIT_FOR.as_millis() as i64)
    .fetch_one(transaction)
    .await?;
    Ok(released.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::LaneShares;

    #[test]
    fn the_interactive_lane_gets_a_fifth_and_at_least_one() {
        let shares = LaneShares::default();
        let got = [1, 2, 5, 9, 10, 100].map(|rows| shares.interactive(rows));
        assert_eq!(got, [1, 1, 1, 1, 2, 20]);
    }
}
