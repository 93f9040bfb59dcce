//! A database per test: a copy of a template that has the whole schema, made once per state of `migrations/`.
//!
//! Copying takes a tenth of the time of migrating, and nextest runs each test in its own process, so the template
//! is kept in the server under a name that holds the schema's hash; who finds none makes it under an
//! advisory lock. A template that was not finished never has the final name.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use url::Url;

use crate::owner;

pub(crate) const VARIABLE: &str = "KURIR_DATABASE_URL";
const DATABASE: &str = "kurir_test_";
const TEMPLATE: &str = "kurir_template_";
const TEMPLATE_LOCK: i64 = 0x6b75_7269_7274;
/// A template of other migrations may be another checkout's, which will notice and make it again.
const TEMPLATE_AGE: Duration = Duration::from_secs(24 * 3600);
const COPY_TRIES: u32 = 5;
const POOL_SIZE: u32 = 5;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const DROP_LIMIT: Duration = Duration::from_secs(5);

/// One test's own database, with all migrations and nothing in it. Dropped with this value, whoever is still
/// connected.
#[derive(Debug)]
pub struct Database {
    server: Url,
    name: String,
    url: String,
    pool: PgPool,
}

/// A fresh database on the server of `KURIR_DATABASE_URL`.
pub async fn database() -> Database {
    let url = std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!("{VARIABLE} is not set: run `make test`, or source .local/env.sh")
    });
    Database::on(&url).await
}

impl Database {
    /// A fresh database on the server of this URL, whose user must be allowed to create databases.
    pub async fn on(url: &str) -> Self {
        Self::make(url)
            .await
            .unwrap_or_else(|error| panic!("no database for this test: {error:#}"))
    }

    async fn make(url: &str) -> anyhow::Result<Self> {
        let server = Url::parse(url).context("the database's address is no URL")?;
        let mut connection = connect(&server).await?;
        if owner::may_sweep("databases") {
            sweep(&mut connection).await;
        }
        let name = owner::name(DATABASE);
        copy_template(&mut connection, &server, &name).await?;
        connection.close().await.ok();

        let own = with_database(&server, &name);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_SIZE)
            .acquire_timeout(CONNECT_LIMIT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // What a test looks at is no cost of the product. Needs a superuser; else it is counted.
                    let _ = sqlx::query("set pg_stat_statements.track = 'none'")
                        .execute(connection)
                        .await;
                    Ok(())
                })
            })
            .connect_lazy_with(PgConnectOptions::from_str(own.as_str())?);
        Ok(Self {
            server,
            name,
            url: own.into(),
            pool,
        })
    }

    /// For the processes and pools under test.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// For the test's own looks: a few connections, made when first used. `statements` does not count them.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Ends all connections to this database but those of `pool`, as a restart of the server would for its
    /// clients; answers how many there were.
    pub async fn disconnect_everybody(&self) -> usize {
        let mut connection = connect(&self.server).await.expect("the server answers");
        let ended: Vec<bool> = sqlx::query_scalar(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = $1 and application_name <> 'testkit'",
        )
        .bind(&self.name)
        .fetch_all(&mut connection)
        .await
        .expect("the user may end its own connections");
        ended.len()
    }

    /// Forgets what was counted so far; see `statements`. Also forgets databases that are gone: their statements stay
    /// in the server's one table and would fill it.
    pub async fn reset_statements(&self) {
        sqlx::query(
            "select pg_stat_statements_reset(0, dbid, 0)
             from (select distinct dbid from pg_stat_statements where dbid not in (select oid from pg_database)) gone",
        )
        .execute(&self.pool)
        .await
        .expect("pg_stat_statements is loaded (deploy/local/postgres.sh does) and may be reset");
        sqlx::query(
            "select pg_stat_statements_reset(0, (select oid from pg_database where datname = current_database()), 0)",
        )
        .execute(&self.pool)
        .await
        .expect("pg_stat_statements is loaded (deploy/local/postgres.sh does) and may be reset");
    }

    /// What was executed in this database since `reset_statements`: one call is one round trip (`begin` and `commit`
    /// included), whether it did one row or a batch. Statements inside functions are not counted.
    ///
    /// Panics if the server had to forget statements meanwhile, because then the counts are too low.
    pub async fn statements(&self) -> Statements {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "select query, calls, rows from pg_stat_statements
             where dbid = (select oid from pg_database where datname = current_database()) and toplevel
               and query not like '%pg_stat_statements%'
             order by calls desc, query",
        )
        .fetch_all(&self.pool)
        .await
        .expect("pg_stat_statements is loaded (deploy/local/postgres.sh does)");
        let full: bool = sqlx::query_scalar(
            "select (select count(*) from pg_stat_statements) >= current_setting('pg_stat_statements.max')::int * 0.95",
        )
        .fetch_one(&self.pool)
        .await
        .expect("the server knows its own limit");
        assert!(
            !full,
            "pg_stat_statements is full and forgets statements: raise pg_stat_statements.max"
        );
        Statements(
            rows.into_iter()
                .map(|(query, calls, rows)| Statement { query, calls, rows })
                .collect(),
        )
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        owner::farewell(DROP_LIMIT, async move {
            let mut connection = connect(&server).await?;
            drop_database(&mut connection, &name).await
        });
    }
}

