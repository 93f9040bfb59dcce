//! `kurir doctor` on real servers: healthy, and with one thing broken at a time. It names what is broken and the next
//! command, looks at everything else all the same, and ends in bounded time when nothing answers.

use std::time::{Duration, Instant};

use lapin::options::QueueDeleteOptions;
use serde_json::{Value, json};
use simulators::metakocka::{Fault, ScriptedFault};
use testkit::{Contacts, Management, wait_for};

use crate::fleet::{END, Fleet, SOON, TENANT, plain};

/// Nobody listens there.
const NOWHERE_AMQP: &str = "amqp://kurir:geheim@127.0.0.1:1/%2f";
const NOWHERE_HTTP: &str = "http://kurir:geheim@127.0.0.1:1";
const NOWHERE_POSTGRES: &str = "postgres://kurir:geheim@127.0.0.1:1/kurir";

/// What `kurir doctor --json` said.
#[derive(Debug)]
struct Report {
    code: Option<i32>,
    body: Value,
}

impl Report {
    async fn of(kurir: testkit::Kurir) -> Self {
        let ended = kurir.run(END).await;
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!text.contains("geheim"), "{text}");
        }
        let body = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr));
        Self {
            code: ended.status.code(),
            body,
        }
    }

    fn findings(&self) -> &[Value] {
        self.body["findings"].as_array().unwrap()
    }

    /// Verdict, detail and next step of one check.
    #[track_caller]
    fn of_check(&self, subject: &str, check: &str) -> (&str, &str, &str) {
        let found = self
            .findings()
            .iter()
            .find(|one| one["subject"] == subject && one["check"] == check)
            .unwrap_or_else(|| panic!("no {subject} {check}: {self:#?}"));
        let text = |member: &str| found[member].as_str().unwrap_or_default();
        (text("verdict"), text("detail"), text("next"))
    }

    /// `subject check` of everything that is a problem.
    fn problems(&self) -> Vec<String> {
        self.findings()
            .iter()
            .filter(|one| one["verdict"] == "problem")
            .map(|one| {
                format!(
                    "{} {}",
                    one["subject"].as_str().unwrap(),
                    one["check"].as_str().unwrap()
                )
            })
            .collect()
    }
}

fn doctor(fleet: &Fleet) -> testkit::Kurir {
    fleet.kurir(&["doctor", "--json"])
}

