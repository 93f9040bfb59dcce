//! Addresses of broker, database and collector: followed as they are written, or refused before anything is opened. TLS
//! with an authority of one's own is believed where a setting or this machine says so, and nowhere else; whoever meets it
//! is told which setting helps.

use std::net::SocketAddr;
use std::time::Duration;

use outbound::Url;
use serde_json::Value;
use testkit::{Authority, Collector, Front, Kurir, wait_for};

use crate::fleet::{END, Fleet, SOON};
use crate::run::kurir;

const LOCAL: [&str; 2] = ["localhost", "127.0.0.1"];
/// rustls-native-certs reads it in place of the system's store.
const SYSTEM_STORE: &str = "SSL_CERT_FILE";

fn target(url: &str) -> SocketAddr {
    let url = Url::parse(url).unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    address.parse().unwrap()
}

/// The same user and path elsewhere.
fn moved(url: &str, scheme: &str, host: &str, port: u16) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    let (user, rest) = rest.split_once('@').unwrap();
    let (_, path) = rest.split_once('/').unwrap();
    format!("{scheme}://{user}@{host}:{port}/{path}")
}

fn amqps(fleet: &Fleet, front: &Front, host: &str) -> String {
    let port = front.address().port();
    moved(fleet.broker.amqp_url(), "amqps", host, port)
}

async fn detail_of_broker(role: &testkit::Running) -> Value {
    let answer = role.http("health").get("/readyz").await.unwrap();
    answer.json()["checks"]["broker"]["detail"].clone()
}

async fn broker_of_doctor(kurir: Kurir) -> (Value, Value) {
    let ended = kurir.run(END).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let found = report["findings"].as_array().unwrap().iter();
    let mut reached = found.filter(|one| one["subject"] == "broker" && one["check"] == "reachable");
    let one = reached.next().unwrap();
    (one["detail"].clone(), one["next"].clone())
}

#[test]
fn addresses_that_would_not_hold_are_named_together_before_anything_is_opened() {
    let environment = [
        (
            "KURIR_AMQP_URL",
            "amqps://kurir:geheim@127.0.0.1:1/%2f?cacertfile=/etc/ca.pem&verify=verify_peer",
        ),
        ("KURIR_AMQP__CA_FILE", "/nowhere/ca.pem"),
        (
            "KURIR_DATABASE_URL",
            "postgres://kurir:geheim@a.example,b.example/kurir?target_session_attrs=read-write",
        ),
        ("KURIR_WORKER__SLOTS", "0"),
    ];
    for command in [["gateway"], ["keeper"], ["up"], ["doctor"]] {
        let ran = kurir(&command, &environment, "");
        assert_eq!(ran.code, 78, "{}", ran.shown());
        assert!(!ran.shown().contains("geheim"));
        if command == ["gateway"] {
            insta::assert_snapshot!(ran.shown());
        }
    }
}

