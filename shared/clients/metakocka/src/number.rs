//! Numbers arrive as strings with either decimal mark (§1.3).

use rust_decimal::Decimal;

/// How a lone `.` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// As the decimal mark; everywhere but in payments.
    Usual,
    /// As grouping thousands; `mark_paid[].amount`.
    Slovenian,
}

/// With both marks the last one is the decimal mark and the other groups thousands; a lone `,` is the decimal mark; a
/// mark that occurs several times groups. None for anything that isn't a number under these rules: digits are never
/// guessed.
pub fn parse(text: &str, marks: Marks) -> Option<Decimal> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let comma = digits.rfind(',');
    let point = digits.rfind('.');
    let (grouping, decimal) = match (comma, point) {
        (Some(comma), Some(point)) if comma > point => ('.', Some(comma)),
        (Some(_), Some(point)) => (',', Some(point)),
        (Some(comma), None) => lone(digits, ',', comma, false),
        (None, Some(point)) => lone(digits, '.', point, marks == Marks::Slovenian),
        (None, None) => ('.', None),
    };
    let (whole, fraction) = match decimal {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, ""),
    };
    let whole = ungrouped(whole, grouping)?;
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(&whole) || !is_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { &whole };
    let plain = if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    };
    plain.parse().ok()
}

fn lone(digits: &str, mark: char, last: usize, groups: bool) -> (char, Option<usize>) {
    if groups || digits.matches(mark).count() > 1 {
        (mark, None)
    } else {
        (if mark == ',' { '.' } else { ',' }, Some(last))
    }
}

/// Without the grouping mark; None unless it stands between groups of three.
fn ungrouped(whole: &str, grouping: char) -> Option<String> {
    let mut groups = whole.split(grouping);
    let first = groups.next().unwrap_or_default();
    let mut joined = first.to_owned();
    for group in groups {
        if group.len() != 3 || first.is_empty() || first.len() > 3 {
            return None;
        }
        joined.push_str(group);
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, marks: Marks, expected: Option<&str>) {
        let expected = expected.map(|number| number.parse::<Decimal>().unwrap());
        assert_eq!(parse(text, marks), expected, "{text:?}");
    }

    #[test]
    fn what_metakocka_sends() {
        for (text, number) in [
            ("46.19", "46.19"),
            ("4.0000000000", "4"),
            ("7,3", "7.3"),
            ("863,75", "863.75"),
            ("1.895,01", "1895.01"),
            ("1,895.01", "1895.01"),
            ("1.234.567,8", "1234567.8"),
            ("1.234.567", "1234567"),
            ("1.895", "1.895"),
            (" 12 ", "12"),
            ("-0,5", "-0.5"),
            (",5", "0.5"),
            ("5.", "5"),
            ("0", "0"),
        ] {
            check(text, Marks::Usual, Some(number));
        }
    }

    #[test]
    fn payments_group_with_a_lone_point() {
        check("1.895", Marks::Slovenian, Some("1895"));
        check("1.895,01", Marks::Slovenian, Some("1895.01"));
        check("87,60", Marks::Slovenian, Some("87.60"));
        check("87.60", Marks::Slovenian, None);
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            " ",
            "-",
            ".",
            ",",
            "abc",
            "1e5",
            "1 000",
            "1,2,3",
            "1.2.3",
            "12,34.56.78",
            "--1",
            "0x10",
            "1.89,501.2",
            "٣",
            "999999999999999999999999999999999",
        ] {
            check(text, Marks::Usual, None);
        }
    }

    fn grouped(digits: &str, mark: char) -> String {
        let bytes = digits.as_bytes();
        let first = bytes.len() % 3;
        let mut groups: Vec<&str> = Vec::new();
        if first > 0 {
            groups.push(&digits[..first]);
        }
        groups.extend(
            (first..digits.len())
                .step_by(3)
                .map(|at| &digits[at..at + 3]),
        );
        groups.join(&mark.to_string())
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = parse(&text, Marks::Usual);
            let _ = parse(&text, Marks::Slovenian);
        }

        #[test]
        fn never_panics_on_almost_numbers(text in "[-+0-9., ]{0,30}") {
            let _ = parse(&text, Marks::Usual);
            let _ = parse(&text, Marks::Slovenian);
        }

        #[test]
        fn every_notation_of_a_number_is_that_number(whole in 0u64..10_000_000_000, cents in 0u32..100, minus: bool) {
            let sign = if minus { "-" } else { "" };
            let plain: Decimal = format!("{sign}{whole}.{cents:02}").parse().unwrap();
            let digits = whole.to_string();
            for text in [
                format!("{sign}{whole}.{cents:02}"),
                format!("{sign}{whole},{cents:02}"),
                format!("{sign}{},{cents:02}", grouped(&digits, '.')),
                format!("{sign}{}.{cents:02}", grouped(&digits, ',')),
            ] {
                prop_assert_eq!(parse(&text, Marks::Usual), Some(plain), "{}", text);
            }
            let payment = format!("{sign}{}", grouped(&digits, '.'));
            let rounded: Decimal = format!("{sign}{whole}").parse().unwrap();
            prop_assert_eq!(parse(&payment, Marks::Slovenian), Some(rounded), "{}", payment);
        }
    }
}
