//! `kurir held release`.

use std::collections::BTreeMap;

use serde_json::json;
use store::Pool;
use store::held::Released;
use worker::HoldCause;

use super::{Which, in_words, meant};
use crate::conflicts;
use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::output::{Output, count};

pub(super) async fn release(context: &Context, pool: &Pool, which: &Which, output: Output) -> Done {
    let (filter, causes) = meant(pool, which).await?;
    let scope = scope(which.filter.tenant.as_ref());
    let released =
        store::held::release(pool, &context.prefix(), scope, &filter, &which.actor).await?;
    told(&released, causes, output)
}

/// How a release ended. Refused where all that is meant would be held again at once.
fn told(released: &Released, mut causes: BTreeMap<String, u64>, output: Output) -> Done {
    let Some(first) = released.in_vain.first() else {
        let by_cause = json!({ "released": released.events, "by_cause": causes });
        return output.show(&by_cause, |_| let_go(released.events, &causes));
    };
    let conflict = HoldCause::Conflict.as_str();
    let conflicts = causes.remove(conflict).unwrap_or_default();
    if let Some(left) = conflicts
        .checked_sub(released.left)
        .filter(|left| *left > 0)
    {
        causes.insert(conflict.to_owned(), left);
    }
    let mut stays: Vec<String> = released.in_vain.iter().map(conflicts::in_vain).collect();
    let unnamed = released.left.saturating_sub(stays.len() as u64);
    if unnamed > 0 {
        stays.push(format!("and {unnamed} more"));
    }
    let why = format!(
        "{} would be held again at once:\n  {}",
        count(released.left, "event"),
        stays.join("\n  ")
    );
    if released.events == 0 {
        return Err(
            Failed::new(Exit::Refused, format!("nothing was released; {why}"))
                .next(conflicts::instead(first)),
        );
    }
    let all = json!({ "released": released.events, "by_cause": causes, "left": released.left, "in_vain": released.in_vain });
    output.show(&all, |_| {
        let gone = let_go(released.events, &causes);
        format!("{gone}\n{why}\n next: {}", conflicts::instead(first))
    })
}

fn let_go(events: u64, causes: &BTreeMap<String, u64>) -> String {
    format!(
        "released {}{}; the keeper sends them to their workers",
        count(events, "event"),
        in_words(causes)
    )
}