/// Names that differ from run to run.
fn redacted(fleet: &Fleet, text: &str, more: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in more {
        text = text.replace(from, to);
    }
    let host = fleet
        .broker
        .amqp_url()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    text = text
        .replace(&host, "<host>")
        .replace(fleet.broker.prefix(), "<prefix>")
        .replace(fleet.database.name(), "<database>")
        .replace(&fleet.simulator.base_url(), "<partner>");
    let words = |line: &str| -> String {
        let version = |before: &str, word: &str| {
            ["RabbitMQ", "Postgres"].contains(&before)
                && word.starts_with(|c: char| c.is_ascii_digit())
        };
        let mut before = String::new();
        let mut out = Vec::new();
        for word in line.split(' ') {
            out.push(if version(&before, word) {
                "<version>".to_owned()
            } else {
                word.to_owned()
            });
            before = word.to_owned();
        }
        out.join(" ")
    };
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_fleet_has_no_problem() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let urls = [&worker, &keeper].map(|role| role.http("health").base().to_owned());
    let arguments = ["doctor", "--role-url", &urls[0], "--role-url", &urls[1]];
    let ended = fleet.command(&arguments).await.expect(0);
    assert_eq!(ended.stderr, "");
    let more = [
        (urls[0].as_str(), "<worker>"),
        (urls[1].as_str(), "<keeper>"),
    ];
    insta::assert_snapshot!(redacted(&fleet, &ended.stdout, &more));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_to_stand_on_it_says_what_and_ends() {
    let fleet = Fleet::start().await;
    let everything_down = doctor(&fleet)
        .env("KURIR_AMQP_URL", NOWHERE_AMQP)
        .env("KURIR_RABBITMQ_MANAGEMENT_URL", NOWHERE_HTTP)
        .env("KURIR_DATABASE_URL", NOWHERE_POSTGRES);
    let begun = Instant::now();
    let report = Report::of(everything_down).await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(report.code, Some(1));
    assert_eq!(
        report.problems(),
        [
            "broker reachable",
            "broker management API",
            "database reachable"
        ]
    );
    for (subject, check, because) in [
        ("queues", "declared", "because the broker cannot be reached"),
        (
            "database",
            "migrations",
            "because the database cannot be reached",
        ),
        (
            "clock",
            "Postgres",
            "because the database cannot be reached",
        ),
        (
            "clock",
            "broker",
            "because the management API does not answer",
        ),
        (
            "credentials",
            "all",
            "because the database cannot be reached",
        ),
        ("partners", "all", "because the database cannot be reached"),
        (
            "permissions",
            "database role",
            "because the database cannot be reached",
        ),
        (
            "permissions",
            "broker user",
            "because the management API does not answer",
        ),
    ] {
        let (verdict, detail, _) = report.of_check(subject, check);
        assert_eq!(
            (verdict, detail),
            ("not_checked", because),
            "{subject} {check}"
        );
    }
    let (_, _, next) = report.of_check("database", "reachable");
    assert!(next.contains("KURIR_DATABASE_URL"), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_that_is_down_hides_nothing_of_the_other() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let no_broker = doctor(&fleet)
        .env("KURIR_AMQP_URL", NOWHERE_AMQP)
        .env("KURIR_RABBITMQ_MANAGEMENT_URL", "");
    let no_database = doctor(&fleet).env("KURIR_DATABASE_URL", NOWHERE_POSTGRES);
    let (no_broker, no_database) = tokio::join!(Report::of(no_broker), Report::of(no_database));
    assert_eq!(no_broker.problems(), ["broker reachable"]);
    let unset = "because KURIR_RABBITMQ_MANAGEMENT_URL is not set";
    assert_eq!(no_broker.of_check("policies", "all").1, unset);
    assert_eq!(no_broker.of_check("database", "migrations").0, "ok");
    assert_eq!(no_broker.of_check("credentials", "all").0, "ok");
    assert_eq!(no_database.problems(), ["database reachable"]);
    assert_eq!(no_database.of_check("queues", "declared").0, "ok");
    assert_eq!(no_database.of_check("clock", "broker").0, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_the_broker_refuses_is_named_as_that() {
    let fleet = Fleet::start().await;
    let mut wrong = outbound::Url::parse(fleet.broker.amqp_url()).unwrap();
    wrong.set_password(Some("guest")).unwrap();
    let report = Report::of(doctor(&fleet).env("KURIR_AMQP_URL", wrong.as_str())).await;
    let (verdict, detail, next) = report.of_check("broker", "reachable");
    assert_eq!(verdict, "problem", "{detail}");
    assert!(next.contains("authenticate_user"), "{detail} {next}");
    let (verdict, ..) = report.of_check("configuration", "amqp.url");
    assert_eq!(verdict, "warning");
    wrong.set_path("nowhere");
    let right = outbound::Url::parse(fleet.broker.amqp_url()).unwrap();
    wrong.set_password(right.password()).unwrap();
    let report = Report::of(doctor(&fleet).env("KURIR_AMQP_URL", wrong.as_str())).await;
    let (verdict, detail, next) = report.of_check("broker", "reachable");
    assert_eq!(verdict, "problem", "{detail}");
    assert!(next.contains("add_vhost"), "{detail} {next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_build_or_of_none_is_told() {
    let fleet = Fleet::start().await;
    fleet
        .sql(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
               select 99, 'from the future', true, checksum, 0 from _sqlx_migrations where version = 1;
             update applied_function set hash = '' where name = 'record_dead_letters'",
        )
        .await;
    let report = Report::of(doctor(&fleet)).await;
    assert_eq!(report.code, Some(1));
    let said: Vec<(&str, &str)> = report
        .findings()
        .iter()
        .filter(|one| one["check"] == "migrations")
        .map(|one| {
            (
                one["detail"].as_str().unwrap(),
                one["next"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            (
                "1 migration of this build not applied: function record_dead_letters",
                "kurir migrate"
            ),
            (
                "a newer build has been here: this one does not know [99]",
                "run the newest build everywhere"
            )
        ]
    );
    fleet
        .sql("drop schema public cascade; create schema public")
        .await;
    let empty = Report::of(doctor(&fleet)).await;
    let (verdict, detail, next) = empty.of_check("database", "migrations");
    assert_eq!((verdict, next), ("problem", "kurir migrate"));
    assert!(detail.contains("0003_terms, all functions"), "{detail}");
    let (verdict, detail, _) = empty.of_check("partners", "all");
    assert_eq!(verdict, "not_checked", "{detail}");
    assert_eq!(empty.of_check("database", "reachable").0, "ok");
}

async fn put_policy(fleet: &Fleet, name: &str, policy: Value) {
    let host = fleet.broker.amqp_url().rsplit('/').next().unwrap();
    let management = Management::new(fleet.broker.management_url().unwrap()).unwrap();
    management
        .put(&["policies", host, name], policy)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_somebody_elses_that_matches_ours_is_a_warning() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let policy =
        json!({ "pattern": ".*", "apply-to": "queues", "definition": { "message-ttl": 60000 } });
    put_policy(&fleet, "everything-short", policy).await;
    let other =
        json!({ "pattern": "^other\\.", "apply-to": "all", "definition": { "message-ttl": 1 } });
    put_policy(&fleet, "others", other).await;
    let report = Report::of(doctor(&fleet)).await;
    assert_eq!(report.code, Some(0), "{report:#?}");
    let (verdict, detail, next) = report.of_check("policies", "everything-short");
    assert_eq!(verdict, "warning");
    assert_eq!(
        detail,
        "its pattern '.*' matches 10 of our queues and 0 of our exchanges and sets {\"message-ttl\":60000}"
    );
    assert!(next.starts_with("rabbitmqctl clear_policy -p "), "{next}");
    assert!(
        report.findings().iter().all(|one| one["check"] != "others"),
        "{report:#?}"
    );
    drop((worker, keeper));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_and_what_is_stuck_before_it() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let channel = fleet.broker.channel().await.unwrap();
    let queue = fleet.broker.queue("metakocka-sync");
    channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    let event = plain(&mut Contacts::new(TENANT, 1)).created();
    fleet.publisher().await.event(&event).await.unwrap();
    let retry_tier = fleet.broker.queue("metakocka-sync.retry.1s");
    let body = event.to_string();
    let properties = testkit::structured_properties(&event);
    let publisher = fleet.publisher().await;
    publisher
        .raw("", &retry_tier, body.as_bytes(), properties)
        .await
        .unwrap();
    wait_for("the doctor sees all three", SOON, async || {
        let report = Report::of(doctor(&fleet)).await;
        let stuck = report.of_check("queues", "stuck");
        if stuck.0 != "problem" {
            return Err(report);
        }
        assert!(
            stuck.1.contains(&format!("1 in {retry_tier}")),
            "{report:#?}"
        );
        let (verdict, detail, next) = report.of_check("queues", "declared");
        assert_eq!((verdict, next), ("problem", "kurir topology declare"));
        assert!(
            detail.starts_with(&format!("missing: queue {queue}, ")),
            "{detail}"
        );
        let (verdict, detail, _) = report.of_check("queues", "unrouted");
        assert_eq!(verdict, "problem", "{detail}");
        assert_eq!(
            report.of_check("queues", "metakocka-sync consumers").0,
            "not_checked"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_told_with_who_should() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let idle = Report::of(doctor(&fleet)).await;
    assert_eq!(idle.code, Some(0), "{idle:#?}");
    assert_eq!(
        idle.of_check("queues", "metakocka-sync consumers").0,
        "warning"
    );
    fleet
        .publish(&plain(&mut Contacts::new(TENANT, 1)).created())
        .await;
    let dead = fleet.broker.queue("metakocka-sync.dead");
    let publisher = fleet.publisher().await;
    let properties = testkit::structured_properties(&json!({}));
    publisher.raw("", &dead, b"{}", properties).await.unwrap();
    let report = Report::of(doctor(&fleet)).await;
    assert_eq!(
        report.problems(),
        [
            "queues metakocka-sync consumers",
            "queues metakocka-sync ledger"
        ]
    );
    let (_, detail, next) = report.of_check("queues", "metakocka-sync consumers");
    assert_eq!(
        (detail, next),
        (
            "none; 1 event ready",
            "start one: `kurir worker metakocka-sync`"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_partners_are_told_by_connection() {
    const ANOTHER_KEY: &str = "HxweHRscGxobGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQ=";
    let fleet = Fleet::start().await;
    let name = format!("{TENANT} metakocka default");
    let wrong_key = Report::of(doctor(&fleet).setting("keys.ring.k1", ANOTHER_KEY)).await;
    let (verdict, detail, next) = wrong_key.of_check("credentials", &name);
    assert_eq!(verdict, "problem");
    assert!(detail.contains("not sealed with key 'k1'"), "{detail}");
    assert!(next.contains("kurir connection update "), "{next}");
    assert_eq!(wrong_key.of_check("partners", &name).0, "not_checked");

    let refused = fleet.kurir(&["doctor", "--json", "--tenant", TENANT]);
    let refusal = Fault::Refuse {
        code: 3,
        text: "Invalid secret key".into(),
    };
    fleet.fault(ScriptedFault::new(refusal).always());
    let refused = Report::of(refused).await;
    let (verdict, detail, _) = refused.of_check("partners", &name);
    assert_eq!(verdict, "problem", "{detail}");
    assert!(detail.starts_with("refuses the credentials"), "{detail}");
    let state: String = sqlx::query_scalar("select state from connection")
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    assert_eq!(state, "ok", "a look changes nothing");

    fleet
        .sql("update connection set state = 'suspended', state_reason = 'key revoked'")
        .await;
    let suspended = Report::of(doctor(&fleet)).await;
    let (verdict, detail, next) = suspended.of_check("partners", &name);
    assert_eq!(verdict, "problem");
    assert_eq!(detail, "suspended, its events are held: key revoked");
    assert!(next.contains("kurir connection test "), "{next}");

    let left_out = Report::of(fleet.kurir(&["doctor", "--json", "--no-partners"])).await;
    assert_eq!(left_out.of_check("partners", "all").0, "not_checked");
    fleet.command(&["tenant", "add", "other"]).await.expect(0);
    let other = Report::of(fleet.kurir(&["doctor", "--json", "--tenant", "other"])).await;
    assert_eq!(other.of_check("partners", "all").1, "no connection is on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_and_a_commit_that_is_none() {
    let fleet = Fleet::start().await;
    fleet
        .sql(
            "create function public.clock_timestamp() returns timestamptz language sql volatile as $$
               select pg_catalog.clock_timestamp() - interval '42 s' $$;
             do $$ begin
               execute format('alter database %I set search_path = public, pg_catalog', current_database());
               execute format('alter database %I set synchronous_commit = off', current_database());
               execute format('alter database %I set default_transaction_isolation = ''serializable''', current_database());
             end $$",
        )
        .await;
    let report = Report::of(doctor(&fleet)).await;
    let (verdict, detail, next) = report.of_check("clock", "Postgres");
    assert_eq!(verdict, "problem");
    assert!(detail.contains(" s behind this machine's"), "{detail}");
    let seconds: f64 = detail.split(' ').next().unwrap().parse().unwrap();
    assert!((30.0..=42.1).contains(&seconds), "{detail}");
    assert!(next.contains("timedatectl"), "{next}");
    let (verdict, _, next) = report.of_check("database", "synchronous_commit");
    assert_eq!(verdict, "problem");
    assert!(next.contains("set synchronous_commit = on"), "{next}");
    assert_eq!(report.of_check("database", "isolation").0, "problem");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settings_file_that_others_may_read_and_missing_settings() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "[database]\nurl = \"postgres://kurir:kurir@127.0.0.1:1/kurir\"\n";
    std::fs::write(file.path(), text).unwrap();
    let name = file.path().to_str().unwrap();
    let arguments = ["doctor", "--json", "--config", name];
    let ask = async |mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), mode).unwrap();
        Report::of(testkit::Kurir::new(env!("CARGO_BIN_EXE_kurir"), arguments)).await
    };
    let open = ask(0o644).await;
    let (verdict, detail, next) = open.of_check("configuration", "file");
    assert_eq!(verdict, "warning");
    assert!(detail.contains("(mode 644)"), "{detail}");
    assert_eq!(next, format!("chmod 600 {name}"));
    assert_eq!(open.of_check("configuration", "database.url").0, "warning");
    assert_eq!(open.of_check("configuration", "keys").0, "problem");
    assert_eq!(
        open.of_check("broker", "reachable").1,
        "amqp.url is missing"
    );
    let closed = ask(0o600).await;
    assert!(
        closed.findings().iter().all(|one| one["check"] != "file"),
        "{closed:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_ready_or_not_there() {
    let fleet = Fleet::start().await;
    let worker = fleet.worker().env("KURIR_AMQP_URL", NOWHERE_AMQP).start();
    let url = worker.http("health").base().to_owned();
    wait_for("the worker has its database", SOON, async || {
        let answer = worker.http("health").get("/readyz").await;
        match answer {
            Ok(answer) if answer.json()["checks"]["database"]["ok"] == true => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let arguments = [
        "doctor",
        "--json",
        "--no-partners",
        "--role-url",
        &url,
        "--role-url",
        NOWHERE_HTTP,
    ];
    let report = Report::of(fleet.kurir(&arguments)).await;
    let (verdict, detail, _) = report.of_check("roles", &url);
    assert_eq!(verdict, "problem");
    assert!(
        detail.starts_with("not ready: ") && detail.contains("broker: "),
        "{detail}"
    );
    let nowhere = report.of_check("roles", "http://kurir:***@127.0.0.1:1");
    assert_eq!(nowhere.0, "problem");
}
