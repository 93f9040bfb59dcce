//! Second servers, which a test may kill, freeze and restart without disturbing the others.
//!
//! They are started by the scripts of `deploy/local/`, in folders of their own, and removed with their value.
//! A broker needs ten seconds to start: keep such tests few.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::broker::{self, Broker};
use crate::database::{self, Database};
use crate::owner;

/// A private RabbitMQ.
#[derive(Debug)]
pub struct Rabbit(Server);

/// A private PostgreSQL.
#[derive(Debug)]
pub struct Postgres(Server);

impl Rabbit {
    /// Started and empty.
    pub async fn start() -> Self {
        Self(Server::start("broker", broker::VARIABLE).await)
    }

    /// A part of this broker, as `testkit::broker` gives one of the shared broker.
    pub async fn broker(&self) -> Broker {
        Broker::on(&self.0.url, self.0.management_url.as_deref()).await
    }

    /// What it keeps in tables that it writes with a delay is on disk afterwards, above all which queues it has: one that was
    /// declared within the last second comes back empty from a `kill`, whatever was confirmed in it meanwhile.
    pub async fn flush(&self) {
        let all = "[ok = dets:sync(Table) || Table <- dets:all()], ok.";
        self.ctl(&["-q", "eval", all]).await;
    }

    /// `rabbitmqctl` on this node; answers what it wrote.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let port = std::fs::read_to_string(self.0.folder.join("port"))
            .expect("a started server has a port");
        let mut command = Command::new(scripts().join("rabbitmq.sh"));
        command
            .arg("ctl")
            .arg(&self.0.folder)
            .arg(port.trim())
            .args(arguments);
        output(command)
            .await
            .unwrap_or_else(|error| panic!("rabbitmqctl {arguments:?}: {error:#}"))
    }
}

impl Postgres {
    /// Started, with an empty database.
    pub async fn start() -> Self {
        Self(Server::start("database", database::VARIABLE).await)
    }

    /// A database of this server, as `testkit::database` gives one of the shared server.
    pub async fn database(&self) -> Database {
        Database::on(&self.0.url).await
    }
}

macro_rules! restartable {
    ($($server:ty),*) => {$(
        impl $server {
            /// Orderly. Answers when all its processes are gone.
            pub async fn stop(&self) {
                self.0.call("stop").await;
            }

            /// `kill -9` of all its processes.
            pub async fn kill(&self) {
                self.0.call("kill").await;
            }

            /// After `stop` or `kill`: same data, same port. Panics if the port was taken meanwhile.
            pub async fn start_again(&self) {
                self.0.start_again().await;
            }

            /// `SIGSTOP`: connections stay open and nothing answers.
            pub async fn pause(&self) {
                self.0.call("pause").await;
            }

            /// `SIGCONT`.
            pub async fn resume(&self) {
                self.0.call("resume").await;
            }
        }
    )*};
}
restartable!(Rabbit, Postgres);

const FOLDER: &str = "server_";

#[derive(Debug)]
struct Server {
    kind: &'static str,
    variable: &'static str,
    folder: PathBuf,
    url: String,
    management_url: Option<String>,
}

impl Server {
    async fn start(kind: &'static str, variable: &'static str) -> Self {
        if owner::may_sweep("servers") {
            sweep();
        }
        let folder = owner::folder().join(owner::name(FOLDER));
        let mut server = Self {
            kind,
            variable,
            folder,
            url: String::new(),
            management_url: None,
        };
        let exports = server.call("start").await;
        server.url = exported(&exports, variable).expect("a started server says where it is");
        server.management_url = exported(&exports, broker::MANAGEMENT_VARIABLE);
        server
    }

    async fn start_again(&self) {
        let exports = self.call("start").await;
        let url = exported(&exports, self.variable).expect("a started server says where it is");
        assert_eq!(
            self.url, url,
            "the port was taken by somebody else meanwhile"
        );
    }

    async fn call(&self, action: &str) -> String {
        let mut command = Command::new(scripts().join("stack.sh"));
        command.arg(self.kind).arg(action).arg(&self.folder);
        output(command)
            .await
            .unwrap_or_else(|error| panic!("{} {action}: {error:#}", self.kind))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        destroy(self.kind, &self.folder);
    }
}

fn destroy(kind: &str, folder: &Path) {
    let _ = std::process::Command::new(scripts().join("stack.sh"))
        .args([kind, "destroy"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
}

/// Servers of test processes that were killed.
fn sweep() {
    for entry in std::fs::read_dir(owner::folder())
        .into_iter()
        .flatten()
        .flatten()
    {
        if owner::is_left_behind(&entry.file_name().to_string_lossy(), FOLDER) {
            // Which of the two it was is not written anywhere; there is nothing of the other kind to destroy.
            destroy("broker", &entry.path());
            destroy("database", &entry.path());
        }
    }
}

async fn output(mut command: Command) -> anyhow::Result<String> {
    // Servers that the script starts would keep a pipe open, so it writes to files.
    let (out, err) = (tempfile()?, tempfile()?);
    let status = command
        .stdin(Stdio::null())
        .stdout(out.1)
        .stderr(err.1)
        .status()
        .await
        .context("the script cannot be run")?;
    let (written, said) = (
        std::fs::read_to_string(&out.0)?,
        std::fs::read_to_string(&err.0)?,
    );
    let _ = (std::fs::remove_file(&out.0), std::fs::remove_file(&err.0));
    ensure!(status.success(), "{status}: {said}");
    Ok(written)
}

fn tempfile() -> anyhow::Result<(PathBuf, std::fs::File)> {
    let path = owner::folder().join(owner::name("output_"));
    let file = std::fs::File::create(&path)?;
    Ok((path, file))
}

/// The value of `export NAME=value`.
fn exported(text: &str, name: &str) -> Option<String> {
    text.lines()
        .find_map(|line| {
            line.strip_prefix("export ")?
                .strip_prefix(name)?
                .strip_prefix('=')
        })
        .map(str::to_owned)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local")
}
