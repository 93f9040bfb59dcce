use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use store::outbox::{Message, depth, enqueue, list, take};
use testkit::database;
use testkit::wait_until;

use crate::rows::pool;

fn message(name: &str, dedup_key: Option<&str>) -> Message {
    Message {
        tenant: None,
        exchange: String::new(),
        routing_key: "kurir.metakocka-sync".to_owned(),
        body: Bytes::from(name.to_owned()),
        properties: json!({ "message_id": name }),
        headers: json!({ "x-attempt": 1 }),
        dedup_key: dedup_key.map(str::to_owned),
    }
}

async fn write(pool: &sqlx::PgPool, messages: &[Message]) -> u64 {
    let mut transaction = pool.begin().await.expect("a transaction");
    let written = enqueue(&mut transaction, messages).await.expect("written");
    transaction.commit().await.expect("committed");
    written
}

#[tokio::test]
async fn a_message_exists_only_with_what_it_follows_from() {
    let database = database().await;
    let pool = pool(&database).await;
    let mut transaction = pool.begin().await.expect("a transaction");
    enqueue(&mut transaction, &[message("a", None)])
        .await
        .expect("written");
    transaction.rollback().await.expect("rolled back");
    assert_eq!(depth(&pool).await.expect("a depth").rows, 0);
}

#[tokio::test]
async fn one_dedup_key_waits_once() {
    let database = database().await;
    let pool = pool(&database).await;
    assert_eq!(
        write(
            &pool,
            &[
                message("a", Some("k")),
                message("a", Some("k")),
                message("b", None)
            ]
        )
        .await,
        2
    );
    assert_eq!(
        write(&pool, &[message("a", Some("k")), message("b", None)]).await,
        1
    );
    assert_eq!(depth(&pool).await.expect("a depth").rows, 3);
}

#[tokio::test]
async fn two_relays_take_different_rows() {
    let database = database().await;
    let pool = pool(&database).await;
    let messages: Vec<Message> = (0..5).map(|n| message(&n.to_string(), None)).collect();
    write(&pool, &messages).await;
    let first = take(&pool, 3).await.expect("a batch");
    let second = take(&pool, 3).await.expect("a batch");
    let third = take(&pool, 3).await.expect("a batch");
    let bodies = |batch: &store::outbox::Batch| -> Vec<Bytes> {
        batch.due.iter().map(|due| due.body.clone()).collect()
    };
    assert_eq!(bodies(&first), ["0", "1", "2"]);
    assert_eq!(bodies(&second), ["3", "4"]);
    assert!(third.due.is_empty());
    assert_eq!(first.due[0].properties, json!({ "message_id": "0" }));
    assert_eq!(first.due[0].headers, json!({ "x-attempt": 1 }));
    // A relay that dies gives its rows back at once; its rollback arrives behind the drop.
    drop(first);
    let again = wait_until(
        "the rows of the dropped batch",
        Duration::from_secs(10),
        async || take(&pool, 9).await.expect("a batch"),
        |batch| !batch.due.is_empty(),
    )
    .await;
    assert_eq!(bodies(&again), ["0", "1", "2"]);
}

#[tokio::test]
async fn what_is_confirmed_goes_and_what_failed_waits_longer_each_time() {
    let database = database().await;
    let pool = pool(&database).await;
    write(&pool, &[message("good", None), message("bad", None)]).await;
    let batch = take(&pool, 10).await.expect("a batch");
    let (good, bad) = (batch.due[0].seq, batch.due[1].seq);
    batch
        .finish(&[good], &[(bad, "no route".to_owned())])
        .await
        .expect("finished");
    assert!(
        take(&pool, 10).await.expect("a batch").due.is_empty(),
        "not due for a second"
    );
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let row = &list(&pool, 10).await.expect("a list")[0];
        assert_eq!(row.last_error.as_deref(), Some("no route"));
        let pause: f64 = sqlx::query_scalar(
            "update outbox set next_try_at = kurir_now() returning round(extract(epoch from $1 - kurir_now()))::float8",
        )
        .bind(row.next_try_at)
        .fetch_one(&pool)
        .await
        .expect("the row");
        pauses.push(pause);
        let batch = take(&pool, 10).await.expect("a batch");
        batch
            .finish(&[], &[(bad, "no route".to_owned())])
            .await
            .expect("finished");
    }
    assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    let waiting = depth(&pool).await.expect("a depth");
    assert_eq!((waiting.rows, waiting.failing), (1, 1));
}
