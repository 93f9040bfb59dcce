//! Characters that nobody sees, by the tables of Unicode: zero-width spaces, soft hyphens, byte order marks, marks of
//! direction, control characters, fillers. In what is compared none is left; in what is sent only those are that shape
//! a visible neighbour (a joiner in a Persian or Hindi name, a variation selector of a sign).

use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, Emoji, ExtendedPictographic,
    GeneralCategory, Ideographic, JoinControl, JoiningType, PrependedConcatenationMark, Script,
    VariationSelector,
};
use icu_properties::{
    CodePointMapData, CodePointMapDataBorrowed, CodePointSetData, CodePointSetDataBorrowed,
};

const IGNORABLE: CodePointSetDataBorrowed<'static> =
    CodePointSetData::new::<DefaultIgnorableCodePoint>();
/// Marks of the category "format" that are drawn all the same: Arabic number signs.
const DRAWN_FORMAT: CodePointSetDataBorrowed<'static> =
    CodePointSetData::new::<PrependedConcatenationMark>();
const JOINER: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<JoinControl>();
const SELECTOR: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<VariationSelector>();
const EMOJI: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<Emoji>();
const PICTURE: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<ExtendedPictographic>();
const IDEOGRAPH: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<Ideographic>();
const CATEGORY: CodePointMapDataBorrowed<'static, GeneralCategory> =
    CodePointMapData::<GeneralCategory>::new();
const COMBINING: CodePointMapDataBorrowed<'static, CanonicalCombiningClass> =
    CodePointMapData::<CanonicalCombiningClass>::new();
const JOINING: CodePointMapDataBorrowed<'static, JoiningType> =
    CodePointMapData::<JoiningType>::new();
const SCRIPT: CodePointMapDataBorrowed<'static, Script> = CodePointMapData::<Script>::new();

/// Separates a vowel from its word in Mongolian.
const VOWEL_SEPARATOR: char = '\u{180e}';

/// White space is not: it separates words.
pub fn is_invisible(letter: char) -> bool {
    if letter.is_whitespace() {
        return false;
    }
    IGNORABLE.contains(letter)
        || match CATEGORY.get(letter) {
            GeneralCategory::Control => true,
            GeneralCategory::Format => !DRAWN_FORMAT.contains(letter),
            _ => false,
        }
}

/// A digit of a decimal system, of any script.
pub fn is_decimal(letter: char) -> bool {
    CATEGORY.get(letter) == GeneralCategory::DecimalNumber
}

/// Without any of them.
pub fn stripped(text: &str) -> String {
    text.chars()
        .filter(|letter| !is_invisible(*letter))
        .collect()
}

/// [`stripped`], and without what is a number and no digit: fractions, superscripts, numbers in circles (`½`, `²`, `①`). Taken
/// apart they would count as digits (`12`).
pub fn without_fractions(text: &str) -> String {
    let mut text = stripped(text);
    text.retain(|letter| CATEGORY.get(letter) != GeneralCategory::OtherNumber);
    text
}

/// Without those that shape nothing. A second time changes nothing.
pub fn tidied(text: &str) -> String {
    let letters: Vec<char> = text
        .chars()
        .filter(|letter| !is_invisible(*letter) || may_shape(*letter))
        .collect();
    let mut kept: Vec<char> = Vec::with_capacity(letters.len());
    for (at, letter) in letters.iter().enumerate() {
        let next = letters.get(at + 1);
        if !is_invisible(*letter) || shapes(&kept, *letter, next) {
            kept.push(*letter);
        }
    }
    kept.into_iter().collect()
}

fn may_shape(letter: char) -> bool {
    JOINER.contains(letter) || SELECTOR.contains(letter) || letter == VOWEL_SEPARATOR
}

/// Joiners where RFC 5892 (appendix A) lets them stand in a name, and between pictures; variation selectors where there
/// are variations.
fn shapes(before: &[char], letter: char, next: Option<&char>) -> bool {
    let Some(last) = before.last() else {
        return false;
    };
    if !JOINER.contains(letter) {
        let mongolian = SCRIPT.get(*last) == Script::Mongolian && !is_invisible(*last);
        return mongolian
            || (letter != VOWEL_SEPARATOR && (EMOJI.contains(*last) || IDEOGRAPH.contains(*last)));
    }
    let Some(next) = next.filter(|next| !is_invisible(**next)) else {
        return false;
    };
    let picture = before.iter().rev().find(|one| !SELECTOR.contains(**one));
    let pictures = PICTURE.contains(*next)
        && picture.is_some_and(|one| PICTURE.contains(*one) || EMOJI.contains(*one));
    let virama = COMBINING.get(*last) == CanonicalCombiningClass::Virama;
    let joined = matches!(
        JOINING.get(*last),
        JoiningType::DualJoining | JoiningType::LeftJoining
    ) && matches!(
        JOINING.get(*next),
        JoiningType::DualJoining | JoiningType::RightJoining
    );
    pictures || virama || joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_shapes_nothing_is_not_sent() {
        for text in [
            "K\u{200b}os",
            "\u{feff}Kos",
            "Ko\u{ad}s",
            "Kos\u{200e}",
            "\u{202e}Kos\u{202c}",
            "K\u{200d}o\u{200c}s",
            "Kos\u{2060}\u{2060}",
            "Kos\u{fe0f}",
            "Ko\u{3164}s",
            "Ko\u{1}s\u{7f}",
            "Kos\u{e0067}\u{fff9}",
        ] {
            assert_eq!(tidied(text), "Kos", "{text:?}");
            assert_eq!(stripped(text), "Kos", "{text:?}");
        }
    }

    #[test]
    fn what_shapes_a_name_is_sent_and_not_compared() {
        for text in [
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "ക്\u{200c}ഷ",
            "❤\u{fe0f}\u{200d}🔥",
            "👩🏽\u{200d}🌾",
            "葛\u{e0100}城",
            "ᠨᠠ\u{180e}ᠠ",
        ] {
            assert_eq!(tidied(text), text, "{text:?}");
            assert!(!stripped(text).chars().any(is_invisible), "{text:?}");
            assert_ne!(stripped(text), text, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_second_time_changes_nothing(text in "[aک्क葛❤👩🏽ᠨ1 \u{200b}-\u{200f}\u{fe0f}\u{e0100}\u{180e}\u{ad}\u{301}]{0,12}") {
            let once = tidied(&text);
            prop_assert_eq!(tidied(&once), once.clone());
            prop_assert!(stripped(&once).chars().eq(text.chars().filter(|letter| !is_invisible(*letter))));
        }
    }
}
