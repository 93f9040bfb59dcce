//! What `kurir doctor` asks of Postgres. Reads only, and no tenant's rows: these are questions about the server.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::row::row;
use crate::{Error, Pool};

row! {
    /// The server and this connection's place on it.
    pub struct Server {
        pub version: String,
        /// As `server_version_num`: 150004 is 15.4.
        pub version_number: i32,
        pub database: String,
        pub role: String,
        pub superuser: bool,
        /// A standby, or a server that is being recovered: nothing can be written.
        pub recovering: bool,
        pub read_only: bool,
        pub fsync: bool,
        pub full_page_writes: bool,
        pub synchronous_commit: String,
        pub isolation: String,
        /// Connections that roles other than superusers may have, all together.
        pub connections: i32,
        pub connections_used: i64,
    }
}

/// # Errors
/// The server does not answer.
pub async fn server(pool: &Pool) -> Result<Server, Error> {
    Ok(sqlx::query_as(
        "select current_setting('server_version') as version, current_setting('server_version_num')::int as version_number,
           current_database()::text as database, current_user::text as role, current_setting('is_superuser')::boolean as superuser,
           pg_is_in_recovery() as recovering, current_setting('default_transaction_read_only')::boolean as read_only,
           current_setting('fsync')::boolean as fsync, current_setting('full_page_writes')::boolean as full_page_writes,
           current_setting('synchronous_commit') as synchronous_commit,
           current_setting('default_transaction_isolation') as isolation,
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as connections,
           (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections_used",
    )
    .fetch_one(pool)
    .await?)
}

/// The server's clock as leases and settle times read it.
pub async fn clock(pool: &Pool) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(pool)
        .await?)
}

/// A right that the current role lacks: for example `UPDATE` on `link`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Lacking {
    pub right: String,
    /// A table or a function of the schema.
    pub object: String,
}

/// What a role of the fleet needs and the current database role has not: reading and writing of every table, the use of
/// every function. The lists of migrations and functions need only be read. Sorted by object.
pub async fn lacking(pool: &Pool) -> Result<Vec<Lacking>, Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "with here as (select oid from pg_namespace where nspname = current_schema())
         select p.name, c.relname::text
         from pg_class c cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p(name)
         where c.relnamespace = (select oid from here) and c.relkind in ('r', 'p')
           and (c.relname not in ('_sqlx_migrations', 'applied_function') or p.name = 'SELECT')
           -- A view of an extension is nobody's table.
           and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
           and not has_table_privilege(c.oid, p.name)
         union all
         select 'EXECUTE', f.proname::text from pg_proc f
         where f.pronamespace = (select oid from here) and not has_function_privilege(f.oid, 'EXECUTE')
         order by 2, 1",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(right, object)| Lacking { right, object })
        .collect())
}
