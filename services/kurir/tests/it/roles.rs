//! Roles as processes: they start, say how they are, take events, and end in order.

use std::io::BufRead as _;
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use testkit::{Http, Kurir, Running, wait_for};

use crate::run::kurir;

const READY: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(80);

struct Servers {
    database: testkit::Database,
    broker: testkit::Broker,
}

async fn servers() -> Servers {
    Servers {
        database: testkit::database().await,
        broker: testkit::broker().await,
    }
}

impl Servers {
    fn role(&self, arguments: &[&str]) -> Kurir {
        Kurir::new(env!("CARGO_BIN_EXE_kurir"), arguments)
            .database(&self.database)
            .broker(&self.broker)
            .setting("keys.current", "k1")
            .setting(
                "keys.ring.k1",
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            )
    }

    fn gateway(&self) -> Kurir {
        self.role(&["gateway"])
            .listen("health", "health.gateway")
            .listen("gateway", "gateway.listen")
    }

    /// A tenant with a token, by the command line.
    async fn tenant(&self, id: &str) -> String {
        self.role(&["tenant", "add", id]).run(END).await.expect(0);
        let create = ["token", "create", "--tenant", id, "--name", "crm", "--json"];
        let created = self.role(&create).run(END).await.expect(0);
        let created: serde_json::Value = serde_json::from_str(&created.stdout).unwrap();
        created["secret"].as_str().unwrap().to_owned()
    }
}

