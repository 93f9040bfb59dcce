//! The worker of docs/new-worker.md as a process of its own fleet: what a registration and a target are enough for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path as Segment, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};
use testkit::{Broker, Contacts, Database, Kurir, Route, wait_for};

use crate::fleet::{END, READY, SOON, rename};

const TENANT: &str = "acme";
const TOKEN: &str = "book-token";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NAME: &str = "address-book";
const SYSTEM: &str = "address_book";

/// The invented partner.
#[derive(Clone, Default)]
struct Partner {
    entries: Arc<Mutex<BTreeMap<String, Value>>>,
    /// The next create is stored, and its answer lost.
    loses_an_answer: Arc<Mutex<bool>>,
}

impl Partner {
    async fn start() -> (Self, String) {
        let partner = Self::default();
        let routes = axum::Router::new()
            .route("/entries", get(find).post(create))
            .route("/entries/{id}", get(read).put(update).delete(delete))
            .with_state(partner.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (partner, url)
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Value>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn holds(&self, names: &[&str]) {
        wait_for(&format!("the entries {names:?}"), SOON, async || {
            let entries: Vec<Value> = self.entries().values().cloned().collect();
            let named: Vec<&str> = entries
                .iter()
                .filter_map(|one| one["name"].as_str())
                .collect();
            if named == names { Ok(()) } else { Err(entries) }
        })
        .await;
    }
}

fn may(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|given| given == &format!("Bearer {TOKEN}"))
}

async fn find(
    State(partner): State<Partner>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Json<Vec<Value>> {
    let entries = partner.entries();
    let hits = entries
        .values()
        .filter(|entry| entry["email"].as_str() == asked.get("email").map(String::as_str));
    Json(hits.cloned().collect())
}

async fn create(State(partner): State<Partner>, Json(mut entry): Json<Value>) -> Response {
    let mut entries = partner.entries();
    let id = format!("b{}", entries.len() + 1);
    entry["id"] = json!(id);
    entries.insert(id, entry.clone());
    let mut lost = partner
        .loses_an_answer
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if std::mem::take(&mut *lost) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    Json(entry).into_response()
}

async fn read(
    State(partner): State<Partner>,
    headers: HeaderMap,
    Segment(id): Segment<String>,
) -> Response {
    if !may(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match partner.entries().get(&id) {
        Some(entry) => Json(entry.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn update(
    State(partner): State<Partner>,
    Segment(id): Segment<String>,
    Json(mut entry): Json<Value>,
) -> Response {
    entry["id"] = json!(id);
    partner.entries().insert(id, entry.clone());
    Json(entry).into_response()
}

async fn delete(State(partner): State<Partner>, Segment(id): Segment<String>) -> StatusCode {
    partner.entries().remove(&id);
    StatusCode::NO_CONTENT
}

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
    fleet.says(&["tenant", "add", TENANT]).await;
    let add = [
        "connection",
        "add",
        "--tenant",
        TENANT,
        "--system",
        SYSTEM,
        "--url",
        &url,
        "--credentials-env",
        "TEST_CREDENTIALS",
    ];
    fleet.says(&add).await;
    fleet
        .says(&["connection", "test", "--tenant", TENANT, "--system", SYSTEM])
        .await;
    let worker = fleet
        .run(&["worker", NAME])
        .listen("health", "health.worker")
        .start();
    worker.ready(READY).await;
    let keeper = fleet
        .run(&["keeper"])
        .listen("health", "health.keeper")
        .start();
    keeper.ready(READY).await;

    let mut source = Contacts::new(TENANT, 7);
    let mut contact = source.person();
    let first = contact.name().to_owned();
    let publisher = fleet.broker.publisher().await.unwrap();
    // The answer to the create is lost: it is looked for by its address, and not made twice.
    *partner.loses_an_answer.lock().unwrap() = true;
    assert_eq!(
        publisher.event(&contact.created()).await.unwrap(),
        Route::Routed
    );
    wait_for("the create has left", SOON, async || {
        if partner.entries().is_empty() {
            Err("nothing")
        } else {
            Ok(())
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
    assert!(length <= 200, "{length} lines");
}
