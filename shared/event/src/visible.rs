//! Whether a text can be seen at all, by the tables of Unicode.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, NoncharacterCodePoint};
use icu_properties::{
    CodePointMapData, CodePointMapDataBorrowed, CodePointSetData, CodePointSetDataBorrowed,
};

const IGNORABLE: CodePointSetDataBorrowed<'static> =
    CodePointSetData::new::<DefaultIgnorableCodePoint>();
const NO_CHARACTER: CodePointSetDataBorrowed<'static> =
    CodePointSetData::new::<NoncharacterCodePoint>();
const CATEGORY: CodePointMapDataBorrowed<'static, GeneralCategory> =
    CodePointMapData::<GeneralCategory>::new();

/// Letters and symbols by the tables, and drawn by no font: the blank of braille, the null note head, the two blanks of
/// the hieroglyphs.
const BLANK: [char; 4] = ['\u{2800}', '\u{1d159}', '\u{13441}', '\u{13442}'];

/// False for a text of nothing but white space, zero-width and control characters, fillers, or combining marks without
/// the letter that they belong to.
pub fn is_visible(text: &str) -> bool {
    text.chars().any(is_drawn)
}

/// What is not assigned yet may be a letter of a newer Unicode, and a private character has a font somewhere.
fn is_drawn(letter: char) -> bool {
    use GeneralCategory as Category;
    let unseen = IGNORABLE.contains(letter)
        || NO_CHARACTER.contains(letter)
        || BLANK.contains(&letter)
        || matches!(
            CATEGORY.get(letter),
            Category::Control
                | Category::Format
                | Category::SpaceSeparator
                | Category::LineSeparator
                | Category::ParagraphSeparator
                | Category::NonspacingMark
                | Category::SpacingMark
                | Category::EnclosingMark
                | Category::Surrogate
        );
    !unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_font_draws_is_not_visible() {
        for text in [
            "",
            " \t\n",
            "\u{a0}\u{2003}\u{3000}",
            "\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}",
            "\u{ad}",
            "\u{200e}\u{202e}\u{2066}\u{61c}",
            "\u{1}\u{7f}\u{9d}",
            "\u{301}\u{30c}\u{20dd}\u{93e}",
            "\u{3164}\u{115f}\u{1160}\u{ffa0}",
            "\u{2800}",
            "\u{fe0f}\u{180e}\u{e0067}",
            "\u{fffe}\u{fff9}",
        ] {
            assert!(!is_visible(text), "{text:?}");
        }
    }

    #[test]
    fn any_sign_of_any_script_is_visible() {
        for text in [
            "Ž",
            "ž\u{301}",
            "\u{200b}7",
            "***",
            "-",
            "株",
            "محمد",
            "ക്ഷ",
            "🐝",
            "\u{e000}",
            "\u{ac00}",
            "①",
            "€",
        ] {
            assert!(is_visible(text), "{text:?}");
        }
    }
}
