use std::time::Duration;

use testkit::instance::{Postgres, Rabbit};
use testkit::wait_for;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_private_database_keeps_its_rows_over_kill_and_freeze() {
    let server = Postgres::start().await;
    let database = server.database().await;
    sqlx::query("insert into tenant (id) values ('orodje')")
        .execute(database.pool())
        .await
        .expect("insert");
    server.kill().await;
    assert!(
        sqlx::query("select 1")
            .execute(database.pool())
            .await
            .is_err()
    );
    server.start_again().await;
    let one_row = async || match sqlx::query_scalar::<_, i64>("select count(*) from tenant")
        .fetch_one(database.pool())
        .await
    {
        Ok(1) => Ok(()),
        other => Err(other),
    };
    wait_for("the row is back", LIMIT, one_row).await;

    server.pause().await;
    assert!(
        tokio::time::timeout(Duration::from_millis(300), one_row())
            .await
            .is_err(),
        "a frozen server does not answer"
    );
    server.resume().await;
    wait_for("the server goes on", LIMIT, one_row).await;
}

#[tokio::test]
async fn a_private_broker_keeps_its_queues_over_kill_and_stop() {
    let server = Rabbit::start().await;
    let broker = server.broker().await;
    let queue = broker.queue("kept");
    broker
        .channel()
        .await
        .expect("a channel")
        .queue_declare(
            queue.as_str().into(),
            lapin::options::QueueDeclareOptions::durable(),
            lapin::types::FieldTable::default(),
        )
        .await
        .expect("a queue");
    assert!(
        server
            .ctl(&["-q", "list_vhosts"])
            .await
            .contains(broker.vhost())
    );

    server.kill().await;
    assert!(broker.depth(&queue).await.is_err());
    server.start_again().await;
    let empty = async || match broker.depth(&queue).await {
        Ok(Some(0)) => Ok(()),
        other => Err(other),
    };
    wait_for("the queue is back", LIMIT, empty).await;

    server.stop().await;
    server.start_again().await;
    wait_for("the queue is back", LIMIT, empty).await;
}
