//! Holds that end by themselves: what ends them, at what pace they leave, and that none is left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use store::connections::{Connection, resume, set_enabled, suspend};
use store::held::{
    Filter, LaneShares, counts, discard, discard_one, list, release, release_ended, release_paced,
    waiting_connections,
};
use store::links::{HeldItem, HeldVerdict, Links};
use store::{Scope, notifications};
use testkit::database;
use worker::{HoldCause, WaitsFor};

use crate::connections::held_item;
use crate::rows::{
    WORKER, add_connection, add_tenant, count, insert_held, insert_link, key, outbox, pool, prefix,
};

fn links(pool: &PgPool) -> Links {
    Links::new(pool.clone(), "kurir", Duration::from_secs(30))
}

/// A state event of this record and version, held at the connection.
fn state(connection: &Connection, record: usize, version: u64, cause: HoldCause) -> HeldItem {
    let event = format!("{record}-{version}");
    HeldItem {
        connection_id: Some(connection.id),
        epoch: Some(connection.epoch),
        cause: cause.as_str().to_owned(),
        person: cause.needs_a_person(),
        k: Some(key(version, &event)),
        event_id: event,
        ..held_item(&connection.tenant, record)
    }
}

async fn held(links: &Links, item: HeldItem) -> HeldVerdict {
    links.hold(vec![item]).await.expect("a verdict")[0]
}

/// What a keeper does in a round, for the causes that leave at a pace.
async fn paced_round(pool: &PgPool, rows: i64) -> u64 {
    let mut released = 0;
    for waiting in waiting_connections(pool, &[WORKER.to_owned()])
        .await
        .expect("a list")
    {
        let mut transaction = pool.begin().await.expect("a transaction");
        released += release_paced(
            &mut transaction,
            &prefix(),
            &waiting.worker,
            waiting.connection,
            LaneShares::default(),
            rows,
        )
        .await
        .expect("released");
        transaction.commit().await.expect("committed");
    }
    released
}

async fn released(pool: &PgPool, cause: HoldCause) -> u64 {
    release_ended(pool, &prefix(), cause, None)
        .await
        .expect("a look")
        .released
}

/// Bodies are the events' names here.
async fn sent(pool: &PgPool) -> Vec<String> {
    outbox(pool).await.into_iter().map(|row| row.1).collect()
}

async fn suspended(pool: &PgPool, tenant: &str) -> Connection {
    let tenant = add_tenant(pool, tenant).await;
    let added = add_connection(pool, &tenant).await.connection;
    assert!(
        suspend(pool, added.id, added.epoch, "401")
            .await
            .expect("an answer")
    );
    store::connections::get(pool, Scope::Everything, added.id)
        .await
        .expect("the connection")
}

