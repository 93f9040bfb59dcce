//! The worker of docs/new-worker.md as a process of its own fleet: what a registration and a target are enough for.

mod many;
mod outcomes;
mod partner;

use std::path::{Path, PathBuf};

use serde_json::json;
use testkit::{Broker, Contacts, Database, Kurir, Route, Running, wait_for};

use self::partner::{Partner, TOKEN};
use crate::fleet::{END, READY, SOON, rename};

const TENANT: &str = "acme";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NAME: &str = "address-book";
const SYSTEM: &str = "address_book";

/// Commands and roles of the fleet that has the worker.
struct Fleet {
    database: Database,
    broker: Broker,
}

impl Fleet {
    async fn new() -> Self {
        let (database, broker) = tokio::join!(testkit::database(), testkit::broker());
        Self { database, broker }
    }

    fn run(&self, arguments: &[&str]) -> Kurir {
        Kurir::new(binary(), arguments)
            .database(&self.database)
            .broker(&self.broker)
            .setting("keys.current", "k1")
            .setting("keys.ring.k1", KEY)
            .setting("address_book.allow_private_addresses", true)
            .setting("keeper.janitor_seconds", 1)
            .setting("database.max_connections", 6)
            .env("TEST_CREDENTIALS", json!({ "token": TOKEN }).to_string())
    }

    /// The tenant and its address book.
    async fn connect(&self, url: &str) {
        self.says(&["tenant", "add", TENANT]).await;
        let add = [
            "connection",
            "add",
            "--tenant",
            TENANT,
            "--system",
            SYSTEM,
            "--url",
            url,
            "--credentials-env",
            "TEST_CREDENTIALS",
        ];
        self.says(&add).await;
        let test = ["connection", "test", "--tenant", TENANT, "--system", SYSTEM];
        self.says(&test).await;
    }

    /// Ready, or armed with a fail point.
    async fn worker(&self, failpoint: Option<&str>) -> Running {
        let mut worker = self
            .run(&["worker", NAME])
            .listen("health", "health.worker");
        if let Some(failpoint) = failpoint {
            worker = worker.env("KURIR_FAILPOINT", failpoint);
        }
        let worker = worker.start();
        if failpoint.is_none() {
            worker.ready(READY).await;
        }
        worker
    }

    async fn keeper(&self) -> Running {
        let keeper = self.run(&["keeper"]).listen("health", "health.keeper");
        let keeper = keeper.start();
        keeper.ready(READY).await;
        keeper
    }

    async fn says(&self, arguments: &[&str]) -> String {
        self.run(arguments).run(END).await.expect(0).stdout
    }

    async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement)
            .execute(self.database.pool())
            .await
            .unwrap();
    }
}

fn binary() -> PathBuf {
    let kurir = Path::new(env!("CARGO_BIN_EXE_kurir"));
    kurir.parent().unwrap().join("examples/sample-worker")
}

#[tokio::test]
async fn a_registration_and_a_target_are_a_worker() {
    let fleet = Fleet::new().await;
    let (partner, url) = Partner::start().await;
    fleet.connect(&url).await;
    let worker = fleet.worker(None).await;
    let keeper = fleet.keeper().await;

    let mut source = Contacts::new(TENANT, 7);
    let mut contact = source.person();
    let first = contact.name().to_owned();
    let publisher = fleet.broker.publisher().await.unwrap();
    // The answer to the create is lost: it is looked for by its address, and not made twice.
    partner.held().loses_an_answer = true;
    assert_eq!(
        publisher.event(&contact.created()).await.unwrap(),
        Route::Routed
    );
    wait_for("the create has left", SOON, async || {
        match partner.held().writes.is_empty() {
            true => Err("nothing"),
            false => Ok(()),
        }
    })
    .await;
    fleet
        .sql("update effect set settle_at = clock_timestamp() where state in ('sent', 'unknown')")
        .await;
    partner.holds(&[&first]).await;

    let renamed = rename(&mut contact);
    let second = contact.name().to_owned();
    assert_eq!(publisher.event(&renamed).await.unwrap(), Route::Routed);
    partner.holds(&[&second]).await;
    let owner: String = sqlx::query_scalar("select worker from link where target_system = $1")
        .bind(SYSTEM)
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    assert_eq!(owner, NAME);

    assert_eq!(
        publisher.event(&contact.deleted()).await.unwrap(),
        Route::Routed
    );
    partner.holds(&[]).await;
    let metrics = worker.http("health").get("/metrics").await.unwrap().text;
    assert!(metrics.contains("system=\"address_book\""), "{metrics}");
    for process in [worker, keeper] {
        process.terminate();
        assert!(process.ended(END).await.success());
    }
}

#[tokio::test]
async fn workers_of_two_partners_run_in_one_process() {
    let fleet = Fleet::new().await;
    let up = fleet
        .run(&["up"])
        .listen("health", "health.up")
        .listen("gateway", "gateway.listen")
        .start();
    up.ready(READY).await;
    let metrics = up.http("health").get("/metrics").await.unwrap().text;
    for system in ["metakocka", SYSTEM] {
        let counted = format!("system=\"{system}\"");
        let calls = |line: &&str| {
            line.starts_with("kurir_external_requests_total{") && line.contains(&counted)
        };
        assert!(
            metrics.lines().any(|line| calls(&line)),
            "{system}\n{metrics}"
        );
    }
    up.terminate();
    assert!(up.ended(END).await.success());
}

#[test]
fn everything_that_follows_from_the_list_knows_the_new_worker() {
    let says = |arguments: &[&str]| {
        let ended = std::process::Command::new(binary())
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(ended.stdout).unwrap() + &String::from_utf8(ended.stderr).unwrap()
    };
    let worker = says(&["worker", "--help"]);
    assert!(
        worker.contains("[possible values: metakocka-sync, address-book]"),
        "{worker}"
    );
    let connection = says(&["connection", "add", "--help"]);
    assert!(
        connection.contains(r#"address_book: {"token": "..."}"#),
        "{connection}"
    );
    let config = says(&["config", "--defaults"]);
    assert!(config.contains("[address_book]"), "{config}");
}

/// A new worker touches its own files and one line of the list.
#[test]
fn only_its_own_files_and_the_list_name_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed = std::process::Command::new("git")
        .args([
            "grep",
            "-lE",
            "address.?book",
            "--",
            "services",
            "shared",
            "deploy",
            "migrations",
            "Cargo.toml",
        ])
        .current_dir(&root)
        .output()
        .unwrap();
    let files = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<&str> = files.lines().collect();
    assert_eq!(
        files,
        [
            // Of the tests: this file, and the one that compares the guide.
            "services/kurir/tests/it/pages.rs",
            "services/kurir/tests/it/sample.rs",
            "services/kurir/tests/sample/address_book.rs",
            "services/kurir/tests/sample/fleet.rs",
        ]
    );
    let lines = |file: &str| {
        std::fs::read_to_string(root.join(file))
            .unwrap()
            .lines()
            .count()
    };
    let length = lines(files[2]) + lines(files[3]);
    assert!(length <= 350, "{length} lines");
}
