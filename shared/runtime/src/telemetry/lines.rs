//! Log lines: for people on a terminal, else one JSON object per line.

use std::ffi::OsStr;
use std::fmt;
use std::io::IsTerminal as _;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::counts::Counting;
use super::stderr::{Form, Lines};
use super::{Error, filter};
use crate::settings::{Log, LogFormat};

/// Writes lines and counts them, both by the same filter. `traced`: with the ids of the span that a line was written in.
pub(super) fn layer<S>(log: &Log, traced: bool) -> Result<impl Layer<S>, Error>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup> + Send + Sync,
{
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !terminal,
    };
    let colours = colours(terminal, std::env::var_os("NO_COLOR").as_deref());
    let form = match (json, colours) {
        (true, _) => Form::Json,
        (false, true) => Form::Coloured,
        (false, false) => Form::Plain,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(Lines::start(terminal, form));
    let lines = if json {
        let lines = lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false);
        if traced {
            lines.map_event_format(WithTrace).boxed()
        } else {
            lines.boxed()
        }
    } else {
        lines.with_ansi(colours).with_target(false).boxed()
    };
    Ok(lines.and_then(Counting).with_filter(filter(log)?))
}

/// Only on a terminal, and not where somebody wants none (<https://no-color.org>: set, and not empty).
fn colours(terminal: bool, no_color: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty)
}

/// Adds two members to the JSON object that the inner format writes.
struct WithTrace<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let ids = Context::map_current(|current| {
            let span = current.span();
            let span = span.span_context();
            span.is_valid().then(|| (span.trace_id(), span.span_id()))
        });
        let Some((trace, span)) = ids else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(open) => writeln!(
                writer,
                "{open},\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"}}"
            ),
            None => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_unless_no_color_says_otherwise() {
        let set = |value: &'static str| Some(OsStr::new(value));
        assert!(colours(true, None) && colours(true, set("")));
        assert!(!colours(true, set("1")) && !colours(true, set("0")));
        assert!(!colours(false, None));
    }
}
