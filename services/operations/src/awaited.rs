//! What a held event waits for, in words.

use store::held::Awaited;

/// Why the record is not at the partner, and what helps. `held`: the event that waits.
pub(crate) fn why(awaited: &Awaited, held: i64) -> String {
    let said = match (awaited.dead_letter, awaited.held, awaited.link) {
        (Some(dead_letter), ..) => format!(
            "its event is dead letter {dead_letter} ({class}): `kurir dead-letters show {dead_letter}`",
            class = awaited.dead_class.as_deref().unwrap_or_default(),
        ),
        (None, Some(its), _) => format!(
            "its own event is held for {cause}: `kurir held show {its}`",
            cause = awaited.held_for.as_deref().unwrap_or_default(),
        ),
        (None, None, None) => "no event of it has come yet".to_owned(),
        (None, None, Some(link)) => match awaited.state.as_deref() {
            Some("conflict") => format!("it is in conflict: `kurir links show {link}`"),
            Some("deleted") => format!(
                "it was deleted at its source, so this event can wait for ever: `kurir held discard {held} --note ...` \
                 gives it up"
            ),
            Some("linked" | "alias") => "it is there, and the event leaves in a moment".to_owned(),
            _ => format!("it is on its way: `kurir links show {link}`"),
        },
    };
    match awaited.overdue {
        true => format!("{said}; the event has waited for more than a day"),
        false => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_reason_is_told() {
        let mut awaited = Awaited {
            record: "contact/5".to_owned(),
            link: None,
            state: None,
            conflict_cause: None,
            held: None,
            held_for: None,
            dead_letter: None,
            dead_class: None,
            overdue: false,
        };
        assert_eq!(why(&awaited, 7), "no event of it has come yet");
        awaited.link = Some(3);
        awaited.state = Some("pending".to_owned());
        assert_eq!(why(&awaited, 7), "it is on its way: `kurir links show 3`");
        awaited.state = Some("deleted".to_owned());
        awaited.overdue = true;
        assert_eq!(
            why(&awaited, 7),
            "it was deleted at its source, so this event can wait for ever: `kurir held discard 7 --note ...` gives it up; \
             the event has waited for more than a day"
        );
        awaited.held = Some(9);
        awaited.held_for = Some("budget".to_owned());
        awaited.overdue = false;
        assert_eq!(
            why(&awaited, 7),
            "its own event is held for budget: `kurir held show 9`"
        );
    }
}
