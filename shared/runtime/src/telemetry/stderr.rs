//! Standard error behind a buffer: a write of its own for each line costs a busy worker a tenth of its time.
//!
//! No line is ever dropped: where whoever reads is slow, the work waits as it always did. What was said is written within
//! [`DELAY`]; at once, with everything before it, where it is a warning or an error, where the buffer is full, before a
//! panic is told, and by [`flush`] at the end of the process. Only `kill -9` and a crash of the machine lose the last
//! milliseconds.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::visible;

/// The longest that a line waits for others.
const DELAY: Duration = Duration::from_millis(10);
/// What waits together; a pipe takes 64 KiB.
const TOGETHER: usize = 16 * 1024;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// The first line after an empty buffer.
static SAID: Condvar = Condvar::new();

/// Writes what waits. At the end of a process, and before anything else is said on standard error.
pub fn flush() {
    write_out(&mut lines());
}

fn lines() -> MutexGuard<'static, Vec<u8>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_out(lines: &mut Vec<u8>) {
    if !lines.is_empty() {
        // A standard error that takes nothing can't be told to anybody.
        let _ = io::stderr().write_all(lines);
        lines.clear();
    }
}

/// One line, written as a whole.
pub(super) struct Line {
    /// Not buffered: a terminal, or something that must not be lost.
    at_once: bool,
    form: Form,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Plain,
    Coloured,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = lines();
        let first = lines.is_empty();
        lines.extend_from_slice(visible(line, self.form).as_bytes());
        if self.at_once || lines.len() >= TOGETHER {
            write_out(&mut lines);
        } else if first {
            SAID.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        flush();
        Ok(())
    }
}

/// Strangers' texts are in log lines too, and a line stays one line.
fn visible(line: &[u8], form: Form) -> String {
    let text = String::from_utf8_lossy(line);
    let (text, end) = match text.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (text.as_ref(), ""),
    };
    let shown = match form {
        Form::Json => visible::json(text),
        Form::Plain => visible::line(text),
        Form::Coloured => visible::coloured(text),
    };
    format!("{shown}{end}")
}

/// Makes [`Line`]s.
pub(super) struct Lines {
    at_once: bool,
    form: Form,
}

impl Lines {
    /// Starts the thread that writes what waits. `at_once`: nothing waits. Also without a thread, if there can be none.
    pub(super) fn start(at_once: bool, form: Form) -> Self {
        static STARTED: OnceLock<bool> = OnceLock::new();
        let started = || {
            let thread = thread::Builder::new().name("log lines".to_owned());
            let started = thread.spawn(write_on).is_ok();
            before_panics();
            started
        };
        Self {
            at_once: at_once || !*STARTED.get_or_init(started),
            form,
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            at_once: true,
            form: self.form,
        }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Line {
        Line {
            // The smaller the graver.
            at_once: self.at_once || *about.level() <= Level::WARN,
            form: self.form,
        }
    }
}

fn write_on() {
    loop {
        let waiting = SAID
            .wait_while(lines(), |lines| lines.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        drop(waiting);
        thread::sleep(DELAY);
        flush();
    }
}

/// What was said before a panic stands before it.
fn before_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        match LINES.try_lock() {
            Ok(mut lines) => write_out(&mut lines),
            Err(TryLockError::Poisoned(lines)) => write_out(&mut lines.into_inner()),
            // Whoever writes right now, perhaps the one that panics, writes all.
            Err(TryLockError::WouldBlock) => {}
        }
        tell(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(line: &str, at_once: bool) {
        let form = Form::Plain;
        Line { at_once, form }.write_all(line.as_bytes()).unwrap();
    }

    /// One test: there is one standard error.
    #[test]
    fn a_line_waits_for_others_but_never_for_long() {
        say("one\n", false);
        say("two\n", false);
        assert_eq!(*lines(), b"one\ntwo\n");
        say("urgent\n", true);
        assert!(lines().is_empty());
        say(&"x".repeat(TOGETHER), false);
        assert!(lines().is_empty());
        say("last\n", false);
        flush();
        assert!(lines().is_empty());

        Lines::start(false, Form::Plain);
        say("soon\n", false);
        let begun = std::time::Instant::now();
        while !lines().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "never written");
            thread::yield_now();
        }
    }
}
