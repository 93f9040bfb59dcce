//! One spelling for things that people and systems spell in several ways, for comparison and never for sending
//! (`country_name`, `clean`, `plain` and `mailbox` excepted). Two records are the same by these and not by what a search returned (§2.2).

use unicode_normalization::UnicodeNormalization as _;

use crate::country;
use crate::invisible::{is_invisible, stripped, tidied, without_fractions};

/// Composed (NFC), without surrounding or repeated white space, and without characters that nobody sees, unless they
/// shape a visible one; case kept. Fit for sending.
pub fn clean(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        // What joins, joins within a word.
        let word: String = tidied(word).nfc().collect();
        if !word.is_empty() {
            words.push(word);
        }
    }
    words.join(" ")
}

/// [`clean`], and without any character that nobody sees: numbers and codes. Fit for sending.
pub fn plain(text: &str) -> String {
    clean(&stripped(text))
}

/// Names of people, companies and places: [`plain`], and in lower case.
pub fn name(text: &str) -> String {
    // Changing the case can decompose (İ), so it comes before composing.
    plain(&text.to_lowercase())
}

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

/// Composed, without characters that nobody sees, and without the white space, commas and semicolons around it: people copy
/// it out of lists. Case kept. Empty for what is no mailbox: nothing before or behind the `@`. Fit for sending, as [`email`].
pub fn mailbox(text: &str) -> String {
    // Composing can make a semicolon (of the Greek question mark), so it comes before trimming.
    let text: String = stripped(text).nfc().collect();
    let text = text.trim_matches(separates_mailboxes).to_owned();
    match text.split_once('@') {
        Some((user, host)) if user.is_empty() || host.is_empty() => String::new(),
        _ => text,
    }
}

/// [`mailbox`] in lower case. Mailboxes are sent so: the same search then finds what we wrote, whether it minds the case
/// or not.
pub fn email(text: &str) -> String {
    mailbox(&mailbox(text).to_lowercase())
}

/// The addresses in a field that people use for several, normalised.
pub fn emails(text: &str) -> impl Iterator<Item = String> {
    text.split(separates_mailboxes)
        .map(email)
        .filter(|email| !email.is_empty())
}

fn separates_mailboxes(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, ',' | ';')
}

/// Digits with the country: `00` is `+`, a single leading `0` is Slovenia's.
pub fn phone(text: &str) -> String {
    let trimmed = plain(text);
    // The `(0)` of `+386 (0)40` isn't dialled from abroad.
    let plain = trimmed.replace("(0)", "");
    let digits: String = plain.chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() || trimmed.starts_with('+') {
        return if digits.is_empty() {
            digits
        } else {
            format!("+{digits}")
        };
    }
    match (digits.strip_prefix("00"), digits.strip_prefix('0')) {
        (Some(abroad), _) => format!("+{abroad}"),
        (None, Some(home)) => format!("+386{home}"),
        (None, None) => digits,
    }
}

/// As [`name`], and without the full stops and commas that people put or leave out.
pub fn street(text: &str) -> String {
    name(&text.replace(['.', ','], " "))
}

/// Upper case, without white space and without the `SI-` of old addresses.
pub fn post_number(text: &str) -> String {
    let number: String = text
        .chars()
        .filter(|letter| !letter.is_whitespace() && !is_invisible(*letter))
        .flat_map(char::to_uppercase)
        .collect();
    match number.strip_prefix("SI-") {
        Some(digits) => digits.to_owned(),
        None => number,
    }
}

/// The ISO 3166 code of a country given by any code or name; what isn't known as [`name`].
pub fn country(text: &str) -> String {
    country::find(text).map_or_else(|| name(text), |known| known.iso.clone())
}

