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
