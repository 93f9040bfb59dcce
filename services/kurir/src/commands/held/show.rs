//! One held event in words.

use serde_json::json;
use store::held::{Held, HeldMessage};
use store::links::ConflictCause;
use store::{Pool, Scope};
use worker::HoldCause;

use crate::conflicts;
use crate::exit::Done;
use crate::output::{Output, at_both, at_or_empty, facts};

pub(super) async fn show(pool: &Pool, scope: Scope<'_>, id: i64, output: Output) -> Done {
    let (row, message) = store::held::get(pool, scope, id).await?;
    let link = match row.link_id {
        Some(link) => store::links_read::summary(pool, scope, link).await?,
        None => None,
    };
    let conflict = link.and_then(|link| ConflictCause::parse(&link.conflict_cause?));
    output.show(
        &json!({ "held": row, "message": message, "conflict": conflict }),
        |_| tell(&row, &message, conflict),
    )
}

fn tell(row: &Held, message: &HeldMessage, conflict: Option<ConflictCause>) -> String {
    let known = facts(&[
        ("held event", row.id.to_string()),
        ("cause", row.reason.clone()),
        ("detail", row.detail.clone().unwrap_or_default()),
        (
            "waits for",
            row.waits_for_key
                .as_ref()
                .map(|key| format!("the key {key} to be free"))
                .or_else(|| {
                    row.waits_for_record
                        .as_ref()
                        .map(|record| format!("{record} to be linked"))
                })
                .unwrap_or_default(),
        ),
        ("not before", at_or_empty(row.release_at)),
        ("tenant", row.tenant.clone()),
        ("worker", row.worker.clone()),
        (
            "connection",
            row.connection_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
        ),
        ("event", format!("{} of {}", row.event_id, row.source)),
        ("type", row.event_type.clone()),
        ("subject", row.subject.clone()),
        (
            "link",
            row.link_id
                .map(|link| format!("{link} (`kurir links show {link}`)"))
                .unwrap_or_default(),
        ),
        ("since", at_both(row.held_at)),
    ]);
    let body = serde_json::to_string_pretty(&message.body).unwrap_or_default();
    format!(
        "{known}\n\nMessage\n{body}\n\nNext: {}",
        next(row, conflict)
    )
}

/// What lets it go.
fn next(row: &Held, conflict: Option<ConflictCause>) -> String {
    let id = row.id;
    match HoldCause::parse(&row.reason) {
        Some(HoldCause::NoConnection) => format!(
            "`kurir connection add --tenant {} --system {}`; then it leaves by itself",
            row.tenant, row.target_system
        ),
        Some(HoldCause::Suspended) => format!(
            "`kurir connection test {}` once the credentials are repaired; then it leaves by itself",
            row.connection_id
                .map(|connection| connection.to_string())
                .unwrap_or_default()
        ),
        Some(HoldCause::Budget | HoldCause::Circuit | HoldCause::Prerequisite) => {
            "nothing to do: it leaves by itself".to_owned()
        }
        Some(HoldCause::Conflict) => {
            conflicts::helps(conflict, &format!("kurir held release {id}"))
        }
        Some(
            HoldCause::Poison
            | HoldCause::Panic
            | HoldCause::WaitExpired
            | HoldCause::AppendUnknown,
        )
        | None => format!("`kurir held release {id}` or `kurir held discard {id} --note ...`"),
    }
}
