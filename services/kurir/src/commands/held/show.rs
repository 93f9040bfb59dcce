//! One held event in words.

use operations::held::{Shown, next};
use store::{Pool, Scope};

use crate::exit::Done;
use crate::output::{Output, at_both, at_or_empty, facts};

pub(super) async fn show(pool: &Pool, scope: Scope<'_>, id: i64, output: Output) -> Done {
    output.show(&operations::held::show(pool, scope, id).await?, render)
}

fn render(shown: &Shown) -> String {
    let row = &shown.held;
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
        ("facet", row.facet.clone().unwrap_or_default()),
        (
            "link",
            row.link_id
                .map(|link| format!("{link} (`kurir links show {link}`)"))
                .unwrap_or_default(),
        ),
        ("since", at_both(row.held_at)),
    ]);
    let body = serde_json::to_string_pretty(&shown.message.body).unwrap_or_default();
    format!("{known}\n\nMessage\n{body}\n\nNext: {}", next(shown))
}
