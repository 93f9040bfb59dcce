//! How many log lines were written, by level.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Error, warn, info, debug, trace.
static LINES: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

/// Lines of this level since the start of the process, as far as `log.filter` let them through.
pub fn log_lines(level: Level) -> u64 {
    LINES[place(level)].load(Ordering::Relaxed)
}

fn place(level: Level) -> usize {
    match level {
        Level::ERROR => 0,
        Level::WARN => 1,
        Level::INFO => 2,
        Level::DEBUG => 3,
        _ => 4,
    }
}

/// Sees what its filter lets through.
pub(super) struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        LINES[place(*event.metadata().level())].fetch_add(1, Ordering::Relaxed);
    }
}
