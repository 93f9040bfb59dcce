//! `kurir held release`.

use std::collections::BTreeMap;

use operations::count;
use operations::held::in_words;
use serde_json::json;
use store::Pool;

use super::{Which, meant};
use crate::context::{Context, scope};
use crate::exit::Done;
use crate::output::Output;

pub(super) async fn release(context: &Context, pool: &Pool, which: &Which, output: Output) -> Done {
    let meant = meant(pool, which).await?;
    let scope = scope(which.filter.tenant.as_ref());
    let release =
        operations::held::release(pool, &context.prefix(), scope, meant, &which.actor).await?;
    let (released, causes) = (&release.released, &release.by_cause);
    let mut told = json!({ "released": released.events, "by_cause": causes });
    if release.stays.is_some() {
        told["left"] = released.left.into();
        told["in_vain"] = json!(released.in_vain);
    }
    output.show(&told, |_| {
        let gone = let_go(released.events, causes);
        match &release.stays {
            None => gone,
            Some(stays) => format!("{gone}\n{}\n next: {}", stays.why, stays.instead),
        }
    })
}

fn let_go(events: u64, causes: &BTreeMap<String, u64>) -> String {
    format!(
        "released {}{}; the keeper sends them to their workers",
        count(events, "event"),
        in_words(causes)
    )
}
