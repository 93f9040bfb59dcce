//! Whose numbers are whose, and which are one.

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
fn labels_other_letters_and_other_digits_make_no_other_number() {
    for (country, one, other) in [
        ("GR", "EL094259277", "ΕΛ094259277"),
        ("MK", "MK4030000000007", "МК4030000000007"),
        ("BG", "BG723456789", "БГ723456789"),
        ("SI", "SI99999978", "SLO99999978"),
        ("SI", "SI99999978", "SLO 99999978"),
        ("SI", "SI99999978", "DDV SI99999978"),
        ("SI", "SI99999978", "ID za DDV: 99999978"),
        ("HR", "HR12345678903", "OIB 12345678903"),
        ("SI", "SI99999975", "SI٩٩٩٩٩٩٧٥"),
        ("SI", "SI99999975", "९९९९९९७५"),
        ("CH", "CHE772345684", "CHE-772.345.684 HR"),
        ("CH", "CHE772345683", "CHE-772.345.683 MWSt/TVA/IVA"),
        ("CH", "CHE-772.345.682", "CHE-772.345.682 HR/MWST"),
        ("RO", "RO7234569", "CUI RO7234569"),
        ("RO", "RO7234569", "cui: 7234569"),
        ("NO", "923609079", "Org.nr. 923 609 079 MVA"),
        ("JP", "T7234567890723", "JP7234567890723"),
        ("SE", "SE556677889801", "16556677-8898"),
        ("SE", "SE556677889801", "556677-8898"),
    ] {
        let (one, other) = (read(one, country), read(other, country));
        assert_eq!(one, other);
        assert_eq!(one.country(), Some(country));
    }
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

#[test]
fn a_number_is_not_looked_for_by_what_is_another_number() {
    // Czech ones have eight, nine or ten digits.
    assert_eq!(
        read("051234567", "CZ").spellings(),
        ["CZ051234567", "051234567"]
    );
    assert_ne!(read("051234567", "CZ"), read("51234567", "CZ"));
    assert!(
        read("01234567", "SI")
            .spellings()
            .contains(&"1234567".to_owned())
    );
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

#[test]
fn every_countrys_name_has_room_at_the_partner() {
    for country in CountryIterator::new() {
        let name = country::in_slovenian(&country.alpha2().to_string());
        assert!(name.chars().count() <= crate::length::COUNTRY, "{name}");
    }
}
