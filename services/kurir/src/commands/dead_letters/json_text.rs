//! JSON as text, laid out for people or packed for sending. Numbers, texts and the order of members stay as they are
//! written: reading and writing them anew would lose digits.

const INDENT: &str = "  ";

/// One member per line. What is no JSON comes back as it is.
pub(super) fn pretty(text: &str) -> String {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut opened) = (0_usize, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(INDENT);
        }
    };
    tokens(text, |token| {
        let closes = matches!(token, "}" | "]");
        if closes {
            depth = depth.saturating_sub(1);
        }
        if closes != opened && (closes || opened) {
            line(&mut out, depth);
        }
        opened = matches!(token, "{" | "[");
        depth += usize::from(opened);
        out.push_str(token);
        match token {
            ":" => out.push(' '),
            "," => line(&mut out, depth),
            _ => {}
        }
    });
    out
}

/// Without any space between the parts. What is no JSON comes back as it is.
pub(super) fn compact(text: &str) -> String {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    tokens(text, |token| out.push_str(token));
    out
}

/// Punctuation one by one; texts, numbers and words whole. The text is valid JSON.
fn tokens<'a>(text: &'a str, mut with: impl FnMut(&'a str)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        at += 1;
        match bytes[begin] {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'"' => {
                while bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'{' | b'}' | b'[' | b']' | b':' | b',' => {}
            _ => {
                while at < bytes.len() && !b" \t\n\r{}[]:,\"".contains(&bytes[at]) {
                    at += 1;
                }
            }
        }
        with(&text[begin..at]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_changes_and_nothing_else() {
        let packed = r#"{"b":{"a\"}":[1.10,-2e3,true,{}],"č":"x, {y}"},"a":[],"n":null}"#;
        insta::assert_snapshot!(pretty(packed), @r#"
        {
          "b": {
            "a\"}": [
              1.10,
              -2e3,
              true,
              {}
            ],
            "č": "x, {y}"
          },
          "a": [],
          "n": null
        }
        "#);
        assert_eq!(compact(&pretty(packed)), packed);
        assert_eq!(pretty("no JSON {"), "no JSON {");
        assert_eq!(pretty("7"), "7");
    }
}