/// The country as Metakocka's partner addresses spell it (`Slovenija`, §1.7); what isn't known as [`clean`].
pub fn country_name(text: &str) -> String {
    country::find(text).map_or_else(|| clean(text), |known| known.slovenian.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn names_ignore_case_spacing_and_composition() {
        assert_eq!(
            name("  Čebelarstvo\u{a0} ŽUŽEK\td.o.o. "),
            "čebelarstvo žužek d.o.o."
        );
        assert_eq!(name("Z\u{30c}uz\u{30c}ek"), name("ŽUŽEK"));
        assert_ne!(
            name("Zuzek"),
            name("Žužek"),
            "letters with a caron are other letters"
        );
        assert_eq!(clean(" Špela  Žužek "), "Špela Žužek");
    }

    #[test]
    fn what_nobody_sees_makes_no_difference() {
        let noisy = |text: &str| -> String {
            let letters = text.chars().flat_map(|letter| [letter, '\u{200b}']);
            "\u{feff}"
                .chars()
                .chain(letters)
                .chain(['\u{ad}'])
                .collect()
        };
        for (normalise, text) in [
            (clean as fn(&str) -> String, "Špela Žužek"),
            (plain, "040 123-456"),
            (name, "Špela Žužek"),
            (tax_number, "SI99999901"),
            (email, "spela@zuzek.example"),
            (mailbox, "Spela@Zuzek.example"),
            (phone, "+38640123456"),
            (street, "Češnjeva ul 7"),
            (post_number, "SI-8210"),
            (country, "Slovenija"),
            (country_name, "Slovenia"),
        ] {
            assert_eq!(normalise(&noisy(text)), normalise(text), "{text}");
        }
        assert_eq!(
            name("نام\u{200c}ها"),
            name("نامها"),
            "joiners are not compared"
        );
        assert_eq!(
            clean("نام\u{200c}ها"),
            "نام\u{200c}ها",
            "and sent where they shape"
        );
        for nobody in [
            "\u{200b}@\u{200b}",
            "@kos.example",
            "kos@\u{feff}",
            "\u{200b}",
        ] {
            assert_eq!(email(nobody), "", "{nobody:?}");
        }
        assert_eq!(
            emails("\u{200b};Info@\u{200b}kos.example").collect::<Vec<_>>(),
            ["info@kos.example"]
        );
    }

    #[test]
    fn addresses_have_one_spelling() {
        assert_eq!(street("Češnjeva ul. 7"), street("češnjeva  UL 7"));
        assert_eq!(post_number("SI-8210"), "8210");
        assert_eq!(post_number("sw1a 1aa"), "SW1A1AA");
        for slovenia in ["Slovenija", "slovenia", " SI ", "SLOVENIJA"] {
            assert_eq!(country(slovenia), "SI");
            assert_eq!(country_name(slovenia), "Slovenija");
        }
        assert_eq!(country("Nemčija"), country("Germany"));
        assert_eq!(country("UK"), "GB");
        assert_eq!(
            country("XI"),
            "XI",
            "Northern Ireland is not the UK (§9.18)"
        );
        assert_eq!(country_name("  Atlantis "), "Atlantis");
        assert_eq!(country(""), "");
    }

    #[test]
    fn mailboxes_and_phones() {
        assert_eq!(email(" Spela@Zuzek.Example "), "spela@zuzek.example");
        assert_eq!(
            emails("A@x.example; b@x.example,c@x.example").collect::<Vec<_>>(),
            ["a@x.example", "b@x.example", "c@x.example"]
        );
        for listed in [
            "ana@kos.example;",
            "ana@kos.example,",
            "; ana@kos.example ;,",
            "ana@kos.example\u{37e}",
            "\u{feff}\u{feff}ana@kos.example",
            "\u{feff}ana@kos.example\u{feff}",
            "ana\u{feff}\u{feff}@kos.example",
            "\u{feff};\u{feff} ana@kos.example",
        ] {
            assert_eq!(email(listed), "ana@kos.example", "{listed}");
            assert_eq!(emails(listed).collect::<Vec<_>>(), ["ana@kos.example"]);
        }
        assert_eq!(email(";@;"), "");
        for same in [
            "+386 40 000 111",
            "040/000-111",
            "0038640000111",
            "+386 (0)40 000 111",
        ] {
            assert_eq!(phone(same), "+38640000111", "{same}");
        }
        assert_eq!(phone(" - "), "");
    }

    proptest! {
        #[test]
        fn a_second_time_changes_nothing(text in "\\PC{0,30}") {
            for normalise in [clean, plain, name, tax_number, registration_number, email, mailbox, street, post_number, country, country_name] {
                let once = normalise(&text);
                prop_assert_eq!(normalise(&once), once);
            }
        }

        #[test]
        fn a_second_time_changes_nothing_unseen(text in "[aŽİ\u{30c}@. ک❤葛\u{200b}-\u{200f}\u{fe0f}\u{ad}\u{1}\u{3164}]{0,12}") {
            for normalise in [clean, plain, name, email, mailbox, street] {
                let once = normalise(&text);
                prop_assert_eq!(normalise(&once), once);
            }
        }
    }
}
