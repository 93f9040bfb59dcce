//! Numbers that authorities give to companies, as they are sent.

use event::identity::invisible::without_fractions;
use event::identity::{country, plain};
use unicode_normalization::UnicodeNormalization as _;

/// Upper case, without white space, dots and hyphens; empty for a filler ([`is_filler`]). A prefix stays or lacks as it
/// does. Fit for sending; two numbers are compared by [`crate::TaxNumber`].
pub fn tax_number(text: &str) -> String {
    if is_filler(text) {
        return String::new();
    }
    // Some of what nobody sees counts as a letter.
    without_fractions(text)
        .nfkc()
        .flat_map(char::to_uppercase)
        .nfkc()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, '/' | '+' | '*' | '&'))
        .nfkc()
        .collect()
}

/// [`plain`]; empty for a filler ([`is_filler`]).
pub fn registration_number(text: &str) -> String {
    if is_filler(text) {
        return String::new();
    }
    plain(text)
}

/// What people type where a number is asked for and there is none: nothing with a digit in it (`N/A`, `brez`, `/`), no
/// digit but zeros (`brez 0`, `SLO00000000`, `000000000B01`), or one sign repeated (`99`, `111-111`), with or without a
/// country before it (`DE999999999`).
pub fn is_filler(text: &str) -> bool {
    let signs: Vec<char> = without_fractions(text)
        .nfkc()
        .filter(|sign| sign.is_alphanumeric())
        .collect();
    let repeated = |signs: &[char]| signs.iter().all(|sign| Some(sign) == signs.first());
    let text = String::from_iter(&signs).to_uppercase();
    let behind_country = ["ATU", "CHE"]
        .into_iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .or_else(|| {
            let (code, rest) = text.split_at_checked(2)?;
            country::by_code(code).map(|_| rest)
        });
    !signs.iter().any(|sign| sign.is_numeric())
        || only_zeros(&text)
        || repeated(&signs)
        || behind_country.is_some_and(|rest| repeated(&rest.chars().collect::<Vec<_>>()))
}

/// Whether all digits are zeros. `01` may follow eight of them: some countries write it behind every number
/// (`000000000B01`, `000000000001`).
fn only_zeros(text: &str) -> bool {
    const ENOUGH: usize = 8;
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let zeros = |digits: &str| digits.bytes().all(|digit| digit == b'0');
    let behind = digits.strip_suffix("01");
    !digits.is_empty()
        && (zeros(&digits) || behind.is_some_and(|rest| rest.len() >= ENOUGH && zeros(rest)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fillers_are_no_numbers() {
        for filler in [
            "",
            " ",
            "N/A",
            "n.a.",
            "na",
            "0",
            "00000000",
            "0.0",
            "000-000-000",
            "X",
            "XXX",
            "xx",
            "brez",
            "/",
            "-",
            "--",
            "–",
            "?",
            ".",
            "ni",
            "nima",
            "none",
            "null",
            "99",
            "1",
            "11111111",
            "SI00000000",
            "SI 0",
            "si-0",
            "SI",
            "DE999999999",
            "ATU00000000",
            "CHE-000.000.000",
            "ni zavezanec",
            "SI99999999",
            "HR",
            "０００",
            "\u{200b}",
            "neznano",
            "keine",
            "brez 0",
            "0 brez",
            "SLO 0",
            "SLO00000000",
            "XX00000000",
            "EU000000000",
            "000000000B01",
            "NL000000000B01",
            "NO000000000MVA",
            "SE000000000001",
            "CHE-000.000.000 MWST",
            "½",
            "¼ ⅔",
            "x²",
            "①②③",
            "⑴",
            "SI ½",
        ] {
            assert!(is_filler(filler), "{filler}");
            assert_eq!(tax_number(filler), "");
            assert_eq!(registration_number(filler), "");
        }
        for number in [
            "99999901",
            "SI99999901",
            "12345678",
            "10",
            "HRB 77",
            "6123456000",
            "ATU12345678",
            "B11111112",
            "MK4030000000007",
            "00012345",
            "00000001",
            "0000000042",
            "01",
        ] {
            assert!(!is_filler(number), "{number}");
            assert_ne!(tax_number(number), "");
            assert_eq!(registration_number(number), number);
        }
        assert_eq!(tax_number(" si-9999 9901 "), "SI99999901");
        assert_eq!(
            tax_number("CHE\u{2011}123.456.789 mwst"),
            "CHE123456789MWST"
        );
        assert_eq!(tax_number("12/345/67890"), "12/345/67890");
        for footnote in ["SI99999901²", "SI99999901½", "SI99999901 ①"] {
            assert_eq!(tax_number(footnote), "SI99999901", "{footnote}");
        }
    }

    #[test]
    fn what_nobody_sees_makes_no_difference() {
        let noisy: String = "SI99999901"
            .chars()
            .flat_map(|letter| [letter, '\u{200b}'])
            .collect();
        assert_eq!(tax_number(&format!("\u{feff}{noisy}\u{ad}")), "SI99999901");
    }

    proptest! {
        #[test]
        fn a_second_time_changes_nothing(text in "\\PC{0,30}") {
            for normalise in [tax_number, registration_number] {
                let once = normalise(&text);
                prop_assert_eq!(normalise(&once), once);
            }
        }
    }
}
