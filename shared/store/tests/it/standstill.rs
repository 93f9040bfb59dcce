//! What holds a replay's dead letter now is what its replay goes by: whether it is waited for, and what people are told.

use serde_json::json;
use sqlx::PgPool;
use store::Scope;
use store::connections::{Connection, set_enabled, suspend};
use store::dead_letters::replay::{Counts, show, stand_still, take_turn};
use store::held::{discard_one, hold_for_suspension};
use store::links::{HeldItem, HeldVerdict, Links};
use testkit::database;
use uuid::Uuid;
use worker::HoldCause;

use crate::connections::held_item;
use crate::replays::run_one;
use crate::rows::{add_connection, add_tenant, insert_dead, insert_link, key, pool, prefix};

/// A shop with a connection, and the store's way to hold something for it.
struct Shop {
    pool: PgPool,
    connection: Connection,
    links: Links,
}

impl Shop {
    async fn open(pool: PgPool) -> Self {
        let tenant = add_tenant(&pool, "shop").await;
        let connection = add_connection(&pool, &tenant).await.connection;
        let lease = std::time::Duration::from_secs(30);
        let links = Links::new(pool.clone(), "kurir", lease);
        Self {
            pool,
            connection,
            links,
        }
    }

    /// An open dead letter of this record, and its link where it died with one.
    async fn dead_letter(&self, event: &str, record: Option<usize>) -> Uuid {
        let link = match record {
            Some(record) => {
                Some(insert_link(&self.pool, "shop", &record.to_string(), self.connection.id).await)
            }
            None => None,
        };
        insert_dead(&self.pool, Some("shop"), event, "open", link).await
    }

    /// An event of this record and version; of a replay, where it names its dead letter.
    fn item(&self, record: usize, version: u64, cause: HoldCause) -> HeldItem {
        let event_id = format!("{record}-{version}");
        HeldItem {
            connection_id: Some(self.connection.id),
            cause: cause.as_str().to_owned(),
            person: cause.needs_a_person(),
            k: Some(key(version, &event_id)),
            event_id,
            ..held_item("shop", record)
        }
    }

    fn replayed(
        &self,
        dead_letter: Uuid,
        record: usize,
        version: u64,
        cause: HoldCause,
    ) -> HeldItem {
        HeldItem {
            headers: json!({ "x-dead-letter": dead_letter }),
            generation: 1,
            ..self.item(record, version, cause)
        }
    }

    async fn hold(&self, item: HeldItem) -> HeldVerdict {
        self.links.hold(vec![item]).await.expect("a verdict")[0]
    }

    async fn suspend(&self) {
        let connection = &self.connection;
        let suspended = suspend(&self.pool, connection.id, connection.epoch, "401").await;
        assert!(suspended.expect("an answer"));
    }

    /// Dead letters whose standstill was noticed.
    async fn looked(&self) -> u64 {
        stand_still(&self.pool).await.expect("a look")
    }

    /// Whether nothing is left of it, what became of its dead letters, and why of the first that did not end well.
    async fn turn(&self, replay: Uuid) -> (bool, Counts, Option<String>) {
        sqlx::raw_sql("update replay set lease_until = now()")
            .execute(&self.pool)
            .await
            .expect("its lease ends");
        let turn = take_turn(&self.pool, &prefix(), Uuid::new_v4(), replay).await;
        let moved = match turn.expect("a turn") {
            Some(turn) => turn.commit().await.expect("committed"),
            None => panic!("the replay has ended"),
        };
        let progress = show(&self.pool, Scope::Everything, replay).await;
        let progress = progress.expect("progress");
        let why = progress.failures.first();
        (
            moved.done,
            progress.counts,
            why.and_then(|why| why.detail.clone()),
        )
    }
}

