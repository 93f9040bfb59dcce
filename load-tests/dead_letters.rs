//! 100 000 dead letters: how long a page of a list, of groups and of a search takes; how much memory a replay of all
//! and an export need; and 1 000 that die while Postgres is down. Prints numbers, fails where a promise is broken.
//! `make load-dead-letters`, or with a variable DEAD_LETTERS another number of them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints its numbers, and fails where it cannot go on"
)]

use std::process::Stdio;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::Value;
use store::dead_letters::replay::{self, Order};
use store::dead_letters::{Filter, export, groups, list};
use store::{Pool, Scope};
use testkit::instance::Postgres;
use testkit::{Broker, Contacts, Database, Kurir, Running, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_kurir");
const DEAD_LETTERS: i64 = 100_000;
const TENANTS: i64 = 50;
const CAUSES: i64 = 200;
/// Each page must take less.
const PAGE_LIMIT: Duration = Duration::from_millis(100);
const REPEATS: usize = 7;
const PAGE: i64 = 50;
/// Memory that a process may use more with all dead letters than with none.
const MEMORY_LIMIT_KB: u64 = 64 * 1024;
/// A replay of all runs for so long at full speed.
const REPLAY_TIME: Duration = Duration::from_secs(30);
const DYING: usize = 1_000;
const SOON: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() {
    let dead_letters = std::env::var("DEAD_LETTERS")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(DEAD_LETTERS);
    let (database, broker) = tokio::join!(testkit::database(), testkit::broker());
    let settings = store::Settings::new(SecretString::from(database.url()));
    let pool = store::connect(&settings, SOON).await.unwrap();
    let began = Instant::now();
    fill(&database, dead_letters).await;
    println!(
        "{dead_letters} dead letters written in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let mut broken = pages(&pool, dead_letters).await;
    broken += memory(&database, &broker, &pool, dead_letters).await;
    broken += down().await;
    if broken > 0 {
        println!("{broken} promises are broken");
        std::process::exit(1);
    }
}

/// Bodies of about 700 bytes, causes as unevenly spread as in life.
async fn fill(database: &Database, dead_letters: i64) {
    let statement = format!(
        "insert into dead_letter (id, worker, tenant, source, event_id, type, subject, state, class, fingerprint, message, body,
           properties, headers, first_at, last_at)
         select gen_random_uuid(), 'metakocka-sync', 'tenant-' || n % {TENANTS}, 'urn:kurir:tenant-' || n % {TENANTS} || ':crm:main',
           'evt-' || n, 'crm.contact.updated.v1', 'contact/' || n, case when n % 10 = 0 then 'resolved' else 'open' end,
           (array['refused', 'exhausted', 'schema', 'unmappable'])[1 + cause % 4],
           (array['refused', 'exhausted', 'schema', 'unmappable'])[1 + cause % 4] || ':cause number ' || md5(cause::text),
           'Profit center ''P' || cause || ''' of customer ' || md5(n::text) || ' doesnt exist (code 6, 48 ms)',
           convert_to('{{\"specversion\":\"1.0\",\"id\":\"evt-' || n || '\",\"padding\":\"' || repeat(md5(n::text), 20) || '\"}}', 'UTF8'),
           '{{}}', '{{}}', now() - n * interval '1 s', now() - n * interval '1 s'
         from (select n, (power(random(), 3) * {CAUSES})::int as cause from generate_series(1, {dead_letters}) n) x"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(database.pool())
        .await
        .unwrap();
    sqlx::raw_sql("vacuum analyze dead_letter")
        .execute(database.pool())
        .await
        .unwrap();
}

/// Returns how many pages took too long.
async fn pages(pool: &Pool, dead_letters: i64) -> usize {
    let text = |text: &str| Some(text.to_owned());
    let open = || Filter {
        state: text("open"),
        ..Filter::default()
    };
    let middle = format!("evt-{}", dead_letters / 2 + 1);
    let lists = [
        ("list: first page", open()),
        ("list: any state", Filter::default()),
        (
            "list: rare class of one day",
            Filter {
                class: worker::DeadClass::parse("unmappable"),
                ..open()
            },
        ),
        (
            "search: one event id",
            Filter {
                text: text(&middle),
                ..open()
            },
        ),
        (
            "search: words of every message",
            Filter {
                text: text("doesnt EXIST"),
                ..open()
            },
        ),
        (
            "search: words of no message",
            Filter {
                text: text("profit centre"),
                ..open()
            },
        ),
        (
            "search: business id",
            Filter {
                record: Some((dead_letters / 3).to_string()),
                ..Filter::default()
            },
        ),
    ];
    let mut broken = 0;
    for (what, filter) in &lists {
        broken += measured(what, async || {
            list(pool, Scope::Everything, filter, None, PAGE)
                .await
                .unwrap()
                .len()
        })
        .await;
    }
    let page = list(pool, Scope::Everything, &open(), None, 1000)
        .await
        .unwrap();
    let last = page.last().map(store::dead_letters::After::from);
    broken += measured("list: page 21", async || {
        list(pool, Scope::Everything, &open(), last, PAGE)
            .await
            .unwrap()
            .len()
    })
    .await;
    let tenant = event::TenantId::parse("tenant-7").unwrap();
    broken += measured("list: of one tenant", async || {
        list(pool, Scope::Tenant(&tenant), &open(), None, PAGE)
            .await
            .unwrap()
            .len()
    })
    .await;
    broken += measured("groups", async || {
        groups(pool, Scope::Everything, &open(), None, PAGE)
            .await
            .unwrap()
            .len()
    })
    .await;
    broken += measured("groups: of one tenant", async || {
        groups(pool, Scope::Tenant(&tenant), &open(), None, PAGE)
            .await
            .unwrap()
            .len()
    })
    .await;
    broken += measured("export: a page", async || {
        export(pool, Scope::Everything, &open(), None)
            .await
            .unwrap()
            .len()
    })
    .await;
    broken
}

/// The median of several times; the first one warms up.
async fn measured(what: &str, look: impl AsyncFn() -> usize) -> usize {
    let mut times = Vec::new();
    let mut rows = 0;
    for _ in 0..=REPEATS {
        let began = Instant::now();
        rows = look().await;
        times.push(began.elapsed());
    }
    times.remove(0);
    times.sort();
    let (median, longest) = (times[REPEATS / 2], times[REPEATS - 1]);
    let late = median > PAGE_LIMIT;
    println!(
        "{what:32} {rows:4} rows  median {:6.1} ms  longest {:6.1} ms{}",
        median.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3,
        if late { "  TOO LONG" } else { "" }
    );
    usize::from(late)
}

fn kurir(database: &Database, broker: &Broker, arguments: &[&str]) -> Kurir {
    Kurir::new(BINARY, arguments)
        .database(database)
        .broker(broker)
        .setting("keys.current", "k1")
        .setting(
            "keys.ring.k1",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        )
        .setting("database.max_connections", 6)
}

async fn ready(kurir: Kurir) -> Running {
    let running = kurir.start();
    running.ready(SOON).await;
    running
}

/// The most memory that a process has had, in kB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or_default()
}

/// Keeper and command line with all dead letters at hand. Returns how many use too much.
async fn memory(database: &Database, broker: &Broker, pool: &Pool, dead_letters: i64) -> usize {
    let declare = kurir(database, broker, &["topology", "declare"]);
    declare.run(SOON).await.expect(0);
    let keeper =
        ready(kurir(database, broker, &["keeper"]).listen("health", "health.keeper")).await;
    let idle = peak(keeper.pid());
    let began = Instant::now();
    let all = Filter::default();
    let order = Order {
        filter: &all,
        rate_max: replay::HIGHEST_RATE,
        restamp: false,
        actor: "load test",
        idempotency_key: None,
    };
    let before = peak(std::process::id());
    let ordered = replay::order(pool, Scope::Everything, order).await.unwrap();
    println!(
        "replay of {} dead letters ordered in {:.1} s",
        ordered.dead_letters,
        began.elapsed().as_secs_f64()
    );
    let ordering = peak(std::process::id()) - before;
    // As if many had succeeded: the highest pace at once. Nobody takes them out of the queue; each is counted as done.
    sqlx::query("update replay set rate_now = rate_max")
        .execute(pool)
        .await
        .unwrap();
    let began = Instant::now();
    while began.elapsed() < REPLAY_TIME {
        sqlx::query("update dead_letter set state = 'resolved', resolved_by = 'kurir', resolved_at = now() where state = 'replaying'")
            .execute(pool)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let progress = replay::show(pool, Scope::Everything, ordered.id)
        .await
        .unwrap();
    println!(
        "sent and ended in {} s: {} dead letters ({:.0}/s, with at most 32 under way)",
        REPLAY_TIME.as_secs(),
        progress.counts.done,
        progress.counts.done as f64 / REPLAY_TIME.as_secs_f64()
    );
    let looked = Instant::now();
    replay::show(pool, Scope::Everything, ordered.id)
        .await
        .unwrap();
    println!(
        "progress of it read in {:.1} ms",
        looked.elapsed().as_secs_f64() * 1e3
    );
    let busy = peak(keeper.pid());
    replay::cancel(pool, Scope::Everything, ordered.id)
        .await
        .unwrap();
    let mut broken = compared("keeper", idle, busy);
    broken += compared("whoever orders it", 0, ordering);
    let small = exported(database, "1 s").await;
    let large = exported(database, "3650d").await;
    println!(
        "export of {dead_letters} dead letters: {:.1} s",
        large.1.as_secs_f64()
    );
    broken += compared("export", small.0, large.0);
    keeper.terminate();
    keeper.ended(SOON).await;
    broken
}

/// Memory and time of `kurir dead-letters export` of what died since then.
async fn exported(database: &Database, since: &str) -> (u64, Duration) {
    let since = since.replace(' ', "");
    let began = Instant::now();
    let mut child = std::process::Command::new(BINARY)
        .args([
            "dead-letters",
            "export",
            "--state",
            "any",
            "--since",
            &since,
        ])
        .env("KURIR_DATABASE_URL", database.url())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(peak(child.id()));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (most, began.elapsed())
}

fn compared(what: &str, without: u64, with: u64) -> usize {
    let late = with.saturating_sub(without) > MEMORY_LIMIT_KB;
    println!(
        "memory of {what:18} {:6.1} MB, before {:6.1} MB{}",
        with as f64 / 1024.0,
        without as f64 / 1024.0,
        if late { "  TOO MUCH" } else { "" }
    );
    usize::from(late)
}

/// Postgres is killed, dead letters die, Postgres comes back. Returns how many are not there exactly once.
async fn down() -> usize {
    let postgres = Postgres::start().await;
    let (database, broker) = (postgres.database().await, testkit::broker().await);
    let worker =
        kurir(&database, &broker, &["worker", "metakocka-sync"]).listen("health", "health.worker");
    let keeper = kurir(&database, &broker, &["keeper"]).listen("health", "health.keeper");
    let (worker, keeper) = tokio::join!(ready(worker), ready(keeper));
    postgres.kill().await;
    let mut source = Contacts::new("acme", 1);
    let events: Vec<Value> = (0..DYING)
        .map(|_| {
            let mut event = source.organization().created();
            event["data"]["contact"]["name"] = 7.into();
            event
        })
        .collect();
    let began = Instant::now();
    broker
        .publisher()
        .await
        .unwrap()
        .events(&events)
        .await
        .unwrap();
    let queue = broker.queue("metakocka-sync.dead");
    wait_for(
        "all wait in the dead-letter queue",
        SOON,
        async || match broker.depth(&queue).await.unwrap() {
            Some(depth) if depth as usize == DYING => Ok(()),
            depth => Err(depth),
        },
    )
    .await;
    println!(
        "{DYING} died while Postgres was down: all in the dead-letter queue after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    postgres.start_again().await;
    let began = Instant::now();
    let once = || async {
        sqlx::query_scalar::<_, i64>(
            "select count(*) from dead_letter where state = 'open' and deaths = 1",
        )
        .fetch_one(database.pool())
        .await
    };
    wait_for("all are in Postgres", SOON, async || {
        match (once().await, broker.depth(&queue).await) {
            (Ok(rows), Ok(Some(0))) if rows as usize == DYING => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    println!(
        "{DYING} in Postgres, once each, {:.1} s after it was back",
        began.elapsed().as_secs_f64()
    );
    for process in [&worker, &keeper] {
        process.terminate();
        process.ended(SOON).await;
    }
    let rows = once().await.unwrap();
    let ids: i64 = sqlx::query_scalar("select count(distinct event_id) from dead_letter")
        .fetch_one(database.pool())
        .await
        .unwrap();
    usize::from((rows, ids) != (DYING as i64, DYING as i64))
}
