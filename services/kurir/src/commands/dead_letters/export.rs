//! Dead letters with their events, streamed: one page is in memory.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use store::Pool;
use store::dead_letters::{After, Exported, export};

use super::in_state;
use super::{Filters, State};
use crate::context::scope;
use crate::exit::{Done, Exit, Failed};

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) filter: Filters,
    #[command(flatten)]
    pub(crate) state: State,
    /// CSV instead of one JSON object per line
    #[arg(long)]
    pub(crate) csv: bool,
    /// A new file; without it standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

const COLUMNS: [&str; 20] = [
    "id",
    "worker",
    "tenant",
    "source",
    "event_id",
    "type",
    "subject",
    "state",
    "generation",
    "deaths",
    "class",
    "fingerprint",
    "message",
    "trace_id",
    "first_at",
    "last_at",
    "resolved_by",
    "resolved_at",
    "note",
    "event",
];

pub(super) async fn run(pool: &Pool, given: Export) -> Done {
    let written = match &given.output {
        None => write(pool, &given, std::io::stdout().lock()).await,
        Some(path) => {
            // What is there already may be somebody's only copy.
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .map_err(|error| {
                    Failed::new(Exit::Failed, format!("{}: {error}", path.display()))
                        .next("name a new file with --output")
                })?;
            write(pool, &given, file).await
        }
    };
    match written {
        // The reader has seen enough (`| head`).
        Err(Written::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(Written::Output(error)) => Err(error.into()),
        Err(Written::Store(error)) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

enum Written {
    Output(std::io::Error),
    Store(store::Error),
}

impl From<std::io::Error> for Written {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<csv::Error> for Written {
    fn from(error: csv::Error) -> Self {
        Self::Output(error.into())
    }
}

async fn write(pool: &Pool, given: &Export, out: impl Write) -> Result<(), Written> {
    let filter = in_state(&given.filter, given.state.state.clone());
    let scope = scope(given.filter.tenant.as_ref());
    let mut lines = Lines::new(given.csv, out)?;
    let mut after = None;
    loop {
        let page = export(pool, scope, &filter, after)
            .await
            .map_err(Written::Store)?;
        let Some(last) = page.last() else { break };
        after = Some(After::from(last));
        for dead_letter in &page {
            lines.write(dead_letter)?;
        }
    }
    lines.end()
}

enum Lines<W: Write> {
    Json(BufWriter<W>),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> Lines<W> {
    fn new(csv: bool, out: W) -> Result<Self, Written> {
        if !csv {
            return Ok(Self::Json(BufWriter::new(out)));
        }
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(COLUMNS)?;
        Ok(Self::Csv(Box::new(writer)))
    }

    fn write(&mut self, dead_letter: &Exported) -> Result<(), Written> {
        match self {
            Self::Json(out) => {
                serde_json::to_writer(&mut *out, dead_letter).map_err(std::io::Error::from)?;
                out.write_all(b"\n")?;
            }
            Self::Csv(out) => out.write_record(cells(dead_letter))?,
        }
        Ok(())
    }

    fn end(self) -> Result<(), Written> {
        match self {
            Self::Json(mut out) => out.flush()?,
            Self::Csv(mut out) => out.flush()?,
        }
        Ok(())
    }
}

/// In the order of the columns. The event is the edited one, where there is one.
fn cells(dead_letter: &Exported) -> [String; COLUMNS.len()] {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let body = dead_letter
        .edited_body
        .as_ref()
        .unwrap_or(&dead_letter.body);
    [
        dead_letter.id.to_string(),
        dead_letter.worker.clone(),
        optional(&dead_letter.tenant),
        optional(&dead_letter.source),
        optional(&dead_letter.event_id),
        optional(&dead_letter.event_type),
        optional(&dead_letter.subject),
        dead_letter.state.clone(),
        dead_letter.generation.to_string(),
        dead_letter.deaths.to_string(),
        dead_letter.class.clone(),
        dead_letter.fingerprint.clone(),
        optional(&dead_letter.message),
        optional(&dead_letter.trace_id),
        dead_letter.first_at.to_rfc3339(),
        dead_letter.last_at.to_rfc3339(),
        optional(&dead_letter.resolved_by),
        dead_letter
            .resolved_at
            .map(|at| at.to_rfc3339())
            .unwrap_or_default(),
        optional(&dead_letter.note),
        String::from_utf8_lossy(&body.0).into_owned(),
    ]
}
