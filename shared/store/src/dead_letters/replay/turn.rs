//! One turn of a replay: look at what became of the dead letters so far, stop or go faster, send the next ones. One
//! transaction, so that a keeper killed at any line has sent all of a turn or nothing of it.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Postgres, Row, Transaction};
use uuid::Uuid;

use super::super::edit::restamped_with_key;
use super::pace::{LEAST_TO_JUDGE, LOOK_BACK, STREAK, faster};
use crate::row::row;
use crate::{Error, Pool, QueuePrefix};

/// A replay belongs to the keeper that took it; another takes it after this time without a turn.
pub const LEASE: Duration = Duration::from_secs(30);
/// Dead letters of one worker that are sent and have not ended, all replays together: new events go beside them.
pub const IN_FLIGHT: i64 = 32;
/// No news of a sent dead letter for so long: it is sent once more, as the next generation. Longer than any retry tier.
pub const LOST_AFTER: Duration = Duration::from_secs(2 * 3600);
/// Dead letters that a turn looks at; those of a worker that is full are passed by.
const LOOK_AHEAD: i64 = 256;
/// A turn that comes late makes up for at most this much time.
const CATCH_UP: f64 = 0.5;
/// Replays that one keeper runs side by side.
const REPLAYS: i64 = 16;

/// Running replays that are free or this keeper's own, the oldest first; at most 16.
pub async fn waiting(pool: &Pool, owner: Uuid) -> Result<Vec<Uuid>, Error> {
    Ok(sqlx::query_scalar(
        "select id from replay where state = 'running'
           and (lease_owner is null or lease_owner = $1 or lease_until <= (select kurir_now()))
         order by created_at, id limit $2",
    )
    .bind(owner)
    .bind(REPLAYS)
    .fetch_all(pool)
    .await?)
}

/// Gives this keeper's replays back, so that another goes on at once.
pub async fn release(pool: &Pool, owner: Uuid) -> Result<(), Error> {
    sqlx::query("update replay set lease_owner = null, lease_until = null where lease_owner = $1")
        .bind(owner)
        .execute(pool)
        .await?;
    Ok(())
}

/// What a turn did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moved {
    /// Dead letters handed to the outbox.
    pub sent: usize,
    /// Dead letters whose turn came after somebody else had moved them, or that cannot be sent.
    pub skipped: usize,
    /// It stopped itself, and why.
    pub stopped: Option<String>,
    /// Nothing is left of it.
    pub done: bool,
}

/// A turn that is written and not committed. Dropped, nothing of it has happened.
#[derive(Debug)]
pub struct Turn {
    transaction: Transaction<'static, Postgres>,
    pub moved: Moved,
}

impl Turn {
    pub async fn commit(self) -> Result<Moved, Error> {
        self.transaction.commit().await?;
        Ok(self.moved)
    }
}

row! {
    #[expect(unreachable_pub, reason = "a row of this file alone")]
    /// The replay's own row.
    pub struct Head {
        pub restamp: bool,
        pub rate_max: f32,
        pub rate_now: f32,
        pub next_at: DateTime<Utc>,
        pub requested_by: String,
        pub now: DateTime<Utc>,
    }
}

/// `None`: it is not running, or another keeper has it.
pub async fn take_turn(
    pool: &Pool,
    prefix: &QueuePrefix,
    owner: Uuid,
    replay: Uuid,
) -> Result<Option<Turn>, Error> {
    let mut transaction = pool.begin().await?;
    let head: Option<Head> = sqlx::query_as(
        "select restamp, rate_max, rate_now, next_at, requested_by, kurir_now() as now from replay
         where id = $1 and state = 'running'
           and (lease_owner is null or lease_owner = $2 or lease_until <= kurir_now())
         for update skip locked",
    )
    .bind(replay)
    .bind(owner)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(mut head) = head else {
        return Ok(None);
    };
    let mut turn = Turn {
        transaction,
        moved: Moved::default(),
    };
    turn.moved.stopped = turn.judged(replay).await?;
    let paced = turn.went_well(replay).await?;
    if paced {
        head.rate_now = faster(head.rate_now, head.rate_max);
    }
    if turn.moved.stopped.is_none() {
        turn.send(prefix, replay, &mut head).await?;
        turn.offer_again(replay).await?;
        turn.moved.done = turn.ended(replay).await?;
    }
    turn.write(owner, replay, &head, paced).await?;
    Ok(Some(turn))
}