/// Both orders, and a switch instead of a suspension.
#[tokio::test]
async fn a_replay_does_not_wait_for_a_connection_that_lets_nothing_go() {
    for cause in [HoldCause::Budget, HoldCause::Circuit] {
        for way in ["suspended before", "suspended after", "switched off"] {
            let database = database().await;
            let shop = Shop::open(pool(&database).await).await;
            let dead_letter = shop.dead_letter("1-8", Some(1)).await;
            let replay = run_one(&shop.pool, Scope::Everything, dead_letter).await;
            if way == "suspended before" {
                shop.suspend().await;
            }
            let item = shop.replayed(dead_letter, 1, 8, cause);
            assert_eq!(shop.hold(item).await, HeldVerdict::Held, "{way}");
            if way != "suspended before" {
                assert_eq!(shop.looked().await, 0, "{way}: the connection is well");
                let (done, counts, _) = shop.turn(replay).await;
                assert!(!done, "{way}: it goes on by itself in a moment");
                assert_eq!(
                    (counts.held, counts.held_briefly, counts.ended()),
                    (1, 1, 0)
                );
            }
            match way {
                "suspended before" => assert_eq!(shop.looked().await, 0, "it says so already"),
                "suspended after" => {
                    shop.suspend().await;
                    assert_eq!(shop.looked().await, 1);
                }
                _ => {
                    let (pool, id) = (&shop.pool, shop.connection.id);
                    let off = set_enabled(pool, Scope::Everything, id, false).await;
                    off.expect("switched off");
                    assert_eq!(shop.looked().await, 1);
                }
            }
            let (done, counts, why) = shop.turn(replay).await;
            assert!(done, "{way} with {cause}: {counts:?}");
            assert_eq!(
                (counts.held, counts.held_briefly, counts.ended()),
                (1, 0, 1)
            );
            let expected = match way {
                "switched off" => "its connection is switched off",
                _ => "suspended",
            };
            assert_eq!(why.as_deref(), Some(expected));
        }
    }
}

/// It knew neither link nor connection when it died; the hold tells both.
#[tokio::test]
async fn a_dead_letter_that_died_before_it_had_a_connection_ends_its_replay_too() {
    let database = database().await;
    let shop = Shop::open(pool(&database).await).await;
    let dead_letter = shop.dead_letter("1-8", None).await;
    let replay = run_one(&shop.pool, Scope::Everything, dead_letter).await;
    shop.hold(shop.replayed(dead_letter, 1, 8, HoldCause::Budget))
        .await;
    // A newer version takes the row, and what it waited for ends: the older one is not named anywhere but here.
    shop.hold(shop.item(1, 9, HoldCause::Budget)).await;
    shop.suspend().await;
    assert_eq!(shop.looked().await, 1);
    assert!(shop.turn(replay).await.0);
    sqlx::raw_sql("update link set applied_k = (select k from held); select close_covered(id, 'urn:crm', '1-9') from link")
        .execute(&shop.pool)
        .await
        .expect("the newer one is applied");
    let progress = show(&shop.pool, Scope::Everything, replay).await;
    assert_eq!(progress.expect("progress").counts.overtaken, 1);
}

#[tokio::test]
async fn what_is_held_again_for_something_else_is_told_by_that() {
    let database = database().await;
    let shop = Shop::open(pool(&database).await).await;
    let dead_letter = shop.dead_letter("1-8", Some(1)).await;
    let replay = run_one(&shop.pool, Scope::Everything, dead_letter).await;
    for cause in [HoldCause::Budget, HoldCause::Prerequisite, HoldCause::Panic] {
        let verdict = shop.hold(shop.replayed(dead_letter, 1, 8, cause)).await;
        assert_eq!(verdict, HeldVerdict::Held);
        let shown = show(&shop.pool, Scope::Everything, replay).await;
        let shown = shown.expect("progress");
        assert_eq!(shown.failures[0].detail.as_deref(), Some(cause.as_str()));
        let briefly = i64::from(cause == HoldCause::Budget);
        assert_eq!(shown.counts.held_briefly, briefly, "{cause}");
        sqlx::raw_sql("delete from held")
            .execute(&shop.pool)
            .await
            .expect("it was let go");
    }
    assert!(shop.turn(replay).await.0);
}

/// Of one record only the newest waits in a row.
#[tokio::test]
async fn an_older_version_waits_for_what_the_newest_waits_for() {
    let database = database().await;
    let shop = Shop::open(pool(&database).await).await;
    let [came_first, came_last] = [
        shop.dead_letter("1-8", Some(1)).await,
        shop.dead_letter("2-8", Some(2)).await,
    ];
    let replays = [
        run_one(&shop.pool, Scope::Everything, came_first).await,
        run_one(&shop.pool, Scope::Everything, came_last).await,
    ];
    shop.hold(shop.replayed(came_first, 1, 8, HoldCause::Budget))
        .await;
    shop.hold(shop.item(1, 9, HoldCause::Prerequisite)).await;
    shop.hold(shop.item(2, 9, HoldCause::Prerequisite)).await;
    let covered = shop
        .hold(shop.replayed(came_last, 2, 8, HoldCause::Budget))
        .await;
    assert_eq!(covered, HeldVerdict::Covered);
    for replay in replays {
        let (done, counts, why) = shop.turn(replay).await;
        assert!(done, "{counts:?}");
        assert_eq!((counts.held, why.as_deref()), (1, Some("prerequisite")));
    }
}

