//! A dead letter's message, repaired by a person. The message as it came stays beside the edited one.

use chrono::{DateTime, Utc};
use event::{Event, EventKind, EventType, SubjectVersion, VersionScheme};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::resolve::not_in;
use crate::row::{StoredKey, row};
use crate::{Error, Pool, Scope};

/// Names of members that changed, kept in the history; values are personal data and are not.
const CHANGED_LIMIT: usize = 50;

/// A new body for a dead letter.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    /// The whole event.
    pub body: &'a [u8],
    /// The [`super::Message::row_version`] that the editor saw: who comes second is refused.
    pub row_version: i32,
    /// For the history.
    pub actor: &'a str,
    /// Gives the event a new version, now: it counts as the newest content of its record.
    pub restamp: bool,
}

/// What an edit did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Edited {
    pub id: Uuid,
    pub row_version: i32,
    pub restamped: bool,
    /// JSON pointers of members that are another now, at most 50.
    pub changed: Vec<String>,
}

row! {
    #[expect(unreachable_pub, reason = "a row of this file alone")]
    /// What an edit must not change, and what it is compared with.
    pub struct Original {
        pub tenant: Option<String>,
        pub source: Option<String>,
        pub event_id: Option<String>,
        pub event_type: Option<String>,
        pub worker: String,
        pub connection_id: Option<Uuid>,
        pub facet: Option<String>,
        pub link_id: Option<i64>,
        pub k: Option<StoredKey>,
        pub state: String,
        pub generation: i32,
        pub row_version: i32,
        pub body: Vec<u8>,
        pub now: DateTime<Utc>,
    }
}

impl Original {
    /// An event that is valid, and still the same one. What the dead letter's own body did not say may be given.
    ///
    /// # Errors
    /// `Invalid` with every problem, one per line.
    fn same(&self, body: &[u8]) -> Result<Event, Error> {
        let event = checked(body)?;
        // Of a type that nobody knows the name was the mistake.
        let named = self
            .event_type
            .as_deref()
            .filter(|name| EventType::parse(name).is_some());
        let fixed = [
            ("id", self.event_id.as_deref(), event.id.as_str()),
            ("source", self.source.as_deref(), event.source.as_str()),
            ("tenantid", self.tenant.as_deref(), event.tenant.as_str()),
            ("type", named, event.event_type.as_str()),
        ];
        let moved: Vec<String> = fixed
            .into_iter()
            .filter_map(|(name, was, is)| {
                let was = was?;
                (was != is).then(|| format!("/{name} must stay {was}"))
            })
            .collect();
        if moved.is_empty() {
            Ok(event)
        } else {
            Err(Error::Invalid(format!(
                "another event cannot take this one's place:\n{}",
                moved.join("\n")
            )))
        }
    }
}

/// The event in a body.
///
/// # Errors
/// `Invalid` with every problem, one per line.
pub fn checked(body: &[u8]) -> Result<Event, Error> {
    event::decode(body).map_err(|error| {
        let problems: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
        Error::Invalid(format!(
            "the event is not valid ({}):\n{}",
            error.class,
            problems.join("\n")
        ))
    })
}

/// Stores the new body; a replay sends it. An open dead letter only.
///
/// # Errors
/// `Invalid` for a body that is no valid event or another event; `Conflict` where the dead letter is not open, was changed
/// since `row_version`, or where its record has a newer version already and `restamp` was not asked for.
pub async fn edit(
    pool: &Pool,
    scope: Scope<'_>,
    id: Uuid,
    edit: Edit<'_>,
) -> Result<Edited, Error> {
    let mut transaction = pool.begin().await?;
    // The link before the dead letter, as everybody locks them.
    sqlx::query(
        "select 1 from link where id = (select link_id from dead_letter where id = $1) for share",
    )
    .bind(id)
    .execute(&mut *transaction)
    .await?;
    let original: Original = sqlx::query_as(
        "select tenant, source, event_id, type as event_type, worker, connection_id, facet, link_id, k, state, generation,
           row_version, coalesce(edited_body, body) as body, kurir_now() as now
         from dead_letter where id = $1 and ($2::text is null or tenant = $2) for update",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or_else(|| Error::missing("dead letter", id))?;
    if original.state != "open" {
        return Err(not_in(pool, scope, id, "open", "edited").await?);
    }
    if original.row_version != edit.row_version {
        return Err(Error::Conflict(format!(
            "dead letter '{id}' was changed by somebody else meanwhile"
        )));
    }
    let mut event = original.same(edit.body)?;
    let mut body = edit.body.to_vec();
    if edit.restamp {
        body = restamped(&body, original.now)?;
        event = original.same(&body)?;
    } else {
        newest(&mut transaction, &original, &event).await?;
    }
    let changed = changed(&original.body, &body);
    let k = key(&event, original.k.as_ref(), original.generation + 1);
    let row_version = sqlx::query_scalar(
        "update dead_letter set edited_body = $2, edited_by = $3, edited_at = kurir_now(), row_version = row_version + 1,
           k = coalesce($4, k), tenant = coalesce(tenant, $5), source = coalesce(source, $6),
           event_id = coalesce(event_id, $7), type = $8, subject = $9
         where id = $1 returning row_version",
    )
    .bind(id)
    .bind(&body)
    .bind(edit.actor)
    .bind(k)
    .bind(event.tenant.as_str())
    .bind(&event.source)
    .bind(&event.id)
    .bind(event.event_type.as_str())
    .bind(&event.subject)
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into dead_letter_history (dead_id, generation, kind, at, actor, detail)
         values ($1, $2, 'edit', kurir_now(), $3, $4)",
    )
    .bind(id)
    .bind(original.generation)
    .bind(edit.actor)
    .bind(json!({ "changed": changed, "restamped": edit.restamp }))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Edited {
        id,
        row_version,
        restamped: edit.restamp,
        changed,
    })
}

