//! Tax numbers: whose they are and when two are one.
//!
//! The same eight digits are a company in Slovenia, another in Czechia, a third in Denmark, and people write one number
//! with its country, without it, with a zero more or less, with `MWST` behind it. So a number is its country and what is
//! left of it there, in one spelling. The country is said by the number itself, else it is that of whoever has the number.
//! Where neither says it, equal digits are a hint and no proof.
//!
//! The shapes are those of VIES (European Commission, "VAT identification numbers in each Member State") and, outside the
//! Union, of the tax offices. No check digit is looked at: a number that does not add up still is what the partner has.

use unicode_normalization::UnicodeNormalization as _;

use crate::country;
use crate::normalise;

/// Spellings that one look-up of a number asks for, at most.
pub const TAX_SPELLINGS: usize = 4;

/// Of a number behind a country whose numbers have no known shape.
const FEWEST_DIGITS: usize = 5;

/// A number that is none ([`normalise::is_filler`]) never is one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaxNumber {
    /// ISO code of the country that gave it.
    country: Option<String>,
    /// Without prefix and ending, leading zeros as they should be; where the country is not known, as written.
    national: String,
}

/// What two numbers say about their owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    Same,
    /// Equal where the country of one is not known: perhaps the same, if something else says so too.
    Perhaps,
    Different,
}

impl TaxNumber {
    /// `country` of the record that has it, in any spelling. None for a filler.
    pub fn read(text: &str, country: &str) -> Option<Self> {
        if normalise::is_filler(text) {
            return None;
        }
        let written = letters_and_digits(text);
        let home = country::find(country).map(|home| area(&home.iso));
        let number = match prefixed(&written, home) {
            Some((country, rest)) => Self::of(country, rest),
            None => match home.or_else(|| by_ending(&written)) {
                Some(country) => Self::of(country, &written),
                None => Self {
                    country: None,
                    national: written,
                },
            },
        };
        // `000000000B01`
        (!normalise::is_filler(&number.national)).then_some(number)
    }

    fn of(country: &str, rest: &str) -> Self {
        Self {
            country: Some(country.to_owned()),
            national: national(country, rest),
        }
    }

    /// From [`Self::country`] and [`Self::national`].
    pub fn from_parts(country: Option<&str>, national: &str) -> Self {
        Self {
            country: country.map(str::to_owned),
            national: national.to_owned(),
        }
    }

    pub fn country(&self) -> Option<&str> {
        self.country.as_deref()
    }

    pub fn national(&self) -> &str {
        &self.national
    }

    pub fn compare(&self, other: &Self) -> Compared {
        let (one, two, if_equal) = match (&self.country, &other.country) {
            (Some(one), Some(two)) if one != two => return Compared::Different,
            (Some(_), Some(_)) => {
                let (one, two) = (self.national.clone(), other.national.clone());
                (one, two, Compared::Same)
            }
            // Read as a number of the country that is known.
            (Some(country), None) => {
                let read = national(country, &other.national);
                (self.national.clone(), read, Compared::Perhaps)
            }
            (None, Some(_)) => return other.compare(self),
            (None, None) => {
                let bare = |number: &Self| number.national.trim_start_matches('0').to_owned();
                (bare(self), bare(other), Compared::Perhaps)
            }
        };
        if one == two {
            if_equal
        } else {
            Compared::Different
        }
    }

    /// Spellings under which it may stand at a partner whose search takes them as they are, likeliest first; at most
    /// [`TAX_SPELLINGS`].
    pub fn spellings(&self) -> Vec<String> {
        let number = self.national.as_str();
        let short = number.trim_start_matches('0');
        let mut spellings = match self.country() {
            Some("AT") if fits("99999999", number) => vec![
                format!("ATU{number}"),
                format!("U{number}"),
                number.to_owned(),
            ],
            Some("BA") => vec![
                number.to_owned(),
                format!("4{number}"),
                format!("BA{number}"),
            ],
            Some("CH") => swiss(number),
            Some("GB") => vec![
                format!("GB{number}"),
                number.to_owned(),
                format!("XI{number}"),
            ],
            Some("GR") => vec![
                format!("EL{number}"),
                number.to_owned(),
                format!("GR{number}"),
            ],
            Some("NL") if fits("999999999", number) => vec![
                format!("NL{number}B01"),
                format!("{number}B01"),
                number.to_owned(),
            ],
            Some("NO") => vec![
                number.to_owned(),
                format!("NO{number}MVA"),
                format!("{number}MVA"),
                format!("NO{number}"),
            ],
            Some("SE") if number.len() == 10 => vec![
                format!("SE{number}01"),
                number.to_owned(),
                format!("{}-{}", &number[..6], &number[6..]),
            ],
            Some(country) => vec![format!("{country}{number}"), number.to_owned()],
            // Slovenian numbers are those that stand there with and without prefix.
            None if fits("99999999", number) => vec![number.to_owned(), format!("SI{number}")],
            None => vec![number.to_owned()],
        };
        if short.len() < number.len() {
            let country = self.country().unwrap_or_default();
            spellings.extend([format!("{country}{short}"), short.to_owned()]);
        }
        let mut seen = Vec::new();
        for spelling in spellings {
            if !normalise::is_filler(&spelling) && !seen.contains(&spelling) {
                seen.push(spelling);
            }
        }
        seen.truncate(TAX_SPELLINGS);
        seen
    }
}

