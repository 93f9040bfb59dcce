//! What a command prints: plain tables for people, JSON for scripts, on standard output.

use std::io::Write as _;

use chrono::{DateTime, Local, SecondsFormat, Utc};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::exit::{Done, Exit, Failed};

/// Who reads the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Output {
    /// Prints JSON for scripts; times are UTC
    #[arg(long)]
    pub(crate) json: bool,
}

impl Output {
    /// One value: as JSON, or as `human` writes it.
    pub(crate) fn show<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) -> Done {
        if self.json {
            say(&json(value)?)
        } else {
            say(&human(value))
        }
    }
}

pub(crate) fn json<T: Serialize>(value: &T) -> Done<String> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Failed::new(Exit::Failed, format!("cannot be written as JSON: {error}")))
}

/// Lines to standard output. A reader that went away (`| head`) is no failure.
pub(crate) fn say(text: &str) -> Done {
    match writeln!(std::io::stdout().lock(), "{}", text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A table without lines, or `nothing` where there are no rows. Columns whose every cell is empty are left out.
pub(crate) fn table(heads: &[&str], rows: Vec<Vec<String>>, nothing: &str) -> String {
    if rows.is_empty() {
        return nothing.to_owned();
    }
    let used: Vec<usize> = (0..heads.len())
        .filter(|column| rows.iter().any(|row| !row[*column].is_empty()))
        .collect();
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(used.iter().map(|column| heads[*column]));
    for row in &rows {
        table.add_row(used.iter().map(|column| row[*column].as_str()));
    }
    for (place, column) in used.iter().enumerate() {
        let numeric = rows
            .iter()
            .all(|row| row[*column].bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(column) = table.column_mut(place) {
            column.set_padding((0, 2));
            if numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// `name  value` lines, values below each other; empty values are left out.
pub(crate) fn facts(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:width$}  {value}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Local time with its distance from UTC; JSON has UTC.
pub(crate) fn at(time: DateTime<Utc>) -> String {
    let local = time.with_timezone(&Local);
    let zone = if local.offset().utc_minus_local() == 0 {
        "UTC"
    } else {
        "%:z"
    };
    local
        .format(&format!("%Y-%m-%d %H:%M:%S {zone}"))
        .to_string()
}

pub(crate) fn at_or_empty(time: Option<DateTime<Utc>>) -> String {
    time.map(at).unwrap_or_default()
}

/// The same instant twice, for stories: local and UTC.
pub(crate) fn at_both(time: DateTime<Utc>) -> String {
    let utc = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    if Local::now().offset().utc_minus_local() == 0 {
        utc
    } else {
        format!("{} = {utc}", at(time))
    }
}

/// At most `limit` characters of one line.
pub(crate) fn short(text: &str, limit: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= limit {
        return line.to_owned();
    }
    line.chars()
        .take(limit.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// `1 event`, `2 events`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_no_wider_than_its_words_and_drops_empty_columns() {
        let rows = vec![
            vec!["1".into(), "Žiga Čuk".into(), String::new(), "a".into()],
            vec!["12".into(), "Ana".into(), String::new(), "bc".into()],
        ];
        insta::assert_snapshot!(table(&["id", "name", "note", "x"], rows, "none"), @r"
        id  name      x
         1  Žiga Čuk  a
        12  Ana       bc
        ");
        assert_eq!(table(&["id"], vec![], "none yet"), "none yet");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(short("čšž", 3), "čšž");
        assert_eq!(short("čšžđ", 3), "čš…");
        assert_eq!(short("one\ntwo", 9), "one");
    }
}