/// Three holders against one repair and two keepers, a hundred times: whoever comes first, every event is either let go
/// once or handled at once, and none stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_races_of_holding_against_repairing_lose_no_wake_up() {
    const RACES: u64 = 100;
    const EACH: usize = 4;
    let database = database().await;
    let pool = pool(&database).await;
    let links = links(&pool);
    let mut connection = suspended(&pool, "shop").await;
    let (mut went, mut at_once) = (0, 0);
    for race in 0..RACES {
        let holders = (0..3).map(|holder| {
            let (links, connection) = (links.clone(), connection.clone());
            async move {
                tokio::time::sleep(Duration::from_micros(race * 23 % 700 * holder as u64)).await;
                let mut kept = Vec::new();
                for n in 0..EACH {
                    // A record of its own for each: coalescing is another story.
                    let record = (race as usize * 3 + holder) * EACH + n;
                    let mut item = state(&connection, record, 1, HoldCause::Suspended);
                    item.body = item.event_id.clone().into_bytes();
                    let name = item.event_id.clone();
                    match held(&links, item).await {
                        HeldVerdict::Held => kept.push(name),
                        HeldVerdict::CauseGone => {}
                        HeldVerdict::Covered => panic!("{name} was never applied"),
                    }
                }
                kept
            }
        });
        let repair = async {
            tokio::time::sleep(Duration::from_micros(race * 37 % 2_000)).await;
            let resumed = resume(&pool, Scope::Everything, connection.id, connection.epoch);
            resumed.await.expect("resumed").connection
        };
        let keeper = async {
            for _ in 0..3 {
                paced_round(&pool, 5).await;
            }
        };
        let (kept, resumed, (), ()) = tokio::join!(
            futures_util::future::join_all(holders),
            repair,
            keeper,
            keeper_of(&pool)
        );
        // The next looks of a keeper, without anybody waking it.
        while paced_round(&pool, 5).await > 0 {}
        assert_eq!(count(&pool, "held").await, 0, "race {race}");
        let kept: Vec<String> = kept.into_iter().flatten().collect();
        let gone = sent(&pool).await;
        let distinct: BTreeSet<&String> = gone.iter().collect();
        assert_eq!(gone.len(), distinct.len(), "twice in race {race}");
        assert_eq!(distinct, kept.iter().collect(), "race {race}");
        sqlx::query("delete from outbox")
            .execute(&pool)
            .await
            .expect("relayed");
        went += kept.len();
        at_once += 3 * EACH - kept.len();
        assert!(
            suspend(&pool, resumed.id, resumed.epoch, "401 again")
                .await
                .expect("an answer")
        );
        connection = store::connections::get(&pool, Scope::Everything, resumed.id)
            .await
            .expect("the connection");
    }
    assert!(
        went > 0 && at_once > 0,
        "{went} let go, {at_once} handled at once: both occurred"
    );
}

/// A second keeper.
async fn keeper_of(pool: &PgPool) {
    for _ in 0..3 {
        paced_round(pool, 5).await;
    }
}

#[tokio::test]
async fn an_event_that_waits_for_a_record_goes_when_that_is_linked() {
    let database = database().await;
    let pool = pool(&database).await;
    let links = links(&pool);
    let shop = add_tenant(&pool, "shop").await;
    let connection = add_connection(&pool, &shop).await.connection;
    let waiting = |version| HeldItem {
        waits_for: Some(WaitsFor::Record {
            kind: "contact".to_owned(),
            source_system: "crm".to_owned(),
            source_account: "default".to_owned(),
            source_id: "512".to_owned(),
        }),
        ..state(&connection, 1, version, HoldCause::Prerequisite)
    };
    assert_eq!(held(&links, waiting(1)).await, HeldVerdict::Held);
    assert_eq!(
        released(&pool, HoldCause::Prerequisite).await,
        0,
        "no such link"
    );
    let link = insert_link(&pool, "shop", "512", connection.id).await;
    assert_eq!(released(&pool, HoldCause::Prerequisite).await, 0, "pending");
    let linked = "update link set state = 'linked', target_id = '7' where id = $1";
    sqlx::query(linked)
        .bind(link)
        .execute(&pool)
        .await
        .expect("linked");
    set_enabled(&pool, Scope::Everything, connection.id, false)
        .await
        .expect("off");
    assert_eq!(
        released(&pool, HoldCause::Prerequisite).await,
        0,
        "switched off"
    );
    set_enabled(&pool, Scope::Everything, connection.id, true)
        .await
        .expect("on");
    assert_eq!(released(&pool, HoldCause::Prerequisite).await, 1);
    assert_eq!(released(&pool, HoldCause::Prerequisite).await, 0, "again");
    assert_eq!(
        held(&links, waiting(2)).await,
        HeldVerdict::CauseGone,
        "it is linked already"
    );
}

