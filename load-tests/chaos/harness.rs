//! What a run stands on: a broker and a database of its own, the simulated partner, tenants with their connections, and
//! the settings of every process: times so short that a lost lease, a settle wait and a re-check fit into a minute.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use simulators::metakocka::{CompanyOptions, Options, RandomFault, Readings, Simulator};
use testkit::instance::{Postgres, Rabbit};
use testkit::{Broker, Database, Ended, Kurir};
use tokio::time::{Instant, sleep};

use crate::workload::{Account, TENANTS, Tenant};

const BINARY: &str = env!("CARGO_BIN_EXE_kurir");
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const CREDENTIALS_VARIABLE: &str = "CHAOS_CREDENTIALS";

/// One command, servers being restarted under it.
const COMMAND: Duration = Duration::from_secs(60);
/// A command that may be repeated while servers come and go.
const COMMAND_REPEATED: Duration = Duration::from_secs(180);
const COMMAND_PAUSE: Duration = Duration::from_millis(500);

/// An unknown outcome is believed to be "absent" this long after it was sent, at the earliest.
const SETTLE: Duration = Duration::from_secs(4);
/// Longest delay of an answer or of a late commit: below the settle time, since later is R1 of docs/tests.md.
pub(crate) const LATEST_MS: u64 = 1_500;
/// Each kind of passing fault happens to this share of the calls; there are 14 of them.
const FAULT_RATE: f64 = 0.004;

pub(crate) const WORKER: &str = "metakocka-sync";
/// Queues of the worker below `<prefix>.`.
pub(crate) const QUEUES: [&str; 8] = [
    "metakocka-sync",
    "metakocka-sync.retry.1s",
    "metakocka-sync.retry.5s",
    "metakocka-sync.retry.30s",
    "metakocka-sync.retry.2m",
    "metakocka-sync.retry.10m",
    "metakocka-sync.retry.1h",
    "metakocka-sync.dead",
];

pub(crate) struct Harness {
    pub(crate) broker: Broker,
    pub(crate) database: Database,
    pub(crate) simulator: Simulator,
    pub(crate) rabbit: Rabbit,
    pub(crate) postgres: Postgres,
    /// Everything that is kept if the run fails.
    pub(crate) folder: PathBuf,
    binary: PathBuf,
    /// Of tenants, for the gateway.
    pub(crate) tokens: BTreeMap<&'static str, String>,
    /// What each company takes now.
    keys: Mutex<BTreeMap<&'static str, String>>,
}

impl Harness {
    /// `folder` is emptied first.
    pub(crate) async fn set(
        seed: u64,
        folder: PathBuf,
        partner_fails: bool,
    ) -> anyhow::Result<Self> {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        // A build beside this run must not change what a restarted process is.
        let binary = folder.join("kurir");
        std::fs::copy(BINARY, &binary).context("the kurir binary cannot be copied")?;
        let (rabbit, postgres) = tokio::join!(Rabbit::start(), Postgres::start());
        let (broker, database) = tokio::join!(rabbit.broker(), postgres.database());
        let mut random_faults = Vec::new();
        if partner_fails {
            random_faults = RandomFault::every_passing_kind(FAULT_RATE, LATEST_MS);
        }
        let accounts: Vec<&Account> = TENANTS.iter().flat_map(|tenant| tenant.accounts).collect();
        let simulator = Simulator::start(Options {
            companies: accounts
                .iter()
                .map(|account| CompanyOptions::new(account.company, first_key(account)))
                .collect(),
            readings: Readings::kind(),
            strict: true,
            seed,
            random_faults,
            ..Options::default()
        })
        .await?;
        let keys = accounts
            .iter()
            .map(|account| (account.company, first_key(account)))
            .collect();
        let mut harness = Self {
            broker,
            database,
            simulator,
            rabbit,
            postgres,
            folder,
            binary,
            tokens: BTreeMap::new(),
            keys: Mutex::new(keys),
        };
        harness.furnish().await?;
        Ok(harness)
    }

    async fn furnish(&mut self) -> anyhow::Result<()> {
        self.repeat(&["topology", "declare"]).await?;
        for tenant in TENANTS {
            self.repeat(&["tenant", "add", tenant.name]).await?;
            for account in tenant.accounts {
                let mut add = vec!["connection", "add", "--json"];
                add.extend(place(tenant, account));
                add.extend(["--credentials-env", CREDENTIALS_VARIABLE]);
                let added = self
                    .command_with(&add, Some(account))
                    .await
                    .and_then(|ended| done(&add, ended))?;
                if let Some(window) = account.window {
                    let id = field(&added, "/connection/id")?;
                    self.repeat(&[
                        "budgets",
                        "set",
                        &id,
                        "--window",
                        window,
                        "--in-flight",
                        "8",
                    ])
                    .await?;
                }
            }
            let create = [
                "token",
                "create",
                "--tenant",
                tenant.name,
                "--name",
                "crm",
                "--json",
            ];
            let token = field(&self.repeat(&create).await?, "/secret")?;
            self.tokens.insert(tenant.name, token);
        }
        Ok(())
    }

