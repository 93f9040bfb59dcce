//! A running keeper, and what a test needs around it.

use std::sync::Arc;
use std::time::Duration;

use broker::Properties;
use event::{EventType, TenantId};
use keeper::{Deps, Readiness, Settings, Worker};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::PgPool;
use store::QueuePrefix;
use store::connection_cache::ConnectionCache;
use store::connections::{self, NewConnection};
use store::links::Links;
use store::pins::EventPins;
use store::sealing::KeyRing;
use testkit::{Broker, Database, wait_until};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::Facets;

pub(crate) const WORKER: &str = "metakocka-sync";
pub(crate) const SYSTEM: &str = "metakocka";
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) database: Database,
    pub(crate) theirs: Broker,
    pub(crate) ours: broker::Broker,
    pub(crate) pool: PgPool,
    pub(crate) links: Links,
    pub(crate) readiness: Arc<Readiness>,
    /// What the worker makes of its events.
    pub(crate) facets: Facets,
    deps: Deps,
    shutdown: CancellationToken,
    keepers: Vec<JoinHandle<()>>,
}

/// Which parts run, apart from the others.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) relay: bool,
    pub(crate) ledger: bool,
    pub(crate) janitor: bool,
}

pub(crate) const RELAY: Parts = Parts {
    relay: true,
    ledger: false,
    janitor: false,
};
pub(crate) const LEDGER: Parts = Parts {
    relay: false,
    ledger: true,
    janitor: false,
};

impl Rig {
    /// With the queues of one worker; nothing runs yet.
    pub(crate) async fn new() -> Self {
        let (database, theirs) = (testkit::database().await, testkit::broker().await);
        let settings = store::Settings::new(SecretString::from(database.url()));
        let pool = store::connect(&settings, SOON)
            .await
            .expect("the test's database");
        let mut settings = broker::Settings::new(SecretString::from(theirs.amqp_url()));
        settings.prefix = theirs.prefix().to_owned();
        let ours = broker::Broker::start(settings).expect("an address");
        ours.connected(SOON).await.expect("the test's broker");
        let consumes = [EventType::CrmContactCreated, EventType::CrmContactUpdated];
        ours.topology()
            .declare_worker(&ours, WORKER, &consumes)
            .await
            .expect("queues");
        let links = Links::new(pool.clone(), theirs.prefix(), Duration::from_secs(30));
        let deps = Deps {
            pool: pool.clone(),
            broker: ours.clone(),
            prefix: QueuePrefix::new(theirs.prefix()),
            links: links.clone(),
            connections: Arc::new(ConnectionCache::start(pool.clone())),
            pins: Arc::new(EventPins::start(pool.clone()).await.expect("a clock")),
        };
        Self {
            database,
            theirs,
            ours,
            pool,
            links,
            readiness: Arc::default(),
            facets: Facets::ENTITY,
            deps,
            shutdown: CancellationToken::new(),
            keepers: Vec::new(),
        }
    }

    /// One keeper more.
    pub(crate) fn start(&mut self, parts: Parts) {
        let settings = Settings {
            workers: vec![Worker {
                name: WORKER.to_owned(),
                target_system: SYSTEM.to_owned(),
                facets: self.facets,
            }],
            relay: parts.relay,
            ledger: parts.ledger,
            janitor: parts.janitor,
            janitor_every: Duration::from_millis(200),
            release: true,
            release_every: Duration::from_millis(200),
            replay: false,
        };
        let run = keeper::run(
            self.deps.clone(),
            settings,
            self.readiness.clone(),
            self.shutdown.clone(),
        );
        self.keepers.push(tokio::spawn(run));
    }

    /// Stops all keepers in order; panics if one of them had.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        for keeper in self.keepers.drain(..) {
            keeper.await.expect("the keeper ended in order");
        }
        self.shutdown = CancellationToken::new();
    }

    pub(crate) fn queue(&self) -> String {
        self.theirs.queue(WORKER)
    }

    pub(crate) fn dead_queue(&self) -> String {
        self.theirs.queue(&format!("{WORKER}.dead"))
    }

    pub(crate) async fn tenant_with_connection(&self, tenant: &str) -> Uuid {
        let id = TenantId::parse(tenant).expect("a tenant id");
        store::tenants::add(&self.pool, &id, "")
            .await
            .expect("a tenant");
        self.account(tenant, "default").await
    }

    /// One account more of a tenant.
    pub(crate) async fn account(&self, tenant: &str, account: &str) -> Uuid {
        let key = SecretString::from(format!("{}=", "A".repeat(43)));
        let ring = KeyRing::new("k", [("k", &key)]).expect("a key ring");
        let new = NewConnection {
            tenant: TenantId::parse(tenant).expect("a tenant id"),
            system: SYSTEM.to_owned(),
            account: account.to_owned(),
            settings: serde_json::Map::new(),
            credentials: SecretString::from("{}"),
        };
        let added = connections::add(&self.pool, &ring, &self.deps.prefix, &new)
            .await
            .expect("a connection");
        added.connection.id
    }

    /// As a worker publishes its dead-letter copy.
    pub(crate) async fn die(&self, body: Vec<u8>, headers: Value) {
        let headers = headers.as_object().expect("headers").clone();
        let properties = Properties {
            headers,
            ..Properties::of_event("id", "type")
        };
        self.ours
            .publisher()
            .publish("", &self.dead_queue(), body.into(), &properties)
            .await
            .expect("the copy is confirmed");
    }

    /// `(class, state, generation, deaths, message)` of all rows.
    pub(crate) async fn dead(&self) -> Vec<(String, String, i32, i32, String)> {
        sqlx::query_as("select class, state, generation, deaths, message from dead_letter order by first_at, id")
            .fetch_all(self.database.pool())
            .await
            .expect("the rows")
    }

    pub(crate) async fn until_dead(&self, rows: usize) -> Vec<(String, String, i32, i32, String)> {
        wait_until(
            "the dead letters are committed",
            SOON,
            async || self.dead().await,
            |dead| dead.len() >= rows,
        )
        .await
    }

    /// Nothing ready and nothing in a reader's hands: what was read is acknowledged.
    pub(crate) async fn until_empty(&mut self, queue: &str) {
        self.stop().await;
        let depth = self.theirs.depth(queue).await.expect("an answer");
        assert_eq!(depth, Some(0), "{queue} is empty when its reader is gone");
    }
}

pub(crate) fn note(class: &str, at: i64) -> Value {
    json!({
        "x-attempt": 3, "x-dead-class": class, "x-dead-fingerprint": format!("{class}:shape"),
        "x-dead-message": "the partner said no", "x-dead-at": at,
    })
}

pub(crate) fn bytes(event: &Value) -> Vec<u8> {
    serde_json::to_vec(event).expect("JSON")
}