#[test]
fn an_address_without_a_virtual_host_or_with_a_zone_says_what_to_write() {
    for (url, says) in [
        ("amqp://kurir:geheim@127.0.0.1:1/", "write /%2f, or no path"),
        ("amqp://kurir:geheim@[::1]:1/", "write /%2f, or no path"),
        ("amqp://kurir:geheim@[fe80::1%25lo]:1/%2f", "zone"),
        ("amqp://kurir:geheim@:1/%2f", "no host"),
        ("amqp://kurir:ge?heim@h/%2f", "%3f"),
    ] {
        let ran = kurir(&["topology", "check"], &[("KURIR_AMQP_URL", url)], "");
        assert_eq!(ran.code, 78, "{}", ran.shown());
        assert!(ran.stderr.contains(says), "{}", ran.shown());
        assert!(!ran.shown().contains("heim"), "{}", ran.shown());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_address_leads_to_that_address() {
    let fleet = Fleet::start().await;
    let front = Front::plain("[::1]:0", target(fleet.broker.amqp_url())).await;
    let url = moved(
        fleet.broker.amqp_url(),
        "amqp",
        "[::1]",
        front.address().port(),
    );
    let declare = fleet
        .kurir(&["topology", "declare"])
        .env("KURIR_AMQP_URL", url);
    declare.run(END).await.expect(0);
    assert_eq!(front.taken(), 2, "both connections came by it");
    let front = Front::plain("[::1]:0", target(fleet.database.url())).await;
    let url = moved(
        fleet.database.url(),
        "postgres",
        "[::1]",
        front.address().port(),
    );
    let list = fleet
        .kurir(&["tenant", "list"])
        .env("KURIR_DATABASE_URL", url);
    list.run(END).await.expect(0);
    assert!(front.taken() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_the_virtual_host_of_the_connection_whatever_its_name() {
    let fleet = Fleet::start().await;
    let management = fleet.broker.management();
    let host = format!("{} č/%+", fleet.broker.vhost());
    management.make_vhost(&host).await.unwrap();
    let encoded = host
        .replace('%', "%25")
        .replace(' ', "%20")
        .replace('/', "%2f");
    let (before, _) = fleet.broker.amqp_url().rsplit_once('/').unwrap();
    let url = format!("{before}/{encoded}");
    let at = |arguments: &[&str]| fleet.kurir(arguments).env("KURIR_AMQP_URL", &url);
    at(&["topology", "declare"]).run(END).await.expect(0);
    let checked = at(&["topology", "check"]).run(END).await.expect(0);
    let ended = at(&["doctor", "--json"]).run(END).await;
    management.delete_vhost(&host).await.unwrap();
    assert!(
        checked.stdout.contains("everything is there"),
        "{}",
        checked.stdout
    );
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let told = ended.stdout.as_str();
    assert!(told.contains(&format!("virtual host {host}")), "{told}");
    let findings = report["findings"].as_array().unwrap();
    let of = |subject: &str| {
        let found = findings.iter().filter(|one| one["subject"] == subject);
        found.map(|one| one["verdict"].clone()).collect::<Vec<_>>()
    };
    for subject in ["broker", "queues", "policies", "permissions"] {
        let verdicts = of(subject);
        let well = verdicts.iter().all(|one| one == "ok" || one == "warning");
        assert!(!verdicts.is_empty() && well, "{subject}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_an_authority_of_ones_own_is_believed_by_the_setting_or_by_the_system() {
    let fleet = Fleet::start().await;
    let authority = Authority::new();
    let front = Front::tls(&authority, &LOCAL, target(fleet.broker.amqp_url())).await;
    let at = |arguments: &[&str], host: &str| {
        fleet
            .kurir(arguments)
            .env("KURIR_AMQP_URL", amqps(&fleet, &front, host))
    };
    for host in LOCAL {
        at(&["topology", "declare"], host)
            .setting("amqp.ca_file", authority.file().display())
            .run(END)
            .await
            .expect(0);
    }
    at(&["topology", "declare"], "localhost")
        .env(SYSTEM_STORE, authority.file())
        .run(END)
        .await
        .expect(0);
    // A whole role, and the authority among others.
    let other = Authority::new();
    let bundle = format!(
        "{}{}",
        std::fs::read_to_string(other.file()).unwrap(),
        std::fs::read_to_string(authority.file()).unwrap()
    );
    std::fs::write(other.file(), bundle).unwrap();
    let gateway = at(&["gateway"], "localhost")
        .setting("amqp.ca_file", other.file().display())
        .listen("health", "health.gateway")
        .listen("gateway", "gateway.listen")
        .start();
    gateway.ready(SOON).await;
    assert_eq!(detail_of_broker(&gateway).await, "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_not_believed_is_told_with_the_setting_that_helps() {
    let fleet = Fleet::start().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let front = Front::tls(&authority, &["localhost"], target(fleet.broker.amqp_url())).await;
    let gateway = |url: String| {
        fleet
            .kurir(&["gateway"])
            .env("KURIR_AMQP_URL", url)
            .listen("health", "health.gateway")
            .listen("gateway", "gateway.listen")
    };
    let stranger = gateway(amqps(&fleet, &front, "localhost"))
        .setting("amqp.ca_file", other.file().display())
        .start();
    let elsewhere = gateway(amqps(&fleet, &front, "127.0.0.1"))
        .setting("amqp.ca_file", authority.file().display())
        .start();
    let plain = target(fleet.broker.amqp_url()).port();
    let plain = moved(fleet.broker.amqp_url(), "amqps", "127.0.0.1", plain);
    let plain = gateway(plain).start();
    for (role, says) in [
        (&stranger, "set amqp.ca_file"),
        (&elsewhere, "is not for the host"),
        (&plain, "does not speak TLS"),
    ] {
        wait_for("readiness says what helps", SOON, async || {
            let detail = detail_of_broker(role).await;
            let told = detail.as_str().is_some_and(|text| text.contains(says));
            if told { Ok(()) } else { Err(detail) }
        })
        .await;
        let logged = |line: &str| line.contains(says) && line.contains("not connected");
        role.line("what helps", SOON, logged).await;
        assert!(role.status().is_none(), "it tries again, for ever");
    }
    let url = amqps(&fleet, &front, "localhost");
    let doctor = fleet
        .kurir(&["doctor", "--json"])
        .env("KURIR_AMQP_URL", &url);
    let (_, next) = broker_of_doctor(doctor).await;
    assert!(next.as_str().unwrap().contains("amqp.ca_file"), "{next}");
    let check = fleet
        .kurir(&["topology", "check"])
        .env("KURIR_AMQP_URL", url);
    let ended = check.run(END).await.expect(69);
    assert!(
        ended.stderr.contains("set amqp.ca_file"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_an_authority_of_ones_own_is_believed_by_its_address_or_by_the_system() {
    let fleet = Fleet::start().await;
    let authority = Authority::new();
    let front = Front::postgres(&authority, &LOCAL, target(fleet.database.url())).await;
    let port = front.address().port();
    let at = |host: &str, arguments: &str| {
        let url = moved(fleet.database.url(), "postgres", host, port);
        fleet
            .kurir(&["tenant", "list"])
            .env("KURIR_DATABASE_URL", format!("{url}?{arguments}"))
    };
    let file = authority.file().display();
    let verified = format!("sslmode=verify-full&sslrootcert={file}");
    for host in LOCAL {
        at(host, &verified).run(END).await.expect(0);
    }
    at("localhost", "sslmode=verify-full")
        .env(SYSTEM_STORE, authority.file())
        .run(END)
        .await
        .expect(0);
    at("localhost", "sslmode=require").run(END).await.expect(0);
    let refused = at("localhost", "sslmode=verify-full")
        .run(END)
        .await
        .expect(69);
    assert!(
        refused.stderr.contains("add sslrootcert="),
        "{}",
        refused.stderr
    );
    let ended = at("localhost", &format!("sslmode=require&sslrootcert={file}"));
    let ended = ended.run(END).await.expect(78);
    assert!(
        ended.stderr.contains("sslmode=verify-full"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_with_an_authority_of_ones_own_is_believed_by_its_variable() {
    let fleet = Fleet::start().await;
    let authority = Authority::new();
    let collector = Collector::start().await;
    let front = Front::tls(&authority, &LOCAL, target(&collector.endpoint())).await;
    let endpoint = format!("https://localhost:{}", front.address().port());
    let traced = |kurir: Kurir| {
        kurir
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .env("OTEL_TRACES_SAMPLER", "always_on")
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
    };
    let refused = traced(fleet.keeper())
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")
        .run(END)
        .await
        .expect(78);
    let says = "OTEL_EXPORTER_OTLP_CERTIFICATE is `/nowhere/ca.pem`: it must be a file";
    assert!(refused.stderr.contains(says), "{}", refused.stderr);
    let worker = traced(fleet.worker())
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.file())
        .start();
    worker.ready(SOON).await;
    let mut source = testkit::Contacts::new(crate::fleet::TENANT, 1);
    fleet
        .publish(&crate::fleet::plain(&mut source).created())
        .await;
    wait_for(
        "spans arrive",
        Duration::from_secs(20),
        async || match collector.spans().len() {
            0 => Err("none"),
            _ => Ok(()),
        },
    )
    .await;
}
