//! docs/events.md is true: its programs run as they stand, and its tables name what the code says.
//!
//! A program whose interpreter or library is not on this machine is not run, because `make test` must pass on a
//! machine with only Rust; with `KURIR_TEST_DOCS=all`, as in CI, that is a failure.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use event::{DecodeClass, Event};
use secrecy::SecretString;
use tokio::process::Command;
use tokio::time::timeout;

use crate::{DEMO_TOKEN, generous, start};

const DOCUMENT: &str = include_str!("../../../../docs/events.md");
const ALL: &str = "KURIR_TEST_DOCS";
/// A program that has not ended by then hangs.
const PROGRAM_LIMIT: Duration = Duration::from_secs(30);
/// Fetching a library once.
const INSTALL_LIMIT: Duration = Duration::from_secs(120);

/// The program behind `<!-- test: name -->`, as it stands in the document.
fn program(name: &str) -> &'static str {
    let marker = format!("<!-- test: {name} -->\n```");
    let begin = DOCUMENT
        .find(&marker)
        .unwrap_or_else(|| panic!("no program '{name}' in docs/events.md"));
    let fenced = &DOCUMENT[begin + marker.len()..];
    let (_, code) = fenced.split_once('\n').expect("a language");
    code.split_once("\n```").expect("an end of the fence").0
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("docs-{name}"));
    std::fs::create_dir_all(&folder).expect("a folder for the program");
    folder
}

async fn succeeds(limit: Duration, folder: &Path, command: &[&str]) -> bool {
    let mut process = Command::new(command[0]);
    process
        .args(&command[1..])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let ended = timeout(limit, process.kill_on_drop(true).status()).await;
    ended.is_ok_and(|ended| ended.is_ok_and(|status| status.success()))
}

/// Whether the program can be run here; if not, that is said, or fails the test where everything must run.
#[expect(
    clippy::print_stderr,
    reason = "who runs the tests reads which program was left out"
)]
fn runnable(name: &str, missing: Option<&str>) -> bool {
    let Some(missing) = missing else {
        return true;
    };
    assert!(
        std::env::var(ALL).as_deref() != Ok("all"),
        "the program '{name}' needs {missing}"
    );
    eprintln!("docs/events.md: the program '{name}' was not run, it needs {missing}");
    false
}

/// Runs a program of the document; panics with what it wrote if it fails.
async fn run(
    folder: &Path,
    interpreter: &str,
    file: &str,
    name: &str,
    environment: &[(&str, &str)],
) -> String {
    std::fs::write(folder.join(file), program(name)).expect("written");
    let output = Command::new(interpreter)
        .arg(file)
        .current_dir(folder)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PROGRAM_LIMIT, output)
        .await
        .expect("the program ends")
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "'{name}' failed: {said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// Runs one of the HTTP programs against a gateway, and gives the events that reached the bus.
async fn by_http(name: &str, interpreter: &str, file: &str) -> Vec<Event> {
    let folder = folder(name);
    let tool = if interpreter == "sh" {
        "curl"
    } else {
        interpreter
    };
    let missing = (!succeeds(PROGRAM_LIMIT, &folder, &[tool, "--version"]).await).then_some(tool);
    if !runnable(name, missing) {
        return Vec::new();
    }
    let gateway = start(&generous()).await;
    let url = gateway.http.address("");
    let said = run(
        &folder,
        interpreter,
        file,
        name,
        &[("KURIR_URL", &url), ("KURIR_TOKEN", DEMO_TOKEN)],
    )
    .await;
    let published = gateway.bus.published.lock().expect("lock").clone();
    let events: Vec<Event> = published
        .iter()
        .map(|message| event::decode(&message.body).expect("valid"))
        .collect();
    for event in &events {
        assert!(
            said.contains(&event.id),
            "'{name}' does not say that {} was accepted: {said}",
            event.id
        );
    }
    assert!(!events.is_empty(), "'{name}' published nothing");
    events
}

#[tokio::test]
async fn the_curl_example_runs() {
    for event in by_http("curl", "sh", "example.sh").await {
        assert_eq!(
            (event.subject.as_str(), event.version.is_some()),
            ("contact/512", true)
        );
    }
}

