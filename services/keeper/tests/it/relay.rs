use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use store::outbox::{Message, depth, enqueue, list};
use testkit::wait_until;

use crate::rig::{RELAY, Rig, SOON};

fn message(queue: &str, name: &str) -> Message {
    Message {
        tenant: None,
        exchange: String::new(),
        routing_key: queue.to_owned(),
        body: Bytes::from(name.to_owned()),
        properties: json!({ "message_id": name, "type": "crm.contact.updated.v1" }),
        headers: json!({ "x-attempt": 1, "x-generation": 2, "ce-extra": "č", "CC": "elsewhere" }),
        dedup_key: None,
    }
}

async fn write(rig: &Rig, messages: &[Message]) {
    let pool = rig.database.pool();
    let mut transaction = pool.begin().await.expect("a transaction");
    enqueue(&mut transaction, messages).await.expect("written");
    transaction.commit().await.expect("committed");
}

async fn until_rows(rig: &Rig, rows: i64) {
    let pool = rig.database.pool();
    wait_until(
        "the outbox is down",
        SOON,
        async || depth(pool).await.expect("a depth").rows,
        |left| *left <= rows,
    )
    .await;
}

#[tokio::test]
async fn a_row_becomes_a_message_and_goes() {
    let mut rig = Rig::new().await;
    rig.start(RELAY);
    write(&rig, &[message(&rig.queue(), "evt-1")]).await;
    until_rows(&rig, 0).await;
    let taken = rig.theirs.take(&rig.queue(), 10).await.expect("messages");
    assert_eq!(taken.len(), 1);
    let message = &taken[0];
    assert_eq!(message.body, b"evt-1");
    assert_eq!(
        message
            .properties
            .message_id()
            .as_ref()
            .map(|id| id.as_str()),
        Some("evt-1")
    );
    assert_eq!(message.properties.delivery_mode(), &Some(2));
    // `CC` would have sent it elsewhere too; the count is the broker's own.
    let mut names: Vec<&str> = message
        .properties
        .headers()
        .as_ref()
        .map(|headers| headers.inner().keys().map(|name| name.as_str()).collect())
        .unwrap_or_default();
    names.retain(|name| *name != "x-delivery-count");
    assert_eq!(names, ["ce-extra", "x-attempt", "x-generation"]);
    let generation = message.header("x-generation");
    assert_eq!(
        generation.and_then(|value| value.as_long_long_int()),
        Some(2)
    );
    let extra = message
        .header("ce-extra")
        .and_then(|value| value.as_long_string());
    assert_eq!(extra.map(|text| text.as_bytes()), Some("č".as_bytes()));
    assert!(rig.readiness.ready(), "{:?}", rig.readiness.problems());
}

#[tokio::test]
async fn one_that_no_queue_takes_waits_and_holds_nobody_up() {
    let mut rig = Rig::new().await;
    let nowhere = rig.theirs.queue("no-such-worker");
    write(
        &rig,
        &[message(&nowhere, "lost"), message(&rig.queue(), "good")],
    )
    .await;
    rig.start(RELAY);
    until_rows(&rig, 1).await;
    let left = wait_until(
        "the failure is noted",
        SOON,
        async || list(rig.database.pool(), 10).await.expect("rows"),
        |rows| rows.len() == 1 && rows[0].attempts > 0,
    )
    .await;
    let error = left[0].last_error.clone().unwrap_or_default();
    assert!(error.contains("312"), "{error}");
    assert_eq!(
        rig.theirs
            .take(&rig.queue(), 10)
            .await
            .expect("messages")
            .len(),
        1
    );
}

#[tokio::test]
async fn replicas_share_the_rows() {
    let mut rig = Rig::new().await;
    let messages: Vec<Message> = (0..1500)
        .map(|n| message(&rig.queue(), &n.to_string()))
        .collect();
    write(&rig, &messages).await;
    for _ in 0..3 {
        rig.start(RELAY);
    }
    until_rows(&rig, 0).await;
    rig.stop().await;
    let taken = rig.theirs.take(&rig.queue(), 5000).await.expect("messages");
    let distinct: BTreeSet<&[u8]> = taken
        .iter()
        .map(|message| message.body.as_slice())
        .collect();
    assert_eq!(
        (taken.len(), distinct.len()),
        (1500, 1500),
        "nobody crashed, so none is doubled"
    );
    assert_eq!(rig.readiness.metrics.relayed.get(), 1500);
}

#[tokio::test]
async fn lost_connections_to_both_sides_lose_no_row() {
    let mut rig = Rig::new().await;
    rig.start(RELAY);
    let total = 2000;
    for part in 0..20 {
        let messages: Vec<Message> = (0..100)
            .map(|n| message(&rig.queue(), &format!("{part}-{n}")))
            .collect();
        // The writer's own connections are closed too.
        while {
            let written = async {
                let mut transaction = rig.pool.begin().await.map_err(store::Error::from)?;
                enqueue(&mut transaction, &messages).await?;
                transaction.commit().await.map_err(store::Error::from)
            };
            written.await.is_err()
        } {}
        if part % 5 == 1 {
            rig.database.disconnect_everybody().await;
        }
        if part % 5 == 3 {
            let closed = rig
                .theirs
                .management()
                .close_connections(rig.theirs.vhost())
                .await;
            closed.expect("connections are closed");
        }
    }
    until_rows(&rig, 0).await;
    rig.stop().await;
    let taken = rig
        .theirs
        .take(&rig.queue(), 10_000)
        .await
        .expect("messages");
    let distinct: BTreeSet<&[u8]> = taken
        .iter()
        .map(|message| message.body.as_slice())
        .collect();
    assert_eq!(distinct.len(), total, "of {} messages", taken.len());
}

#[tokio::test]
async fn readiness_names_a_database_that_is_gone() {
    let mut rig = Rig::new().await;
    rig.start(RELAY);
    let readiness = rig.readiness.clone();
    crate::ledger::database_away(&rig, true).await;
    wait_until(
        "the outage is said",
        SOON,
        async || readiness.problems(),
        |problems| !problems.is_empty(),
    )
    .await;
    crate::ledger::database_away(&rig, false).await;
    write(&rig, &[message(&rig.queue(), "after")]).await;
    until_rows(&rig, 0).await;
    wait_until(
        "the relay is well again",
        Duration::from_secs(10),
        async || readiness.problems(),
        Vec::is_empty,
    )
    .await;
}
