//! What people, companies and places are known by, in one spelling for things that are spelled in several ways: names,
//! mailboxes, phones, addresses, [`country`]s. For comparison and never for sending (`clean`, `plain` and `mailbox`
//! excepted). Knows no partner: what one of them does with it is its client's.

pub mod country;
pub mod invisible;

use unicode_normalization::UnicodeNormalization as _;

use self::invisible::{is_invisible, stripped, tidied};

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            (email, "spela@zuzek.example"),
            (mailbox, "Spela@Zuzek.example"),
            (phone, "+38640123456"),
            (street, "Češnjeva ul 7"),
            (post_number, "SI-8210"),
            (country::code, "Slovenija"),
            (country::in_slovenian, "Slovenia"),
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
            assert_eq!(country::code(slovenia), "SI");
            assert_eq!(country::in_slovenian(slovenia), "Slovenija");
        }
        assert_eq!(country::code("Nemčija"), country::code("Germany"));
        assert_eq!(country::code("UK"), "GB");
        assert_eq!(country::code("XI"), "XI", "Northern Ireland is not the UK");
        assert_eq!(country::in_slovenian("  Atlantis "), "Atlantis");
        assert_eq!(country::code(""), "");
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
            for normalise in [clean, plain, name, email, mailbox, street, post_number, country::code, country::in_slovenian] {
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
