//! What people did by hand: who, what, for whom, when. Written in the transaction of what it tells of.

use serde_json::Value;
use sqlx::PgConnection;

use crate::{Error, Scope};

/// `what` is `<thing>.<verb>`; `detail` names the rows and the note, and holds no content of events.
pub async fn write(
    connection: &mut PgConnection,
    actor: &str,
    what: &str,
    scope: Scope<'_>,
    detail: &Value,
) -> Result<(), Error> {
    sqlx::query(
        "insert into audit (actor, what, tenant, detail, at) values ($1, $2, $3, $4, kurir_now())",
    )
    .bind(actor)
    .bind(what)
    .bind(scope.tenant())
    .bind(detail)
    .execute(connection)
    .await?;
    Ok(())
}
