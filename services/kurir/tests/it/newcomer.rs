//! The first hour: docs/events.md from its first line to the partner's record beside `make dev`, and `make dev` again.
//!
//! Where there is no curl the page is not run, because `make test` must pass on a machine with only Rust; with
//! `KURIR_TEST_DOCS=all`, as in CI, that is a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Broker, Database, Kurir, Running};

const DOCUMENT: &str = include_str!("../../../../docs/events.md");
const ALL: &str = "KURIR_TEST_DOCS";
const READY: Duration = Duration::from_secs(120);
const STOPPED: Duration = Duration::from_secs(60);
/// For what a shell of the newcomer does, seconds.
const SHELL_SECONDS: &str = "120";

/// The lines behind `<!-- test: name -->`, as they stand on the page.
fn block(name: &str) -> &'static str {
    let marker = format!("<!-- test: {name} -->\n```sh\n");
    let (_, rest) = DOCUMENT.split_once(&marker).unwrap();
    rest.split_once("\n```").unwrap().0
}

/// A folder like a checkout's, beside servers of its own.
struct OperatorCli {
    folder: tempfile::TempDir,
    database: Database,
    broker: Broker,
}

impl OperatorCli {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".local")).unwrap();
        Self {
            folder,
            database: testkit::database().await,
            broker: testkit::broker().await,
        }
    }

    /// `make dev`, but for the servers, which are there.
    fn dev(&self) -> Kurir {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/dev.sh");
        let binary = Path::new(env!("CARGO_BIN_EXE_kurir"));
        let target = binary.parent().unwrap().parent().unwrap();
        Kurir::new("/bin/bash", [script.to_str().unwrap()])
            .database(&self.database)
            .broker(&self.broker)
            .env("DEV_FOLDER", self.folder.path().join(".local"))
            .env("CARGO_TARGET_DIR", target)
            .listen("gateway", "gateway.listen")
            .listen("health", "health.up")
    }

    /// What a second terminal says to these lines.
    #[track_caller]
    fn types(&self, lines: &str) -> String {
        let mut shell = Command::new("timeout");
        shell
            .args([SHELL_SECONDS, "/bin/bash", "-euo", "pipefail", "-c", lines])
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KURIR_") {
                shell.env_remove(name);
            }
        }
        let ended = shell.output().unwrap();
        let said = String::from_utf8(ended.stdout).unwrap();
        let aside = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{lines}\n{said}\n{aside}");
        said
    }

    /// Publishes a change of a record as the page does, and waits until its link is settled again.
    fn publishes(&self, number: u32, id: &str, name: &str) {
        let tax = format!("SI100000{number}");
        let event = block("curl")
            .replace("crm-change-90417", &format!("change-{number}"))
            .replace("\"512\"", &format!("\"{id}\""))
            .replace("SI87654321", &tax)
            .replace(
                "info@cebelarstvo-znidarsic.example",
                &format!("info@{id}.example"),
            )
            .replace("2026-06-17T10", &format!("2026-06-{number}T10"))
            .replace("Čebelarstvo Žnidaršič d.o.o.", name);
        self.types(&format!("{}\n{event}\n{}", block("first"), settled(id)));
    }

    /// `(id, name)` of every partner in the simulator.
    fn partners(&self) -> Vec<(String, String)> {
        let lines = format!(
            "{}\ncurl -sSf \"$SIMULATOR_URL/_sim/companies/4711/partners\"",
            block("first")
        );
        let told: Value = serde_json::from_str(&self.types(&lines)).unwrap();
        let text = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        told["partners"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (text(&one["mk_id"]), text(&one["customer"])))
            .collect()
    }

    fn state(&self) -> PathBuf {
        let folder = self.folder.path().join(".local/simulator");
        let mut files = std::fs::read_dir(folder).unwrap();
        files
            .find_map(|file| {
                let path = file.unwrap().path();
                (path.extension()? == "json").then_some(path)
            })
            .unwrap()
    }
}

fn settled(id: &str) -> String {
    format!(
        "until kurir links list --tenant demo --record contact/{id} | grep -q 'linked.*current'; do sleep 0.2; done"
    )
}

async fn stops(dev: &Running) {
    dev.terminate();
    dev.ended(STOPPED).await;
}