#[tokio::test]
async fn a_conflict_about_a_key_goes_when_the_key_is_free() {
    let database = database().await;
    let pool = pool(&database).await;
    let links = links(&pool);
    let shop = add_tenant(&pool, "shop").await;
    let connection = add_connection(&pool, &shop).await.connection;
    let owner = insert_link(&pool, "shop", "owner", connection.id).await;
    let mine = insert_link(&pool, "shop", "1", connection.id).await;
    sqlx::query("insert into natural_key_claim values ('shop', $1, 'contact', 'tax:1', $2, now())")
        .bind(connection.id)
        .bind(owner)
        .execute(&pool)
        .await
        .expect("a claim");
    sqlx::query("update link set state = 'conflict', conflict_cause = 'key_taken', last_error = 'two records' where id = $1")
        .bind(mine)
        .execute(&pool)
        .await
        .expect("a conflict");
    let about_the_key = HeldItem {
        waits_for: Some(WaitsFor::Key {
            kind: "contact".to_owned(),
            key: "tax:1".to_owned(),
        }),
        ..state(&connection, 1, 8, HoldCause::Conflict)
    };
    assert_eq!(held(&links, about_the_key).await, HeldVerdict::Held);
    // A newer one meets the link in conflict and does not know about what.
    let newer = state(&connection, 1, 9, HoldCause::Conflict);
    assert_eq!(held(&links, newer).await, HeldVerdict::Held);
    assert_eq!(released(&pool, HoldCause::Conflict).await, 0, "not free");
    sqlx::query("delete from natural_key_claim")
        .execute(&pool)
        .await
        .expect("free");
    assert_eq!(released(&pool, HoldCause::Conflict).await, 1);
    let state: String = sqlx::query_scalar("select state from link where id = $1")
        .bind(mine)
        .fetch_one(&pool)
        .await
        .expect("the link");
    assert_eq!(state, "pending", "looked at anew");
}

#[tokio::test]
async fn a_conflict_that_somebody_settled_goes_and_another_stays() {
    let database = database().await;
    let pool = pool(&database).await;
    let links = links(&pool);
    let shop = add_tenant(&pool, "shop").await;
    let connection = add_connection(&pool, &shop).await.connection;
    for record in [1, 2] {
        insert_link(&pool, "shop", &record.to_string(), connection.id).await;
    }
    sqlx::query("update link set state = 'conflict'")
        .execute(&pool)
        .await
        .expect("conflicts");
    for record in [1, 2] {
        let item = state(&connection, record, 8, HoldCause::Conflict);
        assert_eq!(held(&links, item).await, HeldVerdict::Held);
    }
    sqlx::query("update link set state = 'linked' where source_id = '1'")
        .execute(&pool)
        .await
        .expect("settled");
    assert_eq!(released(&pool, HoldCause::Conflict).await, 1);
    let left = list(&pool, Scope::Everything, &Filter::default(), None, 10)
        .await
        .expect("a list");
    assert_eq!(left[0].event_id, "2-8");
}

#[tokio::test]
async fn what_waited_for_a_connection_goes_without_being_asked() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let added = add_connection(&pool, &shop).await.connection;
    // As if its hold had come too late.
    insert_held(&pool, "shop", "late", "no_connection", None).await;
    insert_held(&pool, "bakery", "another's", "no_connection", None).await;
    insert_held(&pool, "shop", "poison", "poison", None).await;
    set_enabled(&pool, Scope::Everything, added.id, false)
        .await
        .expect("off");
    assert_eq!(
        released(&pool, HoldCause::NoConnection).await,
        0,
        "it is off"
    );
    set_enabled(&pool, Scope::Everything, added.id, true)
        .await
        .expect("on");
    assert_eq!(released(&pool, HoldCause::NoConnection).await, 1);
    assert_eq!(sent(&pool).await, [r#"{"id":"late"}"#]);
    for never in [
        HoldCause::Poison,
        HoldCause::Panic,
        HoldCause::WaitExpired,
        HoldCause::AppendUnknown,
    ] {
        let refused = release_ended(&pool, &prefix(), never, None).await;
        assert!(refused.is_err(), "{never} waits for a person");
    }
    assert_eq!(paced_round(&pool, 100).await, 0);
    assert_eq!(count(&pool, "held").await, 2);
}

/// The keeper's look is bounded, and goes on where it stopped.
#[tokio::test]
async fn a_long_list_is_walked_in_steps() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    add_connection(&pool, &shop).await;
    let blocked = store::held::LOOK_LIMIT;
    let insert = "insert into held (worker, tenant, target_system, reason, source, event_id, type, subject, body, properties, headers)
         select 'metakocka-sync', $1, 'metakocka', 'no_connection', 'urn:crm', $1 || n, 't', 's', '', '{}', '{}'
         from generate_series(1, $2) n";
    for (tenant, rows) in [("bakery", blocked), ("shop", 5)] {
        sqlx::query(insert)
            .bind(tenant)
            .bind(rows)
            .execute(&pool)
            .await
            .expect("rows");
    }
    let first = release_ended(&pool, &prefix(), HoldCause::NoConnection, None)
        .await
        .expect("a look");
    assert_eq!(first.released, 0);
    let second = release_ended(&pool, &prefix(), HoldCause::NoConnection, first.next)
        .await
        .expect("a look");
    assert_eq!((second.released, second.next), (5, None));
}

