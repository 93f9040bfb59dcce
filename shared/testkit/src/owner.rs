//! Names that tell which process made a thing, so that what outlived its process can be found and removed.
//!
//! A number alone is not enough: numbers are used again, and two containers with one server between them both
//! have a process 17. So the name holds the boot and the process namespace, the number and the start time.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What machines other than this one left behind is old after this time.
const FOREIGN_AGE: Duration = Duration::from_secs(24 * 3600);

/// Looking for leftovers costs every test a little, so one process in this time does it for all.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// A new name with this prefix: `<prefix><place>_<pid>_<start>_<made>_<n>`, at most 63 bytes with a prefix of 12.
pub(crate) fn name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let start = start_of(pid).expect("a living process has a start time");
    format!("{prefix}{:08x}_{pid}_{start}_{}_{n}", place(), now())
}

/// Whether the thing of this name, made by `name` with the same prefix, has outlived its process. A name that
/// `name` did not make is nobody's business.
pub(crate) fn is_left_behind(name: &str, prefix: &str) -> bool {
    let Some(rest) = name.strip_prefix(prefix) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('_').collect();
    let [at, pid, start, made, _n] = parts.as_slice() else {
        return false;
    };
    let (Ok(at), Ok(pid), Ok(start), Ok(made)) = (
        u32::from_str_radix(at, 16),
        pid.parse::<u32>(),
        start.parse::<u64>(),
        made.parse::<u64>(),
    ) else {
        return false;
    };
    if at == place() {
        start_of(pid) != Some(start)
    } else {
        now().saturating_sub(made) > FOREIGN_AGE.as_secs()
    }
}

/// True for one caller of all processes in `SWEEP_EVERY`.
pub(crate) fn may_sweep(what: &str) -> bool {
    let stamp = folder().join(format!("swept-{what}"));
    let recent = fs::metadata(&stamp)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|at| at.elapsed().ok())
        .is_some_and(|age| age < SWEEP_EVERY);
    !recent && fs::write(&stamp, []).is_ok()
}

/// Shared by all test processes of this user on this machine.
pub(crate) fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("kurir-testkit-{:08x}", place()));
    fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
    folder
}

/// For `drop`: runs this to its end, or for `limit`. The runtime of the test may be the one that is being dropped,
/// so it has its own. What cannot be removed now (a server that is frozen or gone) is removed by a later sweep.
pub(crate) fn farewell(
    limit: Duration,
    last: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        if let Ok(runtime) = runtime {
            let _ = runtime.block_on(async { tokio::time::timeout(limit, last).await });
        }
    });
    let _ = thread.join();
}

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs()
}

/// One boot of one machine, one container and one user of it.
fn place() -> u32 {
    static PLACE: OnceLock<u32> = OnceLock::new();
    *PLACE.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .hash(&mut hasher);
        fs::read_link("/proc/self/ns/pid")
            .unwrap_or_default()
            .hash(&mut hasher);
        std::env::var("USER").unwrap_or_default().hash(&mut hasher);
        u32::try_from(hasher.finish() >> 32).expect("half of 64 bits")
    })
}

/// Start of a living process in clock ticks since boot; the 22nd field of `stat`, whose 2nd may hold anything.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_made_is_not_left_behind() {
        let made = name("kurir_test_");
        assert!(!is_left_behind(&made, "kurir_test_"), "{made}");
        assert!(made.len() <= 63, "{made}");
    }

    #[test]
    fn what_a_dead_process_made_is_left_behind() {
        let mut child = std::process::Command::new("true")
            .spawn()
            .expect("true runs");
        let (pid, start) = (child.id(), start_of(child.id()).unwrap_or(1));
        child.wait().expect("it ends");
        let made = format!("t_{:08x}_{pid}_{start}_{}_0", place(), now());
        assert!(is_left_behind(&made, "t_"), "{made}");
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let pid = std::process::id();
        let made = format!("t_{:08x}_{pid}_{}_{}_0", place(), 1, now());
        assert!(is_left_behind(&made, "t_"), "{made}");
    }

    #[test]
    fn another_machine_keeps_its_things_for_a_day() {
        let elsewhere = place().wrapping_add(1);
        let young = format!("t_{elsewhere:08x}_1_1_{}_0", now());
        let old = format!("t_{elsewhere:08x}_1_1_{}_0", now() - 90_000);
        assert!(!is_left_behind(&young, "t_"));
        assert!(is_left_behind(&old, "t_"));
    }

    #[test]
    fn a_name_of_somebody_else_is_left_alone() {
        for name in [
            "kurir",
            "t_",
            "t_x_1_1_1_0",
            "t_1_2_3",
            "other_00000000_1_1_1_0",
        ] {
            assert!(!is_left_behind(name, "t_"), "{name}");
        }
    }
}
