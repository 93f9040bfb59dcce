//! Replays: ordered once, sent in turns, judged by what becomes of their dead letters.

use serde_json::json;
use sqlx::PgPool;
use store::dead_letters::replay::{
    Counts, IN_FLIGHT, Moved, Order, cancel, list, order, order_neighbours, pause, plan, prune,
    release, resume, show, take_turn, waiting,
};
use store::dead_letters::{self, Filter};
use store::{Error, Scope};
use testkit::database;
use uuid::Uuid;

use crate::rows::{count, insert_dead, insert_link, insert_unsettled, outbox, pool, prefix};

pub(crate) fn order_of(filter: &Filter) -> Order<'_> {
    Order {
        filter,
        rate_max: 50.0,
        restamp: false,
        actor: "ana",
        idempotency_key: None,
    }
}

/// Orders a replay of one dead letter and gives it one turn; returns the replay.
pub(crate) async fn run_one(pool: &PgPool, scope: Scope<'_>, dead_letter: Uuid) -> Uuid {
    let one = Filter::one(dead_letter);
    let ordered = order(pool, scope, order_of(&one)).await.expect("ordered");
    assert_eq!((ordered.dead_letters, ordered.repeated), (1, false));
    let moved = turn(pool, Uuid::new_v4(), ordered.id).await;
    assert_eq!(moved.sent, 1, "{moved:?}");
    ordered.id
}

async fn turn(pool: &PgPool, owner: Uuid, replay: Uuid) -> Moved {
    let turn = take_turn(pool, &prefix(), owner, replay)
        .await
        .expect("a turn")
        .expect("it is ours");
    turn.commit().await.expect("committed")
}

async fn dead_letters(pool: &PgPool, count: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(insert_dead(pool, Some("shop"), &format!("evt-{n}"), "open", None).await);
    }
    ids
}

async fn all_of(pool: &PgPool) -> Uuid {
    order(pool, Scope::Everything, order_of(&Filter::default()))
        .await
        .expect("ordered")
        .id
}

async fn sql(pool: &PgPool, statements: &'static str) {
    sqlx::raw_sql(statements)
        .execute(pool)
        .await
        .expect(statements);
}

/// The pace allows the next one.
async fn time_passes(pool: &PgPool) {
    sql(
        pool,
        "update replay set next_at = next_at - interval '1 hour', paced_at = paced_at - interval '1 hour'",
    )
    .await;
}

async fn counts(pool: &PgPool, replay: Uuid) -> Counts {
    show(pool, Scope::Everything, replay)
        .await
        .expect("progress")
        .counts
}

/// As the ledger and the workers move a dead letter.
async fn ends(pool: &PgPool, id: Uuid, how: &str) {
    let statement = match how {
        "failed" => "update dead_letter set state = 'open', deaths = deaths + 1 where id = $1",
        "held" => {
            "update dead_letter set state = 'resolved', resolved_by = 'kurir', held_for = 'suspended' where id = $1"
        }
        "budget" => {
            "update dead_letter set state = 'resolved', resolved_by = 'kurir', held_for = 'budget' where id = $1"
        }
        "overtaken" => {
            "update dead_letter set state = 'overtaken', resolved_by = 'kurir' where id = $1"
        }
        _ => {
            "update dead_letter set state = 'resolved', resolved_by = 'kurir', held_for = null where id = $1"
        }
    };
    sqlx::query(statement)
        .bind(id)
        .execute(pool)
        .await
        .expect("moved");
}

#[tokio::test]
async fn a_replay_is_the_next_generation() {
    let database = database().await;
    let pool = pool(&database).await;
    let link = insert_link(&pool, "shop", "1", Uuid::new_v4()).await;
    insert_unsettled(&pool, "shop", link, "evt").await;
    let id = insert_dead(&pool, Some("shop"), "evt", "open", Some(link)).await;
    sql(
        &pool,
        r#"update dead_letter set headers = headers || '{"x-history": "[]", "x-waits": 3, "x-dead-at": 1, "x-generation": 0, "x-connection": "c"}'"#,
    )
    .await;
    let replay = run_one(&pool, Scope::Everything, id).await;
    let sent = outbox(&pool).await;
    assert_eq!(
        sent,
        [(
            "kurir.metakocka-sync".to_owned(),
            r#"{"id":"evt"}"#.to_owned(),
            json!({
                "ce-extra": "kept", "x-connection": "c", "x-attempt": 1, "x-generation": 1, "x-replay": replay,
                "x-dead-letter": id,
            }),
        )]
    );
    assert_eq!(count(&pool, "unsettled_claim").await, 0);
    let timeline = dead_letters::show(&pool, Scope::Everything, id)
        .await
        .expect("a timeline");
    assert_eq!(
        (
            timeline.dead_letter.state.as_str(),
            timeline.dead_letter.generation
        ),
        ("replaying", 1)
    );
    assert_eq!(timeline.link.map(|link| link.id), Some(link));
    let happened: Vec<_> = timeline
        .history
        .iter()
        .map(|row| (row.kind.as_str(), row.generation, row.actor.as_deref()))
        .collect();
    assert_eq!(happened, [("replay", 1, Some("ana"))]);
    let again = order(&pool, Scope::Everything, order_of(&Filter::one(id))).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
}