#[tokio::test]
async fn what_a_former_life_was_held_for_is_no_hold_of_this_one() {
    let database = database().await;
    let shop = Shop::open(pool(&database).await).await;
    let dead_letter = shop.dead_letter("1-8", Some(1)).await;
    run_one(&shop.pool, Scope::Everything, dead_letter).await;
    shop.hold(shop.replayed(dead_letter, 1, 8, HoldCause::Budget))
        .await;
    sqlx::raw_sql("delete from held; update dead_letter set state = 'open', held_for = null, deaths = deaths + 1, k = (select desired_k from link)")
        .execute(&shop.pool)
        .await
        .expect("let go, and dead again");
    let replay = run_one(&shop.pool, Scope::Everything, dead_letter).await;
    sqlx::raw_sql("update link set applied_k = desired_k; select close_covered(id, 'urn:crm', '1-8') from link")
        .execute(&shop.pool)
        .await
        .expect("applied");
    let (done, counts, _) = shop.turn(replay).await;
    assert!(done && counts.done == 1, "{counts:?}");
}

/// The row that is given up has an id of its own where the dead letter died before it had a connection.
#[tokio::test]
async fn a_held_replay_that_is_given_up_ends() {
    let database = database().await;
    let shop = Shop::open(pool(&database).await).await;
    let dead_letter = shop.dead_letter("1-8", None).await;
    let replay = run_one(&shop.pool, Scope::Everything, dead_letter).await;
    shop.hold(shop.replayed(dead_letter, 1, 8, HoldCause::Budget))
        .await;
    let id: i64 = sqlx::query_scalar("select id from held")
        .fetch_one(&shop.pool)
        .await
        .expect("one row");
    let discarded = discard_one(&shop.links, Scope::Everything, id, "ana", "not wanted").await;
    assert!(discarded.expect("an answer"));
    let (done, counts, why) = shop.turn(replay).await;
    assert!(done, "{counts:?}");
    assert_eq!(
        (counts.skipped, why.as_deref()),
        (1, Some("discarded by ana"))
    );
}

/// Whoever comes first: what a worker's memory says of a budget is weaker than what the connection says.
#[tokio::test]
async fn what_waits_for_requests_of_a_suspended_connection_is_held_for_the_suspension() {
    let database = database().await;
    let shop = Shop::open(pool(&database).await).await;
    let causes = [
        HoldCause::Budget,
        HoldCause::Circuit,
        HoldCause::Prerequisite,
    ];
    let reasons = async || -> Vec<(String, String)> {
        sqlx::query_as("select event_id, reason from held order by event_id")
            .fetch_all(&shop.pool)
            .await
            .expect("rows")
    };
    let named = |reasons: [&str; 6]| {
        let events = ["1-1", "2-1", "3-1", "4-1", "5-1", "6-1"];
        let pairs = events.into_iter().zip(reasons);
        pairs
            .map(|(event, reason)| (event.to_owned(), reason.to_owned()))
            .collect::<Vec<_>>()
    };
    for (n, cause) in causes.into_iter().enumerate() {
        let later = chrono::Utc::now() + chrono::TimeDelta::hours(1);
        let item = HeldItem {
            release_at: Some(later),
            ..shop.item(n + 1, 1, cause)
        };
        shop.hold(item).await;
    }
    assert_eq!(hold_for_suspension(&shop.pool).await.expect("a look"), 0);
    shop.suspend().await;
    for (n, cause) in causes.into_iter().enumerate() {
        shop.hold(shop.item(n + 4, 1, cause)).await;
    }
    assert_eq!(
        reasons().await,
        named([
            "budget",
            "circuit",
            "prerequisite",
            "suspended",
            "suspended",
            "prerequisite"
        ])
    );
    assert_eq!(hold_for_suspension(&shop.pool).await.expect("a look"), 2);
    assert_eq!(
        reasons().await,
        named([
            "suspended",
            "suspended",
            "prerequisite",
            "suspended",
            "suspended",
            "prerequisite"
        ])
    );
    // In the words of the gate, and without a time: a repair lets it go.
    let same: i64 = sqlx::query_scalar("select count(*) from held where reason = 'suspended' and release_at is null and detail = $1")
        .bind(words_of_the_gate(&shop.connection))
        .fetch_one(&shop.pool)
        .await
        .expect("a number");
    assert_eq!(same, 4);
}

fn words_of_the_gate(connection: &Connection) -> String {
    let seen = worker::Connection {
        id: connection.id,
        tenant: crate::rows::tenant(&connection.tenant),
        system: connection.system.clone(),
        account: connection.account.clone(),
        state: worker::ConnectionState::Suspended,
        epoch: connection.epoch,
        enabled: true,
        settings: json!({}),
    };
    match worker::gate::connection(&seen) {
        Some(worker::Outcome::Hold { reason, .. }) => reason,
        other => panic!("the gate lets it through: {other:?}"),
    }
}
