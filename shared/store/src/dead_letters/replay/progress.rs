//! How replays stand, counted from what became of their dead letters.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::row::row;
use crate::{Error, Pool, Scope};

/// Causes shown of a replay, the commonest ones.
const CAUSES: i64 = 10;

row! {
    /// A replay as it was ordered and as it runs.
    pub struct Replay {
        pub id: Uuid,
        /// Who it belongs to; `None`: the operator.
        pub tenant: Option<String>,
        pub requested_by: String,
        /// What was asked for: the filter's members that were given.
        pub selection: Value,
        pub restamp: bool,
        /// Made by the keeper.
        pub automatic: bool,
        /// `running`, `paused`, `stopped`, `done` or `cancelled`.
        pub state: String,
        /// Dead letters per second.
        pub rate_max: f32,
        pub rate_now: f32,
        pub stopped_reason: Option<String>,
        /// A keeper has it until then; `None`: nobody has.
        pub lease_until: Option<DateTime<Utc>>,
        /// Whether a keeper has it now.
        pub attended: bool,
        pub created_at: DateTime<Utc>,
        pub ended_at: Option<DateTime<Utc>>,
    }
}

row! {
    /// Dead letters by what became of them. Each dead letter is counted once.
    pub struct Counts {
        /// Not sent yet.
        pub waiting: i64,
        /// On their way, no outcome yet.
        pub sent: i64,
        /// Failed at least once, and tried again by themselves.
        pub retrying: i64,
        /// The partner has it.
        pub done: i64,
        /// Its record has newer content: nothing was to be done.
        pub overtaken: i64,
        /// Dead again.
        pub failed: i64,
        /// Waits until its cause is gone (`kurir held list`); goes on by itself then.
        pub held: i64,
        /// Of these, the ones that the replay waits for: a budget or a circuit lets them go by itself.
        pub held_briefly: i64,
        /// Never sent: somebody else moved it, or it could not be.
        pub skipped: i64,
        pub cancelled: i64,
    }
}

impl Counts {
    pub fn all(&self) -> i64 {
        self.ended() + self.waiting + self.sent + self.retrying + self.held_briefly
    }

    /// Those of which the replay expects nothing more.
    pub fn ended(&self) -> i64 {
        self.done + self.overtaken + self.failed + self.held - self.held_briefly
            + self.skipped
            + self.cancelled
    }

    /// Whether every dead letter's content is where it belongs.
    pub fn all_well(&self) -> bool {
        self.done + self.overtaken == self.all()
    }
}

row! {
    /// Dead letters that ended badly for one reason.
    pub struct Failures {
        /// `failed`, `held` or `skipped`.
        pub state: String,
        /// The fingerprint, the cause or the reason.
        pub detail: Option<String>,
        pub dead_letters: i64,
        pub example: Uuid,
    }
}

/// A replay with its counts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Progress {
    #[serde(flatten)]
    pub replay: Replay,
    pub counts: Counts,
    /// The commonest first; empty in lists.
    pub failures: Vec<Failures>,
}

const REPLAY: &str = "id, tenant, requested_by, selection, restamp, automatic, state, rate_max, rate_now, stopped_reason,
    lease_until, coalesce(lease_until > kurir_now(), false) as attended, created_at, ended_at";
const COUNTS: &str = "count(*) filter (where state = 'waiting') as waiting, count(*) filter (where state = 'sent') as sent,
    count(*) filter (where state = 'retrying') as retrying, count(*) filter (where state = 'done') as done,
    count(*) filter (where state = 'overtaken') as overtaken, count(*) filter (where state = 'failed') as failed,
    count(*) filter (where state = 'held') as held,
    count(*) filter (where held_for in ('budget', 'circuit')) as held_briefly,
    count(*) filter (where state = 'skipped') as skipped, count(*) filter (where state = 'cancelled') as cancelled";

/// Missing outside of the scope.
pub async fn show(pool: &Pool, scope: Scope<'_>, id: Uuid) -> Result<Progress, Error> {
    // One snapshot, so that the state and the counts agree.
    let mut snapshot = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read read only")
        .execute(&mut *snapshot)
        .await?;
    let replay: Replay = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {REPLAY} from replay where id = $1 and ($2::text is null or tenant = $2)"
    )))
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(&mut *snapshot)
    .await?
    .ok_or_else(|| Error::missing("replay", id))?;
    let counts = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COUNTS} from replay_item where replay_id = $1"
    )))
    .bind(id)
    .fetch_one(&mut *snapshot)
    .await?;
    let failures = sqlx::query_as(
        "select state, coalesce(detail, held_for) as detail, count(*) as dead_letters,
           (array_agg(dead_id order by at desc))[1] as example from replay_item
         where replay_id = $1 and state in ('failed', 'held', 'skipped') group by 1, 2
         order by dead_letters desc, 1, 2 limit $2",
    )
    .bind(id)
    .bind(CAUSES)
    .fetch_all(&mut *snapshot)
    .await?;
    snapshot.commit().await?;
    Ok(Progress {
        replay,
        counts,
        failures,
    })
}

/// The latest first, at most `limit`; the next page begins after the replay `after`.
pub async fn list(
    pool: &Pool,
    scope: Scope<'_>,
    state: Option<&str>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Progress>, Error> {
    let replays: Vec<Replay> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {REPLAY} from replay
         where ($1::text is null or tenant = $1) and ($2::text is null or state = $2)
           and ($3::uuid is null or (created_at, id) < (select created_at, id from replay where id = $3))
         order by created_at desc, id desc limit $4"
    )))
    .bind(scope.tenant())
    .bind(state)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let mut all = Vec::with_capacity(replays.len());
    for replay in replays {
        let counts = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COUNTS} from replay_item where replay_id = $1"
        )))
        .bind(replay.id)
        .fetch_one(pool)
        .await?;
        all.push(Progress {
            replay,
            counts,
            failures: Vec::new(),
        });
    }
    Ok(all)
}
