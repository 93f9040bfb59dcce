//! What an HTTP status says before anybody looks at the body.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// A partner that asks for more than this is heard as this.
pub const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// 2xx.
    Success,
    /// 3xx; never followed.
    Redirect,
    /// 401, 403.
    Credentials,
    /// 404, 410.
    NotFound,
    /// 408: the server did not wait for the whole request.
    RequestTimeout,
    /// 429.
    TooMany,
    /// Any other 4xx.
    Refused,
    /// 5xx.
    Server,
    /// 1xx or above 599.
    Odd,
}

impl StatusClass {
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            401 | 403 => Self::Credentials,
            404 | 410 => Self::NotFound,
            408 => Self::RequestTimeout,
            429 => Self::TooMany,
            400..=499 => Self::Refused,
            500..=599 => Self::Server,
            _ => Self::Odd,
        }
    }
}

/// `Retry-After` as a wait from now: whole seconds or an HTTP date, counted from the reply's own `Date` where it has
/// one, because clocks differ. A date in the past is no wait at all; an unreadable value is none.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let asked = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds is more than the limit.
        asked.parse().map_or(RETRY_AFTER_LIMIT, Duration::from_secs)
    } else {
        let then = httpdate::parse_http_date(asked).ok()?;
        let sent = headers
            .get(DATE)
            .and_then(|date| date.to_str().ok())
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .unwrap_or(now);
        then.duration_since(sent).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(RETRY_AFTER_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[track_caller]
    fn check(retry_after_header: &str, date: Option<&str>, expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from_str(retry_after_header).unwrap(),
        );
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_str(date).unwrap());
        }
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(
            retry_after(&headers, now),
            expected.map(Duration::from_secs),
            "{retry_after_header}"
        );
    }

    #[test]
    fn seconds_and_all_three_forms_of_dates() {
        check("120", None, Some(120));
        check(" 0 ", None, Some(0));
        check("Sun, 06 Nov 1994 08:50:07 GMT", None, Some(30));
        check("Sunday, 06-Nov-94 08:50:07 GMT", None, Some(30));
        check("Sun Nov  6 08:50:07 1994", None, Some(30));
    }

    #[test]
    fn the_servers_own_clock_counts() {
        check(
            "Sun, 06 Nov 1994 10:00:30 GMT",
            Some("Sun, 06 Nov 1994 10:00:00 GMT"),
            Some(30),
        );
    }

    #[test]
    fn past_absurd_and_unreadable_values() {
        check("Sun, 06 Nov 1994 08:00:00 GMT", None, Some(0));
        check("99999999999999999999999", None, Some(24 * 3600));
        check("Sat, 06 Nov 2094 08:49:37 GMT", None, Some(24 * 3600));
        for unreadable in ["", "soon", "-5", "1.5", "12 s"] {
            check(unreadable, None, None);
        }
    }

    #[test]
    fn classes() {
        use StatusClass::*;
        for (status, class) in [
            (200, Success),
            (204, Success),
            (302, Redirect),
            (304, Redirect),
            (400, Refused),
            (401, Credentials),
            (403, Credentials),
            (404, NotFound),
            (408, RequestTimeout),
            (410, NotFound),
            (422, Refused),
            (429, TooMany),
            (500, Server),
            (503, Server),
            (999, Odd),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(StatusClass::of(status), class, "{status}");
        }
    }
}
