//! The users and roles of docs/operations.md, made as it says, on servers of their own: the fleet works as them.

use std::path::PathBuf;

use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use outbound::Url;
use serde_json::Value;
use simulators::metakocka::{Call, Fault, Options, ScriptedFault};
use testkit::instance::{Postgres, Rabbit};
use testkit::{Contacts, Kurir, wait_for};

use crate::fleet::{END, Fate, Fleet, SOON, TENANT, plain, ready};

/// Statements of the page in this language, in their order.
fn statements(language: &str) -> Vec<String> {
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/operations.md"
    ));
    let page = std::fs::read_to_string(path).unwrap();
    let begin = format!("```{language}\n");
    let blocks = page.split(&begin).skip(1);
    let blocks = blocks.filter_map(|rest| rest.split_once("\n```"));
    let lines = blocks.flat_map(|(block, _)| block.lines());
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    assert!(!lines.is_empty(), "no {language} in docs/operations.md");
    lines
}

/// As a shell would cut it; quotes are single ones only.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(|(place, part)| {
            if place % 2 == 1 {
                vec![part.to_owned()]
            } else {
                part.split_whitespace().map(str::to_owned).collect()
            }
        })
        .collect()
}

/// The password that a line of the page gives to this user.
fn password(of: &str, lines: &[String]) -> String {
    let line = lines.iter().find(|line| {
        let user = line.split_whitespace().nth(2);
        user == Some(of) && line.contains("change-me")
    });
    line.unwrap_or_else(|| panic!("no password of {of}"))
        .split('\'')
        .nth(1)
        .unwrap()
        .to_owned()
}

fn as_user(address: &str, user: &str, lines: &[String]) -> String {
    let mut url = Url::parse(address).unwrap();
    url.set_username(user).unwrap();
    url.set_password(Some(&password(user, lines))).unwrap();
    url.into()
}