async fn report(running: &Running) -> serde_json::Value {
    running.http("health").get("/readyz").await.unwrap().json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_becomes_ready_takes_an_event_and_ends_in_order() {
    let servers = servers().await;
    let token = servers.tenant("acme").await;
    let gateway = servers.gateway().start();
    gateway.ready(READY).await;
    let report = report(&gateway).await;
    assert_eq!(report["checks"]["database"]["ok"], true, "{report}");
    assert_eq!(report["checks"]["broker"]["ok"], true, "{report}");
    let event = json!({
        "specversion": "1.0", "id": "e1", "source": "urn:kurir:acme:crm:default", "type": "crm.contact.created.v1",
        "tenantid": "acme", "data": { "contact": { "id": "1", "kind": "person", "name": "Živa Čuk" } },
    });
    let http: Http = gateway.http("gateway").with_token(&token);
    http.post_event("/v1/events", &event)
        .await
        .unwrap()
        .expect(202);
    published_by_the_command_line(&gateway, &token, &event).await;
    // No worker has declared its queue yet: events are kept and seen, not lost.
    let unrouted = servers.broker.queue("unrouted");
    let depth = async || servers.broker.depth(&unrouted).await.unwrap();
    testkit::wait_until("both to be kept", END, depth, |depth| *depth == Some(2)).await;
    let kept = servers.broker.take(&unrouted, 2).await.unwrap();
    assert_eq!(
        kept.iter()
            .map(|one| one.json()["id"].clone())
            .collect::<Vec<_>>(),
        ["e1", "e1"]
    );
    gateway.terminate();
    let ended = gateway.ended(END).await;
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keeper_becomes_ready_and_ends_in_order() {
    let servers = servers().await;
    let keeper = servers
        .role(&["keeper"])
        .listen("health", "health.keeper")
        .start();
    keeper.ready(READY).await;
    let dead = servers.broker.queue("metakocka-sync.dead");
    wait_for(
        "the ledger to read the dead-letter queue",
        READY,
        async || match servers.broker.consumers(&dead).await.unwrap() {
            Some(1) => Ok(()),
            other => Err(other),
        },
    )
    .await;
    keeper.terminate();
    assert_eq!(keeper.ended(END).await.code(), Some(0));
    // Lines are written together; the last of them too.
    keeper
        .line("its last line", END, |line| line.contains("\"stopped\""))
        .await;
}

/// By a person's hand, or because the broker came back without its data: nobody has to be restarted.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_at_the_broker_is_declared_again_by_gateway_and_keeper() {
    let servers = servers().await;
    let token = servers.tenant("acme").await;
    let gateway = servers.gateway().start();
    let keeper = servers
        .role(&["keeper"])
        .listen("health", "health.keeper")
        .start();
    gateway.ready(READY).await;
    keeper.ready(READY).await;
    let channel = servers.broker.channel().await.unwrap();
    let queues = [
        "unrouted",
        "metakocka-sync",
        "metakocka-sync.retry.1s",
        "metakocka-sync.dead",
    ]
    .map(|queue| servers.broker.queue(queue));
    for queue in &queues {
        channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await
            .unwrap();
    }
    for exchange in ["events", "unrouted"] {
        let exchange = servers.broker.queue(exchange);
        channel
            .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
            .await
            .unwrap();
    }
    let event = json!({
        "specversion": "1.0", "id": "e1", "source": "urn:kurir:acme:crm:default", "type": "crm.contact.created.v1",
        "tenantid": "acme", "data": { "contact": { "id": "1", "kind": "person", "name": "Živa Čuk" } },
    });
    let http = gateway.http("gateway").with_token(&token);
    wait_for("the gateway takes events", END, async || {
        match http.post_event("/v1/events", &event).await {
            Ok(answer) if answer.status == 202 => Ok(()),
            Ok(answer) => Err(answer.text),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    for queue in &queues {
        wait_for(queue, END, async || {
            match servers.broker.depth(queue).await {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    // Bound again, and the ledger reads again.
    wait_for("the event is routed", END, async || {
        http.post_event("/v1/events", &event)
            .await
            .unwrap()
            .expect(202);
        match servers.broker.depth(&queues[1]).await.unwrap() {
            Some(depth) if depth > 0 => Ok(()),
            depth => Err(depth),
        }
    })
    .await;
    wait_for("the ledger reads again", END, async || {
        match servers.broker.consumers(&queues[3]).await.unwrap() {
            Some(1) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_on_an_old_schema_or_a_taken_port_ends_at_once_and_says_so() {
    let servers = servers().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = servers
        .role(&["gateway"])
        .setting("health.gateway", "")
        .setting("gateway.listen", &address)
        .run(END)
        .await
        .expect(69);
    assert!(
        ended.stderr.contains("KURIR_GATEWAY__LISTEN"),
        "{}",
        ended.stderr
    );
    sqlx::raw_sql("update applied_function set hash = '' where name = 'claim_links'")
        .execute(servers.database.pool())
        .await
        .unwrap();
    let ended = servers
        .role(&["keeper"])
        .setting("health.keeper", "")
        .run(END)
        .await
        .expect(78);
    assert!(
        ended.stderr.contains("function claim_links")
            && ended.stderr.contains("run `kurir migrate` once"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_at_a_queue_with_other_arguments_ends_at_once_and_names_them() {
    let servers = servers().await;
    let retry_tier = servers.broker.queue("metakocka-sync.retry.1s");
    let mut arguments = FieldTable::default();
    for (name, text) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-exchange", ""),
        (
            "x-dead-letter-routing-key",
            &servers.broker.queue("metakocka-sync"),
        ),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(text.into()));
    }
    for (name, number) in [("x-message-ttl", 2_000), ("x-delivery-limit", 1_000_000)] {
        arguments.insert(name.into(), AMQPValue::LongLongInt(number));
    }
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let channel = servers.broker.channel().await.unwrap();
    channel
        .queue_declare(retry_tier.as_str().into(), durable, arguments)
        .await
        .unwrap();
    let ended = servers
        .role(&["worker", "metakocka-sync"])
        .setting("health.worker", "")
        .run(END)
        .await
        .expect(78);
    let named =
        format!("queue {retry_tier} exists with x-message-ttl = 2000, this version needs 1000");
    assert!(ended.stderr.contains(&named), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_a_role_lives_but_is_not_ready() {
    let servers = servers().await;
    let gateway = servers
        .gateway()
        .env("KURIR_AMQP_URL", "amqp://u:geheim@127.0.0.1:1/%2f")
        .start();
    let alive = wait_for("the process to answer", READY, async || {
        gateway
            .http("health")
            .get("/livez")
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(alive.status, 200);
    let report = wait_for("the database to be seen", READY, async || {
        let answer = gateway.http("health").get("/readyz").await.unwrap();
        let report = answer.json();
        if report["checks"]["database"]["ok"] == true {
            Ok((answer.status, report))
        } else {
            Err(report)
        }
    })
    .await;
    assert_eq!(report.0, 503);
    assert_eq!(report.1["checks"]["broker"]["ok"], false, "{}", report.1);
    assert!(!report.1.to_string().contains("geheim"), "{}", report.1);
    gateway.terminate();
    assert_eq!(gateway.ended(END).await.code(), Some(0));
}

async fn published_by_the_command_line(gateway: &Running, token: &str, event: &serde_json::Value) {
    let address = gateway.http("gateway").address("");
    let publish = ["publish", "--http", address.trim_end_matches('/'), "--json"];
    let input = event.to_string();
    let published = kurir(&publish, &[("KURIR_TOKEN", token)], &input).json();
    assert_eq!(published, json!({ "published": 1, "via": "gateway" }));
    let stranger = kurir(&publish, &[("KURIR_TOKEN", "kurir_nobody")], &input);
    assert_eq!(stranger.code, 4, "{}", stranger.stderr);
    assert_eq!(kurir(&publish, &[], &input).code, 64);
    let nowhere = ["publish", "--http", "http://127.0.0.1:1"];
    assert_eq!(kurir(&nowhere, &[("KURIR_TOKEN", token)], &input).code, 69);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_roles_in_one_process_become_ready_and_end_in_order() {
    let servers = servers().await;
    let up = servers
        .role(&["up"])
        .listen("health", "health.up")
        .setting("gateway.listen", "127.0.0.1:0")
        .start();
    up.ready(READY).await;
    let checks = report(&up).await["checks"].clone();
    for part in [
        "broker",
        "database",
        "exchange",
        "keeper",
        "metakocka-sync",
        "queues",
    ] {
        assert_eq!(checks[part]["ok"], true, "{part}: {checks}");
    }
    up.terminate();
    assert_eq!(up.ended(END).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulator_says_where_it_is_answers_and_ends_when_asked() {
    let mut simulator = std::process::Command::new(env!("CARGO_BIN_EXE_kurir"))
        .args([
            "simulate",
            "metakocka",
            "--port",
            "0",
            "--readings",
            "nasty",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(simulator.stdout.take().unwrap()).lines();
    let mut after = |words: &str| {
        lines
            .next()
            .unwrap()
            .unwrap()
            .strip_prefix(words)
            .unwrap()
            .to_owned()
    };
    let (calls, _control) = (after("Metakocka simulator at "), after("control at "));
    assert_eq!(after("companies: "), "4711");
    let asked = json!({ "secret_key": "sim-key", "company_id": "4711", "partner": { "customer": "Nihče" } });
    let answer = Http::new(calls)
        .post("v1/get_partner", "application/json", asked.to_string())
        .await;
    assert_eq!(answer.unwrap().status, 200);
    let pid = simulator.id().to_string();
    std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .unwrap();
    assert_eq!(simulator.wait().unwrap().code(), Some(0));
}
