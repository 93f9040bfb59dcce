//! The loop that people write by hand: consume, call the partner, upsert the row that maps the record to the partner's,
//! acknowledge. Written as well as one would, on the same libraries and with as many events at a time as Kurir's worker.
//!
//! What it does not do: no look-up before a create, so a lost answer makes a second partner; no log of effects, no order of
//! versions (an old event overwrites a newer one), no retries with delay, no dead letters, no budget, no credentials in a
//! database, no log line per event. For an update it knows the partner's id without asking anybody.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Semaphore;

use crate::bare::Open;
use crate::consumers::{Consumed, Contender};
use crate::contacts::CREATED;
use crate::harness::DATABASE_CONNECTIONS;
use crate::process::client;

const TABLE: &str = "create table if not exists by_hand (
    tenant text not null, source_id text not null, target_id text not null, event_id text not null,
    updated_at timestamptz not null default now(), primary key (tenant, source_id))";
const UPSERT: &str =
    "insert into by_hand (tenant, source_id, target_id, event_id) values ($1, $2, $3, $4)
    on conflict (tenant, source_id) do update
    set target_id = excluded.target_id, event_id = excluded.event_id, updated_at = now()";
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    tenantid: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    contact: Contact,
}

#[derive(Deserialize)]
struct Contact {
    id: String,
    name: String,
    registration_number: String,
    emails: Vec<Email>,
}

#[derive(Deserialize)]
struct Email {
    value: String,
}

struct Loop {
    pool: PgPool,
    http: reqwest::Client,
    root: String,
}

pub(crate) async fn table(pool: &PgPool) {
    sqlx::query(TABLE).execute(pool).await.unwrap();
}

/// Until it is stopped from outside.
pub(crate) async fn run(contender: Contender) -> Consumed {
    let pool = PgPoolOptions::new()
        .max_connections(DATABASE_CONNECTIONS)
        .acquire_timeout(CONNECT_LIMIT)
        .connect(&contender.database)
        .await
        .unwrap();
    let mut open = Open::new(&contender).await;
    let this = Arc::new(Loop {
        pool,
        http: client(),
        root: contender.partner.clone(),
    });
    let slots = Arc::new(Semaphore::new(contender.slots));
    loop {
        let delivery = open.consumer.next().await.unwrap().unwrap();
        let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
        let this = Arc::clone(&this);
        tokio::spawn(async move {
            this.handle(delivery).await;
            drop(slot);
        });
    }
}

impl Loop {
    async fn handle(&self, delivery: Delivery) {
        let event: Event = serde_json::from_slice(&delivery.data).unwrap();
        let contact = &event.data.contact;
        let known = contact.id.trim_start_matches("org-");
        let (path, partner) = match event.kind == CREATED {
            true => (
                "v1/add_partner",
                json!({
                    "customer": contact.name,
                    "business_entity": "true",
                    "taxpayer": "false",
                    "buyer": "true",
                    "registration_number": contact.registration_number,
                    "partner_contact": { "name": contact.name, "email": contact.emails[0].value },
                }),
            ),
            false => (
                "v1/update_partner",
                json!({ "mk_id": known, "registration_number": contact.registration_number }),
            ),
        };
        let body = json!({ "secret_key": "bench-key", "company_id": "1", "partner": partner });
        let answer = self
            .http
            .post(format!("{}{path}", self.root))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success());
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["opr_code"], "0");
        let target = answer["mk_id"].as_str().unwrap_or(known);
        sqlx::query(UPSERT)
            .bind(&event.tenantid)
            .bind(&contact.id)
            .bind(target)
            .bind(&event.id)
            .execute(&self.pool)
            .await
            .unwrap();
        assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    }
}