fn swiss(number: &str) -> Vec<String> {
    let mut spellings = vec![format!("CHE{number}"), number.to_owned()];
    if fits("999999999", number) {
        let dotted = format!("CHE-{}.{}.{}", &number[..3], &number[3..6], &number[6..]);
        spellings.insert(0, dotted.clone());
        spellings.push(format!("{dotted} MWST"));
    }
    spellings
}

/// Upper case. Nothing else is kept, as in `IE 1+34567 L` and `&` of other countries' numbers.
fn letters_and_digits(text: &str) -> String {
    text.nfkc()
        .flat_map(char::to_uppercase)
        .nfc()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, '+' | '*' | '&'))
        .collect()
}

/// The country whose numbers are used there.
fn area(iso: &str) -> &str {
    match iso {
        "XI" | "IM" | "UK" => "GB",
        "MC" => "FR",
        "AX" => "FI",
        other => other,
    }
}

/// The country that the number names itself, and what is behind the prefix. Two letters name one if what follows has the
/// shape of its numbers (digits, where that is not known), or if it is the record's own.
fn prefixed<'t>(written: &'t str, home: Option<&str>) -> Option<(&'static str, &'t str)> {
    if let Some(rest) = written.strip_prefix("CHE")
        && rest.starts_with(|digit: char| digit.is_ascii_digit())
    {
        return Some(("CH", rest));
    }
    // `XX` would fit nearly everything; France hasn't given such numbers for long.
    let of_home = |shape: &str| fits(shape, written) && !shape.starts_with("XX");
    if home.is_some_and(|home| shapes(home).iter().any(|shape| of_home(shape))) {
        return None;
    }
    let (prefix, rest) = written.split_at_checked(2)?;
    let country = area(&country::by_code(prefix)?.iso);
    let shapes = shapes(country);
    let of = |text: &str| shapes.iter().any(|shape| fits(shape, text));
    let own = home == Some(country) && rest.bytes().any(|byte| byte.is_ascii_digit());
    let number = if shapes.is_empty() {
        rest.len() >= FEWEST_DIGITS && rest.bytes().all(|byte| byte.is_ascii_digit())
    } else {
        of(&national(country, rest))
    };
    (number || own).then_some((country, rest))
}

/// Only one country writes that behind its numbers.
fn by_ending(written: &str) -> Option<&'static str> {
    let ending = |ending: &str| {
        written
            .strip_suffix(ending)
            .is_some_and(|number| fits("999999999", number))
    };
    match () {
        () if ending("MVA") => Some("NO"),
        () if ending("MWST") => Some("CH"),
        () => None,
    }
}

/// One spelling of a number within its country. A second time changes nothing.
fn national(country: &str, written: &str) -> String {
    // A zero that was dropped may hide an ending.
    unadorned(country, &unadorned(country, written))
}