/// An edit of a version that its record has left behind would never be applied.
async fn newest(
    transaction: &mut PgConnection,
    original: &Original,
    event: &Event,
) -> Result<(), Error> {
    let Some(k) = key(event, original.k.as_ref(), original.generation + 1) else {
        return Ok(());
    };
    let newer: Option<StoredKey> = sqlx::query_scalar(
        "select greatest(applied_k, desired_k) from link
         where tenant = $1 and (id = $2 or ($2::bigint is null and kind = $3 and source_system = $4
             and source_account = $5 and source_id = $6 and ($7::uuid is null or connection_id = $7)))
           and (applied_k >= $8 or desired_k > $8)
         order by id limit 1",
    )
    .bind(event.tenant.as_str())
    .bind(original.link_id)
    .bind(original.facet.as_deref().unwrap_or(event.entity()))
    .bind(&event.system)
    .bind(&event.account)
    .bind(event.link_id())
    .bind(original.connection_id)
    .bind(k)
    .fetch_optional(&mut *transaction)
    .await?;
    match newer {
        None => Ok(()),
        Some(newer) => Err(Error::Conflict(format!(
            "its record has a newer version already ({newer}): the edit would change nothing; with a new version \
             (restamp) it counts as the newest"
        ))),
    }
}

/// The order key of the next life. A version that the event does not bring was pinned at its first receipt.
fn key(event: &Event, pinned: Option<&StoredKey>, generation: i32) -> Option<Vec<u8>> {
    let generation = u32::try_from(generation).unwrap_or_default();
    let key = match event.kind() {
        EventKind::Fact => event.fact_key(generation),
        EventKind::Hint | EventKind::Request => return None,
        EventKind::State { .. } => {
            let version = match &event.version {
                Some(version) => version.value.clone(),
                None => SubjectVersion::parse(pinned?.0.version())?,
            };
            event.order_key(&version, generation)
        }
    };
    Some(key.as_bytes().to_vec())
}

/// The same event with the version "now", its key for the life of this generation beside it. For a version that came
/// from a wrong clock, and for content that must win.
///
/// # Errors
/// `Invalid` for what is no event, and where the source counts revisions: a time would beat every later revision.
pub(super) fn restamped_with_key(
    body: &[u8],
    now: DateTime<Utc>,
    generation: i32,
) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
    let body = restamped(body, now)?;
    let event = checked(&body)?;
    let key = key(&event, None, generation);
    Ok((body, key))
}

fn restamped(body: &[u8], now: DateTime<Utc>) -> Result<Vec<u8>, Error> {
    let unreadable =
        || Error::Invalid("only a readable event can be given a new version".to_owned());
    let revision = event::decode(body).is_ok_and(|event| {
        event
            .version
            .is_some_and(|version| version.scheme == VersionScheme::Revision)
    });
    if revision {
        return Err(Error::Invalid(
            "its source counts revisions, and a time would be newer than all of them: publish the next revision instead"
                .to_owned(),
        ));
    }
    let mut event: Map<String, Value> =
        serde_json::from_slice(event::unmarked(body)).map_err(|_not_json| unreadable())?;
    event.insert(
        "subjectversion".to_owned(),
        json!(now.timestamp_micros().to_string()),
    );
    serde_json::to_vec(&event).map_err(|_never| unreadable())
}

/// Pointers of the members that differ; a list that changed is named as a whole.
fn changed(before: &[u8], after: &[u8]) -> Vec<String> {
    let read =
        |body: &[u8]| serde_json::from_slice::<Value>(event::unmarked(body)).unwrap_or(Value::Null);
    let mut pointers = Vec::new();
    differ(&read(before), &read(after), "", &mut pointers);
    pointers
}

fn differ(before: &Value, after: &Value, at: &str, pointers: &mut Vec<String>) {
    if before == after || pointers.len() >= CHANGED_LIMIT {
        return;
    }
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        pointers.push(at.to_owned());
        return;
    };
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let step = name.replace('~', "~0").replace('/', "~1");
        differ(
            before.get(name).unwrap_or(&Value::Null),
            after.get(name).unwrap_or(&Value::Null),
            &format!("{at}/{step}"),
            pointers,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_named_and_not_told() {
        let before = br#"{"a":{"x":1,"y/z":2},"b":[1],"c":0}"#;
        let after = br#"{"a":{"x":1,"y/z":3},"b":[1,2],"d":0}"#;
        assert_eq!(changed(before, after), ["/a/y~1z", "/b", "/c", "/d"]);
        assert_eq!(changed(before, before), Vec::<String>::new());
    }
}