impl Turn {
    /// Whether too many of the last ones failed. What waits for a person or a credential did not succeed either. With
    /// nothing left to send there is nothing to stop.
    async fn judged(&mut self, replay: Uuid) -> Result<Option<String>, Error> {
        let row = sqlx::query(
            "with last as (
               select i.state, i.held_for, i.detail from replay_item i join replay r on r.id = i.replay_id
               where i.replay_id = $1 and i.sent_at is not null and i.state in ('done', 'overtaken', 'failed', 'held')
                 and (i.held_for is null or i.held_for not in ('budget', 'circuit')) and i.at > r.window_at
               order by i.at desc limit $2)
             select count(*) as ended, count(*) filter (where state in ('failed', 'held')) as failed,
               mode() within group (order by case state when 'held' then 'held: ' || coalesce(detail, held_for) else detail end)
                 filter (where state in ('failed', 'held')) as commonest,
               exists (select 1 from replay_item where replay_id = $1 and state = 'waiting') as waiting
             from last",
        )
        .bind(replay)
        .bind(LOOK_BACK)
        .fetch_one(&mut *self.transaction)
        .await?;
        let (ended, failed): (i64, i64) = (row.try_get("ended")?, row.try_get("failed")?);
        if ended < LEAST_TO_JUDGE || failed * 2 <= ended || !row.try_get::<bool, _>("waiting")? {
            return Ok(None);
        }
        let commonest: Option<String> = row.try_get("commonest")?;
        Ok(Some(format!(
            "{failed} of the last {ended} did not succeed, most often: {}",
            commonest.unwrap_or_default()
        )))
    }

    /// Whether so many have succeeded in a row since the pace last changed.
    async fn went_well(&mut self, replay: Uuid) -> Result<bool, Error> {
        Ok(sqlx::query_scalar(
            "with last as (
               select i.state from replay_item i join replay r on r.id = i.replay_id
               where i.replay_id = $1 and i.sent_at is not null and i.state in ('done', 'overtaken', 'failed', 'held')
                 and i.at > r.paced_at and r.rate_now < r.rate_max
               order by i.at desc limit $2)
             select count(*) = $2 and coalesce(bool_and(state in ('done', 'overtaken')), false) from last",
        )
        .bind(replay)
        .bind(STREAK)
        .fetch_one(&mut *self.transaction)
        .await?)
    }

    /// Sends what is due and has room.
    async fn send(
        &mut self,
        prefix: &QueuePrefix,
        replay: Uuid,
        head: &mut Head,
    ) -> Result<(), Error> {
        let due = due(head);
        if due == 0 {
            return Ok(());
        }
        let chosen = self.next(replay, due).await?;
        if chosen.is_empty() {
            return Ok(());
        }
        // The dead letters before their items, as everybody locks them.
        let dead_letters = sqlx::query(
            "select d.id, d.state, d.generation, d.resolved_by, c.enabled
             from dead_letter d left join connection c on c.id = d.connection_id
             where d.id = any($1) order by d.id for update of d",
        )
        .bind(&chosen)
        .fetch_all(&mut *self.transaction)
        .await?;
        let (mut able, mut unable) = (Vec::new(), Vec::new());
        for dead_letter in dead_letters {
            let id: Uuid = dead_letter.try_get("id")?;
            let state: String = dead_letter.try_get("state")?;
            let lost = state == "replaying"
                && self
                    .is_own(replay, id, dead_letter.try_get("generation")?)
                    .await?;
            if dead_letter.try_get::<Option<bool>, _>("enabled")? == Some(false) {
                unable.push((id, "its connection is switched off".to_owned()));
            } else if state == "open" || lost {
                able.push(id);
            } else {
                unable.push((id, format!("it is {state} already")));
            }
        }
        let restamped = if head.restamp {
            self.restamp(&mut able, &mut unable, head).await?
        } else {
            (Vec::new(), Vec::new(), Vec::new())
        };
        self.hand_over(prefix, replay, &able, restamped, head)
            .await?;
        self.skip(replay, &unable).await?;
        let rate = f64::from(head.rate_now);
        let from = head
            .next_at
            .max(head.now - TimeDelta::milliseconds((CATCH_UP * 1000.0) as i64));
        head.next_at = from + seconds(able.len() as f64 / rate);
        self.moved.sent = able.len();
        self.moved.skipped = unable.len();
        Ok(())
    }

    /// The next ones in order whose worker has room.
    async fn next(&mut self, replay: Uuid, due: usize) -> Result<Vec<Uuid>, Error> {
        let waiting = sqlx::query(
            "select dead_id, worker from replay_item where replay_id = $1 and state = 'waiting' order by place limit $2",
        )
        .bind(replay)
        .bind(LOOK_AHEAD)
        .fetch_all(&mut *self.transaction)
        .await?;
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let under_way: Vec<(String, i64)> = sqlx::query_as(
            "select worker, count(*) from replay_item
             where state in ('sent', 'retrying') or held_for in ('budget', 'circuit') group by worker",
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        let mut used: HashMap<String, i64> = under_way.into_iter().collect();
        let mut chosen = Vec::new();
        for row in waiting {
            let used = used.entry(row.try_get("worker")?).or_default();
            if *used < IN_FLIGHT {
                *used += 1;
                chosen.push(row.try_get("dead_id")?);
            }
            if chosen.len() == due {
                break;
            }
        }
        Ok(chosen)
    }

    /// Whether the dead letter's present life is one that this replay has sent.
    async fn is_own(&mut self, replay: Uuid, id: Uuid, generation: i32) -> Result<bool, Error> {
        Ok(sqlx::query_scalar(
            "select exists (select 1 from replay_item where replay_id = $1 and dead_id = $2 and generation = $3)",
        )
        .bind(replay)
        .bind(id)
        .bind(generation)
        .fetch_one(&mut *self.transaction)
        .await?)
    }

    /// New bodies and keys of those that can be given a new version; the others cannot be sent.
    async fn restamp(
        &mut self,
        able: &mut Vec<Uuid>,
        unable: &mut Vec<(Uuid, String)>,
        head: &Head,
    ) -> Result<Restamped, Error> {
        let (mut ids, mut bodies, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for id in std::mem::take(able) {
            let row = sqlx::query(
                "select coalesce(edited_body, body) as body, generation from dead_letter where id = $1",
            )
            .bind(id)
            .fetch_one(&mut *self.transaction)
            .await?;
            let generation = row.try_get::<i32, _>("generation")? + 1;
            let body: Vec<u8> = row.try_get("body")?;
            match restamped_with_key(&body, head.now, generation) {
                Ok((body, key)) => {
                    able.push(id);
                    ids.push(id);
                    bodies.push(body);
                    keys.push(key);
                }
                Err(error) => unable.push((id, error.to_string())),
            }
        }
        Ok((ids, bodies, keys))
    }

    async fn hand_over(
        &mut self,
        prefix: &QueuePrefix,
        replay: Uuid,
        able: &[Uuid],
        (ids, bodies, keys): Restamped,
        head: &Head,
    ) -> Result<(), Error> {
        if able.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "update dead_letter d set edited_body = n.body, edited_by = $4, edited_at = kurir_now(), k = coalesce(n.k, d.k)
             from unnest($1::uuid[], $2::bytea[], $3::bytea[]) as n(id, body, k) where d.id = n.id",
        )
        .bind(ids)
        .bind(bodies)
        .bind(keys)
        .bind(&head.requested_by)
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query(
            "update dead_letter set state = 'replaying', generation = generation + 1, row_version = row_version + 1
             where id = any($1)",
        )
        .bind(able)
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query(
            "insert into dead_letter_history (dead_id, generation, kind, at, actor, detail)
             select id, generation, 'replay', kurir_now(), $2, jsonb_build_object('replay', $3::uuid, 'restamped', $4::boolean)
             from dead_letter where id = any($1)",
        )
        .bind(able)
        .bind(&head.requested_by)
        .bind(replay)
        .bind(head.restamp)
        .execute(&mut *self.transaction)
        .await?;
        // A replay begins again at no claim that never came back: its cause may be repaired.
        sqlx::query(
            "delete from unsettled_claim u using link l, dead_letter d
             where d.id = any($1) and l.id = u.link_id and u.tenant = d.tenant and u.source = d.source
               and u.event_id = d.event_id and (d.connection_id is null or l.connection_id = d.connection_id)
               and (d.facet is null or l.kind = d.facet)",
        )
        .bind(able)
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query(
            "insert into outbox (tenant, exchange, routing_key, body, properties, headers, next_try_at)
             select d.tenant, '', $3 || '.' || d.worker, coalesce(d.edited_body, d.body), d.properties,
               fresh_headers(d.headers) || jsonb_build_object('x-attempt', 1, 'x-generation', d.generation,
                 'x-replay', $2::text, 'x-dead-letter', d.id::text), kurir_now()
             from dead_letter d join replay_item i on i.dead_id = d.id and i.replay_id = $2::uuid
             where d.id = any($1) order by i.place",
        )
        .bind(able)
        .bind(replay)
        .bind(prefix.as_str())
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query(
            "update replay_item i set state = 'sent', generation = d.generation, sent_at = kurir_now(), at = kurir_now(),
               held_for = null, detail = null
             from dead_letter d where i.replay_id = $2 and i.dead_id = d.id and d.id = any($1)",
        )
        .bind(able)
        .bind(replay)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    async fn skip(&mut self, replay: Uuid, unable: &[(Uuid, String)]) -> Result<(), Error> {
        let (ids, reasons): (Vec<Uuid>, Vec<String>) = unable.iter().cloned().unzip();
        sqlx::query(
            "update replay_item i set state = 'skipped', detail = x.reason, at = kurir_now()
             from unnest($1::uuid[], $2::text[]) as x(id, reason) where i.replay_id = $3 and i.dead_id = x.id",
        )
        .bind(ids)
        .bind(reasons)
        .bind(replay)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Sent so long ago that its copy must be lost, or that it waits longer than any retry tier: both are safe to repeat.
    async fn offer_again(&mut self, replay: Uuid) -> Result<(), Error> {
        sqlx::query(
            "update replay_item i set state = 'waiting', at = kurir_now()
             where replay_id = $1 and state in ('sent', 'retrying') and at < kurir_now() - $2 * interval '1 second'
               and not exists (select 1 from replay_item o where o.dead_id = i.dead_id and o.state = 'waiting')",
        )
        .bind(replay)
        .bind(LOST_AFTER.as_secs_f64())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    async fn ended(&mut self, replay: Uuid) -> Result<bool, Error> {
        Ok(sqlx::query_scalar(
            "select not exists (select 1 from replay_item where replay_id = $1
               and (state in ('waiting', 'sent', 'retrying') or held_for in ('budget', 'circuit')))",
        )
        .bind(replay)
        .fetch_one(&mut *self.transaction)
        .await?)
    }

    async fn write(
        &mut self,
        owner: Uuid,
        replay: Uuid,
        head: &Head,
        paced: bool,
    ) -> Result<(), Error> {
        let state = match &self.moved {
            Moved {
                stopped: Some(_), ..
            } => "stopped",
            Moved { done: true, .. } => "done",
            _ => "running",
        };
        sqlx::query(
            "update replay set state = $2, stopped_reason = $3, rate_now = $4, next_at = $5,
               paced_at = case when $6 then kurir_now() else paced_at end,
               ended_at = case when $2 = 'done' then kurir_now() end,
               lease_owner = case when $2 = 'running' then $7 end,
               lease_until = case when $2 = 'running' then kurir_now() + $8 * interval '1 second' end
             where id = $1",
        )
        .bind(replay)
        .bind(state)
        .bind(&self.moved.stopped)
        .bind(head.rate_now)
        .bind(head.next_at)
        .bind(paced)
        .bind(owner)
        .bind(LEASE.as_secs_f64())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}

/// Ids, bodies and keys, side by side.
type Restamped = (Vec<Uuid>, Vec<Vec<u8>>, Vec<Option<Vec<u8>>>);

/// How many dead letters the pace allows now.
fn due(head: &Head) -> usize {
    let late = (head.now - head.next_at).as_seconds_f64();
    if late < 0.0 {
        return 0;
    }
    let rate = f64::from(head.rate_now);
    let at_once = (rate * CATCH_UP).ceil().max(1.0);
    (1.0 + (late * rate).floor()).min(at_once) as usize
}

fn seconds(seconds: f64) -> TimeDelta {
    TimeDelta::microseconds((seconds * 1_000_000.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rate: f32, late_ms: i64) -> usize {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid instant");
        due(&Head {
            restamp: false,
            rate_max: 50.0,
            rate_now: rate,
            next_at: now - TimeDelta::milliseconds(late_ms),
            requested_by: String::new(),
            now,
        })
    }

    #[test]
    fn as_many_as_the_pace_allows_and_no_burst_after_a_pause() {
        assert_eq!(at(1.0, -1), 0);
        assert_eq!(at(1.0, 0), 1);
        assert_eq!(at(1.0, 60_000), 1);
        assert_eq!(at(20.0, 250), 6);
        assert_eq!(at(20.0, 60_000), 10);
    }
}
