use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chrono::Utc;
use serde_json::{Value, json};
use store::Pool;
use store::fan_out::OutboxFanOut;
use testkit::{Contacts, database};
use uuid::Uuid;
use worker::{CutCopy, Delivery, DeliveryMetadata, FanOut as _, FanOutItem, Job};

use crate::rows::{WORKER, pool, prefix};

const WEST: Uuid = Uuid::from_u128(1);
const EAST: Uuid = Uuid::from_u128(2);

/// An event of the tenant `shop` as the gate has it, with these headers.
fn job(headers: Value, generation: u32) -> Job {
    let body = Contacts::new("shop", 1).any().created().to_string();
    let delivery = Delivery {
        metadata: DeliveryMetadata {
            generation,
            ..DeliveryMetadata::default()
        },
        properties: json!({ "message_id": "evt", "type": "crm.contact.created.v1" }),
        headers,
        received: Instant::now(),
        received_at: Utc::now(),
        body: Bytes::from(body),
    };
    Job {
        event: Arc::new(event::decode(&delivery.body).expect("an event")),
        delivery: Arc::new(delivery),
        token: Uuid::new_v4(),
        connection: None,
        facet: None,
        version: None,
    }
}

fn fan_out(job: &Job) -> FanOutItem {
    FanOutItem {
        worker: WORKER,
        job: job.clone(),
        copies: [WEST, EAST]
            .map(|connection| CutCopy {
                connection,
                facet: None,
            })
            .to_vec(),
    }
}

#[tokio::test]
async fn a_fan_out_writes_one_copy_for_each_connection() {
    let database = database().await;
    let pool = pool(&database).await;
    let job = job(
        json!({ "ce-extra": "kept", "traceparent": "00-1", "x-generation": 2, "x-replay": "batch" }),
        2,
    );
    let outbox = OutboxFanOut::new(pool.clone(), prefix());
    outbox.fan_out(fan_out(&job)).await.expect("fan_out");
    let rows: Vec<(String, String, String, Vec<u8>, Value, Value)> = sqlx::query_as(
        "select tenant, exchange, routing_key, body, properties, headers from outbox order by seq",
    )
    .fetch_all(&pool)
    .await
    .expect("the rows");
    let copy = |connection: Uuid| {
        (
            "shop".to_owned(),
            String::new(),
            format!("kurir.{WORKER}"),
            job.delivery.body.to_vec(),
            job.delivery.properties.clone(),
            json!({ "ce-extra": "kept", "traceparent": "00-1", "x-generation": 2, "x-replay": "batch",
                "x-connection": connection }),
        )
    };
    assert_eq!(rows, [copy(WEST), copy(EAST)]);
}

#[tokio::test]
async fn the_dead_letter_of_a_replay_ends_with_its_fan_out() {
    let database = database().await;
    let pool = pool(&database).await;
    let dead_letters = [
        ("shop", "replaying", 1),
        // None of these is the one that was sent: another life, another tenant's, another end.
        ("shop", "replaying", 2),
        ("bakery", "replaying", 1),
        ("shop", "discarded", 1),
    ];
    let mut states = Vec::new();
    let outbox = OutboxFanOut::new(pool.clone(), prefix());
    for (n, (tenant, state, generation)) in dead_letters.into_iter().enumerate() {
        let id = Uuid::from_u128(100 + n as u128);
        insert_dead_letter(&pool, id, tenant, state, generation).await;
        let job = job(json!({ "x-generation": 1, "x-dead-letter": id }), 1);
        outbox.fan_out(fan_out(&job)).await.expect("fan_out");
        let (state, note): (String, Option<String>) =
            sqlx::query_as("select state, note from dead_letter where id = $1")
                .bind(id)
                .fetch_one(&pool)
                .await
                .expect("the dead letter");
        states.push((state, note));
    }
    let note = Some("fanned out into one copy for each of 2 connections".to_owned());
    let unchanged = |state: &str| (state.to_owned(), None);
    assert_eq!(
        states,
        [
            ("resolved".to_owned(), note),
            unchanged("replaying"),
            unchanged("replaying"),
            unchanged("discarded"),
        ]
    );
    // A copy that dies is not that dead letter any more.
    let named: i64 =
        sqlx::query_scalar("select count(*) from outbox where headers ? 'x-dead-letter'")
            .fetch_one(&pool)
            .await
            .expect("a count");
    assert_eq!(named, 0);
}

async fn insert_dead_letter(pool: &Pool, id: Uuid, tenant: &str, state: &str, generation: i32) {
    sqlx::query(
        "insert into dead_letter (id, worker, tenant, state, generation, class, fingerprint, body, properties, headers,
           first_at, last_at)
         values ($1, $2, $3, $4, $5, 'future_version', 'x', '{}', '{}', '{}', now(), now())",
    )
    .bind(id)
    .bind(WORKER)
    .bind(tenant)
    .bind(state)
    .bind(generation)
    .execute(pool)
    .await
    .expect("a dead letter");
}
