//! What a process has used of the processors and of the memory, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Time on a processor of all threads that live now, to the nanosecond. Zero for a process that is gone or not of this
/// machine.
pub(crate) fn used(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let of = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let nanoseconds = threads.flatten().filter_map(|thread| of(thread.path()));
    Duration::from_nanos(nanoseconds.sum())
}

/// Of all of these.
pub(crate) fn used_by(pids: &[u32]) -> Duration {
    pids.iter().copied().map(used).sum()
}

/// Resident memory now and at most so far, in MB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) most: f64,
}

/// Zeros for a process that is gone.
pub(crate) fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kilobytes.unwrap_or_default() / 1024.0
    };
    Memory {
        now: of("VmRSS:"),
        most: of("VmHWM:"),
    }
}