    /// Any command or role on these servers.
    pub(crate) fn kurir(&self, arguments: &[&str]) -> Kurir {
        Kurir::new(&self.binary, arguments)
            .database(&self.database)
            .broker(&self.broker)
            .setting("keys.current", "k1")
            .setting("keys.ring.k1", KEY)
            .setting("metakocka.url", self.simulator.base_url())
            .setting("metakocka.allow_private_addresses", true)
            .setting("metakocka.calls_per_second", 0)
            .setting("metakocka.in_flight", 16)
            .setting("metakocka.quota_backoff_seconds", 1)
            .setting("worker.circuit_open_seconds", 1)
            .setting("metakocka.connect_timeout_seconds", 1)
            .setting("metakocka.write_timeout_seconds", 2)
            .setting("metakocka.read_timeout_seconds", 2)
            .setting("metakocka.create_settle_seconds", SETTLE.as_secs())
            .setting("metakocka.update_settle_seconds", SETTLE.as_secs())
            .setting("sync.lease_seconds", 2)
            .setting("sync.send_window_seconds", 2)
            .setting("keeper.janitor_seconds", 1)
            .setting("database.max_connections", 6)
            .setting("worker.slots", 8)
            .setting("worker.prefetch", 128)
    }

    async fn command_with(
        &self,
        arguments: &[&str],
        credentials_of: Option<&Account>,
    ) -> anyhow::Result<Ended> {
        let mut kurir = self.kurir(arguments);
        if let Some(account) = credentials_of {
            let credentials = json!({
                "secret_key": self.key(account.company),
                "company_id": account.company,
            });
            kurir = kurir.env(CREDENTIALS_VARIABLE, credentials.to_string());
        }
        // It panics at its time-out.
        caught(async { Ok(kurir.run(COMMAND).await) })
            .await
            .with_context(|| format!("kurir {}", arguments.join(" ")))
    }

    /// Runs a command until it ends well: servers come and go. Answers with its standard output.
    pub(crate) async fn repeat(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.repeat_with(arguments, None).await
    }

    async fn repeat_with(
        &self,
        arguments: &[&str],
        credentials_of: Option<&Account>,
    ) -> anyhow::Result<String> {
        let begin = Instant::now();
        loop {
            let ended = self.command_with(arguments, credentials_of).await?;
            match done(arguments, ended) {
                Ok(stdout) => return Ok(stdout),
                Err(error) if begin.elapsed() > COMMAND_REPEATED => return Err(error),
                Err(_) => sleep(COMMAND_PAUSE).await,
            }
        }
    }

    /// Once; `Ok(None)` if it ended badly, which is then for its caller to look at later.
    pub(crate) async fn attempt(&self, arguments: &[&str]) -> anyhow::Result<Option<String>> {
        let ended = self.command_with(arguments, None).await?;
        Ok(done(arguments, ended).ok())
    }

    /// What an operator does after the credentials were repaired at the partner.
    pub(crate) async fn test_connection(&self, company: &str) -> anyhow::Result<()> {
        let (tenant, account) = of_company(company)?;
        let mut test = vec!["connection", "test"];
        test.extend(place(tenant, account));
        self.repeat(&test).await.map(drop)
    }

    /// Tells Kurir the credentials that the company takes now.
    pub(crate) async fn update_connection(&self, company: &str) -> anyhow::Result<()> {
        let (tenant, account) = of_company(company)?;
        let mut update = vec!["connection", "update"];
        update.extend(place(tenant, account));
        update.extend(["--credentials-env", CREDENTIALS_VARIABLE]);
        self.repeat_with(&update, Some(account)).await.map(drop)
    }

    /// The company takes another key from now on; `keep` says whether that is the one Kurir is to be told.
    pub(crate) fn change_key(&self, company: &'static str, key: &str, keep: bool) {
        let changed = self.simulator.with_company(company, |company, _| {
            company.set_access(Some(key.into()), None, None);
        });
        debug_assert!(changed.is_ok(), "{company} is a company of the simulator");
        if keep {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.insert(company, key.to_owned());
        }
    }

    /// The key that Kurir is to have for this company.
    pub(crate) fn key(&self, company: &str) -> String {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(company).cloned().unwrap_or_default()
    }

    /// The binary is needed no more.
    pub(crate) fn tidy(&self) {
        let _ = std::fs::remove_file(&self.binary);
    }
}

fn first_key(account: &Account) -> String {
    format!("key-of-{}", account.company)
}

fn place<'a>(tenant: &'a Tenant, account: &'a Account) -> [&'a str; 6] {
    [
        "--tenant",
        tenant.name,
        "--system",
        "metakocka",
        "--account",
        account.name,
    ]
}

/// Whose company it is.
pub(crate) fn of_company(company: &str) -> anyhow::Result<(&'static Tenant, &'static Account)> {
    for tenant in TENANTS {
        for account in tenant.accounts {
            if account.company == company {
                return Ok((tenant, account));
            }
        }
    }
    bail!("no tenant has the company {company}")
}

fn done(arguments: &[&str], ended: Ended) -> anyhow::Result<String> {
    ensure!(
        ended.status.code() == Some(0),
        "kurir {}: {}\n{}",
        arguments.join(" "),
        ended.status,
        ended.stderr
    );
    Ok(ended.stdout)
}

fn field(stdout: &str, pointer: &str) -> anyhow::Result<String> {
    let value: Value = serde_json::from_str(stdout)?;
    let text = value.pointer(pointer).and_then(Value::as_str);
    Ok(text
        .with_context(|| format!("no {pointer} in {stdout}"))?
        .to_owned())
}

/// Where runs keep what they find: `target/chaos/<name>`.
pub(crate) fn folder(name: &str) -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).join("chaos").join(name)
}

/// Panics of the kit become errors, so that what happened can be kept.
pub(crate) async fn caught<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Err(anyhow!(text.unwrap_or_else(|| "a panic".to_owned())))
        }
    }
}
