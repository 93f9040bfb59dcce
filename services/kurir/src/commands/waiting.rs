//! Where held events are, below a list in which somebody looks for one.

/// A list, and below it what is held; a list of nothing alone would look as if nothing had come.
pub(super) fn below(list: String, held: &str) -> String {
    if held.is_empty() {
        list
    } else {
        format!("{list}\n\n{held}")
    }
}
