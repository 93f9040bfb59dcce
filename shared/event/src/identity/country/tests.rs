//! Spellings of countries.

use std::collections::BTreeSet;

use super::*;

fn iso(text: &str) -> Option<&'static str> {
    find(text).map(|country| country.iso.as_str())
}

#[test]
fn slovenia_is_slovenia_in_every_spelling() {
    for slovenia in [
        "SI",
        "si",
        "SVN",
        "svn",
        "705",
        "SLO",
        "slo",
        "S.L.O.",
        "Slovenija",
        "SLOVENIJA",
        " slovenija ",
        "Slo\u{200b}venija",
        "Slovenia",
        "Slowenien",
        "Slovénie",
        "Slovenie",
        "Eslovenia",
        "Eslovénia",
        "Szlovénia",
        "Slovinsko",
        "Słowenia",
        "Slowenia",
        "Словения",
        "Словенија",
        "Slovenien",
        "Slovenië",
        "Republika Slovenija",
        "Republic of Slovenia",
        "The Republic of Slovenia",
        "REPUBLIC OF SLOVENIA",
        "Republik Slowenien",
        "Repubblica di Slovenia",
        "République de Slovénie",
        "R Slovenija",
        "Rep. of Slovenia",
        "R. Slovenija",
        "斯洛文尼亚",
    ] {
        assert_eq!(iso(slovenia), Some("SI"), "{slovenia}");
    }
    for other in [
        "SK",
        "SVK",
        "Slovakia",
        "Slovensko",
        "Slovaška",
        "Slowakei",
        "SL",
        "SLE",
        "Slavonija",
    ] {
        assert_ne!(iso(other), Some("SI"), "{other}");
    }
}

#[test]
fn a_country_is_known_by_its_codes_and_names() {
    for (spellings, code, slovenian) in [
        (
            vec![
                "AT",
                "AUT",
                "A",
                "040",
                "Avstrija",
                "Österreich",
                "Osterreich",
                "Republik Österreich",
                "Austria",
                "Ausztria",
            ],
            "AT",
            "Avstrija",
        ),
        (
            vec![
                "DE",
                "DEU",
                "GER",
                "D",
                "Nemčija",
                "Nemcija",
                "Deutschland",
                "Germany",
                "Federal Republic of Germany",
                "Allemagne",
            ],
            "DE",
            "Nemčija",
        ),
        (
            vec![
                "HR",
                "HRV",
                "CRO",
                "Hrvaška",
                "Hrvatska",
                "Republika Hrvatska",
                "Croatia",
                "Kroatien",
                "Croazia",
            ],
            "HR",
            "Hrvaška",
        ),
        (
            vec!["IT", "ITA", "I", "Italija", "Italia", "Italy", "Italien"],
            "IT",
            "Italija",
        ),
        (
            vec![
                "CZ",
                "CZE",
                "Češka",
                "Ceska",
                "Češka republika",
                "Česko",
                "Czechia",
                "Czech Republic",
                "Tschechien",
            ],
            "CZ",
            "Češka",
        ),
        (
            vec![
                "BA",
                "BIH",
                "Bosna in Hercegovina",
                "Bosna i Hercegovina",
                "Bosnia & Herzegovina",
                "Bosnia-Herzegovina",
            ],
            "BA",
            "Bosna in Hercegovina",
        ),
        (
            vec![
                "GR",
                "EL",
                "GRC",
                "GRE",
                "Grčija",
                "Greece",
                "Griechenland",
                "Ελλάδα",
            ],
            "GR",
            "Grčija",
        ),
        (
            vec![
                "GB",
                "UK",
                "U.K.",
                "GBR",
                "United Kingdom",
                "The United Kingdom",
                "Great Britain",
                "Velika Britanija",
                "Združeno kraljestvo",
            ],
            "GB",
            "Velika Britanija",
        ),
        (
            vec![
                "US",
                "USA",
                "U.S.A.",
                "ZDA",
                "United States",
                "United States of America",
                "Združene države",
            ],
            "US",
            "Združene države Amerike",
        ),
        (
            vec![
                "CH",
                "CHE",
                "SUI",
                "Švica",
                "Svica",
                "Schweiz",
                "Suisse",
                "Svizzera",
                "Switzerland",
            ],
            "CH",
            "Švica",
        ),
        (
            vec!["XK", "RKS", "Kosovo", "Republic of Kosovo"],
            "XK",
            "Kosovo",
        ),
        (
            vec!["XI", "Northern Ireland", "Severna Irska"],
            "XI",
            "Severna Irska",
        ),
        (
            vec![
                "MK",
                "MKD",
                "North Macedonia",
                "Severna Makedonija",
                "Makedonija",
            ],
            "MK",
            "Severna Makedonija",
        ),
        (
            vec![
                "KR",
                "KOR",
                "South Korea",
                "Republic of Korea",
                "Južna Koreja",
            ],
            "KR",
            "Južna Koreja",
        ),
        (
            vec!["TR", "Turkey", "Türkiye", "Turkiye", "Turčija"],
            "TR",
            "Turčija",
        ),
        (
            vec!["CD", "COD", "Democratic Republic of the Congo"],
            "CD",
            "Demokratična republika Kongo",
        ),
        (vec!["TW", "Taiwan", "Republic of China"], "TW", "Tajvan"),
    ] {
        for spelling in spellings {
            let found = find(spelling).map(|country| (country.iso.as_str(), country.slovenian));
            assert_eq!(found, Some((code, slovenian)), "{spelling}");
        }
    }
    for nowhere in [
        "",
        " ",
        "-",
        "Atlantis",
        "Republika",
        "Republic of",
        "the",
        "Samoa i",
        "Ljubljana",
    ] {
        assert_eq!(iso(nowhere), None, "{nowhere}");
    }
}