#[tokio::test]
async fn the_node_example_for_http_runs() {
    for event in by_http("node-http", "node", "example.mjs").await {
        assert_eq!(event.subject, "contact/513");
    }
}

#[tokio::test]
async fn the_python_example_for_http_runs() {
    let subjects: Vec<String> = by_http("python-http", "python3", "example.py")
        .await
        .into_iter()
        .map(|event| event.subject)
        .collect();
    assert!(
        subjects.is_empty() || subjects == ["contact/515", "contact/516"],
        "{subjects:?}"
    );
}

/// Runs one of the AMQP programs against a broker of its own; its message must be one that a worker takes.
async fn by_amqp(name: &str, interpreter: &str, folder: &Path, file: &str, subject: &str) {
    let bus = testkit::broker().await;
    let mut settings = broker::Settings::new(SecretString::from(bus.amqp_url()));
    bus.prefix().clone_into(&mut settings.prefix);
    let broker = broker::Broker::start(settings).expect("an address");
    broker.connected(PROGRAM_LIMIT).await.expect("connected");
    let topology = broker.topology();
    topology.declare_events(&broker).await.expect("declared");
    let environment = [
        ("KURIR_AMQP_URL", bus.amqp_url()),
        ("KURIR_EXCHANGE", &topology.events()),
    ];
    let said = run(folder, interpreter, file, name, &environment).await;
    let taken = crate::bus::kept(&bus).await;
    let [message] = taken.as_slice() else {
        panic!("'{name}' published {taken:?}")
    };
    let event = event::decode(&message.body).expect("valid");
    assert_eq!(event.subject, subject);
    assert_eq!(message.routing_key, event.routing_key());
    assert_eq!(
        message
            .properties
            .message_id()
            .as_ref()
            .map(ToString::to_string),
        Some(event.id.clone())
    );
    assert_eq!(*message.properties.delivery_mode(), Some(2));
    assert!(said.contains(&event.id), "{said}");
}

#[tokio::test]
async fn the_node_example_for_amqp_runs() {
    let folder = folder("node-amqp");
    let install = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        ".",
        "amqplib@0.10",
    ];
    let there = folder.join("node_modules/amqplib").exists()
        || succeeds(INSTALL_LIMIT, &folder, &install).await;
    if runnable("node-amqp", (!there).then_some("node and amqplib")) {
        by_amqp("node-amqp", "node", &folder, "example.mjs", "contact/514").await;
    }
}

#[tokio::test]
async fn the_python_example_for_amqp_runs() {
    let folder = folder("python-amqp");
    let python = folder.join("venv/bin/python");
    let python = python.to_str().expect("a path in UTF-8");
    let import = [python, "-c", "import pika"];
    let there = succeeds(PROGRAM_LIMIT, &folder, &import).await
        || (succeeds(INSTALL_LIMIT, &folder, &["python3", "-m", "venv", "venv"]).await
            && succeeds(
                INSTALL_LIMIT,
                &folder,
                &[python, "-m", "pip", "install", "--quiet", "pika==1.3.2"],
            )
            .await);
    if runnable(
        "python-amqp",
        (!there).then_some("python3 with venv, and pika"),
    ) {
        by_amqp("python-amqp", python, &folder, "example.py", "contact/517").await;
    }
}

#[test]
fn every_refusal_has_its_row() {
    let others = [
        "unauthorized",
        "forbidden",
        "not_found",
        "method_not_allowed",
        "too_slow",
        "not_publishable",
    ];
    let later = [
        "unsupported_media_type",
        "rate_limited",
        "unavailable",
        "overloaded",
    ];
    for name in DecodeClass::ALL
        .map(DecodeClass::as_str)
        .into_iter()
        .chain(others)
        .chain(later)
    {
        let row = |line: &str| line.starts_with("| 4") || line.starts_with("| 5");
        let there = DOCUMENT
            .lines()
            .any(|line| row(line) && line.contains(&format!("`{name}`")));
        assert!(there, "docs/events.md has no row for {name}");
    }
}

#[test]
fn every_type_is_in_the_document() {
    for event_type in event::EventType::ALL {
        assert!(
            DOCUMENT.contains(&format!("`{event_type}`")),
            "{event_type}"
        );
    }
}