fn unadorned(country: &str, written: &str) -> String {
    // The prefix of a number whose country was not clear before.
    let mut number = written;
    if let Some((prefix, rest)) = number.split_at_checked(2)
        && country::by_code(prefix).is_some_and(|known| area(&known.iso) == country)
        && rest.bytes().any(|byte| byte.is_ascii_digit())
        && !shapes(country).iter().any(|shape| fits(shape, number))
    {
        number = rest;
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let behind = |text: &'static str| number.strip_suffix(text).filter(|rest| digits(rest));
    let number = match country {
        "AT" => number.strip_prefix('U').filter(|rest| digits(rest)),
        // With the first digit that its registration number has before it.
        "BA" if fits("9999999999999", number) => number.strip_prefix('4'),
        "CH" => ["MWST", "TVA", "IVA", "TPV", "VAT"]
            .into_iter()
            .find_map(behind),
        // The office and the kind of taxation stand behind it at home.
        "HU" if fits("99999999999", number) => number.get(..8),
        "NL" => behind("B01"),
        "NO" => behind("MVA"),
        "SE" if fits("999999999999", number) => number.strip_suffix("01"),
        _ => None,
    }
    .unwrap_or(number);
    with_zeros(shapes(country), number)
}

/// As many zeros in front as the shape has room for: people and spreadsheets drop them, or add some.
fn with_zeros(shapes: &[&str], number: &str) -> String {
    if shapes.iter().any(|shape| fits(shape, number)) {
        return number.to_owned();
    }
    let bare = number.trim_start_matches('0');
    let filled = shapes.iter().find_map(|shape| {
        let zeros = shape.len().checked_sub(bare.len())?;
        let filled = format!("{}{bare}", "0".repeat(zeros));
        fits(shape, &filled).then_some(filled)
    });
    filled.unwrap_or_else(|| bare.to_owned())
}

/// `9` a digit, `A` a letter, `X` either, anything else itself.
fn fits(shape: &str, text: &str) -> bool {
    shape.len() == text.len()
        && shape
            .bytes()
            .zip(text.bytes())
            .all(|(wanted, byte)| match wanted {
                b'9' => byte.is_ascii_digit(),
                b'A' => byte.is_ascii_uppercase(),
                b'X' => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
                other => byte == other,
            })
}

/// Of numbers without their prefix, the shortest first. A country that is not here has any; zeros in front don't count
/// there, as they don't in Romania.
fn shapes(country: &str) -> &'static [&'static str] {
    match country {
        "AM" | "AT" | "DK" | "FI" | "HU" | "LU" | "ME" | "MT" | "SI" | "TW" => &["99999999"],
        "AL" => &["A99999999A"],
        "AU" | "HR" | "LV" => &["99999999999"],
        "BA" => &["999999999999"],
        "BE" | "PL" | "SK" | "TR" => &["9999999999"],
        "BG" => &["999999999", "9999999999"],
        "BY" | "CH" | "DE" | "EE" | "GE" | "GR" | "NO" | "PT" | "RS" | "US" | "XK" => {
            &["999999999"]
        }
        "CY" => &["99999999A"],
        "CZ" => &["99999999", "999999999", "9999999999"],
        "ES" => &["X9999999X"],
        "FR" => &["XX999999999"],
        "GB" => &["999999999", "999999999999", "GD999", "HA999"],
        "IE" => &["9999999A", "9999999AA", "9X99999A", "9+99999A", "9*99999A"],
        "IS" => &["99999", "999999", "9999999999"],
        "IT" => &["99999999999", "AAAAAA99A99A999A"],
        "LI" | "SM" => &["99999"],
        "LT" => &["999999999", "999999999999"],
        "MK" => &["9999999999999"],
        "NL" => &["999999999", "999999999B99"],
        "RU" => &["9999999999", "999999999999"],
        "SE" => &["9999999999", "999999999999"],
        "UA" => &["99999999", "9999999999", "999999999999"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartnerKey;
    use keshvar::CountryIterator;
    use proptest::prelude::*;

    fn read(text: &str, country: &str) -> TaxNumber {
        TaxNumber::read(text, country).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn a_bare_number_belongs_to_the_country_of_its_record() {
        let mut countries: Vec<String> = CountryIterator::new()
            .map(|country| country.alpha2().to_string())
            .collect();
        countries.extend(["XK", "XI", "EL"].map(str::to_owned));
        // Eight digits: CZ, DK, FI, HU, LU, MT, SI; AM, ME, TW, UA. Nine: DE, EE, PT, GR, CH. Eleven: HR, IT, LV.
        for digits in [
            "99999927",
            "123456789",
            "1234567890",
            "12345678901",
            "123456789012",
        ] {
            let nowhere = read(digits, "");
            let everywhere: Vec<TaxNumber> = countries
                .iter()
                .map(|country| read(digits, country))
                .collect();
            for (number, one) in everywhere.iter().zip(&countries) {
                assert_eq!(number.compare(&nowhere), Compared::Perhaps, "{one}");
                assert_eq!(nowhere.compare(number), Compared::Perhaps, "{one}");
                for (there, other) in everywhere.iter().zip(&countries) {
                    let expected = if number.country() == there.country() {
                        Compared::Same
                    } else {
                        Compared::Different
                    };
                    assert_eq!(number.compare(there), expected, "{one} {other}");
                }
            }
        }
        assert_eq!(
            read("99999927", "XI"),
            read("99999927", "GB"),
            "one country in other words"
        );
        assert_eq!(read("99999927", "EL"), read("99999927", "Greece"));
        assert_ne!(read("99999927", "CZ"), read("99999927", "SI"));
    }

    #[test]
    fn every_spelling_of_a_number_is_that_number() {
        for (country, spellings) in [
            (
                "SI",
                vec![
                    "SI99999927",
                    "99999927",
                    " si 999 999 27",
                    "SI-9999.9927",
                    "ＳＩ９９９９９９２７",
                ],
            ),
            (
                "HR",
                vec![
                    "HR99999999927",
                    "99999999927",
                    "hr 9999 9999 927",
                    "HR-99999999927",
                ],
            ),
            (
                "BE",
                vec![
                    "BE0999999927",
                    "BE999999927",
                    "0999999927",
                    "999999927",
                    "BE 0999.999.927",
                    "0999.999.927",
                ],
            ),
            (
                "GR",
                vec![
                    "EL099999927",
                    "GR099999927",
                    "EL99999927",
                    "GR 99999927",
                    "099999927",
                    "99999927",
                ],
            ),
            (
                "AT",
                vec![
                    "ATU12345678",
                    "U12345678",
                    "12345678",
                    "atu 1234.5678",
                    "AT12345678",
                    "ATU 123 456 78",
                ],
            ),
            (
                "CH",
                vec![
                    "CHE-123.456.789",
                    "CHE-123.456.789 MWST",
                    "CHE123456789TVA",
                    "CHE 123 456 789 IVA",
                    "123456789",
                    "CHE-123.456.789 TPV",
                    "123.456.789 MWST",
                    "CH123456789",
                ],
            ),
            (
                "NO",
                vec![
                    "NO123456789MVA",
                    "123456789MVA",
                    "123 456 789 MVA",
                    "NO 123456789",
                    "123456789",
                ],
            ),
            (
                "NL",
                vec![
                    "NL123456789B01",
                    "123456789B01",
                    "NL 1234.56.789.B01",
                    "123456789",
                ],
            ),
            ("NL", vec!["NL001234567B02", "NL1234567B02", "001234567B02"]),
            (
                "SE",
                vec![
                    "SE556074308901",
                    "5560743089",
                    "556074-3089",
                    "SE5560743089",
                    "SE 556074-3089 01",
                ],
            ),
            (
                "HU",
                vec!["HU12345678", "12345678", "12345678-2-41", "HU12345678-2-41"],
            ),
            (
                "BA",
                vec!["123456789012", "4123456789012", "BA123456789012"],
            ),
            (
                "IT",
                vec!["IT01234567890", "01234567890", "1234567890", "IT1234567890"],
            ),
            ("DE", vec!["DE123456789", "123456789", "DE 123 456 789"]),
            (
                "FR",
                vec!["FR12123456789", "12 123456789", "FR 12 123 456 789"],
            ),
            ("FR", vec!["FRK7123456789", "K7123456789"]),
            (
                "ES",
                vec!["ESB12345678", "B12345678", "B-12345678", "ES B-12345678"],
            ),
            ("IE", vec!["IE1234567FA", "1234567FA", "ie 1234567 fa"]),
            ("IE", vec!["IE1+34567L", "1+34567L"]),
            ("CY", vec!["CY12345678X", "12345678X", "CY-12345678-X"]),
            ("CZ", vec!["CZ12345678", "12345678", "CZ 123 456 78"]),
            ("CZ", vec!["CZ01234567", "01234567", "1234567"]),
            ("SK", vec!["SK2012345678", "2012345678"]),
            ("PL", vec!["PL1234567890", "123-456-78-90"]),
            ("RO", vec!["RO123456", "123456", "RO 123456"]),
            ("BG", vec!["BG123456789", "123456789"]),
            (
                "GB",
                vec!["GB123456789", "XI123456789", "123456789", "GB 123 4567 89"],
            ),
            ("GB", vec!["GBGD001", "GD001"]),
            ("XI", vec!["XI123456789", "GB123456789", "123456789"]),
            ("RS", vec!["RS123456789", "123456789"]),
            ("MK", vec!["MK4030999999999", "4030999999999"]),
            ("LT", vec!["LT123456789", "123456789"]),
            (
                "BR",
                vec!["12.345.678/0001-95", "12345678000195", "BR12345678000195"],
            ),
            ("MX", vec!["ABC010203XY9", "abc-010203-xy9"]),
        ] {
            let first = read(spellings[0], country);
            for spelling in &spellings {
                let number = read(spelling, country);
                assert_eq!(number, first, "{spelling} in {country}");
                assert_eq!(first.compare(&number), Compared::Same, "{spelling}");
                // By itself it may say less, and never something else.
                assert_ne!(
                    read(spelling, "").compare(&first),
                    Compared::Different,
                    "{spelling}"
                );
            }
        }
    }

    #[test]
    fn its_own_prefix_says_the_country_whatever_the_record_says() {
        for (text, country) in [
            ("SI99999927", "SI"),
            ("HR99999999927", "HR"),
            ("EL123456789", "GR"),
            ("ATU12345678", "AT"),
            ("CHE-123.456.789 MWST", "CH"),
            ("123456789 MVA", "NO"),
            ("XI123456789", "GB"),
            ("DE123456789", "DE"),
            ("FR12123456789", "FR"),
            ("ESB12345678", "ES"),
            ("BR12345678000195", "BR"),
        ] {
            for record in ["", "Slovenija", "France"] {
                let fixed = if text.ends_with("MVA") && !record.is_empty() {
                    // Only what no number says is taken from the ending.
                    continue;
                } else {
                    country
                };
                assert_eq!(
                    read(text, record).country(),
                    Some(fixed),
                    "{text} in {record}"
                );
            }
        }
        for (text, record) in [
            ("ABC010203XY9", ""),
            // Italian persons' numbers begin with letters that are countries elsewhere.
            ("SIABCD80A01H501U", "IT"),
            ("SI999999011", ""),
            ("XX12345678", ""),
            ("99999927", "Atlantis"),
        ] {
            let country = Some(record).filter(|record| *record == "IT");
            assert_eq!(read(text, record).country(), country, "{text}");
        }
    }

    #[test]
    fn other_numbers_are_other_numbers_with_and_without_a_country() {
        for (one, here, other, there) in [
            ("SI99999927", "", "SI99999928", ""),
            ("SI99999927", "", "99999928", ""),
            ("99999927", "", "99999928", ""),
            ("99999927", "SI", "9999992", "SI"),
            ("SI99999927", "", "HR99999927", ""),
            ("SI999999011", "", "999999011", ""),
            ("NL123456789B01", "", "NL123456789B02", ""),
            ("BG123456789", "", "BG0123456789", ""),
            ("CZ12345678", "", "CZ0012345678", ""),
            ("99999927", "CZ", "SI99999927", ""),
        ] {
            let (one, other) = (read(one, here), read(other, there));
            assert_eq!(
                one.compare(&other),
                Compared::Different,
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn fillers_are_no_tax_numbers() {
        for filler in [
            "NL000000000B01",
            "00000MVA",
            "",
            "N/A",
            "0",
            "X",
            "brez",
            "/",
            "99",
            "SI00000000",
            "ATU00000000",
        ] {
            assert_eq!(TaxNumber::read(filler, "NO"), None, "{filler}");
        }
    }

    proptest! {
        #[test]
        fn parts_and_spellings_name_the_same_number(text in "(SI|BE|EL|NL|CHE|SE|ATU|BA|NO|XX)?[0-9]{5,13}(MVA|B01|MWST)?", country in "(SI|CZ|BE|GR|HU|NL|CH|SE|AT|BA|NO|FR|BR)?") {
            let Some(number) = TaxNumber::read(&text, &country) else { return Ok(()) };
            prop_assert_eq!(&TaxNumber::from_parts(number.country(), number.national()), &number);
            let spellings = number.spellings();
            prop_assert!(!spellings.is_empty() && spellings.len() <= TAX_SPELLINGS);
            for spelling in spellings {
                let again = TaxNumber::read(&spelling, number.country().unwrap_or_default());
                let compared = again.map(|again| number.compare(&again));
                prop_assert!(matches!(compared, Some(Compared::Same | Compared::Perhaps)), "{} {:?}", spelling, number);
            }
            prop_assert!(PartnerKey::tax_number(number).is_some());
        }
    }
}
