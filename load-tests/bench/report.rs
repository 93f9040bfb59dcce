//! What was measured, as a table for people and as JSON for programs: medians over rounds, and targets with how far.

use std::fmt;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::machine::Machine;

/// One measured number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) part: &'static str,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) rounds: usize,
}

/// What a number must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    pub(crate) value: f64,
    pub(crate) met: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) seconds: f64,
    /// Parts that could not go on; what they panicked with is on standard error.
    pub(crate) failed: Vec<String>,
    pub(crate) lines: Vec<Line>,
    pub(crate) targets: Vec<Target>,
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The nearest value; NaN of none.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(at.min(last)).copied().unwrap_or(f64::NAN)
}

/// Round by round: what the machine did meanwhile touched both.
pub(crate) fn ratios(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter()
        .zip(other)
        .map(|(one, other)| one / other)
        .collect()
}

impl Report {
    pub(crate) fn new(machine: Machine, quick: bool) -> Self {
        Self {
            machine,
            quick,
            seconds: 0.0,
            failed: Vec::new(),
            lines: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// One value per round.
    pub(crate) fn line(
        &mut self,
        part: &'static str,
        what: &str,
        unit: &'static str,
        values: &[f64],
    ) {
        self.lines.push(Line {
            part,
            what: what.to_owned(),
            unit,
            median: median(values),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: values.len(),
        });
    }

    pub(crate) fn target(&mut self, what: &str, bound: Bound, value: f64) {
        let met = match bound {
            Bound::AtLeast(least) => value >= least,
            Bound::AtMost(most) => value <= most,
        };
        self.targets.push(Target {
            what: what.to_owned(),
            bound,
            value,
            met,
        });
    }

    /// The median of a line that was measured in this run.
    pub(crate) fn median_of(&self, what: &str, unit: &str) -> Option<f64> {
        let mut lines = self.lines.iter();
        let line = lines.find(|line| line.what == what && line.unit == unit);
        line.map(|line| line.median)
    }
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn table(header: [&str; 4], rows: impl Iterator<Item = [String; 4]>) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header);
    table.add_rows(rows);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        let mut part = "";
        for line in &self.lines {
            if line.part == part {
                continue;
            }
            part = line.part;
            let lines = self.lines.iter().filter(|line| line.part == part);
            let rows = lines.map(|line| {
                [
                    line.what.clone(),
                    number(line.median),
                    line.unit.to_owned(),
                    match line.rounds {
                        1 => String::new(),
                        rounds => {
                            format!(
                                "{} to {} in {rounds} rounds",
                                number(line.least),
                                number(line.most)
                            )
                        }
                    },
                ]
            });
            writeln!(f, "\n{}", table([part, "", "", ""], rows))?;
        }
        let rows = self.targets.iter().map(|target| {
            let (wanted, far) = match target.bound {
                Bound::AtLeast(least) => (
                    format!("at least {}", number(least)),
                    target.value / least - 1.0,
                ),
                Bound::AtMost(most) => (
                    format!("at most {}", number(most)),
                    1.0 - target.value / most,
                ),
            };
            let verdict = if target.met { "met" } else { "NOT MET" };
            [
                target.what.clone(),
                number(target.value),
                wanted,
                format!("{verdict}, {:+.0} %", far * 100.0),
            ]
        });
        writeln!(f, "\n{}", table(["targets", "", "", ""], rows))?;
        if !self.failed.is_empty() {
            writeln!(f, "could not go on: {}", self.failed.join(", "))?;
        }
        write!(f, "{:.0} s in all", self.seconds)?;
        if self.quick {
            write!(
                f,
                "; a quick run shows that it works, its numbers are no measure"
            )?;
        }
        Ok(())
    }
}
