//! Countries by code, Slovenian and English name: Metakocka answers in either language, CRMs mostly in codes.

use crate::normalise;

pub(crate) struct Country {
    pub(crate) iso: &'static str,
    pub(crate) slovenian: &'static str,
    others: &'static [&'static str],
}

pub(crate) fn find(text: &str) -> Option<&'static Country> {
    let wanted = normalise::name(text);
    if wanted.is_empty() {
        return None;
    }
    COUNTRIES.iter().find(|country| {
        let mut spellings = [country.iso, country.slovenian]
            .into_iter()
            .chain(country.others.iter().copied());
        spellings.any(|spelling| normalise::name(spelling) == wanted)
    })
}

const fn country(
    iso: &'static str,
    slovenian: &'static str,
    others: &'static [&'static str],
) -> Country {
    Country {
        iso,
        slovenian,
        others,
    }
}

/// Europe, and the larger trading partners beyond; any other country keeps the spelling it came with.
const COUNTRIES: &[Country] = &[
    country(
        "SI",
        "Slovenija",
        &["Slovenia", "SVN", "Republika Slovenija"],
    ),
    country("AL", "Albanija", &["Albania"]),
    country("AD", "Andora", &["Andorra"]),
    country("AT", "Avstrija", &["Austria", "AUT", "Österreich"]),
    country("BE", "Belgija", &["Belgium"]),
    country("BY", "Belorusija", &["Belarus"]),
    country("BG", "Bolgarija", &["Bulgaria"]),
    country(
        "BA",
        "Bosna in Hercegovina",
        &["Bosnia and Herzegovina", "BIH"],
    ),
    country("CY", "Ciper", &["Cyprus"]),
    country(
        "CZ",
        "Češka",
        &["Czechia", "Czech Republic", "Češka republika"],
    ),
    country("ME", "Črna gora", &["Montenegro"]),
    country("DK", "Danska", &["Denmark"]),
    country("EE", "Estonija", &["Estonia"]),
    country("FI", "Finska", &["Finland"]),
    country("FR", "Francija", &["France"]),
    country("GR", "Grčija", &["Greece", "EL"]),
    country("HR", "Hrvaška", &["Croatia", "HRV", "Hrvatska"]),
    country("IE", "Irska", &["Ireland"]),
    country("IS", "Islandija", &["Iceland"]),
    country("IT", "Italija", &["Italy", "ITA", "Italia"]),
    country("XK", "Kosovo", &[]),
    country("LV", "Latvija", &["Latvia"]),
    country("LI", "Lihtenštajn", &["Liechtenstein"]),
    country("LT", "Litva", &["Lithuania"]),
    country("LU", "Luksemburg", &["Luxembourg"]),
    country("HU", "Madžarska", &["Hungary", "HUN"]),
    country("MT", "Malta", &[]),
    country("MD", "Moldavija", &["Moldova"]),
    country("MC", "Monako", &["Monaco"]),
    country("DE", "Nemčija", &["Germany", "DEU", "Deutschland"]),
    country("NL", "Nizozemska", &["Netherlands", "The Netherlands"]),
    country("NO", "Norveška", &["Norway"]),
    country("PL", "Poljska", &["Poland"]),
    country("PT", "Portugalska", &["Portugal"]),
    country("RO", "Romunija", &["Romania"]),
    country(
        "RU",
        "Rusija",
        &["Russia", "Russian Federation", "Ruska federacija"],
    ),
    country(
        "MK",
        "Severna Makedonija",
        &["North Macedonia", "Makedonija"],
    ),
    country("XI", "Severna Irska", &["Northern Ireland"]),
    country("SK", "Slovaška", &["Slovakia"]),
    country("RS", "Srbija", &["Serbia", "SRB"]),
    country("ES", "Španija", &["Spain"]),
    country("SE", "Švedska", &["Sweden"]),
    country("CH", "Švica", &["Switzerland"]),
    country("TR", "Turčija", &["Turkey", "Türkiye"]),
    country("UA", "Ukrajina", &["Ukraine"]),
    country(
        "GB",
        "Velika Britanija",
        &[
            "United Kingdom",
            "UK",
            "Great Britain",
            "Združeno kraljestvo",
        ],
    ),
    country(
        "US",
        "Združene države Amerike",
        &["United States", "United States of America", "USA", "ZDA"],
    ),
    country("AU", "Avstralija", &["Australia"]),
    country("BR", "Brazilija", &["Brazil"]),
    country("CA", "Kanada", &["Canada"]),
    country("CN", "Kitajska", &["China"]),
    country("IL", "Izrael", &["Israel"]),
    country("IN", "Indija", &["India"]),
    country("JP", "Japonska", &["Japan"]),
    country("KR", "Južna Koreja", &["South Korea"]),
    country("NZ", "Nova Zelandija", &["New Zealand"]),
    country(
        "AE",
        "Združeni arabski emirati",
        &["United Arab Emirates", "UAE"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_spelling_means_two_countries() {
        let mut seen = BTreeSet::new();
        for country in COUNTRIES {
            let own: BTreeSet<String> = [country.iso, country.slovenian]
                .into_iter()
                .chain(country.others.iter().copied())
                .map(normalise::name)
                .collect();
            for spelling in own {
                assert!(seen.insert(spelling.clone()), "{spelling}");
            }
        }
    }
}