/// One kind of statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Text with `$n` in place of values.
    pub query: String,
    pub calls: i64,
    pub rows: i64,
}

/// What was executed; most calls first.
#[derive(Clone, Debug)]
pub struct Statements(pub Vec<Statement>);

impl Statements {
    /// All round trips.
    pub fn calls(&self) -> i64 {
        self.0.iter().map(|statement| statement.calls).sum()
    }

    /// Round trips of statements whose text contains this.
    pub fn calls_of(&self, part: &str) -> i64 {
        self.0
            .iter()
            .filter(|statement| statement.query.contains(part))
            .map(|statement| statement.calls)
            .sum()
    }
}

async fn connect(url: &Url) -> anyhow::Result<PgConnection> {
    let options = PgConnectOptions::from_str(url.as_str())?
        .application_name("testkit")
        .disable_statement_logging();
    tokio::time::timeout(CONNECT_LIMIT, options.connect())
        .await
        .with_context(|| format!("no connection within {CONNECT_LIMIT:?}"))?
        .context("no connection to the database server")
}

fn with_database(server: &Url, name: &str) -> Url {
    let mut url = server.clone();
    url.set_path(name);
    url
}

async fn copy_template(
    connection: &mut PgConnection,
    server: &Url,
    name: &str,
) -> anyhow::Result<()> {
    let template = format!("{TEMPLATE}{}", schema::hash());
    let mut last = None;
    for _ in 0..COPY_TRIES {
        ensure_template(connection, server, &template).await?;
        match execute(
            connection,
            format!("create database {name} template {template}"),
        )
        .await
        {
            Ok(()) => return Ok(()),
            // Somebody (autovacuum, a newcomer's sweep) was in it, or has removed it.
            Err(error) => last = Some(error),
        }
    }
    bail!("the template {template} cannot be copied: {last:?}")
}

async fn ensure_template(
    connection: &mut PgConnection,
    server: &Url,
    template: &str,
) -> anyhow::Result<()> {
    if exists(connection, template).await? {
        return Ok(());
    }
    sqlx::query("select pg_advisory_lock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut *connection)
        .await?;
    let made = make_template(connection, server, template).await;
    sqlx::query("select pg_advisory_unlock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut *connection)
        .await?;
    made
}

async fn make_template(
    connection: &mut PgConnection,
    server: &Url,
    template: &str,
) -> anyhow::Result<()> {
    if exists(connection, template).await? {
        return Ok(());
    }
    let unfinished = format!("{template}_new");
    drop_database(connection, &unfinished).await?;
    execute(
        connection,
        format!("create database {unfinished} template template0"),
    )
    .await?;
    execute(
        connection,
        format!("comment on database {unfinished} is '{}'", owner::now()),
    )
    .await?;
    let mut inside = connect(&with_database(server, &unfinished)).await?;
    schema::migrate(&mut inside)
        .await
        .context("migrations/ cannot be applied")?;
    // Only tests that count statements need it, and they say so if it is missing.
    let _ = execute(
        &mut inside,
        "create extension if not exists pg_stat_statements".to_owned(),
    )
    .await;
    inside.close().await?;
    execute(
        connection,
        format!("alter database {unfinished} rename to {template}"),
    )
    .await?;
    Ok(())
}

async fn exists(connection: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(connection)
        .await
}

async fn drop_database(connection: &mut PgConnection, name: &str) -> anyhow::Result<()> {
    execute(
        connection,
        format!("drop database if exists {name} with (force)"),
    )
    .await
    .with_context(|| format!("{name} cannot be dropped"))
}

/// For statements that take no parameters. Every name in them was made here.
async fn execute(connection: &mut PgConnection, statement: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .map(drop)
}

/// Best effort: somebody else may be sweeping too.
async fn sweep(connection: &mut PgConnection) {
    let found: Vec<(String, Option<String>)> = sqlx::query_as(
        "select datname, shobj_description(oid, 'pg_database') from pg_database where starts_with(datname, 'kurir_t')",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap_or_default();
    for (name, made) in found {
        let old = name.starts_with(TEMPLATE)
            && made
                .and_then(|seconds| seconds.parse::<u64>().ok())
                .is_some_and(|made| owner::now().saturating_sub(made) > TEMPLATE_AGE.as_secs());
        if old || owner::is_left_behind(&name, DATABASE) {
            let _ = drop_database(connection, &name).await;
        }
    }
}
