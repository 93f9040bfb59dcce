use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use testkit::instance::{Postgres, Rabbit};
use testkit::{Route, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

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

/// Of the kind that Kurir declares, and with a message in it that the broker has confirmed. A queue that is a second old is a
/// promise; before, it has to be flushed.
#[tokio::test]
async fn a_private_broker_keeps_its_queues_over_kill_and_stop() {
    let server = Rabbit::start().await;
    let broker = server.broker().await;
    let queue = broker.queue("kept");
    let mut quorum = FieldTable::default();
    quorum.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    broker
        .channel()
        .await
        .expect("a channel")
        .queue_declare(
            queue.as_str().into(),
            QueueDeclareOptions::durable(),
            quorum,
        )
        .await
        .expect("a queue");
    let route = broker
        .publisher()
        .await
        .expect("a channel with confirms")
        .raw("", &queue, b"kept", persistent())
        .await
        .expect("confirmed");
    assert_eq!(route, Route::Routed);
    assert!(
        server
            .ctl(&["-q", "list_vhosts"])
            .await
            .contains(broker.vhost())
    );

    server.flush().await;
    server.kill().await;
    assert!(broker.depth(&queue).await.is_err());
    server.start_again().await;
    let kept = async || match broker.depth(&queue).await {
        Ok(Some(1)) => Ok(()),
        other => Err(other),
    };
    wait_for("the queue is back", LIMIT, kept).await;

    server.stop().await;
    server.start_again().await;
    wait_for("the queue is back", LIMIT, kept).await;
}