#[tokio::test]
async fn an_edited_body_is_what_is_replayed() {
    let database = database().await;
    let pool = pool(&database).await;
    let id = insert_dead(&pool, Some("shop"), "evt", "open", None).await;
    sql(&pool, "update dead_letter set edited_body = 'edited'").await;
    run_one(&pool, Scope::Everything, id).await;
    assert_eq!(outbox(&pool).await[0].1, "edited");
}

#[tokio::test]
async fn a_turn_that_is_not_committed_has_not_happened() {
    let database = database().await;
    let pool = pool(&database).await;
    dead_letters(&pool, 1).await;
    let replay = all_of(&pool).await;
    let dying = Uuid::new_v4();
    let dropped = take_turn(&pool, &prefix(), dying, replay)
        .await
        .expect("a turn")
        .expect("it is free");
    assert_eq!(dropped.moved.sent, 1);
    drop(dropped);
    let other = Uuid::new_v4();
    assert_eq!(waiting(&pool, other).await.expect("replays"), [replay]);
    assert_eq!(turn(&pool, other, replay).await.sent, 1);
    assert_eq!(count(&pool, "outbox").await, 1);
}

#[tokio::test]
async fn of_many_keepers_one_has_it() {
    let database = database().await;
    let pool = pool(&database).await;
    dead_letters(&pool, 3).await;
    let replay = all_of(&pool).await;
    let owners: Vec<Uuid> = (0..6).map(|_| Uuid::new_v4()).collect();
    let tried = owners.iter().map(|owner| {
        let pool = pool.clone();
        async move {
            match take_turn(&pool, &prefix(), *owner, replay)
                .await
                .expect("a turn")
            {
                Some(turn) => turn.commit().await.expect("committed").sent,
                None => 0,
            }
        }
    });
    let sent: usize = futures_util::future::join_all(tried)
        .await
        .into_iter()
        .sum();
    assert_eq!(sent, 1, "one dead letter per second");
    time_passes(&pool).await;
    // Whoever has the lease goes on, the others do not see it until it is given back.
    let mut seen = Vec::new();
    for owner in &owners {
        if waiting(&pool, *owner).await.expect("replays") == [replay] {
            seen.push(*owner);
        }
    }
    assert_eq!(seen.len(), 1);
    release(&pool, seen[0]).await.expect("given back");
    assert_eq!(
        waiting(&pool, Uuid::new_v4()).await.expect("replays"),
        [replay]
    );
}

