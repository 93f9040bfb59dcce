//! Countries by any code or name: one system answers in Slovenian or English, another in codes, in its users' language, or
//! as it stands on an envelope (`SLO`). The tables are those of the crate `keshvar` (ISO 3166, CLDR's names in all
//! languages, the codes on cars and at the Olympics); `OURS` is what it lacks or spells as nobody in Slovenia does.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::LazyLock;

use keshvar::CountryIterator;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

pub struct Country {
    /// ISO 3166 alpha-2, or one that is used like it (`XK`, `XI`).
    pub iso: String,
    /// In Slovenian, as people there write it.
    pub slovenian: &'static str,
}

/// By its two letters, where they are part of something else: ISO's, and those that numbers for VAT begin with.
pub fn by_code(code: &str) -> Option<&'static Country> {
    let code = code.to_ascii_uppercase();
    let known = TABLE.found(&folded(&code))?;
    (known.iso == code || ["EL", "UK"].contains(&code.as_str())).then_some(known)
}

/// The country of a record, as code: that of its main address; where that doesn't say it, the one that its other
/// addresses agree on. Countries in any spelling; one that is not known counts as not said.
pub fn of_record<'a>(
    main: Option<&str>,
    others: impl IntoIterator<Item = &'a str>,
) -> Option<&'static str> {
    let known = |text: &str| find(text).map(|country| country.iso.as_str());
    main.and_then(known).or_else(|| {
        let mut others = others.into_iter().filter_map(known);
        let first = others.next()?;
        others.all(|other| other == first).then_some(first)
    })
}

/// None for an empty text, an unknown name, one that two countries share, and one beside the code or name of another.
pub fn find(text: &str) -> Option<&'static Country> {
    let written = folded(text);
    said(&written).or_else(|| said(&in_latin(&written)?))
}

/// The ISO 3166 code of a country given by any code or name; what isn't known as [`name`](super::name).
pub fn code(text: &str) -> String {
    find(text).map_or_else(|| super::name(text), |known| known.iso.clone())
}

/// The country's name in Slovenian (`Slovenija`); what isn't known as [`clean`](super::clean).
pub fn in_slovenian(text: &str) -> String {
    find(text).map_or_else(|| super::clean(text), |known| known.slovenian.to_owned())
}

fn said(written: &str) -> Option<&'static Country> {
    // Whose member it is, behind its name.
    let written = written.strip_suffix(" eu").unwrap_or(written);
    named(written)
        .or_else(|| TABLE.found(&spaced_out(written)?))
        .or_else(|| twice(written))
}

fn named(written: &str) -> Option<&'static Country> {
    let table = &*TABLE;
    if let Some(known) = table.found(written) {
        return Some(known);
    }
    let formal = form_in_front(written.to_owned());
    table
        .found(&formal)
        .or_else(|| table.found(without_form_of_state(&formal)?))
}

/// `S L O`
fn spaced_out(written: &str) -> Option<String> {
    let letters: Vec<char> = written
        .split(' ')
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()?;
    Some(letters.into_iter().collect())
}

/// `Slovenija (SI)`, `SI - Slovenija`, `Slovenija / Slovenia`: both say the same country.
fn twice(written: &str) -> Option<&'static Country> {
    const LONGEST: usize = 100;
    let gaps = written.match_indices(' ').take(LONGEST);
    gaps.filter_map(|(at, _)| Some((named(&written[..at])?, named(&written[at + 1..])?)))
        .find(|(one, other)| one.iso == other.iso)
        .map(|(one, _)| one)
}

/// A Latin name in which Cyrillic letters stand that look the same; none where none do, or nothing else is there.
fn in_latin(written: &str) -> Option<String> {
    let alike = |letter| {
        ALIKE
            .iter()
            .find(|(cyrillic, _)| *cyrillic == letter)
            .map(|(_, latin)| *latin)
    };
    let mixed = written.chars().any(|letter| letter.is_ascii_lowercase())
        && written.chars().any(|letter| alike(letter).is_some());
    mixed.then(|| {
        let letters = written.chars();
        letters
            .map(|letter| alike(letter).unwrap_or(letter))
            .collect()
    })
}

