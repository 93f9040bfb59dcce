//! How far this machine's clock, Postgres' and the broker's are apart. Leases and settle times are the database's, call
//! windows this machine's, retries the broker's.

use chrono::{DateTime, TimeDelta, Utc};
use store::Pool;

use super::finding::{Finding, Subject};

const SUBJECT: Subject = Subject::Clock;
const WARNING: TimeDelta = TimeDelta::seconds(1);
const PROBLEM: TimeDelta = TimeDelta::seconds(5);
/// HTTP tells time in whole seconds, and a server writes the line anew once a second: it was then, or any moment of the
/// two seconds after.
pub const HTTP_GRAIN: TimeDelta = TimeDelta::seconds(2);

/// Of the database.
pub async fn database(pool: &Pool) -> Finding {
    let before = Utc::now();
    match store::diagnostics::clock(pool).await {
        Ok(there) => judged(
            "Postgres",
            apart(before, Utc::now(), there, TimeDelta::zero()),
        ),
        Err(error) => Finding::failed(SUBJECT, "Postgres", error),
    }
}

/// Least difference that explains what was seen: it was asked between `before` and `after` by our clock, and its own
/// showed something from `there` to `there + grain`. Positive: theirs is ahead.
pub fn apart(
    before: DateTime<Utc>,
    after: DateTime<Utc>,
    there: DateTime<Utc>,
    grain: TimeDelta,
) -> TimeDelta {
    if there > after {
        there - after
    } else if there + grain < before {
        there + grain - before
    } else {
        TimeDelta::zero()
    }
}

/// Whose clock it is, and how far it is from this machine's.
pub fn judged(whose: &str, apart: TimeDelta) -> Finding {
    let far = apart.abs();
    if far <= WARNING {
        return Finding::ok(SUBJECT, whose, "agrees with this machine's");
    }
    let direction = if apart > TimeDelta::zero() {
        "ahead of"
    } else {
        "behind"
    };
    let detail = format!(
        "{:.1} s {direction} this machine's: leases, settle times and call windows are misjudged",
        far.as_seconds_f64()
    );
    let next = "make both follow one NTP server: `timedatectl` shows whether a machine does";
    if far > PROBLEM {
        Finding::problem(SUBJECT, whose, detail, next)
    } else {
        Finding::warning(SUBJECT, whose, detail, next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn only_what_the_look_cannot_explain_is_a_difference() {
        let at = |millis: i64| DateTime::from_timestamp_millis(1_000_000 + millis).expect("a time");
        let grain = TimeDelta::zero();
        for (there, expected) in [(-500, -500), (0, 0), (150, 0), (300, 0), (900, 600)] {
            let found = apart(at(0), at(300), at(there), grain);
            assert_eq!(found.num_milliseconds(), expected, "{there}");
        }
        assert_eq!(
            apart(at(900), at(950), at(0), HTTP_GRAIN),
            TimeDelta::zero()
        );
        for (millis, verdict) in [
            (1_000, Verdict::Ok),
            (-1_001, Verdict::Warning),
            (5_000, Verdict::Warning),
            (-5_001, Verdict::Problem),
        ] {
            let found = judged("x", TimeDelta::milliseconds(millis));
            assert_eq!(found.verdict, verdict, "{millis}");
        }
    }
}