#[tokio::test]
async fn items_follow_their_dead_letters() {
    let database = database().await;
    let pool = pool(&database).await;
    let ids = dead_letters(&pool, 7).await;
    sql(
        &pool,
        "update dead_letter set first_at = first_at + interval '1 s' * substr(event_id, 5)::int",
    )
    .await;
    let replay = all_of(&pool).await;
    let owner = Uuid::new_v4();
    for _ in 0..5 {
        turn(&pool, owner, replay).await;
        time_passes(&pool).await;
    }
    // Five are sent, in the order of their deaths.
    for (id, how) in ids
        .iter()
        .zip(["done", "overtaken", "failed", "held", "budget"])
    {
        ends(&pool, *id, how).await;
    }
    // One is closed by hand before its turn.
    ends(&pool, ids[6], "done").await;
    let progress = show(&pool, Scope::Everything, replay)
        .await
        .expect("progress");
    insta::assert_json_snapshot!(progress.counts, @r#"
    {
      "waiting": 1,
      "sent": 0,
      "retrying": 0,
      "done": 1,
      "overtaken": 1,
      "failed": 1,
      "held": 2,
      "held_briefly": 1,
      "skipped": 1,
      "cancelled": 0
    }
    "#);
    assert_eq!((progress.counts.all(), progress.counts.ended()), (7, 5));
    // What was held comes home later, what had failed is somebody's business again.
    ends(&pool, ids[3], "done").await;
    ends(&pool, ids[4], "done").await;
    turn(&pool, owner, replay).await;
    ends(&pool, ids[5], "done").await;
    let moved = turn(&pool, owner, replay).await;
    assert!(moved.done, "{moved:?}");
    let progress = show(&pool, Scope::Everything, replay)
        .await
        .expect("progress");
    assert_eq!(progress.replay.state, "done");
    assert_eq!((progress.counts.done, progress.counts.failed), (4, 1));
    let causes: Vec<_> = progress
        .failures
        .iter()
        .map(|cause| {
            (
                cause.state.as_str(),
                cause.detail.as_deref(),
                cause.dead_letters,
            )
        })
        .collect();
    assert_eq!(
        causes,
        [
            ("failed", Some("refused:no"), 1),
            ("skipped", Some("resolved by kurir"), 1)
        ]
    );
}

#[tokio::test]
async fn it_stops_itself_and_goes_on_from_the_beginning() {
    let database = database().await;
    let pool = pool(&database).await;
    let ids = dead_letters(&pool, 12).await;
    let replay = all_of(&pool).await;
    let owner = Uuid::new_v4();
    let mut sent = 0;
    loop {
        let moved = turn(&pool, owner, replay).await;
        if let Some(reason) = moved.stopped {
            assert_eq!(
                reason,
                "3 of the last 5 did not succeed, most often: refused:no"
            );
            break;
        }
        sent += moved.sent;
        let dead_letter: Option<Uuid> =
            sqlx::query_scalar("select id from dead_letter where state = 'replaying'")
                .fetch_optional(&pool)
                .await
                .expect("a dead letter");
        ends(
            &pool,
            dead_letter.expect("one is sent"),
            if sent % 2 == 1 { "failed" } else { "done" },
        )
        .await;
        time_passes(&pool).await;
    }
    assert_eq!(
        sent, 5,
        "it looks at the last ones as soon as there are five"
    );
    let stopped = show(&pool, Scope::Everything, replay)
        .await
        .expect("progress");
    assert_eq!(
        (stopped.replay.state.as_str(), stopped.counts.waiting),
        ("stopped", 7)
    );
    assert_eq!(
        waiting(&pool, owner).await.expect("replays"),
        [] as [Uuid; 0]
    );
    let resumed = resume(&pool, Scope::Everything, replay)
        .await
        .expect("resumed");
    assert_eq!(resumed.again, 3, "what failed is tried again");
    let mut rounds = 0;
    while !turn(&pool, owner, replay).await.done {
        for id in &ids {
            sqlx::query("update dead_letter set state = 'resolved', resolved_by = 'kurir' where id = $1 and state = 'replaying'")
                .bind(id)
                .execute(&pool)
                .await
                .expect("resolved");
        }
        time_passes(&pool).await;
        rounds += 1;
        assert!(rounds < 40, "{:?}", counts(&pool, replay).await);
    }
    assert_eq!(counts(&pool, replay).await.done, 12);
}

#[tokio::test]
async fn it_grows_faster_while_all_goes_well() {
    let database = database().await;
    let pool = pool(&database).await;
    dead_letters(&pool, 30).await;
    let replay = all_of(&pool).await;
    let owner = Uuid::new_v4();
    for _ in 0..21 {
        turn(&pool, owner, replay).await;
        sql(&pool, "update dead_letter set state = 'resolved', resolved_by = 'kurir' where state = 'replaying'; update replay set next_at = next_at - interval '1 hour'").await;
    }
    let rate = show(&pool, Scope::Everything, replay)
        .await
        .expect("progress")
        .replay
        .rate_now;
    assert_eq!(rate, 2.0);
}

#[tokio::test]
async fn of_one_worker_only_so_many_are_under_way() {
    let database = database().await;
    let pool = pool(&database).await;
    dead_letters(&pool, 40).await;
    let replay = all_of(&pool).await;
    sql(&pool, "update replay set rate_now = 50").await;
    let owner = Uuid::new_v4();
    for _ in 0..4 {
        turn(&pool, owner, replay).await;
        time_passes(&pool).await;
    }
    assert_eq!(counts(&pool, replay).await.sent, IN_FLIGHT);
    // Held for a budget is still under way; done makes room.
    sql(&pool, "update dead_letter set state = 'resolved', resolved_by = 'kurir', held_for = 'budget' where state = 'replaying'").await;
    assert_eq!(turn(&pool, owner, replay).await.sent, 0);
    sql(
        &pool,
        "update dead_letter set held_for = null where held_for is not null",
    )
    .await;
    time_passes(&pool).await;
    assert_eq!(turn(&pool, owner, replay).await.sent, 8);
}

#[tokio::test]
async fn a_dead_letter_waits_in_one_replay_and_a_key_is_one_replay() {
    let database = database().await;
    let pool = pool(&database).await;
    dead_letters(&pool, 2).await;
    let all = Filter::default();
    let keyed = Order {
        idempotency_key: Some("monday"),
        ..order_of(&all)
    };
    let first = order(&pool, Scope::Everything, keyed)
        .await
        .expect("ordered");
    let again = order(&pool, Scope::Everything, keyed)
        .await
        .expect("the same");
    assert_eq!(
        (again.id, again.dead_letters, again.repeated),
        (first.id, 2, true)
    );
    let planned = plan(&pool, Scope::Everything, &all, 50.0)
        .await
        .expect("a plan");
    assert_eq!(
        (
            planned.dead_letters,
            planned.waiting_elsewhere,
            planned.elsewhere
        ),
        (0, 2, Some(first.id))
    );
    let refused = order(&pool, Scope::Everything, order_of(&all)).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    pause(&pool, Scope::Everything, first.id)
        .await
        .expect("paused");
    assert!(
        take_turn(&pool, &prefix(), Uuid::new_v4(), first.id)
            .await
            .expect("an answer")
            .is_none()
    );
    assert_eq!(
        cancel(&pool, Scope::Everything, first.id)
            .await
            .expect("cancelled"),
        2
    );
    let planned = plan(&pool, Scope::Everything, &all, 50.0)
        .await
        .expect("a plan");
    assert_eq!((planned.dead_letters, planned.tenants), (2, 1));
    let refused = resume(&pool, Scope::Everything, first.id).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let listed = list(&pool, Scope::Everything, Some("cancelled"), None, 10)
        .await
        .expect("replays");
    assert_eq!(listed.len(), 1);
    sql(
        &pool,
        "update replay set ended_at = now() - interval '91 days'",
    )
    .await;
    assert_eq!(prune(&pool).await.expect("pruned"), 3);
    assert_eq!(count(&pool, "replay").await, 0);
}

#[tokio::test]
async fn what_nobody_heard_of_is_sent_again() {
    let database = database().await;
    let pool = pool(&database).await;
    dead_letters(&pool, 1).await;
    let replay = all_of(&pool).await;
    let owner = Uuid::new_v4();
    turn(&pool, owner, replay).await;
    sql(&pool, "update replay_item set at = at - interval '3 hours'").await;
    time_passes(&pool).await;
    turn(&pool, owner, replay).await;
    assert_eq!(turn(&pool, owner, replay).await.sent, 1);
    let generation: i32 = sqlx::query_scalar("select generation from dead_letter")
        .fetch_one(&pool)
        .await
        .expect("a dead letter");
    assert_eq!((generation, counts(&pool, replay).await.sent), (2, 1));
}

#[tokio::test]
async fn a_neighbour_of_a_crash_is_replayed_once() {
    let database = database().await;
    let pool = pool(&database).await;
    let ids = dead_letters(&pool, 2).await;
    sqlx::query("update dead_letter set class = 'crash_neighbour' where id = $1")
        .bind(ids[0])
        .execute(&pool)
        .await
        .expect("a neighbour");
    let (replay, number) = order_neighbours(&pool)
        .await
        .expect("looked")
        .expect("one is there");
    assert_eq!(number, 1);
    assert_eq!(order_neighbours(&pool).await.expect("looked"), None);
    assert_eq!(turn(&pool, Uuid::new_v4(), replay).await.sent, 1);
    // A second such death stays open.
    ends(&pool, ids[0], "failed").await;
    assert_eq!(order_neighbours(&pool).await.expect("looked"), None);
    let progress = show(&pool, Scope::Everything, replay)
        .await
        .expect("progress");
    assert!(progress.replay.automatic && progress.replay.rate_max == 1.0);
}

#[tokio::test]
async fn restamped_dead_letters_are_the_newest_and_others_are_skipped() {
    let database = database().await;
    let pool = pool(&database).await;
    let event = testkit::Contacts::new("shop", 1).organization().created();
    let id = crate::dead_letters::insert_event(&pool, None, &event).await;
    let unreadable = insert_dead(&pool, Some("shop"), "evt", "open", None).await;
    let all = Filter::default();
    let restamping = Order {
        restamp: true,
        ..order_of(&all)
    };
    let replay = order(&pool, Scope::Everything, restamping)
        .await
        .expect("ordered")
        .id;
    let owner = Uuid::new_v4();
    for _ in 0..3 {
        turn(&pool, owner, replay).await;
        time_passes(&pool).await;
    }
    let counted = counts(&pool, replay).await;
    assert_eq!((counted.sent, counted.skipped), (1, 1));
    let timeline = dead_letters::show(&pool, Scope::Everything, id)
        .await
        .expect("a timeline");
    let body: serde_json::Value =
        serde_json::from_slice(&timeline.message.edited_body.expect("a new body").0).expect("JSON");
    assert!(body["subjectversion"].is_string() && body["id"] == event["id"]);
    let timeline = dead_letters::show(&pool, Scope::Everything, unreadable)
        .await
        .expect("a timeline");
    assert_eq!(timeline.dead_letter.state, "open");
}
