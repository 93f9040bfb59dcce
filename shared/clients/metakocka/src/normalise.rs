//! One spelling for things that people and systems spell in several ways, for comparison and never for sending
//! (`country_name` and `clean` excepted). Two records are the same by these and not by what a search returned (§2.2).

use unicode_normalization::UnicodeNormalization as _;

use crate::country;

/// Composed (NFC), without surrounding or repeated white space; case kept. Fit for sending.
pub fn clean(text: &str) -> String {
    let composed: String = text.nfc().collect();
    composed.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Names of people, companies and places: [`clean`], and in lower case.
pub fn name(text: &str) -> String {
    // Changing the case can decompose (İ), so it comes before composing.
    clean(&text.to_lowercase())
}

/// Upper case, without white space, dots and hyphens. A Slovenian number keeps its `SI` or its lack.
pub fn tax_number(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_whitespace() && !matches!(letter, '.' | '-'))
        .flat_map(char::to_uppercase)
        .nfc()
        .collect()
}

/// The eight digits of a Slovenian tax number, with or without `SI`; None for any other shape.
pub fn slovenian_digits(text: &str) -> Option<String> {
    let number = tax_number(text);
    let digits = number.strip_prefix("SI").unwrap_or(&number);
    let fits = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| digits.to_owned())
}

/// Equal after normalising, where a Slovenian number is the same with and without `SI`. Empty equals nothing.
pub fn same_tax_number(one: &str, other: &str) -> bool {
    let key = |text: &str| slovenian_digits(text).unwrap_or_else(|| tax_number(text));
    let one = key(one);
    !one.is_empty() && one == key(other)
}

/// Trimmed and in lower case.
pub fn email(text: &str) -> String {
    text.trim().to_lowercase().nfc().collect()
}

/// The addresses in a field that people use for several, normalised.
pub fn emails(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| letter.is_whitespace() || matches!(letter, ',' | ';'))
        .filter(|part| !part.is_empty())
        .map(email)
}

/// Digits with the country: `00` is `+`, a single leading `0` is Slovenia's.
pub fn phone(text: &str) -> String {
    let trimmed = text.trim();
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
        .filter(|letter| !letter.is_whitespace())
        .flat_map(char::to_uppercase)
        .collect();
    match number.strip_prefix("SI-") {
        Some(digits) => digits.to_owned(),
        None => number,
    }
}

/// The ISO 3166 code of a country given as code, in Slovenian or in English; what isn't known as [`name`].
pub fn country(text: &str) -> String {
    country::find(text).map_or_else(|| name(text), |known| known.iso.to_owned())
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
    fn tax_numbers_are_the_same_with_and_without_si() {
        for same in [
            "SI99999901",
            "99999901",
            " si 9999 9901",
            "SI-99999901",
            "9999.9901",
        ] {
            assert!(same_tax_number("SI99999901", same), "{same}");
        }
        for other in ["SI99999902", "HR99999901", "9999990", "999999011", ""] {
            assert!(!same_tax_number("SI99999901", other), "{other}");
        }
        assert!(!same_tax_number("", ""));
        // Only a number of Slovenian shape has two spellings.
        assert!(!same_tax_number("SI999999011", "999999011"));
        assert!(same_tax_number("atu 12345678", "ATU12345678"));
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
            for normalise in [clean, name, tax_number, email, street, post_number, country, country_name] {
                let once = normalise(&text);
                prop_assert_eq!(normalise(&once), once);
            }
        }
    }
}
