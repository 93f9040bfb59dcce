//! Text of strangers as it may stand on a terminal: what moves the cursor, turns the direction of reading or is not seen at
//! all is shown by its number, as `\u{202e}`. Which characters these are is Unicode's own table.
//!
//! What a script reads stays exact: in JSON the same characters become JSON's escapes, which are read back as they were.

use std::borrow::Cow;
use std::fmt::Write as _;

use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// One line: line ends are shown as `\n` too.
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, "", braced)
}

/// Text of several lines: line ends and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    shown(text, "\n\t", braced)
}

/// A JSON document: hidden characters can only be inside of its strings, where an escape means the same.
pub fn json(document: &str) -> Cow<'_, str> {
    shown(document, "\n", escaped)
}

/// One line with our own sequences of colour in it; whoever put strangers' text between them has escaped theirs.
pub(crate) fn coloured(text: &str) -> Cow<'_, str> {
    shown(text, "\u{1b}", braced)
}

fn shown<'a>(text: &'a str, kept: &str, show: fn(char, &mut String)) -> Cow<'a, str> {
    let hidden = |character: char| is_hidden(character) && !kept.contains(character);
    let Some(first) = text.find(hidden) else {
        return Cow::Borrowed(text);
    };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for character in text[first..].chars() {
        if hidden(character) {
            show(character, &mut out);
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// A control, a mark of direction, something without a look of its own, or no character at all.
fn is_hidden(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
        || CodePointSetData::new::<BidiControl>().contains(character)
        || matches!(
            CodePointMapData::<GeneralCategory>::new().get(character),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
                | GeneralCategory::PrivateUse
                | GeneralCategory::Surrogate
                | GeneralCategory::Unassigned
        )
        || is_blank(character)
}

/// Spaces that look like the usual one, or like none, and the one Braille pattern without a dot.
fn is_blank(character: char) -> bool {
    const BRAILLE_BLANK: char = '\u{2800}';
    character == BRAILLE_BLANK
        || CodePointMapData::<GeneralCategory>::new().get(character)
            == GeneralCategory::SpaceSeparator
}

fn braced(character: char, out: &mut String) {
    match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // A String takes everything.
        other => write!(out, "\\u{{{:x}}}", u32::from(other)).unwrap_or_default(),
    }
}

fn escaped(character: char, out: &mut String) {
    let mut units = [0; 2];
    for unit in character.encode_utf16(&mut units) {
        // A String takes everything.
        write!(out, "\\u{unit:04x}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Terminal controls (C0, DEL, C1), marks of direction, invisible characters, line ends of Unicode.
    const HIDDEN: &str = "\u{0}\u{7}\u{8}\r\u{1b}\u{7f}\u{85}\u{90}\u{9b}\u{9d}\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\
        \u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\
        \u{2067}\u{2068}\u{2069}\u{2800}\u{3164}\u{a0}\u{fe0f}\u{feff}\u{ffa0}\u{e000}\u{e0001}\u{e0041}\u{e0100}";

    #[test]
    fn no_hidden_character_reaches_a_terminal() {
        for character in HIDDEN.chars() {
            let text = format!("a{character}b");
            for told in [line(&text), lines(&text)] {
                assert!(!told.contains(character) && told.len() >= 4, "{told:?}");
            }
        }
        assert_eq!(
            line("\u{1b}[2J\u{202e}gpj\u{202c} one\ntwo\tthree"),
            r"\u{1b}[2J\u{202e}gpj\u{202c} one\ntwo\tthree"
        );
        assert_eq!(lines("one\ntwo\tthree\r"), "one\ntwo\tthree\\r");
        assert_eq!(coloured("\u{1b}[2m7\u{202e}"), "\u{1b}[2m7\\u{202e}");
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in [
            "Čebelarstvo Žnidaršič d.o.o. (O'Brien & Söhne) – 50 % … „x“",
            "e\u{301} שלום مرحبا 日本語 🙂 ไทย",
            r#"{"a": "\u202e\\"}"#,
        ] {
            assert!(matches!(line(text), Cow::Borrowed(_)), "{text}");
            assert!(matches!(json(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn json_is_read_back_as_it_was() {
        let value = serde_json::json!({ HIDDEN: [HIDDEN, "\u{202e}č"] });
        let text = serde_json::to_string_pretty(&value).expect("JSON");
        let told = json(&text);
        assert!(HIDDEN.chars().all(|character| !told.contains(character)));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&told).expect("JSON"),
            value
        );
    }
}
