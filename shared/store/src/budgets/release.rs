//! How many held events the budget lets go: the keeper's side of the account.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::Error;

/// Events of this connection that may go now, and locks its account: the caller lets them go in the same transaction and
/// says with [`let_go`] how many went. 0 while it cools down, while a circuit is open and for a connection that is not
/// this tenant's; 1 at a time after either until a call has succeeded.
pub async fn allowance(
    transaction: &mut PgConnection,
    tenant: &str,
    connection: Uuid,
) -> Result<i64, Error> {
    let events: i32 = sqlx::query_scalar("select release_allowance($1, $2)")
        .bind(tenant)
        .bind(connection)
        .fetch_one(transaction)
        .await?;
    Ok(i64::from(events))
}

/// So many went. Workers tell when they have arrived.
pub async fn let_go(
    transaction: &mut PgConnection,
    connection: Uuid,
    events: u64,
) -> Result<(), Error> {
    sqlx::query("update budget set released = released + $2 where connection_id = $1")
        .bind(connection)
        .bind(i64::try_from(events).unwrap_or(i64::MAX))
        .execute(transaction)
        .await?;
    Ok(())
}
