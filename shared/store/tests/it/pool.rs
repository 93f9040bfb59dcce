//! The pool gives out connections that live.

use std::time::Duration;

use store::pool::{self, Settings, TRUSTED_FOR};
use testkit::{database, wait_for};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_while_idle_are_replaced_unseen() {
    let database = database().await;
    let mut settings = Settings::new(database.url().into());
    settings.max_connections = 3;
    let pool = pool::connect(&settings, SOON).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..settings.max_connections {
        open.push(pool.acquire().await.unwrap());
    }
    drop(open);
    wait_for("all to be idle", SOON, async || match pool.num_idle() {
        3 => Ok(()),
        idle => Err(idle),
    })
    .await;
    assert_eq!(database.disconnect_everybody().await, 3);
    // As long as a real server needs to come back, and longer than a connection is trusted.
    tokio::time::sleep(TRUSTED_FOR + Duration::from_millis(200)).await;
    for _ in 0..3 {
        pool::ping(&pool).await.unwrap();
    }
}

/// So many sessions at rest, each after this statement.
async fn resting(settings: &Settings, statement: &'static str) -> store::Pool {
    let pool = pool::connect(settings, SOON).await.expect("a server");
    let mut open = Vec::new();
    for _ in 0..settings.max_connections {
        let mut one = pool.acquire().await.expect("a session");
        let done = sqlx::query(statement).execute(&mut *one).await;
        done.expect("a statement");
        open.push(one);
    }
    drop(open);
    wait_for("all to be idle", SOON, async || match pool.num_idle() {
        idle if idle == settings.max_connections as usize => Ok(()),
        idle => Err(idle),
    })
    .await;
    pool
}

async fn change(pool: &store::Pool, id: &str) -> Result<(), store::Error> {
    let tenant = event::TenantId::parse(id).expect("an id");
    store::tenants::add(pool, &tenant, id).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_may_only_read_are_closed_after_the_first_that_says_so() {
    let database = database().await;
    let mut settings = Settings::new(database.url().into());
    settings.max_connections = 4;
    let pool = resting(&settings, "set default_transaction_read_only = on").await;
    let refused = change(&pool, "acme").await.unwrap_err();
    assert!(matches!(refused, store::Error::ReadOnly), "{refused:?}");
    assert!(refused.is_transient());
    for id in ["one", "two", "three", "four", "five"] {
        change(&pool, id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_finds_sessions_that_may_only_read_without_a_change() {
    let database = database().await;
    let mut settings = Settings::new(database.url().into());
    settings.max_connections = 4;
    let pool = resting(&settings, "set default_transaction_read_only = on").await;
    let refused = pool::ping(&pool).await.unwrap_err();
    assert_eq!(refused.to_string(), "the database is read-only");
    pool::ping(&pool).await.unwrap();
    for id in ["one", "two", "three", "four", "five"] {
        change(&pool, id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_one_lost_session_the_others_are_asked_whether_they_live() {
    let database = database().await;
    let mut settings = Settings::new(database.url().into());
    settings.max_connections = 4;
    let pool = resting(&settings, "select").await;
    assert_eq!(database.disconnect_everybody().await, 4);
    // At once: they were used a moment ago, and are trusted.
    let lost = change(&pool, "acme").await.unwrap_err();
    assert!(matches!(lost, store::Error::Unavailable(_)), "{lost:?}");
    for id in ["one", "two", "three", "four", "five"] {
        change(&pool, id).await.unwrap();
    }
}