#[tokio::test]
async fn lanes_share_what_may_go() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let connection = add_connection(&pool, &shop).await.connection;
    for n in 0..12 {
        for lane in 0..3 {
            let id = insert_held(
                &pool,
                "shop",
                &format!("{lane}/{n}"),
                "budget",
                Some(connection.id),
            )
            .await;
            sqlx::query("update held set lane = $2 where id = $1")
                .bind(id)
                .bind(lane as i16)
                .execute(&pool)
                .await
                .expect("a lane");
        }
    }
    let later = insert_held(&pool, "shop", "later", "budget", Some(connection.id)).await;
    sqlx::query("update held set release_at = now() + interval '1 hour', lane = 0 where id = $1")
        .bind(later)
        .execute(&pool)
        .await
        .expect("a time");
    let waiting = waiting_connections(&pool, &[WORKER.to_owned(), "another".to_owned()])
        .await
        .expect("a list");
    assert_eq!(waiting.len(), 1);
    let one = &waiting[0];
    assert_eq!((one.interactive, one.live, one.bulk), (12, 12, 12));
    assert_eq!(one.reasons, ["budget"]);
    let lanes = async || -> Vec<i64> {
        let left: Vec<(i64,)> = sqlx::query_as(
            "select count(*) filter (where lane = l) from held, generate_series(0, 2) l group by l order by l",
        )
        .fetch_all(&pool)
        .await
        .expect("lanes");
        left.into_iter().map(|row| row.0).collect()
    };
    for (rows, gone, left) in [
        (1, 1, [12, 12, 12]),
        (10, 10, [10, 4, 12]),
        (10, 10, [8, 0, 8]),
        (10, 10, [6, 0, 0]),
        // One of lane 0 has a time of its own.
        (10, 5, [1, 0, 0]),
    ] {
        assert_eq!(paced_round(&pool, rows).await, gone);
        assert_eq!(lanes().await, left, "after {rows}");
    }
    let permit = outbox(&pool).await[0].2["x-permit"]
        .as_i64()
        .expect("a permit");
    let left = permit - chrono::Utc::now().timestamp_millis();
    assert!((50_000..=60_000).contains(&left), "{left} ms");
    let names = sent(&pool).await;
    assert_eq!(names[0], r#"{"id":"0/0"}"#, "interactive goes first");
}

