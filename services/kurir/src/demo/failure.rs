//! One failure of the day from end to end: it happens, is explained, repaired and replayed. Both times it is read from
//! the database, as `kurir dead-letters show` reads it.

use operations::dead_letters::advice;
use store::dead_letters::Timeline;

use crate::fleet::workers;
use crate::output::{at, short};

const MESSAGE_WIDTH: usize = 90;

pub(super) fn render(before: &Timeline, after: &Timeline) -> String {
    let dead_letter = &before.dead_letter;
    let steps: Vec<String> = advice(before, workers())
        .iter()
        .take(2)
        .map(|step| match &step.command {
            Some(command) => format!("{}\n                 $ {command}", step.why),
            None => step.why.clone(),
        })
        .collect();
    let lines = [
        (
            "it happened",
            format!(
                "{} of {} was refused at {}: {}",
                dead_letter.subject.as_deref().unwrap_or_default(),
                dead_letter.tenant.as_deref().unwrap_or_default(),
                at(dead_letter.last_at),
                short(
                    dead_letter.message.as_deref().unwrap_or_default(),
                    MESSAGE_WIDTH
                )
            ),
        ),
        (
            "is kept",
            format!(
                "{} ({}), as dead letter {}",
                dead_letter.state, dead_letter.class, dead_letter.id
            ),
        ),
        ("explained", steps.join("\n               ")),
        (
            "repaired",
            "Metakocka takes it from now on; in earnest a person mends what the message names"
                .to_owned(),
        ),
        (
            "replayed",
            format!(
                "the same event once more, straight to its worker: now {}{}",
                after.dead_letter.state,
                match &after.link {
                    Some(link) => format!(
                        ", Metakocka has it as {}",
                        link.target_id.as_deref().unwrap_or("nothing")
                    ),
                    None => String::new(),
                }
            ),
        ),
    ];
    let told: Vec<String> = lines
        .iter()
        .map(|(name, text)| format!("  {name:<13}{text}"))
        .collect();
    format!(
        "One failure from end to end (`kurir dead-letters show {}` tells all of it):\n\n{}",
        dead_letter.id,
        told.join("\n")
    )
}
