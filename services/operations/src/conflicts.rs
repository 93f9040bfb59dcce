//! What a conflict means and what helps, in words: one text for `held show`, `held release`, `links show` and
//! `links settle`. docs/holds.md says the same for all kinds.

use chrono::{DateTime, Utc};
use store::held::InVain;
use store::links::ConflictCause;

use crate::words::at;

/// In a few words, behind `conflict: `.
pub fn means(cause: Option<ConflictCause>) -> &'static str {
    match cause {
        Some(ConflictCause::KeyTaken) => "another record has one of its keys",
        Some(ConflictCause::SeveralRecords) => "several records of the partner carry its key",
        Some(ConflictCause::RecordTaken) => {
            "the partner's record that carries its key is another record's"
        }
        Some(ConflictCause::Gone) => "the partner does not show its record any more",
        Some(ConflictCause::SecondRecord) => "beside its record another one carries its key",
        Some(ConflictCause::Orphan) => "the partner has a record of it that nothing is linked to",
        Some(ConflictCause::PartTwice) => "a part of its record stands there twice",
        Some(ConflictCause::LateCreate) => {
            "a create that was given up has been answered: there may be two"
        }
        Some(ConflictCause::UnclearCreate) => {
            "a create may have happened, and nothing finds what it made"
        }
        Some(ConflictCause::RecheckFailed) => "a look at it ended its process three times",
        None => "waits for a person; see the last error",
    }
}

/// What to do, as a sentence. `done` is the command that says that it is settled.
pub fn helps(cause: Option<ConflictCause>, done: &str) -> String {
    let then = format!("then `{done}`");
    match cause {
        Some(ConflictCause::KeyTaken) => {
            "change one of the two records at its source so that only one has the key, or delete one there; it goes on \
             by itself then, and a release alone does not help"
                .to_owned()
        }
        Some(ConflictCause::SeveralRecords) => format!(
            "at the partner delete or merge the others, or take the key off them, so that one is left; {then}"
        ),
        Some(ConflictCause::RecordTaken) => format!(
            "at the partner take the key off the other's record, or at the source change this record so that it has \
             another, or delete it; {then}"
        ),
        Some(ConflictCause::Gone) => format!(
            "nothing, if it comes back: it is looked for after 1, 5 and 60 minutes and then daily, and goes on by itself; \
             `{done}` looks at once. If it is to stay away: delete the record at its source, {then}; what its source \
             sends after that makes it anew"
        ),
        Some(ConflictCause::SecondRecord | ConflictCause::LateCreate) => format!(
            "at the partner keep the linked record and delete the other; {then}"
        ),
        Some(ConflictCause::Orphan) => format!(
            "at the partner delete the record if it is not wanted; {then}: the next change adopts it, or makes it anew"
        ),
        Some(ConflictCause::PartTwice) => {
            format!("at the partner delete one of the two equal parts; {then}")
        }
        Some(ConflictCause::UnclearCreate) => format!(
            "look at the partner whether it was made. If it was, delete it there, or, to keep it, give it and the record at \
             its source the same key (a mailbox, a tax number); {then}: the record is made then, or found by its new key"
        ),
        Some(ConflictCause::RecheckFailed) => {
            format!("find out why in the worker's log; {then}")
        }
        None => format!("decide which record is right; {then}"),
    }
}

/// What stands in the way.
pub fn in_vain(row: &InVain) -> String {
    let why = match (&row.owner, row.owner_link, row.unclear_until) {
        (_, _, Some(until)) => still_unclear(until),
        (Some(owner), Some(link), _) => format!(
            "its key {} belongs to {owner} (link {link})",
            row.key.as_deref().unwrap_or_default()
        ),
        _ => "nobody has settled it".to_owned(),
    };
    format!("{} of {}: {why}", row.held, row.record)
}

/// Of a create without a key, until when.
pub fn still_unclear(until: DateTime<Utc>) -> String {
    format!(
        "its create may still take effect at the partner until {}",
        at(until)
    )
}

/// What helps instead of a release.
pub fn instead(row: &InVain) -> String {
    match &row.owner {
        Some(owner) => format!(
            "change {owner} or {} at the source so that only one has the key, or delete one there: it leaves by itself then. \
             To give the change up: `kurir held discard {} --note ...`",
            row.record, row.held
        ),
        None => format!(
            "look at the partner after that time, then `kurir held release {}`",
            row.held
        ),
    }
}
