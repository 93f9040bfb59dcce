//! The schema (crate `schema`) by way of a pool.

use sqlx::Connection;

use crate::{Error, Pool};

/// Brings the schema up to date; the second time it does nothing. Two processes at once wait for each other.
/// A migration that was applied with another text is refused by name.
pub async fn migrate(pool: &Pool) -> Result<(), Error> {
    // A session of its own: whatever goes wrong, the lock ends with it.
    let mut connection = pool.acquire().await?.detach();
    let done = schema::migrate(&mut connection).await;
    let closed = connection.close().await;
    done.map_err(Error::Migration)?;
    Ok(closed?)
}

/// Names of the migrations and functions that are not as this build has them, in order: a role starts only when there are
/// none.
pub async fn pending(pool: &Pool) -> Result<Vec<String>, Error> {
    Ok(schema::pending(&mut *pool.acquire().await?).await?)
}

/// Numbers of applied migrations that this build does not have: a newer build has been here. And of those that were begun
/// and did not end well. Nothing where there is no list of migrations yet.
pub async fn unknown_versions(pool: &Pool) -> Result<(Vec<i64>, Vec<i64>), Error> {
    Ok(schema::unknown_versions(&mut *pool.acquire().await?).await?)
}
