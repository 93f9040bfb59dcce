//! What it proves when a look does not show a record that should be there (many looks lag: what was just made or changed
//! may be away for a while, by search and by id, or shown as it was). One look proves nothing: whoever edits the record hides it as long.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::content::Record;
use crate::step::{Step, View};

/// Hits of a search that are read by id, at most; more than that is a conflict whatever they are.
const READ_AT_MOST: usize = 5;

impl<'a> View<'a> {
    /// A look of this lease, which began at the claim or later, does not show the record. `None`: it is gone, because two
    /// such looks lie `lag` apart, the first of them begun `lag` or more after our last write. Else what to do first.
    pub(crate) fn not_shown(&self, lag: Duration) -> Option<Step> {
        let lag = delta(lag);
        let begun = self.claimed_at;
        match (
            self.link.written_at.map(|at| at + lag),
            self.link.missing_since,
        ) {
            (Some(clear), _) if begun < clear => Some(Step::LookAgain(clear)),
            (_, None) => Some(Step::Missed(begun + lag)),
            (_, Some(first)) if begun < first + lag => Some(Step::LookAgain(first + lag)),
            _ => None,
        }
    }

    /// Whether what a look of this lease shows can't be from before our last write.
    pub(crate) fn is_fresh(&self, lag: Duration) -> bool {
        self.before_our_last_write(lag).is_none()
    }

    /// What a look of this lease shows may be from before our last write: from when on a look is not.
    pub(crate) fn before_our_last_write(&self, lag: Duration) -> Option<DateTime<Utc>> {
        let clear = self.link.written_at? + delta(lag);
        (self.claimed_at < clear).then_some(clear)
    }

    /// A record that was not shown for a while is shown again.
    pub(crate) fn shown_again(&self) -> bool {
        let target = self.link.target_id.as_deref();
        self.link.missing_since.is_some()
            && target.is_some_and(|id| matches!(self.observations.record(id), Some(Some(_))))
    }

    /// Of hits of a search those that a read by id shows, too: an index may still show a record that is gone. `Err`: what
    /// must be done before that is known.
    pub(crate) fn living(
        &self,
        hits: &'a [Record],
        lag: Duration,
    ) -> Result<Vec<&'a Record>, Step> {
        if hits.len() > READ_AT_MOST {
            return Ok(hits.iter().collect());
        }
        let mut living = Vec::with_capacity(hits.len());
        for hit in hits {
            match self.observations.record(&hit.id) {
                None => return Err(Step::Read(hit.id.clone())),
                Some(Some(record)) => living.push(record),
                Some(None) => {
                    if let Some(first) = self.not_shown(lag) {
                        return Err(first);
                    }
                }
            }
        }
        Ok(living)
    }
}

/// When an effect that a look does not show is looked for again: as soon as the partner may show it, then when it must.
pub(crate) fn look_again(
    sent_at: Option<DateTime<Utc>>,
    settle_at: DateTime<Utc>,
    begun: DateTime<Utc>,
    lag: Duration,
) -> DateTime<Utc> {
    let early = sent_at.map(|at| at + delta(lag));
    early
        .filter(|early| begun < *early && *early < settle_at)
        .unwrap_or(settle_at)
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
