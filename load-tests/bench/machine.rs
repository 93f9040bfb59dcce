//! Where it was measured: without that a number means nothing.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::Serialize;
use serde_json::Value;

use crate::harness::Harness;
use crate::process::client;

/// What a reader needs to compare these numbers with others.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    processors: usize,
    memory_gb: f64,
    kernel: String,
    /// Before anything of ours ran: others use the machine too.
    load_before: String,
    rabbitmq: String,
    postgres: String,
    /// Of the server that was used; the private one does not wait for the disk.
    fsync: String,
    synchronous_commit: String,
    rustc: String,
    pub(crate) revision: String,
    profile: &'static str,
}

/// What can be seen without servers.
pub(crate) fn look_before() -> Machine {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
    };
    let kilobytes = after(&file("/proc/meminfo"), "MemTotal");
    let kilobytes: f64 = kilobytes
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    let load = file("/proc/loadavg");
    let changed = !said("git", &["status", "--porcelain"]).is_empty();
    Machine {
        cpu: after(&file("/proc/cpuinfo"), "model name"),
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        memory_gb: kilobytes / 1024.0 / 1024.0,
        kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
        load_before: load
            .split(' ')
            .take(3)
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" "),
        rabbitmq: String::new(),
        postgres: String::new(),
        fsync: String::new(),
        synchronous_commit: String::new(),
        rustc: said("rustc", &["--version"]),
        revision: format!(
            "{}{}",
            said("git", &["rev-parse", "--short", "HEAD"]),
            if changed { " with changes" } else { "" }
        ),
        profile: if cfg!(debug_assertions) {
            "debug: these numbers are no measure"
        } else {
            "release"
        },
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

impl Machine {
    /// With what the servers say about themselves.
    pub(crate) async fn complete(mut self, harness: &Harness) -> Self {
        let show = async |name: &str| {
            sqlx::query_scalar::<_, String>("select current_setting($1)")
                .bind(name)
                .fetch_one(harness.database.pool())
                .await
                .unwrap()
        };
        self.postgres = show("server_version").await;
        self.fsync = show("fsync").await;
        self.synchronous_commit = show("synchronous_commit").await;
        let asked = management(harness, "overview").await;
        let of = |name: &str| {
            asked[name]
                .as_str()
                .unwrap_or("unknown: its management API was not there")
                .to_owned()
        };
        self.rabbitmq = of("rabbitmq_version");
        if asked["erlang_version"].is_string() {
            self.rabbitmq = format!("{}, Erlang {}", self.rabbitmq, of("erlang_version"));
        }
        self
    }
}

/// An answer of the broker's management API; null where there is none.
pub(crate) async fn management(harness: &Harness, path: &str) -> Value {
    let Some(url) = harness.broker.management_url() else {
        return Value::Null;
    };
    let url = format!("{}/api/{path}", url.trim_end_matches('/'));
    match client().get(url).send().await {
        Ok(answer) => serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default(),
        Err(_no_answer) => Value::Null,
    }
}

/// The broker's process, where it runs on this machine.
pub(crate) async fn broker_process(harness: &Harness) -> Vec<u32> {
    let nodes = management(harness, "nodes").await;
    let pid = nodes[0]["os_pid"].as_str().and_then(|pid| pid.parse().ok());
    pid.into_iter().collect()
}

/// The server processes that work for our database right now, but for our own looks at it.
pub(crate) async fn database_processes(harness: &Harness) -> Vec<u32> {
    let pids: Vec<i32> = sqlx::query_scalar(
        "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    )
    .fetch_all(harness.database.pool())
    .await
    .unwrap();
    pids.into_iter()
        .filter_map(|pid| u32::try_from(pid).ok())
        .collect()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} processors of {}, {:.0} GB, Linux {}; load before the run {}",
            self.processors, self.cpu, self.memory_gb, self.kernel, self.load_before
        )?;
        writeln!(
            f,
            "RabbitMQ {}; PostgreSQL {} (fsync {}, synchronous_commit {})",
            self.rabbitmq, self.postgres, self.fsync, self.synchronous_commit
        )?;
        write!(
            f,
            "{}, {}, revision {}",
            self.rustc, self.profile, self.revision
        )
    }
}
