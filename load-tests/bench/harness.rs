//! What all parts stand on: a database and a part of the broker of their own, a tenant with an account at the instant
//! partner, and processes on them.

use std::ops::Range;
use std::process::Command;

use testkit::{Broker, Database, Port};

use crate::contacts::{BODY, Source, TENANT, event_id, routing_key};
use crate::fill::{Filler, Message};
use crate::partner::Partner;
use crate::process::{Process, address, kurir, run};

pub(crate) const WORKER: &str = "metakocka-sync";
/// Of Kurir's worker and of the hand-written loop: Kurir's defaults.
pub(crate) const SLOTS: usize = 16;
pub(crate) const PREFETCH: u16 = 128;
/// Connections to Postgres of either: Kurir's default.
pub(crate) const DATABASE_CONNECTIONS: u32 = 20;
/// No limit in the way: what is measured is Kurir, not a budget.
const BUDGET: &str = r#"budget={"windows":[],"in_flight":128,"searches":128}"#;
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const CREDENTIALS_VARIABLE: &str = "BENCH_CREDENTIALS";
const CREDENTIALS: &str = r#"{"secret_key":"bench-key","company_id":"1"}"#;

/// Organizations that have a partner each, by Kurir's own work; changed by later parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linked {
    pub(crate) numbers: Range<u64>,
    /// Of the newest event of all of them.
    pub(crate) version: u32,
}

pub(crate) struct Harness {
    pub(crate) database: Database,
    pub(crate) broker: Broker,
    pub(crate) partner: Partner,
    pub(crate) filler: Filler,
    pub(crate) source: Source,
    pub(crate) linked: Linked,
    /// The next one that nobody has seen.
    next: u64,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        let (database, broker) = tokio::join!(testkit::database(), testkit::broker());
        let harness = Self {
            filler: Filler::start(&broker).await,
            database,
            broker,
            partner: Partner::start().await,
            source: Source::new(),
            linked: Linked::default(),
            next: 1,
        };
        harness.account(&harness.database);
        run(harness.kurir(&["topology", "declare"]));
        harness
    }

    /// The tenant and its account, in a database.
    pub(crate) fn account(&self, database: &Database) {
        run(self.kurir_on(database, &["tenant", "add", TENANT]));
        let add = [
            "connection",
            "add",
            "--tenant",
            TENANT,
            "--system",
            "metakocka",
            "--set",
            BUDGET,
            "--credentials-env",
            CREDENTIALS_VARIABLE,
        ];
        run(self.kurir_on(database, &add));
    }

    /// A command of the product on the harness's database.
    pub(crate) fn kurir(&self, arguments: &[&str]) -> Command {
        self.kurir_on(&self.database, arguments)
    }

    pub(crate) fn kurir_on(&self, database: &Database, arguments: &[&str]) -> Command {
        let mut environment = vec![
            ("KURIR_DATABASE_URL", database.url().to_owned()),
            ("KURIR_AMQP_URL", self.broker.amqp_url().to_owned()),
            ("KURIR_AMQP__PREFIX", self.broker.prefix().to_owned()),
            ("KURIR_KEYS__CURRENT", "k1".to_owned()),
            ("KURIR_KEYS__RING__K1", KEY.to_owned()),
            ("KURIR_METAKOCKA__URL", self.partner.url()),
            (
                "KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES",
                "true".to_owned(),
            ),
            ("KURIR_GATEWAY__EVENTS_PER_SECOND", "1000000".to_owned()),
            ("KURIR_GATEWAY__BURST", "1000000".to_owned()),
            (CREDENTIALS_VARIABLE, CREDENTIALS.to_owned()),
        ];
        if let Some(url) = self.broker.management_url() {
            environment.push(("KURIR_RABBITMQ_MANAGEMENT_URL", url.to_owned()));
        }
        let environment: Vec<(String, String)> = environment
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        kurir(arguments, &environment)
    }

    /// A role that is ready: `["worker", "metakocka-sync"]`, `["keeper"]`, `["gateway"]`.
    pub(crate) async fn role(&self, arguments: &[&str]) -> Process {
        self.role_on(&self.database, arguments).await
    }

    pub(crate) async fn role_on(&self, database: &Database, arguments: &[&str]) -> Process {
        let health = Port::reserve();
        let mut command = self.kurir_on(database, arguments);
        command.env(
            format!("KURIR_HEALTH__{}", arguments[0].to_uppercase()),
            address(&health),
        );
        Process::ready(command, health).await
    }

    pub(crate) async fn worker(&self) -> Process {
        self.role(&["worker", WORKER]).await
    }

    /// Stops a worker that another one follows: the account of the partner's limits would believe for three seconds that the
    /// first one's calls may still be under way, and lend the second one nothing.
    pub(crate) async fn stop(&self, worker: Process) {
        worker.stop().await;
        sqlx::query("delete from budget_holder")
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    /// The worker's queue.
    pub(crate) fn queue(&self) -> String {
        self.broker.queue(WORKER)
    }

    /// Where upstream apps publish.
    pub(crate) fn exchange(&self) -> String {
        self.broker.queue("events")
    }

    /// So many that nobody has seen.
    pub(crate) fn unknown(&mut self, count: usize) -> Range<u64> {
        let first = self.next;
        self.next += count as u64;
        first..self.next
    }

    /// One event of this version for each, as upstream apps publish them.
    pub(crate) fn messages(&self, numbers: Range<u64>, version: u32) -> Vec<Message> {
        numbers
            .map(|number| self.message(number, version, BODY))
            .collect()
    }

    pub(crate) fn message(&self, number: u64, version: u32, bytes: usize) -> Message {
        Message {
            id: event_id(number, version),
            key: routing_key(version),
            body: self.source.event(number, version, bytes),
        }
    }

    /// At least so many linked ones: made by the worker where they are not there yet.
    pub(crate) async fn link(&mut self, count: usize) {
        if self.linked.numbers.clone().count() >= count {
            return;
        }
        let numbers = self.unknown(count);
        self.partner.forget();
        let messages = self.messages(numbers.clone(), 1);
        self.filler.fill(&self.exchange(), &messages).await;
        let worker = self.worker().await;
        self.partner.has(count).await;
        crate::fill::holds(&self.broker, &self.queue(), 0).await;
        self.stop(worker).await;
        self.linked = Linked {
            numbers,
            version: 1,
        };
    }
}
