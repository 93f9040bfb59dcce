//! Tax numbers: whose they are and when two are one.
//!
//! The same eight digits are a company in Slovenia, another in Czechia, a third in Denmark, and people write one number
//! with its country, without it, with a zero more or less, with `MWST` behind it. So a number is its country and what is
//! left of it there, in one spelling. The country is said by the number itself, else it is that of whoever has the number.
//! Where neither says it, equal digits are a hint and no proof.
//!
//! No check digit is looked at: a number that does not add up still is what the partner has.

mod shapes;
#[cfg(test)]
mod tests;

use self::shapes::{FEWEST_DIGITS, area, by_ending, fits, letters_and_digits, national, prefixed};
use crate::official_number;
use event::identity::country;

/// Spellings that one look-up of a number asks for, at most.
pub const TAX_SPELLINGS: usize = 4;

/// A number that is none ([`official_number::is_filler`]) never is one of these.
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
        if official_number::is_filler(text) {
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
        (!official_number::is_filler(&number.national)).then_some(number)
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
            Some("BA") if fits("999999999999", number) => vec![
                number.to_owned(),
                format!("4{number}"),
                format!("BA{number}"),
            ],
            Some("CH") if fits("999999999", number) => swiss(number),
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
            Some("NO") if fits("999999999", number) => vec![
                number.to_owned(),
                format!("NO{number}MVA"),
                format!("{number}MVA"),
                format!("NO{number}"),
            ],
            Some("SE") if fits("9999999999", number) => vec![
                format!("SE{number}01"),
                number.to_owned(),
                format!("{}-{}", &number[..6], &number[6..]),
            ],
            Some(country) => vec![format!("{country}{number}"), number.to_owned()],
            // Slovenian numbers are those that stand there with and without prefix.
            None if fits("99999999", number) => vec![number.to_owned(), format!("SI{number}")],
            None => vec![number.to_owned()],
        };
        // Where numbers have several lengths, the zeros may be what tells two of them apart.
        let is_same = |country| national(country, short) == number;
        // A shorter text would be in everybody's number, where the search is for a part.
        if short.len() < number.len()
            && short.len() >= FEWEST_DIGITS
            && self.country().is_none_or(is_same)
        {
            let country = self.country().unwrap_or_default();
            spellings.extend([format!("{country}{short}"), short.to_owned()]);
        }
        let mut seen = Vec::new();
        for spelling in spellings {
            if !official_number::is_filler(&spelling) && !seen.contains(&spelling) {
                seen.push(spelling);
            }
        }
        seen.truncate(TAX_SPELLINGS);
        seen
    }
}

fn swiss(number: &str) -> Vec<String> {
    let dotted = format!("CHE-{}.{}.{}", &number[..3], &number[3..6], &number[6..]);
    let plain = format!("CHE{number}");
    let ended = format!("{dotted} MWST");
    vec![dotted, plain, number.to_owned(), ended]
}
