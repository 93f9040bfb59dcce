//! What a command prints: plain tables for people, JSON for scripts, on standard output.

use std::io::Write as _;

use chrono::{DateTime, Local, SecondsFormat, Utc};
use comfy_table::{CellAlignment, Table, presets};
pub(crate) use operations::at;
use runtime::visible;
use serde::Serialize;

use crate::exit::{Done, Exit, Failed};
use crate::values::MOST_ROWS;

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
            print_exactly(&visible::json(&json(value)?))
        } else {
            print(&human(value))
        }
    }
}

/// A page of a list: one row more than was asked for is read, so that it is known whether there are more.
pub(crate) struct Page<T> {
    rows: Vec<T>,
    /// What shows them, where there are more.
    more: Option<String>,
}

/// Rows to ask for, for a page of `limit`.
pub(crate) fn one_more(limit: i64) -> i64 {
    limit.saturating_add(1)
}

impl<T: Serialize> Page<T> {
    /// `next`: what the command line needs for the page after this last row.
    pub(crate) fn new(mut rows: Vec<T>, limit: i64, next: impl FnOnce(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let cut = rows.len() > limit;
        rows.truncate(limit);
        let more = rows.last().filter(|_last| cut).map(next);
        Self { rows, more }
    }

    /// Some that were found among more than were looked at; `more` says so.
    pub(crate) fn looked_at(rows: Vec<T>, more: Option<String>) -> Self {
        Self { rows, more }
    }

    /// A list that has no pages: all of it is seen with a higher limit, or by naming less.
    pub(crate) fn whole(rows: Vec<T>, limit: i64) -> Self {
        Self::new(rows, limit, |_last| {
            if limit < MOST_ROWS {
                format!("--limit {}", MOST_ROWS)
            } else {
                "name a tenant with --tenant".to_owned()
            }
        })
    }
}

impl Output {
    /// As [`Output::show`]. JSON is the rows alone; that there are more is said on standard error then.
    pub(crate) fn page<T: Serialize>(
        self,
        page: &Page<T>,
        human: impl FnOnce(&[T]) -> String,
    ) -> Done {
        let more = page
            .more
            .as_ref()
            .map(|more| format!("there are more: {more}"));
        if self.json {
            self.show(&page.rows, |_| String::new())?;
            return more.map_or(Ok(()), |more| print_aside(&more));
        }
        let shown = human(&page.rows);
        print(&more.map_or(shown.clone(), |more| format!("{shown}\n\n{more}")))
    }
}

pub(crate) fn json<T: Serialize>(value: &T) -> Done<String> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Failed::new(Exit::Failed, format!("cannot be written as JSON: {error}")))
}

/// Lines for people to standard output; hidden characters are made visible, whoever they come from.
pub(crate) fn print(text: &str) -> Done {
    print_exactly(&visible::lines(text))
}

/// As [`say`], to standard error: standard output is the answer's.
pub(crate) fn print_aside(text: &str) -> Done {
    Ok(writeln!(
        std::io::stderr().lock(),
        "{}",
        visible::lines(text)
    )?)
}

/// A reader that went away (`| head`) is no failure.
fn print_exactly(text: &str) -> Done {
    match writeln!(std::io::stdout().lock(), "{}", text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A table without lines, or `nothing` where there are no rows. Columns whose every cell is empty are left out. A cell is one
/// line, whoever wrote it.
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
        table.add_row(used.iter().map(|column| visible::line(&row[*column])));
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

/// `name  value` lines, values below each other; empty values are left out. A value is one line, whoever wrote it.
pub(crate) fn facts(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:width$}  {}", visible::line(value)))
        .collect::<Vec<_>>()
        .join("\n")
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
