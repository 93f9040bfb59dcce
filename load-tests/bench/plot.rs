//! The numbers as a picture, for a page: a panel per question, bars with their values.

use std::path::Path;

use plotters::prelude::*;

use crate::full::EVENTS;
use crate::report::{Line, Report};

const SIZE: (u32, u32) = (1200, 900);
const FONT: &str = "sans-serif";
/// Room at the right of the longest bar for its number.
const HEAD_ROOM: f64 = 1.2;

/// Title, part, unit.
const PANELS: [(&str, &str, &str); 6] = [
    ("Consumers: messages per second", "consume", "messages/s"),
    (
        "Consumers: client CPU per message, µs",
        "consume",
        "µs client CPU per message",
    ),
    ("Whole path: events per second", "whole path", EVENTS),
    (
        "Whole path: own CPU per event, µs",
        "whole path",
        "µs own CPU per event",
    ),
    ("Publish to partner at half load, ms", "latency", "ms"),
    (
        "Time in Postgres per event, ms",
        "links",
        "ms in Postgres per event",
    ),
];

/// Overwrites what is there.
pub(crate) fn write(report: &Report, path: &Path) {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let title = format!("Kurir {}", report.machine.revision);
    let root = root.titled(&title, (FONT, 24)).unwrap();
    for (area, (title, part, unit)) in root.split_evenly((3, 2)).into_iter().zip(PANELS) {
        let of_panel = |line: &&Line| line.part == part && line.unit == unit;
        let lines: Vec<&Line> = report.lines.iter().filter(of_panel).collect();
        // A part that was not measured has no panel.
        if !lines.is_empty() {
            bars(&area, title, &lines);
        }
    }
    root.present().unwrap();
}

/// One bar per line, from the top.
fn bars(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, title: &str, lines: &[&Line]) {
    let most = lines.iter().map(|line| line.median).fold(0.0, f64::max) * HEAD_ROOM;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 16))
        .margin(12)
        .x_label_area_size(24)
        .build_cartesian_2d(0.0..most.max(f64::MIN_POSITIVE), 0.0..lines.len() as f64)
        .unwrap();
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(5)
        .draw()
        .unwrap();
    for (place, line) in lines.iter().rev().enumerate() {
        let (low, high) = (place as f64 + 0.08, place as f64 + 0.55);
        let ours = line.what.starts_with("Kurir") || line.part == "links";
        let color = if ours { BLUE.mix(0.6) } else { BLACK.mix(0.3) };
        let bar = Rectangle::new([(0.0, low), (line.median, high)], color.filled());
        chart.draw_series([bar]).unwrap();
        let text = format!("{}: {}", line.what, crate::report::number(line.median));
        let label = Text::new(text, (0.0, place as f64 + 0.92), (FONT, 13).into_font());
        chart.draw_series([label]).unwrap();
    }
}