#[expect(
    clippy::print_stderr,
    reason = "who runs the tests reads what was left out"
)]
fn has_curl() -> bool {
    let there = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        assert_ne!(std::env::var(ALL).as_deref(), Ok("all"), "curl is missing");
        eprintln!("docs/events.md was not run: there is no curl");
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_runs_from_its_first_line_to_the_partners_record() {
    if !has_curl() {
        return;
    }
    let cli = OperatorCli::new().await;
    let dev = cli.dev().port("simulator", "SIMULATOR_PORT").start();
    dev.ready(READY).await;
    let said = cli.types(&format!(
        "{}\n{}\necho\n{}\n{}\necho\n{}",
        block("first"),
        block("curl"),
        settled("512"),
        block("became"),
        block("anew"),
    ));
    for expected in [
        r#"{"events":[{"id":"crm-change-90417","source":"urn:kurir:demo:crm:main","status":"accepted"}]}"#,
        "contact/512",
        "created there",
        r#""customer":"Čebelarstvo Žnidaršič d.o.o.""#,
        "87654321",
        "added connection",
    ] {
        assert!(said.contains(expected), "no {expected}:\n{said}");
    }
    stops(&dev).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_goes_on_as_it_was_and_gives_no_id_twice() {
    if !has_curl() {
        return;
    }
    let cli = OperatorCli::new().await;
    let first = cli.dev().port("simulator", "SIMULATOR_PORT").start();
    first.ready(READY).await;
    cli.publishes(11, "512", "Prva d.o.o.");
    let before = cli.partners();
    let beside = cli.dev().run(READY).await.expect(1).stderr;
    assert!(beside.contains("already running"), "{beside}");
    assert!(beside.contains(".local/dev.env"), "{beside}");
    assert_eq!(cli.partners(), before);
    stops(&first).await;

    // The first one's ports stay reserved: the connection leads there.
    let second = cli.dev().start();
    second.ready(READY).await;
    assert_eq!(cli.partners(), before);
    cli.publishes(12, "512", "Prva z novim imenom d.o.o.");
    cli.publishes(13, "513", "Druga d.o.o.");
    let after = cli.partners();
    let names: Vec<&str> = after.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["Prva z novim imenom d.o.o.", "Druga d.o.o."]);
    assert_eq!(after[0].0, before[0].0);
    let doctor = cli.types(&format!("{}\nkurir doctor", block("first")));
    assert!(!doctor.contains("problem"), "{doctor}");
    stops(&second).await;

    std::fs::remove_file(cli.state()).unwrap();
    let third = cli.dev().start();
    third
        .line("a word on the lost state", READY, |line| {
            line.contains("what the simulator held is gone")
        })
        .await;
    third.ready(READY).await;
    cli.publishes(14, "514", "Tretja d.o.o.");
    let anew = cli.partners();
    assert_eq!(anew.len(), 1, "{anew:?}");
    assert!(
        after.iter().all(|(id, _)| *id != anew[0].0),
        "{anew:?} {after:?}"
    );
    stops(&third).await;
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_survives_a_kill_and_serves_one_simulator_only() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let start = || {
        let path = state.to_str().unwrap();
        Kurir::new(
            env!("CARGO_BIN_EXE_kurir"),
            ["simulate", "metakocka", "--port", "0", "--state", path],
        )
    };
    let listening = async |running: &Running| {
        let line = running
            .line("its address", READY, |line| {
                line.starts_with("Metakocka simulator at ")
            })
            .await;
        let address = line.trim_start_matches("Metakocka simulator at ");
        testkit::Http::new(address.trim_end_matches('/').to_owned())
    };
    let adds = async |http: &testkit::Http, name: &str| {
        let partner = json!({ "secret_key": "sim-key", "company_id": "4711", "partner": { "customer": name } });
        let call = http.client().post(http.address("/v1/add_partner"));
        let answer = http.send(call.body(partner.to_string())).await.unwrap();
        answer.json()["mk_id"].as_str().unwrap().to_owned()
    };
    let first = start().start();
    let http = listening(&first).await;
    let one = adds(&http, "Prva").await;
    let refused = start().run(READY).await.expect(4);
    assert!(
        refused.stderr.contains("another simulator"),
        "{}",
        refused.stderr
    );
    first.kill();

    let second = start().start();
    let http = listening(&second).await;
    let two = adds(&http, "Druga").await;
    assert_ne!(one, two);
    let kept: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    let partners = kept["companies"][0]["partners"].as_array().unwrap();
    assert_eq!(partners.len(), 2, "{kept}");
}
