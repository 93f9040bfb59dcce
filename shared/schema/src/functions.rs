//! The functions of `migrations/functions`: each is made anew when its text here is not the one that the database has.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../migrations/functions/", $name)))),*]
    };
}

/// File and text, in any order: bodies are checked when they are called, so a function may stand before what it calls.
const EMBEDDED: &[(&str, &str)] = embedded![
    "budgets.sql",
    "claim.sql",
    "clock.sql",
    "complete.sql",
    "dead_letters.sql",
    "effects.sql",
    "envelopes.sql",
    "finish.sql",
    "held.sql",
    "hold.sql",
    "leases.sql",
    "link_views.sql",
    "lock.sql",
    "outcomes.sql",
    "record_dead_letters.sql",
    "references.sql",
    "replays.sql",
];

/// What each function begins with, at the beginning of a line. Only its trigger may follow it.
const BEGINNING: &str = "create or replace function ";

/// Orders builds: functions that a later one brought are left alone.
pub(super) const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// One function with what follows it in its file.
pub(super) struct Function {
    name: &'static str,
    text: &'static str,
}

impl Function {
    fn hash(&self) -> String {
        hash(self.text)
    }

    /// Of name, arguments and result: `create or replace` cannot change these.
    fn signature(&self) -> String {
        let header = self.text.split(" language ").next();
        hash(header.unwrap_or(self.text))
    }
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

pub(super) fn embedded() -> impl Iterator<Item = Function> {
    EMBEDDED.iter().flat_map(|(_, text)| parts(text))
}

pub(super) fn hash_all(hash: &mut Sha256) {
    for (_, text) in EMBEDDED {
        hash.update(text);
    }
}

/// Without the comments between them: no text of a function.
pub(super) fn parts(text: &'static str) -> impl Iterator<Item = Function> {
    let starts = text.match_indices(BEGINNING).map(|(at, _)| at);
    let starts: Vec<usize> = starts
        .filter(|at| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n'))
        .collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(move |(from, to)| {
        let text = without_comments_behind(text.get(from..to).unwrap_or_default());
        let name = text.get(BEGINNING.len()..).unwrap_or_default();
        let name = name.split('(').next().unwrap_or_default();
        Function { name, text }
    })
}

fn without_comments_behind(mut text: &str) -> &str {
    loop {
        text = text.trim_end();
        match text.rfind('\n') {
            Some(at)
                if text
                    .get(at + 1..)
                    .is_some_and(|line| line.starts_with("--")) =>
            {
                text = text.get(..at).unwrap_or_default();
            }
            _ => return text,
        }
    }
}

/// What has to be done in a database.
#[derive(Default)]
pub(super) struct OutOfDate {
    make: Vec<Function>,
    /// Before that: what this build has no more, and what gets another signature.
    drop: Vec<String>,
}

impl OutOfDate {
    /// For people: one name for all, where none is as it is here.
    pub(super) fn names(&self) -> Vec<String> {
        if self.make.len() == embedded().count() {
            return vec!["all functions".to_owned()];
        }
        let made = self
            .make
            .iter()
            .map(|function| format!("function {}", function.name));
        let gone = self
            .drop
            .iter()
            .filter(|name| self.make.iter().all(|made| made.name != **name))
            .map(|name| format!("function {name} (to be dropped)"));
        made.chain(gone).collect()
    }
}

struct Applied {
    hash: String,
    signature: String,
    release: String,
}

pub(super) async fn out_of_date(connection: &mut PgConnection) -> sqlx::Result<OutOfDate> {
    let applied = applied(connection).await?;
    Ok(compare(embedded(), &applied, RELEASE))
}

async fn applied(connection: &mut PgConnection) -> sqlx::Result<BTreeMap<String, Applied>> {
    let known: bool = sqlx::query_scalar("select to_regclass('applied_function') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !known {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(String, String, String, String)> =
        sqlx::query_as("select name, hash, signature, release from applied_function")
            .fetch_all(&mut *connection)
            .await?;
    Ok(rows
        .into_iter()
        .map(|(name, hash, signature, release)| {
            (
                name,
                Applied {
                    hash,
                    signature,
                    release,
                },
            )
        })
        .collect())
}

fn compare(
    here: impl Iterator<Item = Function>,
    applied: &BTreeMap<String, Applied>,
    release: &str,
) -> OutOfDate {
    let mut found = OutOfDate::default();
    let mut known = Vec::new();
    for function in here {
        known.push(function.name);
        if let Some(there) = applied.get(function.name) {
            if there.hash == function.hash() || is_later(&there.release, release) {
                continue;
            }
            if there.signature != function.signature() {
                found.drop.push(function.name.to_owned());
            }
        }
        found.make.push(function);
    }
    let gone = applied.iter().filter(|(name, there)| {
        !known.contains(&name.as_str()) && !is_later(&there.release, release)
    });
    found.drop.extend(gone.map(|(name, _)| name.clone()));
    found
}

/// By their numbers: 0.10.0 is later than 0.9.1.
fn is_later(one: &str, other: &str) -> bool {
    let numbers = |release: &str| -> Vec<u64> {
        let parts = release.split(['.', '-', '+']);
        parts.map_while(|part| part.parse().ok()).collect()
    };
    numbers(one) > numbers(other)
}

/// All or nothing: whoever calls meanwhile gets all functions of before or all of after.
pub(super) async fn bring_up_to(
    connection: &mut PgConnection,
    functions: impl Iterator<Item = Function>,
    release: &str,
) -> sqlx::Result<()> {
    let applied = applied(connection).await?;
    let found = compare(functions, &applied, release);
    if found.make.is_empty() && found.drop.is_empty() {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    // A function may stand before what it calls.
    sqlx::query("set local check_function_bodies = off")
        .execute(&mut *transaction)
        .await?;
    for name in &found.drop {
        drop_function(&mut transaction, name).await?;
    }
    for function in &found.make {
        sqlx::raw_sql(function.text)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "insert into applied_function (name, hash, signature, release) values ($1, $2, $3, $4)
             on conflict (name) do update set hash = excluded.hash, signature = excluded.signature,
                release = excluded.release, at = now()",
        )
        .bind(function.name)
        .bind(function.hash())
        .bind(function.signature())
        .bind(release)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await
}

/// All that carry the name: names are used once. What needs it (a trigger, an index) must have gone by a migration, else
/// Postgres refuses by its name.
async fn drop_function(connection: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    let found: Vec<String> = sqlx::query_scalar(
        "select oid::regprocedure::text from pg_proc
         where proname = $1 and pronamespace = current_schema()::regnamespace",
    )
    .bind(name)
    .fetch_all(&mut *connection)
    .await?;
    for function in found {
        sqlx::raw_sql(AssertSqlSafe(format!("drop function {function}")))
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("delete from applied_function where name = $1")
        .bind(name)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

#[cfg(test)]
pub(super) fn files() -> Vec<&'static str> {
    EMBEDDED.iter().map(|(file, _)| *file).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_function_begins_its_line_and_has_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        for (file, text) in EMBEDDED {
            assert!(text.lines().count() < 300, "{file} has one subject");
            assert!(parts(text).count() > 0, "{file}");
            let others = text.lines().filter(|line| {
                ["create ", "drop ", "alter ", "comment ", "grant "]
                    .iter()
                    .any(|statement| line.trim_start().to_lowercase().starts_with(statement))
                    && !line.starts_with(BEGINNING)
                    && !line.starts_with("create or replace trigger ")
            });
            assert_eq!(others.collect::<Vec<_>>(), [""; 0], "{file}");
            for function in parts(text) {
                assert!(names.insert(function.name), "{} twice", function.name);
                assert!(function.text.contains(" language "), "{}", function.name);
                assert!(function.text.contains("$$;"), "{}", function.name);
            }
        }
    }

    fn there(release: &str, functions: &[Function]) -> BTreeMap<String, Applied> {
        let applied = |function: &Function| Applied {
            hash: function.hash(),
            signature: function.signature(),
            release: release.to_owned(),
        };
        functions
            .iter()
            .map(|function| (function.name.to_owned(), applied(function)))
            .collect()
    }

    const BEFORE: &str = "\
create or replace function one(a int) returns int language sql as $$ select a $$;
create or replace function two(a int) returns int language sql as $$ select a $$;
create or replace function three() returns int language sql as $$ select 3 $$;
";
    const AFTER: &str = "\
create or replace function one(a int) returns int language sql as $$ select a + 1 $$;
create or replace function two(a bigint) returns int language sql as $$ select a $$;
create or replace function four() returns int language sql as $$ select 4 $$;
";

    #[test]
    fn what_changed_is_made_and_what_got_another_signature_or_went_is_dropped_first() {
        let before: Vec<Function> = parts(BEFORE).collect();
        let found = compare(parts(AFTER), &there("1.0.0", &before), "1.0.0");
        let made: Vec<&str> = found.make.iter().map(|function| function.name).collect();
        assert_eq!(made, ["one", "two", "four"]);
        assert_eq!(found.drop, ["two", "three"]);
        assert_eq!(
            found.names(),
            [
                "function one",
                "function two",
                "function four",
                "function three (to be dropped)"
            ]
        );
        let same = compare(parts(BEFORE), &there("1.0.0", &before), "1.0.0");
        assert!(same.names().is_empty());
    }

    #[test]
    fn what_a_later_release_brought_is_left_alone() {
        let before: Vec<Function> = parts(BEFORE).collect();
        let found = compare(parts(AFTER), &there("0.10.0", &before), "0.9.1");
        let made: Vec<&str> = found.make.iter().map(|function| function.name).collect();
        assert_eq!(made, ["four"]);
        assert!(found.drop.is_empty());
        assert!(is_later("0.10.0", "0.9.1") && !is_later("0.9.1", "0.9.1"));
    }
}
