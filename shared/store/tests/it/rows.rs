//! Rows that other parts of Kurir would have written.

use std::time::Duration;

use event::{OrderKey, SubjectVersion, TenantId};
use secrecy::SecretString;
use serde_json::json;
use sqlx::PgPool;
use store::connections::{self, Changed, NewConnection};
use store::sealing::KeyRing;
use store::{QueuePrefix, tenants};
use testkit::Database;
use uuid::Uuid;

pub(crate) const WORKER: &str = "metakocka-sync";
pub(crate) const SYSTEM: &str = "metakocka";

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).expect("a tenant id")
}

pub(crate) fn prefix() -> QueuePrefix {
    QueuePrefix::new("kurir")
}

pub(crate) fn ring() -> KeyRing {
    // 32 zero bytes.
    let key = SecretString::from(format!("{}=", "A".repeat(43)));
    KeyRing::new("first", [("first", &key)]).expect("a key ring")
}

/// A pool as the product makes it.
pub(crate) async fn pool(database: &Database) -> PgPool {
    let settings = store::Settings::new(SecretString::from(database.url()));
    store::connect(&settings, Duration::from_secs(5))
        .await
        .expect("the test's database is there")
}

pub(crate) async fn add_tenant(pool: &PgPool, id: &str) -> TenantId {
    let id = tenant(id);
    tenants::add(pool, &id, "").await.expect("a new tenant");
    id
}

pub(crate) fn new_connection(tenant: &TenantId) -> NewConnection {
    NewConnection {
        tenant: tenant.clone(),
        system: SYSTEM.to_owned(),
        account: "default".to_owned(),
        settings: serde_json::Map::new(),
        credentials: SecretString::from(r#"{"secret_key":"s3cret"}"#),
    }
}

pub(crate) async fn add_connection(pool: &PgPool, tenant: &TenantId) -> Changed {
    connections::add(pool, &ring(), &prefix(), &new_connection(tenant))
        .await
        .expect("the tenant's first connection")
}

pub(crate) fn key(version: u64, event_id: &str) -> OrderKey {
    let version = SubjectVersion::parse(&version.to_string()).expect("digits");
    OrderKey::new(&version, false, event_id, 0)
}

pub(crate) async fn insert_link(
    pool: &PgPool,
    tenant: &str,
    record: &str,
    connection: Uuid,
) -> i64 {
    sqlx::query_scalar(
        "insert into link (tenant, kind, source_system, source_account, source_id, target_system, connection_id,
           worker, desired_k, base)
         values ($1, 'contact', 'crm', 'default', $2, 'metakocka', $3, 'metakocka-sync', $4, '{\"name\": {\"sent\": \"Ana\"}}')
         returning id",
    )
    .bind(tenant)
    .bind(record)
    .bind(connection)
    .bind(key(7, "evt-7").as_bytes())
    .fetch_one(pool)
    .await
    .expect("a new link")
}

/// A held fact: rows of facts do not coalesce.
pub(crate) async fn insert_held(
    pool: &PgPool,
    tenant: &str,
    event_id: &str,
    reason: &str,
    connection: Option<Uuid>,
) -> i64 {
    sqlx::query_scalar(
        "insert into held (worker, tenant, target_system, connection_id, reason, detail, source, event_id, generation,
           type, subject, body, properties, headers)
         values ($1, $2, 'metakocka', $3, $4, 'because', 'urn:crm', $5, 2, 'crm.contact.updated.v1',
           'contact/' || $5, $6, $7, $8)
         returning id",
    )
    .bind(WORKER)
    .bind(tenant)
    .bind(connection)
    .bind(reason)
    .bind(event_id)
    .bind(format!(r#"{{"id":"{event_id}"}}"#).into_bytes())
    .bind(json!({ "message_id": event_id }))
    .bind(json!({
        "ce-extra": "kept", "traceparent": "00-1", "x-attempt": 9, "x-waits": 4, "x-due": 5,
        "x-first-received": 6, "x-permit": 7, "x-history": "[]", "x-connection": "c",
    }))
    .fetch_one(pool)
    .await
    .expect("a new held row")
}

pub(crate) async fn insert_dead(
    pool: &PgPool,
    tenant: Option<&str>,
    event_id: &str,
    state: &str,
    link: Option<i64>,
) -> Uuid {
    let id = Uuid::new_v4();
    sqlx::query(
        "insert into dead_letter (id, worker, tenant, source, event_id, type, subject, link_id, k, state, class,
           fingerprint, message, body, properties, headers, first_at, last_at)
         values ($1, $2, $3, 'urn:crm', $4, 'crm.contact.updated.v1', 'contact/' || $4, $5, $6, $7, 'refused',
           'refused:no', 'no such profit center', $8, $9, $10, '2026-01-01', '2026-01-02')",
    )
    .bind(id)
    .bind(WORKER)
    .bind(tenant)
    .bind(event_id)
    .bind(link)
    .bind(key(7, event_id).as_bytes())
    .bind(state)
    .bind(format!(r#"{{"id":"{event_id}"}}"#).into_bytes())
    .bind(json!({ "message_id": event_id }))
    .bind(json!({ "ce-extra": "kept", "x-attempt": 12, "x-dead-class": "refused", "x-link": "7" }))
    .execute(pool)
    .await
    .expect("a new dead letter");
    id
}

pub(crate) async fn insert_unsettled(pool: &PgPool, tenant: &str, link: i64, event_id: &str) {
    sqlx::query(
        "insert into unsettled_claim (token, tenant, link_id, source, event_id, generation)
         values ($1, $2, $3, 'urn:crm', $4, 0)",
    )
    .bind(Uuid::new_v4())
    .bind(tenant)
    .bind(link)
    .bind(event_id)
    .execute(pool)
    .await
    .expect("a new unsettled claim");
}

pub(crate) async fn count(pool: &PgPool, table: &'static str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
        .fetch_one(pool)
        .await
        .expect("a count")
}

/// Routing key, body and headers of every outbox row, oldest first.
pub(crate) async fn outbox(pool: &PgPool) -> Vec<(String, String, serde_json::Value)> {
    sqlx::query_as(
        "select routing_key, convert_from(body, 'UTF8'), headers from outbox order by seq",
    )
    .fetch_all(pool)
    .await
    .expect("the outbox")
}
