//! What an event costs Postgres with 10³ to 10⁶ links in its tables. Each number of links has a database of its own, so
//! that the rounds can be interleaved; the links are copies of one that Kurir itself has made.

use std::time::Instant;

use testkit::Database;

use crate::contacts::tax_digits;
use crate::fill::Message;
use crate::harness::Harness;
use crate::report::{Bound, Report, median, ratios};
use crate::{Size, fill};

/// Whole and quick.
const LINKS: [[i64; 4]; 2] = [
    [1_000, 10_000, 100_000, 1_000_000],
    [100, 1_000, 10_000, 100_000],
];
/// The link that all others are copies of.
const FIRST: u64 = 1;
/// What the claim, the reservation and the completion of events took in the server, in ms, and how many events.
const SPENT: &str = "select coalesce(sum(total_exec_time), 0)::float8
    from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database()) and toplevel
      and (query like '%claim_links(%' or query like '%reserve_effects(%' or query like '%complete_effects(%')";

struct Stock {
    links: i64,
    database: Database,
    version: u32,
    spent: Vec<f64>,
    speed: Vec<f64>,
}

pub(crate) async fn measure(harness: &Harness, size: Size, report: &mut Report) {
    let rounds = size.of(4, 2);
    let mut stocks = Vec::new();
    for links in LINKS[size.of(0, 1)] {
        stocks.push(stock(harness, links).await);
    }
    for round in 0..rounds {
        for turn in 0..stocks.len() {
            let at = (turn + round) % stocks.len();
            run(harness, &mut stocks[at], size.of(1_000, 100)).await;
        }
    }
    for stock in &stocks {
        let what = format!("update with {} links", stock.links);
        report.line("links", &what, "ms in Postgres per event", &stock.spent);
        report.line("links", &what, "events/s", &stock.speed);
    }
    let (few, many) = (&stocks[0], &stocks[stocks.len() - 1]);
    report.target(
        &format!(
            "time in Postgres per event with {} links, as a multiple of that with {}",
            many.links, few.links
        ),
        Bound::AtMost(1.3),
        median(&ratios(&many.spent, &few.spent)),
    );
}

/// A database with so many links, as if each had been created and its history kept.
async fn stock(harness: &Harness, links: i64) -> Stock {
    let database = testkit::database().await;
    harness.account(&database);
    let worker = harness
        .role_on(&database, &["worker", crate::harness::WORKER])
        .await;
    harness.partner.forget();
    let first = message(harness, FIRST, 1);
    harness.filler.fill(&harness.exchange(), &[first]).await;
    harness.partner.has(1).await;
    fill::holds(&harness.broker, &harness.queue(), 0).await;
    worker.stop().await;
    for statement in copies(links) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(database.pool())
            .await
            .unwrap();
    }
    Stock {
        links,
        database,
        version: 1,
        spent: Vec::new(),
        speed: Vec::new(),
    }
}

fn message(harness: &Harness, number: u64, version: u32) -> Message {
    Message {
        body: harness.source.taxed(number, version),
        ..harness.message(number, version, 0)
    }
}

/// Rows of every table that an event of a linked record reads or writes.
fn copies(links: i64) -> Vec<String> {
    let link_columns = "tenant, kind, source_system, source_account, target_system, connection_id, worker, state, desired_k,
        applied_k, target_parts";
    let effect_columns = "tenant, source, event_id, generation, k, operation, state, last, request,
        sent_at, settle_at, resolved_at, created_at";
    let each = format!("generate_series({}, {links}) n", FIRST + 1);
    let digits = tax_digits(FIRST);
    vec![
        format!(
            "insert into link (source_id, target_id, base, {link_columns})
             select 'org-' || n, n::text, replace(replace(base::text, '{digits}', lpad(n::text, 9, '0')),
               'Vrtnarstvo {FIRST}\"', 'Vrtnarstvo ' || n || '\"')::jsonb, {link_columns} from link, {each}"
        ),
        format!(
            "insert into natural_key_claim (tenant, connection_id, kind, natural_key, link_id, claimed_at)
             select c.tenant, c.connection_id, c.kind, replace(c.natural_key, '{digits}', lpad(l.target_id, 9, '0')), l.id,
               c.claimed_at
             from natural_key_claim c, link l where l.source_id <> 'org-{FIRST}'"
        ),
        format!(
            "insert into effect (id, link_id, target_id, {effect_columns})
             select gen_random_uuid(), l.id, l.target_id, {}
             from effect e, link l where l.source_id <> 'org-{FIRST}'",
            effect_columns
                .split(',')
                .map(|column| format!("e.{}", column.trim()))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        format!(
            "insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, target_id, detail)
             select l.id, h.tenant, h.at, h.what, h.k, h.source, h.event_id, h.generation, l.target_id, h.detail
             from link_history h, link l where l.source_id <> 'org-{FIRST}'"
        ),
        "vacuum analyze link".to_owned(),
        "vacuum analyze natural_key_claim".to_owned(),
        "vacuum analyze effect".to_owned(),
        "vacuum analyze link_history".to_owned(),
    ]
}

/// Changes organizations all over the stock.
async fn run(harness: &Harness, stock: &mut Stock, events: u64) {
    stock.version += 1;
    let links = stock.links.unsigned_abs();
    let events = events.min(links);
    let spread = links / events;
    let messages: Vec<_> = (0..events)
        .map(|event| message(harness, FIRST + event * spread, stock.version))
        .collect();
    harness.filler.fill(&harness.exchange(), &messages).await;
    harness.partner.forget();
    stock.database.reset_statements().await;
    let begun = Instant::now();
    let worker = harness
        .role_on(&stock.database, &["worker", crate::harness::WORKER])
        .await;
    let all = usize::try_from(events).unwrap();
    harness.partner.has(1).await;
    let first = begun.elapsed();
    let last = harness.partner.has(all).await;
    fill::holds(&harness.broker, &harness.queue(), 0).await;
    worker.stop().await;
    let spent: f64 = sqlx::query_scalar(SPENT)
        .fetch_one(stock.database.pool())
        .await
        .unwrap();
    stock.spent.push(spent / events as f64);
    let took = (last - begun).saturating_sub(first);
    stock.speed.push(events as f64 / took.as_secs_f64());
}
