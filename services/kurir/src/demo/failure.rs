//! One failure of the day from end to end: it happens, is explained, repaired and replayed. Both times it is read from
//! the database, as `kurir dead-letters show` reads it.

use operations::dead_letters::advice;
use store::dead_letters::Story;

use crate::fleet::workers;
use crate::output::{at, short};

const MESSAGE_WIDTH: usize = 90;

pub(super) fn tell(before: &Story, after: &Story) -> String {
    let letter = &before.letter;
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
                letter.subject.as_deref().unwrap_or_default(),
                letter.tenant.as_deref().unwrap_or_default(),
                at(letter.last_at),
                short(letter.message.as_deref().unwrap_or_default(), MESSAGE_WIDTH)
            ),
        ),
        (
            "is kept",
            format!(
                "{} ({}), as dead letter {}",
                letter.state, letter.class, letter.id
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
                after.letter.state,
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
        letter.id,
        told.join("\n")
    )
}
