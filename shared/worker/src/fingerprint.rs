//! What failed alike: the class of a failure and the shape of its message.

use crate::DeadClass;

/// Longest shape, in bytes; the character that passes it is the last one.
const SHAPE_LIMIT: usize = 120;
/// Opening and closing marks.
const QUOTES: [(char, char); 9] = [
    ('\'', '\''),
    ('"', '"'),
    ('`', '`'),
    ('‘', '’'),
    ('“', '”'),
    ('„', '“'),
    ('„', '”'),
    ('«', '»'),
    ('»', '«'),
];

/// Class plus the shape of the message: digits and quoted words vary between events of one cause. An apostrophe (O'Brien,
/// doesn't) is no quotation mark.
pub(crate) fn fingerprint(class: DeadClass, message: &str) -> String {
    let mut shape = String::with_capacity(64);
    let mut rest = message;
    let mut before = None;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        rest = after;
        if let Some((last, behind)) = quotation(before, character, after) {
            shape.push('…');
            before = Some(last);
            rest = behind;
        } else {
            match character {
                '0'..='9' if shape.ends_with('#') => {}
                '0'..='9' => shape.push('#'),
                other => shape.push(other),
            }
            before = Some(character);
        }
        if shape.len() >= SHAPE_LIMIT {
            break;
        }
    }
    format!("{class}:{}", shape.trim())
}

/// Where a quotation begins with `open`: its closing mark and what stands behind it.
fn quotation(before: Option<char>, open: char, after: &str) -> Option<(char, &str)> {
    let in_a_word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    if in_a_word(before) && !matches!(open, '"' | '„' | '“' | '«') {
        return None;
    }
    let ends = QUOTES
        .iter()
        .filter(|(begin, _)| *begin == open)
        .filter_map(|(_, close)| {
            // Inside of a word it is an apostrophe of what is quoted.
            let (at, _) = after.match_indices(*close).find(|(at, _)| {
                let behind = after[at + close.len_utf8()..].chars().next();
                !(matches!(close, '\'' | '’') && in_a_word(behind))
            })?;
            Some((at, *close))
        });
    let (at, close) = ends.min()?;
    Some((close, &after[at + close.len_utf8()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_quoted_words_do_not_count() {
        for (message, shape) in [
            ("code 6: 'A12' is missing", "code #: … is missing"),
            ("code 7: \"B\" is missing", "code #: … is missing"),
            ("„Mlin“ in „Pek“", "… in …"),
            ("»Mlin« and «Pek» and “x”, ‘y’, `z`", "… and … and …, …, …"),
            ("{\"a\":\"b\"}", "{…:…}"),
            ("name='x', id='y'", "name=…, id=…"),
            ("", ""),
        ] {
            let expected = format!("refused:{shape}");
            assert_eq!(
                fingerprint(DeadClass::Refused, message),
                expected,
                "{message}"
            );
        }
    }

    #[test]
    fn an_apostrophe_is_no_quotation_mark() {
        for (message, shape) in [
            ("Partner O'Brien exists", "Partner O'Brien exists"),
            ("Partner O’Brien isn’t known", "Partner O’Brien isn’t known"),
            ("d'Artagnan doesn't exist 12", "d'Artagnan doesn't exist #"),
            ("'O'Brien' is refused", "… is refused"),
            ("'d'Artagnan d.o.o.' is refused", "… is refused"),
            ("‘O’Brien’ is refused", "… is refused"),
            ("the users' list is long", "the users' list is long"),
            ("'tis never closed", "'tis never closed"),
            ("a \" that is never closed", "a \" that is never closed"),
            ("L'Oréal 'A' isn't 'B'", "L'Oréal … isn't …"),
        ] {
            let expected = format!("refused:{shape}");
            assert_eq!(
                fingerprint(DeadClass::Refused, message),
                expected,
                "{message}"
            );
        }
    }

    #[test]
    fn a_shape_is_short_however_long_the_message_is() {
        let message = "'a ".repeat(100_000);
        assert!(fingerprint(DeadClass::Refused, &message).len() < 150);
    }
}
