//! `kurir` processes and contenders: as an operator starts them, with their log in a file.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{Port, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_kurir");
const READY_PATH: &str = "/readyz";
/// Between two looks whether a process is ready: small against the time that is measured.
const LOOK: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(60);
/// How `deploy/local/stack.sh run` finds what was left behind.
const RUN_MARK: &str = "KURIR_STACK_RUN";

/// Without the `KURIR_*` variables of our own environment.
pub(crate) fn kurir(arguments: &[&str], environment: &[(String, String)]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("KURIR_") && name != RUN_MARK {
            command.env_remove(name.as_ref());
        }
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Runs a command to its end; its standard output. Ends the benchmark where it fails.
pub(crate) fn run(mut command: Command) -> String {
    let ended = command.output().unwrap();
    assert!(
        ended.status.success(),
        "{command:?}: {}\n{}",
        ended.status,
        String::from_utf8_lossy(&ended.stderr)
    );
    String::from_utf8(ended.stdout).unwrap()
}

/// What a process is told to listen at.
pub(crate) fn address(port: &Port) -> String {
    format!("127.0.0.1:{}", port.number())
}

/// A process that runs until it is stopped or dropped.
pub(crate) struct Process {
    child: Child,
    log: tempfile::NamedTempFile,
    /// Its health routes', where it has any.
    _health: Option<Port>,
    /// From start to ready.
    pub(crate) ready_after: Duration,
}

impl Process {
    /// Its standard output and error go to a file.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let write = || Stdio::from(File::options().append(true).open(log.path()).unwrap());
        let child = command.stdout(write()).stderr(write()).spawn().unwrap();
        Self {
            child,
            log,
            _health: None,
            ready_after: Duration::ZERO,
        }
    }

    /// A role whose health routes listen at `health`; returns when it says that it is ready.
    pub(crate) async fn ready(command: Command, health: Port) -> Self {
        let client = client();
        let url = format!("http://{}{READY_PATH}", address(&health));
        let begun = Instant::now();
        let mut process = Self::spawn(command);
        loop {
            let answer = client.get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            let ended = process.child.try_wait().unwrap();
            if ended.is_some() || begun.elapsed() > LIMIT {
                panic!("not ready, {ended:?}:\n{}", process.log());
            }
            tokio::time::sleep(LOOK).await;
        }
        process.ready_after = begun.elapsed();
        process._health = Some(health);
        process
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Asks it to stop and waits for its end.
    pub(crate) async fn stop(mut self) {
        let sent = Command::new("kill")
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
        let child = &mut self.child;
        wait_for("a process to stop", LIMIT, async || {
            child.try_wait().unwrap().ok_or("still running")
        })
        .await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP client as anybody makes one; connections are kept.
pub(crate) fn client() -> reqwest::Client {
    // A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(LIMIT).build().unwrap()
}
