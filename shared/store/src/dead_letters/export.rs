//! Dead letters with their messages, page by page: a caller that writes each page down needs memory for one.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::list::push_after;
use super::{After, Filter};
use crate::row::{Body, row};
use crate::{Error, Pool, Scope};

/// Dead letters of one page: a message has at most 256 KiB.
pub const EXPORT_PAGE: i64 = 50;

row! {
    /// A dead letter with all that is needed to send it again elsewhere.
    pub struct Exported {
        pub id: Uuid,
        pub worker: String,
        pub tenant: Option<String>,
        pub source: Option<String>,
        pub event_id: Option<String>,
        pub event_type: Option<String>,
        pub subject: Option<String>,
        pub state: String,
        pub generation: i32,
        pub deaths: i32,
        pub class: String,
        pub fingerprint: String,
        pub message: Option<String>,
        pub trace_id: Option<String>,
        pub first_at: DateTime<Utc>,
        pub last_at: DateTime<Utc>,
        pub resolved_by: Option<String>,
        pub resolved_at: Option<DateTime<Utc>>,
        pub note: Option<String>,
        pub body: Body,
        pub edited_body: Option<Body>,
        pub headers: Value,
    }
}

impl From<&Exported> for After {
    fn from(row: &Exported) -> Self {
        Self::Row {
            last_at: row.last_at,
            id: row.id,
        }
    }
}

/// The next page, the latest deaths first; an empty one is the end. Nothing is locked: what changes meanwhile may be
/// in or out.
pub async fn export(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
    after: Option<After>,
) -> Result<Vec<Exported>, Error> {
    let mut query = QueryBuilder::new(
        "select id, worker, tenant, source, event_id, type as event_type, subject, state, generation, deaths, class,
           fingerprint, message, trace_id, first_at, last_at, resolved_by, resolved_at,
           coalesce('held: ' || held_for, note) as note, body, edited_body, headers
         from dead_letter",
    );
    filter.push(scope, &mut query);
    push_after(after, &mut query);
    query
        .push(" order by last_at desc, id desc limit ")
        .push_bind(EXPORT_PAGE);
    Ok(query.build_query_as().fetch_all(pool).await?)
}
