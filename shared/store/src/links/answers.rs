//! What the functions over arrays answer: by item, in the order of their locks. Callers want the order of their items.

use crate::Error;

/// # Errors
/// An item without an answer, an answer without an item, or what `read` finds.
pub(super) fn in_order<D, R>(
    count: usize,
    answers: impl IntoIterator<Item = (i32, String, D)>,
    read: impl Fn(&str, D) -> Result<R, Error>,
) -> Result<Vec<R>, Error> {
    let mut results: Vec<Option<R>> = (0..count).map(|_| None).collect();
    for (index, verdict, detail) in answers {
        let slot = usize::try_from(index)
            .ok()
            .and_then(|index| results.get_mut(index));
        *slot
            .ok_or_else(|| Error::Unreadable(format!("answered for item {index} of {count}")))? =
            Some(read(&verdict, detail)?);
    }
    results
        .into_iter()
        .map(|result| {
            result.ok_or_else(|| Error::Unreadable("an item was left unanswered".to_owned()))
        })
        .collect()
}

/// Where the verdict is all that is answered.
pub(super) fn verdicts<R>(
    count: usize,
    answers: Vec<(i32, String)>,
    read: impl Fn(&str) -> Result<R, Error>,
) -> Result<Vec<R>, Error> {
    let answers = answers
        .into_iter()
        .map(|(index, verdict)| (index, verdict, ()));
    in_order(count, answers, |verdict, ()| read(verdict))
}