async fn report(kurir: Kurir) -> Value {
    let ended = kurir.run(END).await;
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// Details of what it says of permissions, by verdict.
fn permissions(report: &Value, verdict: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .filter(|one| one["subject"] == "permissions" && one["verdict"] == verdict)
        .map(|one| {
            format!(
                "{}: {}",
                one["check"].as_str().unwrap(),
                one["detail"].as_str().unwrap()
            )
        })
        .collect()
}

/// Binds a queue as a listener of the tenant `acme`: to its own outcomes, and to nobody else's.
async fn hears_its_own_tenant_alone(url: &str, prefix: &str) {
    let options = ConnectionProperties::default();
    let connection = Connection::connect(url, options).await.unwrap();
    let (queue, exchange) = ("acme.outcomes", format!("{prefix}.outcomes"));
    let none = FieldTable::default;
    let bind = async |key: &str| {
        let channel = connection.create_channel().await.unwrap();
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.into(), durable, none())
            .await
            .unwrap();
        let (exchange, bound) = (exchange.as_str().into(), QueueBindOptions::default());
        channel
            .queue_bind(queue.into(), exchange, key.into(), bound, none())
            .await
            .map_err(|error| error.to_string())
    };
    bind(&format!("*.*.*.{TENANT}")).await.unwrap();
    for foreign in ["#", "*.*.*.other", "sync.completed.v1.*"] {
        let refused = bind(foreign).await.unwrap_err();
        assert!(refused.contains("ACCESS"), "{foreign}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_and_database_rights_of_the_documentation_suffice() {
    let (rabbit, postgres) = tokio::join!(Rabbit::start(), Postgres::start());
    let (broker, database) = tokio::join!(rabbit.broker(), postgres.database());
    let host = broker.amqp_url().rsplit('/').next().unwrap().to_owned();
    let at_broker = statements("sh");
    for line in &at_broker {
        let line = line.replace("-p /", &format!("-p {host}"));
        let line = line.replace("kurir\\.", &format!("{}\\.", broker.prefix()));
        let line = line.replace("kurir.outcomes", &format!("{}.outcomes", broker.prefix()));
        let words = words(&line);
        assert_eq!(words[0], "rabbitmqctl", "{line}");
        rabbit
            .ctl(&words[1..].iter().map(String::as_str).collect::<Vec<_>>())
            .await;
    }
    // As an installer finds it: no tables, and what Postgres 15 grants to everybody.
    let at_database = statements("sql");
    let all = format!(
        "drop schema public cascade; create schema public; {}",
        at_database.join("\n")
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(all))
        .execute(database.pool())
        .await
        .unwrap();
    let url = |user: &str| as_user(database.url(), user, &at_database);
    Kurir::new(env!("CARGO_BIN_EXE_kurir"), ["migrate"])
        .env("KURIR_DATABASE_URL", url("kurir_owner"))
        .run(END)
        .await
        .expect(0);

    let app = url("kurir_app");
    let reader = url("kurir_reader");
    let amqp = |user: &str| as_user(broker.amqp_url(), user, &at_broker);
    let (gateway_user, worker_user) = (amqp("kurir_gateway"), amqp("kurir_worker"));
    let listener = amqp("acme_listener");
    let monitor = as_user(
        broker.management_url().unwrap(),
        "kurir_monitor",
        &at_broker,
    );
    let fleet = Fleet::on(database, broker, Options::default()).await;
    let as_app = |kurir: Kurir, amqp: &str| {
        kurir
            .env("KURIR_DATABASE_URL", &app)
            .env("KURIR_AMQP_URL", amqp)
    };
    // The first of all: it must be able to declare what it needs by itself.
    let gateway = ready(as_app(fleet.gateway(), &gateway_user)).await;
    let (worker, keeper) = tokio::join!(
        ready(as_app(fleet.worker(), &worker_user)),
        ready(as_app(fleet.keeper(), &worker_user)),
    );
    hears_its_own_tenant_alone(&listener, fleet.broker.prefix()).await;
    let create = [
        "token", "create", "--tenant", TENANT, "--name", "crm", "--json",
    ];
    let token = as_app(fleet.kurir(&create), &worker_user)
        .run(END)
        .await
        .expect(0);
    let token: Value = serde_json::from_str(&token.stdout).unwrap();
    let http = gateway
        .http("gateway")
        .with_token(token["secret"].as_str().unwrap());

    let mut source = Contacts::new(TENANT, 3);
    let (mut fine, mut refused) = (plain(&mut source), plain(&mut source));
    let refusal = Fault::Refuse {
        code: 2,
        text: "not this one".to_owned(),
    };
    let refusal = ScriptedFault::new(refusal).on(Call::AddPartner);
    fleet.fault(refusal.containing(refused.name()).always());
    let (fine, refused) = (fine.created(), refused.created());
    http.post_event("/v1/events", &fine)
        .await
        .unwrap()
        .expect(202);
    http.post_event("/v1/events", &refused)
        .await
        .unwrap()
        .expect(202);
    fleet.becomes(&fine, Fate::Covered).await;
    fleet.becomes(&refused, Fate::Dead).await;
    // A replay goes through the outbox and the worker again.
    fleet.simulator.clear_faults();
    let replay = [
        "dead-letters",
        "replay",
        "--tenant",
        TENANT,
        "--yes",
        "--detach",
    ];
    as_app(fleet.kurir(&replay), &worker_user)
        .run(END)
        .await
        .expect(0);
    fleet.becomes(&refused, Fate::Covered).await;

    let doctor = ["doctor", "--json", "--no-partners"];
    let seen = report(as_app(fleet.kurir(&doctor), &worker_user)).await;
    assert_eq!(
        permissions(&seen, "problem"),
        Vec::<String>::new(),
        "{seen:#}"
    );
    assert_eq!(permissions(&seen, "ok").len(), 4, "{seen:#}");
    let narrow = fleet
        .kurir(&doctor)
        .env("KURIR_AMQP_URL", &gateway_user)
        .env("KURIR_DATABASE_URL", &reader);
    let narrow = permissions(&report(narrow).await, "problem");
    assert_eq!(narrow.len(), 3, "{narrow:#?}");
    assert!(
        narrow.iter().all(|line| line.contains(" lacks ")),
        "{narrow:#?}"
    );
    // The monitoring user sees queues and alarms, and is told what it does not.
    let watching =
        as_app(fleet.kurir(&doctor), &worker_user).env("KURIR_RABBITMQ_MANAGEMENT_URL", &monitor);
    let watching = report(watching).await;
    let of = |subject: &str, check: &str| {
        let findings = watching["findings"].as_array().unwrap();
        let found = findings
            .iter()
            .find(|one| one["subject"] == subject && one["check"] == check);
        found.unwrap_or_else(|| panic!("no {subject} {check}: {watching:#}"))["verdict"].clone()
    };
    assert_eq!(of("queues", "declared"), "ok");
    assert_eq!(of("broker", "alarms"), "ok");
    assert_eq!(of("permissions", "broker user"), "not_checked");
    // While there is a broker of one's own: what an alarm looks like.
    let low = ["set_vm_memory_high_watermark", "absolute", "20MB"];
    rabbit.ctl(&low).await;
    wait_for("the doctor names the alarm", SOON, async || {
        let seen = report(as_app(fleet.kurir(&doctor), &worker_user)).await;
        let findings = seen["findings"].as_array().unwrap();
        let found = findings.iter().find(|one| one["check"] == "alarms");
        match found.map(|one| (one["verdict"].as_str(), one["detail"].as_str())) {
            Some((Some("problem"), Some(detail))) if detail.starts_with("out of memory at ") => {
                Ok(())
            }
            _ => Err(seen),
        }
    })
    .await;
    drop((gateway, worker, keeper));
}
