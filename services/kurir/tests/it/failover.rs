//! A database that turns read-only under the roles, as it does when the primary moves to another machine: they say so, wait,
//! and go on within seconds once it takes changes again.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use testkit::instance::Postgres;
use testkit::{Contact, Contacts, Http, Running, wait_for};

use crate::fleet::{END, Fate, Fleet, SOON, TENANT, plain, ready};

/// From the first change that the database takes again until all roles are ready, all posts are taken and work flows. The
/// database is asked every two seconds, and work that failed is tried again within five.
const BACK: Duration = Duration::from_secs(15);
const POSTS: usize = 50;

struct Scene {
    fleet: Fleet,
    admin: PgConnection,
    roles: Vec<Running>,
    http: Http,
    source: Contacts,
    events: Vec<Value>,
    contacts: Vec<Contact>,
}

impl Scene {
    async fn start(postgres: &Postgres) -> Self {
        let fleet = Fleet::on(
            postgres.database().await,
            testkit::broker().await,
            simulators::metakocka::Options::default(),
        )
        .await;
        let create = [
            "token", "create", "--tenant", TENANT, "--name", "crm", "--json",
        ];
        let created = fleet.command(&create).await.expect(0);
        let created: Value = serde_json::from_str(&created.stdout).unwrap();
        let token = created["secret"].as_str().unwrap().to_owned();
        // Each post asks the database.
        let gateway = fleet.gateway().setting("gateway.token_cache_seconds", 0);
        let (gateway, worker, keeper) =
            tokio::join!(ready(gateway), fleet.working(), fleet.keeping());
        let http = gateway.http("gateway").with_token(&token);
        // Not one of those that are disconnected.
        let url = format!("{}?application_name=testkit", fleet.database.url());
        let mut admin = PgConnection::connect(&url).await.unwrap();
        // So that it can end what it began.
        sqlx::raw_sql("set session characteristics as transaction read write")
            .execute(&mut admin)
            .await
            .unwrap();
        let mut scene = Self {
            fleet,
            admin,
            roles: vec![gateway, worker, keeper],
            http,
            source: Contacts::new(TENANT, 1),
            events: Vec::new(),
            contacts: Vec::new(),
        };
        // All parts of all roles have had their sessions.
        scene.posts(10).await;
        scene.arrived().await;
        scene
    }

    /// New records by HTTP, side by side; each must be taken.
    async fn posts(&mut self, many: usize) {
        let mut contacts: Vec<Contact> = (0..many).map(|_| plain(&mut self.source)).collect();
        let events: Vec<Value> = contacts.iter_mut().map(Contact::created).collect();
        let posts = events
            .iter()
            .map(|event| self.http.post_event("/v1/events", event));
        for answer in futures_util::future::join_all(posts).await {
            answer.unwrap().expect(202);
        }
        self.contacts.extend(contacts);
        self.events.extend(events);
    }

    async fn arrived(&self) {
        for event in &self.events {
            self.fleet.becomes(event, Fate::Covered).await;
        }
    }

    async fn admin(&mut self, sql: &str) {
        let sql = sql.replace("DATABASE", self.fleet.database.name());
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut self.admin)
            .await
            .unwrap();
    }

    /// Waits until every role says that it is not ready, and why.
    async fn all_say_so(&self) {
        for role in &self.roles {
            let what = format!("{} says that the database is read-only", role.role());
            wait_for(&what, SOON, async || {
                let answer = role.http("health").get("/readyz").await.unwrap();
                let report = answer.json();
                let database = &report["checks"]["database"];
                if answer.status == 503 && database["detail"] == "the database is read-only" {
                    Ok(())
                } else {
                    Err(report)
                }
            })
            .await;
        }
    }

    /// From now on nothing may keep it: all roles ready, all posts taken, all work done.
    async fn goes_on(&mut self) {
        let began = Instant::now();
        for role in &self.roles {
            role.ready(BACK).await;
        }
        self.posts(POSTS).await;
        self.arrived().await;
        let took = began.elapsed();
        assert!(took < BACK, "it took {took:?}");
    }

    async fn ends(self) {
        let (worker, refused) = (&self.roles[1], "\"outcome\":\"dead_letter\"");
        assert_eq!(worker.count_lines(|line| line.contains(refused)), 0);
        self.fleet.ends(self.roles, &self.events).await;
        for contact in &self.contacts {
            self.fleet.has_one(contact).await;
        }
    }
}

/// The sessions of the pool were opened while the database was read-only, and stay so when it is not any more.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_sessions_that_may_only_read_are_closed_and_all_goes_on_in_seconds() {
    let postgres = Postgres::start().await;
    let mut scene = Scene::start(&postgres).await;
    scene
        .admin("alter database \"DATABASE\" set default_transaction_read_only = on")
        .await;
    scene.fleet.database.disconnect_everybody().await;
    scene.all_say_so().await;
    // The gateway needs no change of the database to take them, and they wait at the broker.
    scene.posts(POSTS).await;
    let doctor = scene.fleet.kurir(&["doctor", "--json"]).run(END).await;
    assert!(
        doctor.stdout.contains("nothing can be written"),
        "{}",
        doctor.stdout
    );
    scene
        .admin("alter database \"DATABASE\" reset default_transaction_read_only")
        .await;
    scene.goes_on().await;
    scene.ends().await;
}

/// The sessions live on and turn read-only under the pool, as on a primary that becomes a standby.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_turns_read_only_under_its_sessions_and_all_goes_on_in_seconds() {
    let postgres = Postgres::start().await;
    let mut scene = Scene::start(&postgres).await;
    scene
        .admin("alter system set default_transaction_read_only = on")
        .await;
    scene.admin("select pg_reload_conf()").await;
    scene.all_say_so().await;
    scene.posts(POSTS).await;
    scene
        .admin("alter system reset default_transaction_read_only")
        .await;
    scene.admin("select pg_reload_conf()").await;
    scene.goes_on().await;
    scene.ends().await;
}
