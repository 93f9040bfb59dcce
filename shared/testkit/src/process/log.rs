//! What a process writes: the last lines in memory, all of it in a file.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use crate::owner;

const KEPT_LINES: usize = 20_000;
const LONGEST_LINE_BYTES: u64 = 16 * 1024;
const LARGEST_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// What a process wrote last is in the pipe, and read at once.
const LAST_LINES: Duration = Duration::from_secs(2);
/// Logs of failed tests stay this long.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

#[derive(Debug)]
pub(super) struct Log {
    written: Arc<Mutex<Written>>,
    path: PathBuf,
    /// Disconnected when both streams have ended.
    ended: Mutex<Receiver<()>>,
}

#[derive(Debug)]
struct Written {
    lines: VecDeque<(Stream, String)>,
    file: File,
    file_bytes: u64,
}

impl Log {
    /// Reads both streams to their end, each in a thread: the test's own runtime may be busy or gone.
    pub(super) fn follow(
        role: &str,
        stdout: Option<impl Read + Send + 'static>,
        stderr: Option<impl Read + Send + 'static>,
    ) -> Self {
        remember_failures();
        let path = new_path(role);
        let written = Arc::new(Mutex::new(Written {
            lines: VecDeque::new(),
            file: File::create(&path).expect("the folder for temporary files can be written"),
            file_bytes: 0,
        }));
        let (ending, ended) = mpsc::channel();
        if let Some(stream) = stdout {
            read(Stream::Out, stream, Arc::clone(&written), ending.clone());
        }
        if let Some(stream) = stderr {
            read(Stream::Err, stream, Arc::clone(&written), ending);
        }
        Self {
            written,
            path,
            ended: Mutex::new(ended),
        }
    }

    pub(super) fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let written = lock(&self.written);
        let mut lines = written.lines.iter();
        lines
            .find(|(_, line)| wanted(line))
            .map(|(_, line)| line.clone())
    }

    pub(super) fn count(&self, wanted: impl Fn(&str) -> bool) -> usize {
        let written = lock(&self.written);
        written
            .lines
            .iter()
            .filter(|(_, line)| wanted(line))
            .count()
    }

    /// All lines of one stream.
    pub(super) fn text(&self, stream: Stream) -> String {
        let written = lock(&self.written);
        let lines = written.lines.iter().filter(|(of, _)| *of == stream);
        lines.map(|(_, line)| format!("{line}\n")).collect()
    }

    pub(super) fn file(&self) -> &Path {
        &self.path
    }

    /// Waits for the end of both streams; the process has ended. Not for long: a child of its may live on with
    /// them.
    pub(super) fn finish(&self) {
        let ended = lock(&self.ended);
        let _: Result<(), RecvTimeoutError> = ended.recv_timeout(LAST_LINES);
    }

    /// Its end on standard error, where the test's own failure is shown.
    #[expect(
        clippy::print_stderr,
        reason = "a failing test shows what the process said"
    )]
    pub(super) fn show(&self, most: usize) {
        let written = lock(&self.written);
        let skipped = written.lines.len().saturating_sub(most);
        eprintln!("--- {} ({skipped} lines before)", self.path.display());
        for (_, line) in written.lines.iter().skip(skipped) {
            eprintln!("{line}");
        }
        eprintln!("---");
        // Once more below the logs: who reads a long output reads its end.
        if let Some(failure) = lock(&FAILURE).as_deref() {
            eprintln!("{failure}");
        }
    }

    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The test's own failure, as its panic told it.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);

fn remember_failures() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            lock(&FAILURE).get_or_insert_with(|| panic.to_string());
            told(panic);
        }));
    });
}

fn read(
    stream: Stream,
    from: impl Read + Send + 'static,
    to: Arc<Mutex<Written>>,
    ending: Sender<()>,
) {
    std::thread::spawn(move || {
        // Dropped at the end of the stream, which is all that it is for.
        let _ending = ending;
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut from)
                .take(LONGEST_LINE_BYTES)
                .read_until(b'\n', &mut line)
            {
                Ok(0) | Err(_) => return,
                Ok(_) => lock(&to).add(stream, &line),
            }
        }
    });
}

impl Written {
    fn add(&mut self, stream: Stream, line: &[u8]) {
        if self.file_bytes < LARGEST_FILE_BYTES && self.file.write_all(line).is_ok() {
            self.file_bytes += line.len() as u64;
        }
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        let text = String::from_utf8_lossy(line)
            .trim_end_matches(['\n', '\r'])
            .to_owned();
        self.lines.push_back((stream, text));
    }
}

/// Named after the test and the role, for who looks into the folder after a failure.
fn new_path(role: &str) -> PathBuf {
    let folder = owner::folder().join("logs");
    fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
    if owner::may_sweep("logs") {
        sweep(&folder);
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").replace("::", ".");
    let role: String = role
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
        .take(40)
        .collect();
    folder.join(format!("{test}.{role}.{}.log", owner::name("")))
}

fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let old = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|at| at.elapsed().ok())
            .is_some_and(|age| age > KEPT_FOR);
        if old {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