/// Cyrillic letters, in lower case, that look as Latin ones in one of the cases.
const ALIKE: [(char, char); 15] = [
    ('а', 'a'),
    ('в', 'b'),
    ('е', 'e'),
    ('һ', 'h'),
    ('н', 'h'),
    ('і', 'i'),
    ('ј', 'j'),
    ('к', 'k'),
    ('м', 'm'),
    ('о', 'o'),
    ('р', 'p'),
    ('с', 'c'),
    ('ѕ', 's'),
    ('т', 't'),
    ('у', 'y'),
];

struct Table {
    countries: Vec<Country>,
    /// Index by folded spelling; none where two countries share it.
    spellings: HashMap<String, Option<usize>>,
}

/// Made once, some milliseconds and one to two MB.
static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

impl Table {
    fn new() -> Self {
        let known: Vec<keshvar::Country> = CountryIterator::new().collect();
        let mut table = Self {
            countries: Vec::new(),
            spellings: HashMap::new(),
        };
        let mut codes = HashMap::new();
        for (iso, slovenian, _) in OURS {
            codes.insert((*iso).to_owned(), table.add((*iso).to_owned(), slovenian));
        }
        for country in &known {
            let iso = country.alpha2().to_string();
            if let Entry::Vacant(free) = codes.entry(iso.clone()) {
                let slovenian = country.translations().get("sl").copied();
                free.insert(table.add(iso, slovenian.unwrap_or(country.iso_short_name())));
            }
        }
        // What is told first is not shadowed by what comes later.
        for (iso, slovenian, others) in OURS {
            let spellings = [*iso, *slovenian].into_iter().chain(others.iter().copied());
            table.spell(spellings.map(|spelling| (codes[*iso], spelling.to_owned())));
        }
        for level in [
            iso_codes,
            usual_names,
            other_codes,
            all_names,
            without_umlauts,
        ] {
            let told = known.iter().flat_map(|country| {
                let at = codes[&country.alpha2().to_string()];
                level(country).into_iter().map(move |text| (at, text))
            });
            table.spell(told);
        }
        table
    }

    fn add(&mut self, iso: String, slovenian: &'static str) -> usize {
        self.countries.push(Country { iso, slovenian });
        self.countries.len() - 1
    }

    /// Spellings of one level: those of an earlier one stay, those that two countries share name none.
    fn spell(&mut self, told: impl Iterator<Item = (usize, String)>) {
        let mut level: HashMap<String, Option<usize>> = HashMap::new();
        for (country, text) in told {
            let text = folded(&text);
            match level.entry(text) {
                Entry::Vacant(free) => {
                    free.insert(Some(country));
                }
                Entry::Occupied(mut taken) if *taken.get() != Some(country) => {
                    taken.insert(None);
                }
                Entry::Occupied(_) => {}
            }
        }
        for (text, country) in level {
            self.spellings.entry(text).or_insert(country);
        }
    }

    fn found(&self, folded: &str) -> Option<&Country> {
        let at = (*self.spellings.get(folded)?)?;
        self.countries.get(at)
    }
}

fn iso_codes(country: &keshvar::Country) -> Vec<String> {
    vec![
        country.alpha2().to_string(),
        country.alpha3().to_string(),
        country.number().to_owned(),
    ]
}

/// In Slovenian, in its neighbours' languages and English, in its own languages, and the official ones.
fn usual_names(country: &keshvar::Country) -> Vec<String> {
    let own = country.maybe_official_language_list().unwrap_or_default();
    let translated = ["sl", "en", "de", "hr", "it", "hu"]
        .iter()
        .chain(own)
        .filter_map(|language| country.translations().get(language));
    let told = [country.iso_short_name(), country.iso_long_name()];
    let names = told.iter().chain(country.unofficial_name_list());
    names
        .chain(translated)
        .map(|&name| name.to_owned())
        .collect()
}

/// On cars and at the Olympics.
fn other_codes(country: &keshvar::Country) -> Vec<String> {
    let car = country.maybe_vehicle_registration_code();
    let olympic = country.maybe_ioc().map(|code| code.to_string());
    car.map(str::to_owned).into_iter().chain(olympic).collect()
}

fn all_names(country: &keshvar::Country) -> Vec<String> {
    let names = country.translations().values();
    names.map(|&name| name.to_owned()).collect()
}

/// `Oesterreich`, `Tuerkei`
fn without_umlauts(country: &keshvar::Country) -> Vec<String> {
    let umlauts = [('ä', "ae"), ('ö', "oe"), ('ü', "ue")];
    let names = all_names(country).into_iter().chain(usual_names(country));
    names
        .map(|name| name.nfc().flat_map(char::to_lowercase).collect::<String>())
        .filter(|name| name.contains(['ä', 'ö', 'ü']))
        .map(|name| {
            umlauts.iter().fold(name, |name, (umlaut, letters)| {
                name.replace(*umlaut, letters)
            })
        })
        .collect()
}

