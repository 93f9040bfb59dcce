//! Times as people write them, in the zone in which lists print them.

use chrono::{
    DateTime, Local, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone as _, Utc,
};

/// Words that lists print, and others write, for the zone of Greenwich.
const UTC: [&str; 3] = ["UTC", "GMT", "Z"];
/// With blanks between day, time and zone, or without.
const ZONED: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z"];
const LOCAL: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
/// Length of a day as it is written.
const DAY: usize = 10;
/// The longest a clock was ever put forward: a whole day, where the date line moved.
const GAP: TimeDelta = TimeDelta::hours(26);

/// A time ago (`90m`, `2d`), a day or a time of this machine's zone, or an instant with its zone, as lists print it.
pub(super) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let text = text.trim();
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(instant.to_utc());
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return begin(day);
    }
    // As RFC 3339 has it, behind the day.
    let written = match text.split_at_checked(DAY) {
        Some((day, time)) if time.starts_with('T') => format!("{day} {}", &time[1..]),
        _ => text.to_owned(),
    };
    if let Some(instant) = zoned(&written) {
        return Ok(instant);
    }
    if let Some(local) = naive(&written) {
        return local_time(local);
    }
    ago(text).ok_or_else(|| {
        "expected for example 90m, 12h, 2d, 2026-01-31, '2026-01-31 08:00' or 2026-01-31T08:00:00+01:00".to_owned()
    })
}

fn zoned(text: &str) -> Option<DateTime<Utc>> {
    for zone in UTC {
        if let Some(at) = text.strip_suffix(zone) {
            return naive(at.trim_end()).map(|at| at.and_utc());
        }
    }
    let (at, zone) = text.split_at_checked(text.rfind(['+', '-'])?)?;
    let text = format!("{}{zone}", at.trim_end());
    ZONED
        .iter()
        .find_map(|format| DateTime::parse_from_str(&text, format).ok())
        .map(|instant| instant.to_utc())
}

fn naive(text: &str) -> Option<NaiveDateTime> {
    LOCAL
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
}

/// The first instant of a day, also where its midnight comes twice or never.
fn begin(day: NaiveDate) -> Result<DateTime<Utc>, String> {
    let midnight = day.and_time(chrono::NaiveTime::MIN);
    let mut ahead = TimeDelta::zero();
    while ahead <= GAP {
        if let Some((first, _)) = midnight.checked_add_signed(ahead).and_then(shown_at) {
            return Ok(first.to_utc());
        }
        ahead += TimeDelta::minutes(1);
    }
    Err(format!("{day} is no day of this machine's zone"))
}

/// The first and the last instant at which this machine's clock shows a time; mostly they are one.
fn shown_at(at: NaiveDateTime) -> Option<(DateTime<Local>, DateTime<Local>)> {
    match Local.from_local_datetime(&at) {
        LocalResult::Single(instant) => Some((instant, instant)),
        // In which order they come is not said.
        LocalResult::Ambiguous(one, other) => Some((one.min(other), one.max(other))),
        LocalResult::None => None,
    }
}

fn local_time(at: NaiveDateTime) -> Result<DateTime<Utc>, String> {
    match shown_at(at) {
        Some((first, last)) if first == last => Ok(first.to_utc()),
        Some((first, last)) => Err(format!(
            "the clock showed {at} twice: write '{at} {}' or '{at} {}'",
            first.format("%:z"),
            last.format("%:z")
        )),
        None => Err(format!(
            "the clock never showed {at}: it was put forward then"
        )),
    }
}

fn ago(text: &str) -> Option<DateTime<Utc>> {
    let unit = text.chars().next_back()?;
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
    let ago = match unit {
        's' => TimeDelta::try_seconds(number),
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        'w' => TimeDelta::try_weeks(number),
        _ => None,
    }?;
    Utc::now().checked_sub_signed(ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for zoned in [
            "2026-01-31T08:00:00+01:00",
            "2026-01-31T07:00:00Z",
            "2026-01-31 08:00:00 +01:00",
            "2026-01-31 08:00 +0100",
            "2026-01-31 07:00:00 UTC",
            "2026-01-31 02:30:00 -04:30",
            " 2026-01-31 07:00:00.000Z ",
        ] {
            assert_eq!(
                moment(zoned).map(|at| at.to_rfc3339()),
                Ok("2026-01-31T07:00:00+00:00".to_owned()),
                "{zoned}"
            );
        }
        let local = Local
            .with_ymd_and_hms(2026, 1, 31, 8, 0, 0)
            .unwrap()
            .to_utc();
        for at in ["2026-01-31 08:00", "2026-01-31T08:00:00"] {
            assert_eq!(moment(at), Ok(local), "{at}");
        }
        let age = |text| moment(text).map(|at| (Utc::now() - at).num_minutes());
        assert_eq!(age("90m"), Ok(90));
        assert_eq!(age("2d"), Ok(2880));
        for wrong in [
            "",
            "d",
            "2y",
            "yesterday",
            "-",
            "99999999999999w",
            "2č",
            "+",
            "2026-13-01",
            "2026-01-31 25:00",
            "2026-01-31 08:00 CEST",
        ] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