#[tokio::test]
async fn a_suspended_connection_lets_nothing_go() {
    let database = database().await;
    let pool = pool(&database).await;
    let connection = suspended(&pool, "shop").await;
    for cause in ["suspended", "budget", "circuit"] {
        insert_held(&pool, "shop", cause, cause, Some(connection.id)).await;
    }
    assert_eq!(paced_round(&pool, 100).await, 0);
    let mut transaction = pool.begin().await.expect("a transaction");
    let forced = release_paced(
        &mut transaction,
        &prefix(),
        WORKER,
        connection.id,
        LaneShares::default(),
        10,
    )
    .await
    .expect("an answer");
    assert_eq!(forced, 0, "whatever the caller saw before");
    transaction.commit().await.expect("committed");
    let resumed = resume(&pool, Scope::Everything, connection.id, connection.epoch)
        .await
        .expect("resumed");
    assert_eq!(resumed.waiting, 1);
    assert_eq!(paced_round(&pool, 100).await, 3);
}

/// By a worker's hold or by a connection test, by one replica or by several at once.
#[tokio::test]
async fn one_suspension_is_one_notification() {
    let database = database().await;
    let pool = pool(&database).await;
    let links = links(&pool);
    let shop = add_tenant(&pool, "shop").await;
    let connection = add_connection(&pool, &shop).await.connection;
    let replicas = (0..5).map(|n| {
        let mut item = state(&connection, n, 1, HoldCause::Suspended);
        item.detail = "code 3: wrong key".to_owned();
        held(&links, item)
    });
    let verdicts = futures_util::future::join_all(replicas).await;
    assert_eq!(verdicts, [HeldVerdict::Held; 5]);
    assert!(
        !suspend(&pool, connection.id, connection.epoch, "401")
            .await
            .expect("an answer")
    );
    let take = async || {
        let mut transaction = pool.begin().await.expect("a transaction");
        let taken = notifications::take_unsent(&mut transaction, 10)
            .await
            .expect("a list");
        transaction.commit().await.expect("committed");
        taken
    };
    let taken = take().await;
    assert_eq!(taken.len(), 1);
    assert_eq!(
        (
            taken[0].tenant.as_str(),
            taken[0].system.as_deref(),
            taken[0].text.as_str()
        ),
        (
            "shop",
            Some("metakocka"),
            "the connection to metakocka is suspended: code 3: wrong key"
        )
    );
    assert!(take().await.is_empty(), "told once");
    let resumed = resume(
        &pool,
        Scope::Everything,
        connection.id,
        connection.epoch + 1,
    )
    .await
    .expect("resumed");
    // The late answer of a call made before: neither suspended again nor held.
    let late = state(&connection, 9, 1, HoldCause::Suspended);
    assert_eq!(held(&links, late).await, HeldVerdict::CauseGone);
    assert!(take().await.is_empty());
    assert!(
        suspend(&pool, connection.id, resumed.connection.epoch, "again")
            .await
            .expect("an answer")
    );
    assert_eq!(take().await.len(), 1, "the next suspension");
    let all = notifications::list(&pool, Scope::Tenant(&shop), 10)
        .await
        .expect("a list");
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|one| one.sent_at.is_some()));
}

/// Replicas that meet the same refusal at once: one of them suspends, and all of them hold.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_second_sees_the_suspension() {
    let database = database().await;
    let pool = pool(&database).await;
    let links = links(&pool);
    for round in 0..40 {
        let tenant = add_tenant(&pool, &format!("shop-{round}")).await;
        let connection = add_connection(&pool, &tenant).await.connection;
        let replicas = (0..5).map(|n| {
            let (links, item) = (
                links.clone(),
                state(&connection, n, 1, HoldCause::Suspended),
            );
            tokio::spawn(async move { held(&links, item).await })
        });
        for verdict in futures_util::future::join_all(replicas).await {
            assert_eq!(
                verdict.expect("no panic"),
                HeldVerdict::Held,
                "round {round}"
            );
        }
    }
    assert_eq!(count(&pool, "notification").await, 40);
}