#[test]
fn every_country_is_found_by_its_iso_codes_and_its_slovenian_name() {
    let mut seen = BTreeSet::new();
    for country in CountryIterator::new() {
        let code = country.alpha2().to_string();
        for spelling in iso_codes(&country) {
            assert_eq!(iso(&spelling), Some(code.as_str()), "{spelling}");
        }
        for name in [country.iso_short_name(), country.iso_long_name()] {
            assert_eq!(iso(name), Some(code.as_str()), "{name}");
        }
    }
    for country in &TABLE.countries {
        assert_eq!(iso(country.slovenian), Some(country.iso.as_str()));
        let by_code = by_code(&country.iso).map(|found| found.iso.as_str());
        assert_eq!(by_code, Some(country.iso.as_str()));
        assert!(seen.insert(&country.iso), "{} twice", country.iso);
    }
}

#[test]
fn a_name_before_its_form_of_state_and_parts_of_britain_are_countries() {
    for (text, iso) in [
        ("Bundesrepublik Deutschland", "DE"),
        ("Slovenia, Republic of", "SI"),
        ("Македонија", "MK"),
        ("Scotland", "GB"),
        ("China, Republic of", "TW"),
        ("Korea, Republic of", "KR"),
        ("Netherlands, Kingdom of", "NL"),
    ] {
        assert_eq!(
            find(text).map(|known| known.iso.as_str()),
            Some(iso),
            "{text}"
        );
    }
}

#[test]
fn a_code_beside_a_name_counts_where_both_say_the_same_country() {
    for (text, code) in [
        ("Slovenija (SI)", "SI"),
        ("SI - Slovenija", "SI"),
        ("SI-Slovenija", "SI"),
        ("SLO Slovenija", "SI"),
        ("Slovenija / Slovenia", "SI"),
        ("Republika Slovenija (SVN)", "SI"),
        ("Slovenija, EU", "SI"),
        ("Slovenija (EU)", "SI"),
        ("SI Slovenija EU", "SI"),
        ("S L O", "SI"),
        ("S I", "SI"),
        ("U. S. A.", "US"),
        ("D - Deutschland", "DE"),
        ("A-Österreich", "AT"),
        ("Bosna in Hercegovina (BIH)", "BA"),
        ("GB, United Kingdom", "GB"),
    ] {
        assert_eq!(iso(text), Some(code), "{text}");
    }
    for unknown in [
        "RS Slovenija",
        "Slovenija (HR)",
        "Slovenija Hrvaška",
        "Slovenija Ljubljana",
        "SI SL",
        "EU",
        "Q Q Q",
    ] {
        assert_eq!(iso(unknown), None, "{unknown}");
    }
}

#[test]
fn names_without_umlauts_short_ones_and_letters_that_look_the_same() {
    for (text, code) in [
        ("Oesterreich", "AT"),
        ("OESTERREICH", "AT"),
        ("Republik Oesterreich", "AT"),
        ("Tuerkei", "TR"),
        ("Daenemark", "DK"),
        ("Rumaenien", "RO"),
        ("Suedkorea", "KR"),
        ("BRD", "DE"),
        ("Bosnia", "BA"),
        ("Bosna", "BA"),
        ("Helvetia", "CH"),
        ("Hellas", "GR"),
        ("Holland", "NL"),
        ("England", "GB"),
        // Cyrillic: ј; о; С and Р.
        ("Slovenija".replace('j', "ј").as_str(), "SI"),
        ("Slоvenia", "SI"),
        ("Сroatia", "HR"),
        ("Рoland", "PL"),
        ("Словенија", "SI"),
        ("Россия", "RU"),
    ] {
        assert_eq!(iso(text), Some(code), "{text}");
    }
}
