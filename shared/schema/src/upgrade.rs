//! From the last release to this build, with rows in every table.
//!
//! `last_release/` is what an upgrade starts from: the number of its last migration stands below, `functions.sql` holds its
//! functions one file after the other, `rows.sql` a row for every table. When a release is made, record it anew:
//! `cat migrations/functions/*.sql > shared/schema/src/last_release/functions.sql`, the number, the release, rows for new tables.

use std::collections::BTreeMap;
use std::time::Duration;

use event::{OrderKey, SubjectVersion};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use store::links::{
    ClaimItem, ClaimVerdict, Completed, Completion, LinkKey, Links, Reservation, Reserved,
};
use uuid::Uuid;

use super::{EMBEDDED, functions, migrate, migrator, pending};

const LAST_MIGRATION: i64 = 1;
const LAST_RELEASE: &str = "0.1.0";
const LAST_FUNCTIONS: &str = include_str!("last_release/functions.sql");
const ROWS: &str = include_str!("last_release/rows.sql");

/// Tables and `table.column`s that a migration since then has emptied, changed or taken away on purpose.
const CHANGED: &[&str] = &["circuit.canary_until"];
/// What the migrator writes itself.
const ITS_OWN: &[&str] = &["applied_function", "_sqlx_migrations"];

async fn last_release(connection: &mut PgConnection) {
    run(
        connection,
        "drop schema public cascade; create schema public",
    )
    .await;
    let landed: Vec<_> = EMBEDDED
        .iter()
        .copied()
        .filter(|(version, ..)| *version <= LAST_MIGRATION)
        .collect();
    migrator(&landed)
        .run(&mut *connection)
        .await
        .expect("the migrations of the last release");
    functions::bring_up_to(connection, functions::parts(LAST_FUNCTIONS), LAST_RELEASE)
        .await
        .expect("the functions of the last release");
    run(connection, ROWS).await;
}

async fn run(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(connection)
        .await
        .expect("statements");
}

/// By table: its rows, in one order.
async fn rows(connection: &mut PgConnection) -> BTreeMap<String, Vec<Value>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables
         where table_schema = current_schema() and table_type = 'BASE TABLE'",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("tables");
    let mut all = BTreeMap::new();
    for table in tables {
        let statement = format!("select to_jsonb(t) from {table} t order by t.*::text");
        let rows = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_all(&mut *connection)
            .await
            .expect("rows");
        all.insert(table, rows);
    }
    all
}

/// Of the columns that both have.
fn differences(table: &str, before: &[Value], after: &[Value]) -> Vec<String> {
    if before.len() != after.len() {
        return vec![format!(
            "{table}: {} rows, then {}",
            before.len(),
            after.len()
        )];
    }
    let mut found = Vec::new();
    for (before, after) in before.iter().zip(after) {
        let columns = before.as_object().expect("a row").iter();
        for (column, value) in columns {
            let name = format!("{table}.{column}");
            if !CHANGED.contains(&name.as_str()) && after.get(column) != Some(value) {
                found.push(format!("{name}: {value}, then {:?}", after.get(column)));
            }
        }
    }
    found
}

#[tokio::test]
async fn rows_of_the_last_release_survive_an_upgrade() {
    let database = testkit::database().await;
    let mut connection = PgConnection::connect(database.url()).await.expect("there");
    last_release(&mut connection).await;
    let before = rows(&mut connection).await;
    let empty: Vec<_> = before
        .iter()
        .filter(|(_, rows)| rows.is_empty())
        .map(|(table, _)| table)
        .collect();
    assert!(empty.is_empty(), "last_release/rows.sql lacks {empty:?}");

    migrate(&mut connection).await.expect("an upgrade");

    let left = pending(&mut connection).await.expect("an answer");
    assert!(left.is_empty(), "{left:?}");
    let after = rows(&mut connection).await;
    let mut wrong = Vec::new();
    for (table, before) in &before {
        if ITS_OWN.contains(&table.as_str()) || CHANGED.contains(&table.as_str()) {
            continue;
        }
        let after = after.get(table).map(Vec::as_slice).unwrap_or_default();
        wrong.extend(differences(table, before, after));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    works(database.url()).await;
}

/// A record that the last release has linked gets its next version from this build.
async fn works(url: &str) {
    let settings = store::Settings::new(SecretString::from(url));
    let pool = store::connect(&settings, Duration::from_secs(5))
        .await
        .expect("a pool");
    let links = Links::new(pool.clone(), "kurir", Duration::from_secs(30));
    let version = SubjectVersion::parse("2").expect("a version");
    let k = OrderKey::new(&version, false, "e2", 0);
    let token = Uuid::new_v4();
    let claimed = links
        .claim("metakocka-sync", vec![claim(&k, token)], false)
        .await
        .expect("a claim");
    let [ClaimVerdict::Granted(granted)] = claimed.as_slice() else {
        panic!("{claimed:?}");
    };
    assert_eq!(granted.link.target_id.as_deref(), Some("1600"));
    let effect = Uuid::new_v4();
    let reserved = links
        .reserve(reservation(effect, granted.link.id, token, &k))
        .await;
    assert!(matches!(reserved, Ok(Reserved::Yes(_))), "{reserved:?}");
    let completion = Completion {
        outcome: None,
        effect,
        link: granted.link.id,
        token,
        target_id: Some("1600".to_owned()),
        base: json!({ "name": { "sent": "Ana K." } }),
        parts: json!({}),
        natural_keys: None,
        what: "updated".to_owned(),
        note: json!({}),
        keep_lease: false,
        answered: true,
    };
    let completed = links.complete(completion).await;
    assert!(matches!(completed, Ok(Completed::Ended)), "{completed:?}");
    // The dead letter that the last release held closes, and takes its item of a replay along.
    sqlx::query("update dead_letter set held_for = null")
        .execute(&pool)
        .await
        .expect("one dead letter");
    let state: String = sqlx::query_scalar("select state from replay_item")
        .fetch_one(&pool)
        .await
        .expect("its item");
    assert_eq!(state, "done");
}

fn claim(k: &OrderKey, token: Uuid) -> ClaimItem {
    ClaimItem {
        link: Ok(LinkKey {
            tenant: "shop".to_owned(),
            kind: "contact".to_owned(),
            source_system: "crm".to_owned(),
            source_account: "main".to_owned(),
            source_id: "1".to_owned(),
            target_system: "metakocka".to_owned(),
            connection_id: "00000000-0000-0000-0000-0000000000c1"
                .parse()
                .expect("an id"),
        }),
        tenant: "shop".to_owned(),
        k: Some(k.clone()),
        source: "urn:crm".to_owned(),
        event_id: "e2".to_owned(),
        generation: 0,
        token,
        natural_keys: vec!["email:ana@example.com".to_owned()],
        event_type: "crm.contact.updated.v1".to_owned(),
        subject: "contact/1".to_owned(),
        body: b"{}".to_vec(),
        properties: json!({}),
        headers: json!({}),
        facet: None,
        claim_as: None,
        content: None,
        references: Vec::new(),
        later: false,
    }
}

fn reservation(effect: Uuid, link: i64, token: Uuid, k: &OrderKey) -> Reservation {
    Reservation {
        refers: Vec::new(),
        effect,
        link,
        token,
        source: "urn:crm".to_owned(),
        event_id: "e2".to_owned(),
        generation: 0,
        k: Some(k.clone()),
        operation: "update",
        last: true,
        request: json!({}),
        target_id: Some("1600".to_owned()),
        settle: Duration::from_secs(180),
    }
}