/// A request has no record of its own: it waits for the connection of the link that it names.
#[tokio::test]
async fn a_request_about_a_link_of_a_suspended_connection_is_held() {
    let database = database().await;
    let pool = pool(&database).await;
    let links = links(&pool);
    let connection = suspended(&pool, "shop").await;
    let link = insert_link(&pool, "shop", "1", connection.id).await;
    let request = HeldItem {
        connection_id: None,
        k: None,
        link: Some(link),
        kind: "link".to_owned(),
        ..state(&connection, 1, 1, HoldCause::Suspended)
    };
    assert_eq!(held(&links, request).await, HeldVerdict::Held);
    let row = &list(&pool, Scope::Everything, &Filter::default(), None, 1)
        .await
        .expect("a list")[0];
    assert_eq!(row.connection_id, Some(connection.id));
    resume(&pool, Scope::Everything, connection.id, connection.epoch)
        .await
        .expect("resumed");
    assert_eq!(paced_round(&pool, 10).await, 1);
}

#[tokio::test]
async fn a_hand_leaves_a_trace_and_means_what_it_saw() {
    let database = database().await;
    let pool = pool(&database).await;
    let links = links(&pool);
    let connection = suspended(&pool, "shop").await;
    let everything = Scope::Everything;
    for (record, version) in [(1, 1), (2, 1), (3, 1), (4, 1)] {
        let item = state(&connection, record, version, HoldCause::Suspended);
        assert_eq!(held(&links, item).await, HeldVerdict::Held);
    }
    let of = |record: usize| Filter {
        record: Some(format!("contact/{record}")),
        ..Filter::default()
    };
    let id = async |record: usize| {
        list(&pool, everything, &of(record), None, 10)
            .await
            .expect("a list")[0]
            .id
    };
    release(&pool, &prefix(), everything, &of(1), "ana")
        .await
        .expect("released");
    assert!(
        discard_one(&links, everything, id(2).await, "bor", "a test record")
            .await
            .expect("discarded")
    );
    let rest = Filter {
        cause: Some(HoldCause::Suspended),
        ..Filter::default()
    };
    let found = counts(&pool, everything, &rest).await.expect("counts");
    assert_eq!(found[0].rows, 2);
    let other = add_tenant(&pool, "bakery").await;
    let elsewhere = discard_one(&links, Scope::Tenant(&other), id(3).await, "bor", "x").await;
    assert!(elsewhere.is_err(), "another tenant's");
    // A newer event takes the place of the one that was seen.
    let row = id(3).await;
    let stale: bool = sqlx::query_scalar(
        "select discard_held('shop', $1, 'urn:crm', 'seen before', 0, gen_random_uuid(), 'q', 'bor', 'x')",
    )
    .bind(row)
    .fetch_one(&pool)
    .await
    .expect("an answer");
    assert!(!stale);
    let many = discard(&links, everything, &rest, "bor", "all of it")
        .await
        .expect("discarded");
    assert_eq!((many.events, count(&pool, "held").await), (2, 0));
    let trace: Vec<(String, String, Option<String>, serde_json::Value)> =
        sqlx::query_as("select actor, what, tenant, detail from audit order by id")
            .fetch_all(&pool)
            .await
            .expect("the audit");
    assert_eq!(trace.len(), 4);
    assert_eq!(
        (trace[0].0.as_str(), trace[0].1.as_str(), trace[0].3.clone()),
        (
            "ana",
            "held.release",
            json!({ "events": 1, "filter": { "record": "contact/1" } })
        )
    );
    assert_eq!(
        (
            trace[1].0.as_str(),
            trace[1].1.as_str(),
            trace[1].2.as_deref()
        ),
        ("bor", "held.discard", Some("shop"))
    );
    assert_eq!(trace[1].3["note"], "a test record");
    let dead: i64 = sqlx::query_scalar(
        "select count(*) from dead_letter where state = 'discarded' and resolved_by = 'bor'",
    )
    .fetch_one(&pool)
    .await
    .expect("a count");
    assert_eq!(dead, 3);
    let told: i64 = sqlx::query_scalar(
        "select count(*) from link_history where what in ('released', 'discarded')",
    )
    .fetch_one(&pool)
    .await
    .expect("a count");
    assert_eq!(told, 4);
}
