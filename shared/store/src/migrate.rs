//! The migrations of the folder `migrations`, embedded: the binary that needs a schema brings it.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Row, SqlSafeStr};

use crate::{Error, Pool};

/// Number, name and text, in order. A test compares it with the folder.
const EMBEDDED: &[(i64, &str, &str)] = &[
    (
        1,
        "tenancy_and_messages",
        include_str!("../../../migrations/0001_tenancy_and_messages.sql"),
    ),
    (
        2,
        "links",
        include_str!("../../../migrations/0002_links.sql"),
    ),
    (
        3,
        "link_functions",
        include_str!("../../../migrations/0003_link_functions.sql"),
    ),
    (
        4,
        "budgets",
        include_str!("../../../migrations/0004_budgets.sql"),
    ),
    (
        5,
        "replays",
        include_str!("../../../migrations/0005_replays.sql"),
    ),
    (
        6,
        "several_connections",
        include_str!("../../../migrations/0006_several_connections.sql"),
    ),
    (
        7,
        "holds",
        include_str!("../../../migrations/0007_holds.sql"),
    ),
    (
        8,
        "census",
        include_str!("../../../migrations/0008_census.sql"),
    ),
];

fn migrator() -> Migrator {
    let migrations = EMBEDDED
        .iter()
        .map(|&(version, name, sql)| {
            Migration::new(
                version,
                name.into(),
                MigrationType::Simple,
                AssertSqlSafe(sql.to_owned()).into_sql_str(),
                false,
            )
        })
        .collect();
    Migrator::with_migrations(migrations)
}

/// Brings the schema up to date; the second time it does nothing. Two processes at once wait for each other.
/// A migration that was applied with another text is refused by name.
pub async fn migrate(pool: &Pool) -> Result<(), Error> {
    migrator().run(pool).await.map_err(Error::Migration)
}

/// Names of the migrations not yet applied, in order: a role starts only when there are none.
pub async fn pending(pool: &Pool) -> Result<Vec<String>, Error> {
    let known: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(pool)
        .await?;
    let mut applied = Vec::new();
    if known {
        for row in sqlx::query("select version from _sqlx_migrations where success")
            .fetch_all(pool)
            .await?
        {
            applied.push(row.try_get::<i64, _>("version")?);
        }
    }
    Ok(EMBEDDED
        .iter()
        .filter(|(version, ..)| !applied.contains(version))
        .map(|(version, name, _)| format!("{version:04}_{name}"))
        .collect())
}

/// Numbers of applied migrations that this build does not have: a newer build has been here. And of those that were begun
/// and did not end well. Nothing where there is no list of migrations yet.
pub async fn strange(pool: &Pool) -> Result<(Vec<i64>, Vec<i64>), Error> {
    let known: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(pool)
        .await?;
    if !known {
        return Ok((Vec::new(), Vec::new()));
    }
    let rows: Vec<(i64, bool)> =
        sqlx::query_as("select version, success from _sqlx_migrations order by version")
            .fetch_all(pool)
            .await?;
    let newer = rows.iter().map(|(version, _)| *version);
    let newer = newer.filter(|version| EMBEDDED.iter().all(|(known, ..)| known != version));
    let failed = rows.iter().filter(|(_, success)| !success);
    Ok((
        newer.collect(),
        failed.map(|(version, _)| *version).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder of migrations")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| name.ends_with(".sql"))
            .collect();
        files.sort();
        let embedded: Vec<String> = EMBEDDED
            .iter()
            .map(|(version, name, _)| format!("{version:04}_{name}.sql"))
            .collect();
        assert_eq!(files, embedded);
    }
}