/// What is left of a name when case, marks over letters, punctuation and "the" don't count.
fn folded(text: &str) -> String {
    let mut letters = String::new();
    for letter in text.nfkd().flat_map(char::to_lowercase) {
        match letter {
            mark if is_combining_mark(mark) => {}
            // No mark over a letter, but left out like one.
            'đ' => letters.push('d'),
            'ł' => letters.push('l'),
            'ø' => letters.push('o'),
            '&' => letters.push_str(" and "),
            letter if letter.is_alphanumeric() => letters.push(letter),
            // `U.S.A.` and `d'Ivoire`, and what has no width.
            '.' | '\'' | '’' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => {}
            _ => letters.push(' '),
        }
    }
    let words: Vec<&str> = letters
        .split_whitespace()
        .filter(|word| *word != "the")
        .collect();
    words.join(" ")
}

/// `Slovenia, Republic of`, as sorted lists have it: `republic of slovenia`. Anything else as it is. With its form in front
/// it may be another country: `China, Republic of`.
fn form_in_front(folded: String) -> String {
    ["republic of", "kingdom of"]
        .into_iter()
        .find_map(|form| {
            let name = folded.strip_suffix(form)?.strip_suffix(' ')?;
            Some(format!("{form} {name}"))
        })
        .unwrap_or(folded)
}

/// `Republika Slovenija`, `Republik Slowenien`: the name alone. None where it doesn't begin like that.
fn without_form_of_state(folded: &str) -> Option<&str> {
    const FORMS: [&str; 13] = [
        "bundesrepublik",
        "republic",
        "republika",
        "republik",
        "repubblica",
        "republica",
        "republique",
        "rep",
        "r",
        "kingdom",
        "kraljevina",
        "konigreich",
        "kraljestvo",
    ];
    const LINKS: [&str; 8] = ["of", "di", "de", "du", "do", "da", "della", "la"];
    let (form, name) = folded.split_once(' ')?;
    if !FORMS.contains(&form) {
        return None;
    }
    match name.split_once(' ') {
        Some((link, name)) if LINKS.contains(&link) => Some(name),
        _ => Some(name),
    }
}

/// Code, Slovenian spelling, and spellings that are in no table or would mean another country there.
const OURS: &[(&str, &str, &[&str])] = &[
    ("AE", "Združeni arabski emirati", &[]),
    (
        "BA",
        "Bosna in Hercegovina",
        &["Bosnia", "Bosna", "Bosnien", "Bosnie"],
    ),
    (
        "CH",
        "Švica",
        &["Helvetia", "Helvecija", "Confoederatio Helvetica"],
    ),
    ("CZ", "Češka", &["Češka republika"]),
    ("DE", "Nemčija", &["BRD", "FRG", "ZRN"]),
    (
        "GB",
        "Velika Britanija",
        &[
            "UK",
            "Great Britain",
            "England",
            "Anglija",
            "Scotland",
            "Wales",
        ],
    ),
    // The European Union's code for Greece, in numbers for VAT.
    ("GR", "Grčija", &["EL", "Hellas"]),
    (
        "KR",
        "Južna Koreja",
        &["Korea", "Koreja", "South Korea", "Republika Koreja"],
    ),
    (
        "MK",
        "Severna Makedonija",
        &["Makedonija", "Macedonia", "Македонија", "FYROM"],
    ),
    ("NL", "Nizozemska", &["Holland", "Holandija", "Olanda"]),
    ("RU", "Rusija", &["Ruska federacija"]),
    (
        "SK",
        "Slovaška",
        &["Slovaška republika", "Slovenská republika"],
    ),
    ("SX", "Sint Maarten (nizozemski del)", &["Sint Maarten"]),
    ("TW", "Tajvan", &["Republic of China", "Republika Kitajska"]),
    ("US", "Združene države Amerike", &["ZDA", "U.S.", "America"]),
    // Northern Ireland is not the UK.
    ("XI", "Severna Irska", &["Northern Ireland", "Nordirland"]),
    (
        "XK",
        "Kosovo",
        &["XKX", "RKS", "Kosova", "Republika Kosovo", "KOS"],
    ),
];
