//! The schema, embedded: the binary that needs it brings it. Tables come by the numbered migrations of the folder
//! `migrations`, once each; functions by the files of `migrations/functions`, whenever their text changes.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod functions;
#[cfg(test)]
mod upgrade;

use sha2::{Digest, Sha256};
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr};

/// Number, name and text, in order. A test compares it with the folder.
const EMBEDDED: &[(i64, &str, &str)] = &[
    (
        1,
        "baseline",
        include_str!("../../../migrations/0001_baseline.sql"),
    ),
    (
        2,
        "many_links",
        include_str!("../../../migrations/0002_many_links.sql"),
    ),
    (
        3,
        "terms",
        include_str!("../../../migrations/0003_terms.sql"),
    ),
];

/// The caller holds the lock.
fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = migrations
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
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.set_locking(false);
    migrator
}

/// Brings the schema up to date; the second time it does nothing. Two processes at once wait for each other: the lock is the
/// session's, so after an error the caller closes the connection.
///
/// # Errors
/// A migration that was applied with another text is refused by name; what Postgres refuses.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    connection.lock().await?;
    migrator(EMBEDDED).run(&mut *connection).await?;
    functions::bring_up_to(connection, functions::embedded(), functions::RELEASE).await?;
    connection.unlock().await
}

/// What is not applied yet, in order: names of migrations, then of functions that are missing, have another text or are to
/// go. A role starts only when there is none. What a later release has replaced counts as applied.
pub async fn pending(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let applied = applied(connection).await?;
    let mut names: Vec<String> = EMBEDDED
        .iter()
        .filter(|(version, ..)| !applied.contains(&(*version, true)))
        .map(|(version, name, _)| format!("{version:04}_{name}"))
        .collect();
    names.extend(functions::out_of_date(connection).await?.names());
    Ok(names)
}

/// Of all texts, 16 hexadecimal digits: databases of one hash are alike.
pub fn hash() -> String {
    let mut hash = Sha256::new();
    for (_, name, sql) in EMBEDDED {
        hash.update(name);
        hash.update(sql);
    }
    functions::hash_all(&mut hash);
    hex::encode(hash.finalize()).split_off(48)
}

/// Numbers of applied migrations that this build does not have: a newer build has been here. And of those that were begun
/// and did not end well. Nothing where there is no list of migrations yet.
pub async fn unknown_versions(connection: &mut PgConnection) -> sqlx::Result<(Vec<i64>, Vec<i64>)> {
    let rows = applied(connection).await?;
    let newer = rows.iter().map(|(version, _)| *version);
    let newer = newer.filter(|version| EMBEDDED.iter().all(|(known, ..)| known != version));
    let failed = rows.iter().filter(|(_, success)| !success);
    Ok((
        newer.collect(),
        failed.map(|(version, _)| *version).collect(),
    ))
}

/// Numbers of the migrations that were begun, and whether they ended well.
async fn applied(connection: &mut PgConnection) -> sqlx::Result<Vec<(i64, bool)>> {
    let known: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !known {
        return Ok(Vec::new());
    }
    sqlx::query_as("select version, success from _sqlx_migrations order by version")
        .fetch_all(connection)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &str) -> Vec<String> {
        let folder = format!("{}/../../{folder}", env!("CARGO_MANIFEST_DIR"));
        let entries = std::fs::read_dir(folder).expect("the folder");
        let mut files: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".sql"))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn every_file_of_the_folders_is_embedded() {
        let migrations: Vec<String> = EMBEDDED
            .iter()
            .map(|(version, name, _)| format!("{version:04}_{name}.sql"))
            .collect();
        assert_eq!(files("migrations"), migrations);
        assert_eq!(files("migrations/functions"), functions::files());
    }

    /// `migrations/landed.txt`: sha256 and name, as `sha256sum` writes them.
    #[test]
    fn a_landed_migration_is_never_edited() {
        let landed: Vec<(&str, &str)> = include_str!("../../../migrations/landed.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once("  ").expect("a hash and a name"))
            .collect();
        let here: Vec<(String, String)> = EMBEDDED
            .iter()
            .map(|(version, name, sql)| {
                let hash = hex::encode(Sha256::digest(sql));
                (hash, format!("{version:04}_{name}.sql"))
            })
            .collect();
        for ((hash, name), (hash_here, name_here)) in landed.iter().zip(&here) {
            assert_eq!(name, name_here, "landed migrations keep their order");
            assert_eq!(
                hash, hash_here,
                "{name} has landed: write the change as the next migration"
            );
        }
        assert_eq!(
            landed.len(),
            here.len(),
            "a migration that is new here gets its line in migrations/landed.txt: {:?}",
            here.get(landed.len()..)
        );
    }
}
