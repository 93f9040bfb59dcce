//! A record's history in words.

use serde_json::Value;
use store::links_read::Change;

use crate::render_detail;

/// A row of the history in words; what a later build wrote is shown as it is.
pub fn happened(what: &str) -> &str {
    WORDS
        .iter()
        .find(|(name, _)| *name == what)
        .map_or(what, |(_, words)| words)
}

/// What is known of a change besides its name.
pub fn detail(change: &Change) -> String {
    match change.what.as_str() {
        SAME_VERSION => same_version(&change.detail),
        _ => render_detail(&change.detail),
    }
}

/// Two changes with one version.
fn same_version(detail: &Value) -> String {
    let text = |name: &str| detail[name].as_str().unwrap_or("?");
    let content = match detail["content"].as_str() {
        Some("same") => "the same content",
        Some("other") => "other content",
        _ => "its own content",
    };
    format!(
        "{} has this version, too, with {content}: the higher event id wins, {}",
        text("other"),
        text("wins")
    )
}

/// The change of two events with one version; its detail is a sentence.
pub const SAME_VERSION: &str = "same_version";

/// Every name that the engine writes into a record's history: calls (`sync::Operation::past`), ends (`store::links::End`),
/// what `kurir links settle` writes, and those of the functions in migrations/functions/.
const WORDS: [(&str, &str); 23] = [
    ("created", "created there"),
    ("updated", "updated there"),
    ("part_added", "part added there"),
    ("part_changed", "part changed there"),
    ("removed", "removed there"),
    ("unchanged", "nothing to change"),
    ("deleted", "given up: deleted at its source"),
    ("adopted", "found there and adopted"),
    ("conflict", "conflict, waits for a person"),
    ("rechecked", "looked again"),
    ("failed", "call refused, nothing stored"),
    ("abandoned", "call given up, nothing was stored"),
    ("late_answer", "answer came too late"),
    ("held", "held"),
    ("held_overtaken", "held event overtaken"),
    ("released", "held event let go"),
    ("discarded", "held event discarded"),
    ("dead", "event died"),
    ("kept_out", "oldest kept version put aside"),
    ("missed", "not shown by the partner, looked for again"),
    ("seen", "shown by the partner again"),
    ("settled", "conflict settled by hand"),
    (SAME_VERSION, "same version as another change"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use regex::Regex;
    use store::links::End;
    use sync::Operation;

    use super::WORDS;

    /// The names that statements in migrations/functions/ insert into `link_history.what`: literals, and values of functions'
    /// arguments by the name of the argument.
    fn of_migrations() -> (BTreeSet<String>, BTreeSet<String>) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/functions");
        let (mut literals, mut arguments) = (BTreeSet::new(), BTreeSet::new());
        // The value behind the time, in `values (...)` and in `select ...`.
        let named = Regex::new(r"(?:kurir_now\(\)|\bt), ('?)([a-z_]+)'?").unwrap();
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for statement in text.split("insert into link_history").skip(1) {
                let columns = statement.split_once(')').unwrap();
                assert!(columns.0.contains("at, what, k"), "{}", columns.0);
                let found = named.captures(columns.1).unwrap();
                let names = if found[1].is_empty() {
                    &mut arguments
                } else {
                    &mut literals
                };
                names.insert(found[2].to_owned());
            }
        }
        (literals, arguments)
    }

    #[test]
    fn every_name_that_the_engine_writes_has_words() {
        let (literals, arguments) = of_migrations();
        assert!(literals.len() >= 7, "{literals:?}");
        // confirm_effects, resolve_effect and finish_link are told it.
        assert_eq!(
            arguments.iter().map(String::as_str).collect::<Vec<_>>(),
            ["p_end", "p_to", "what"]
        );
        let ends = End::ALL
            .into_iter()
            .filter(|end| !matches!(end, End::Noted | End::Resolved))
            .map(End::as_str);
        let calls = Operation::ALL.map(Operation::past);
        let mut written = literals;
        written.extend(
            ends.chain(calls)
                .chain(["failed", "abandoned", "settled"])
                .map(str::to_owned),
        );
        let with_words = WORDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(written, with_words);
    }
}
