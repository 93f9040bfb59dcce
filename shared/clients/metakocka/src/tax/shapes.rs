//! How tax numbers look in each country: prefix, length, what stands behind. Of the Union's countries as VIES describes them
//! (European Commission, "VAT identification numbers in each Member State"), of others as their tax offices do.

use unicode_normalization::UnicodeNormalization as _;

use event::identity::country;
use event::identity::invisible::{is_decimal, without_fractions};

/// Fewer digits say nothing by themselves.
pub(super) const FEWEST_DIGITS: usize = 5;

/// Upper case. Nothing else is kept, as in `IE 1+34567 L` and `&` of other countries' numbers.
pub(super) fn letters_and_digits(text: &str) -> String {
    let written: String = without_fractions(text)
        .nfkc()
        .flat_map(char::to_uppercase)
        .nfkc()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, '+' | '*' | '&'))
        .nfkc()
        .map(ascii_digit)
        .collect();
    without_label(&written)
}

/// What people write before a number, and what stands for it: nothing for the kind of number, a prefix for a country as
/// it is called at home or on a car.
const LABELS: [(&str, &str); 14] = [
    ("IDZADDV", ""),
    ("VAT", ""),
    ("DDV", ""),
    ("BTW", ""),
    ("OIB", ""),
    ("PIB", ""),
    ("CUI", ""),
    ("CIF", ""),
    ("ORGNR", ""),
    ("SLO", "SI"),
    ("CRO", "HR"),
    // In the letters of the country.
    ("ΕΛ", "EL"),
    ("МК", "MK"),
    ("БГ", "BG"),
];

/// Replaces the labels, where a number follows: digits, perhaps behind two letters of a country. A second time changes
/// nothing.
fn without_label(written: &str) -> String {
    let is_number = |text: &str| {
        let rest = text.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
        text.len() - rest.len() <= 2 && rest.starts_with(|digit: char| digit.is_ascii_digit())
    };
    let mut text = written.to_owned();
    while let Some(shorter) = LABELS.iter().find_map(|(label, instead)| {
        let rest = text.strip_prefix(label)?;
        let follows = is_number(rest) || LABELS.iter().any(|(next, _)| rest.starts_with(next));
        follows.then(|| format!("{instead}{rest}"))
    }) {
        text = shorter;
    }
    text
}

/// A decimal digit of any script as `0` to `9`. Unicode has them in rows of ten, some right behind each other.
fn ascii_digit(letter: char) -> char {
    if letter.is_ascii() || !is_decimal(letter) {
        return letter;
    }
    let before = (0..u32::from(letter)).rev();
    let lower = before.map_while(|code| char::from_u32(code).filter(|one| is_decimal(*one)));
    let value = lower.count() % 10;
    u32::try_from(value)
        .ok()
        .and_then(|value| char::from_digit(value, 10))
        .unwrap_or(letter)
}

/// The country whose numbers are used there.
pub(super) fn area(iso: &str) -> &str {
    match iso {
        "XI" | "IM" | "UK" => "GB",
        "MC" => "FR",
        "AX" => "FI",
        other => other,
    }
}

/// The country that the number names itself, and what is behind the prefix. Two letters name one if what follows has the
/// shape of its numbers (digits, where that is not known), or if it is the record's own.
pub(super) fn prefixed<'t>(
    written: &'t str,
    home: Option<&str>,
) -> Option<(&'static str, &'t str)> {
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
pub(super) fn by_ending(written: &str) -> Option<&'static str> {
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
pub(super) fn national(country: &str, written: &str) -> String {
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
        "CH" => Some(without_endings(number)).filter(|rest| digits(rest)),
        // The office and the kind of taxation stand behind it at home.
        "HU" if fits("99999999999", number) => number.get(..8),
        "NL" => behind("B01"),
        "JP" => number.strip_prefix('T').filter(|rest| digits(rest)),
        "NO" => behind("MVA"),
        // With `01` behind it in VAT numbers, with `16` before it in registers.
        "SE" if fits("999999999999", number) => number
            .strip_suffix("01")
            .or_else(|| number.strip_prefix("16")),
        _ => None,
    }
    .unwrap_or(number);
    with_zeros(shapes(country), number)
}

/// Without what stands behind Swiss numbers: the tax in several languages, the register.
fn without_endings(number: &str) -> &str {
    const ENDINGS: [&str; 7] = ["MWST", "TVA", "IVA", "TPV", "VAT", "HR", "RC"];
    let mut rest = number;
    while let Some(shorter) = ENDINGS.iter().find_map(|ending| rest.strip_suffix(ending)) {
        rest = shorter;
    }
    rest
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
pub(super) fn fits(shape: &str, text: &str) -> bool {
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

    #[test]
    fn the_digits_of_every_script_are_read_in_their_order() {
        let decimal: Vec<char> = ('\u{80}'..=char::MAX)
            .filter(|one| is_decimal(*one))
            .collect();
        assert!(decimal.len() >= 700, "{}", decimal.len());
        for ten in decimal.chunks(10) {
            let read: String = ten
                .iter()
                .map(|digit| letters_and_digits(&digit.to_string()))
                .collect();
            assert_eq!(read, "0123456789", "{ten:?}");
        }
    }
}
