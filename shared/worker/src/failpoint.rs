//! Named fail points: `KURIR_FAILPOINT=after_sent:kill` ends the process there, `after_sent:stop` freezes it
//! (SIGSTOP; somebody else sends SIGCONT). Several are separated by commas; `after_sent:kill:3` acts at the
//! third hit; `after_sent:kill:1:evt-7` only where the point is hit for that subject. Reaching a point writes
//! one line to standard error, so that a test can fail if its point was never reached.
//!
//! An environment without the variable costs one atomic load per point. Crash tests need the real binary.

use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The variable that arms the points.
pub const VARIABLE: &str = "KURIR_FAILPOINT";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Kill,
    Stop,
    Panic,
}

#[derive(Debug)]
struct Armed {
    name: String,
    act: Act,
    /// Acts from this hit on; a `stop` acts once, a `kill` and a `panic` whenever reached.
    nth: u32,
    subject: Option<String>,
    hits: AtomicU32,
}

fn armed() -> &'static [Armed] {
    static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();
    ARMED.get_or_init(|| {
        std::env::var(VARIABLE)
            .map(|text| parse(&text))
            .unwrap_or_default()
    })
}

fn parse(text: &str) -> Vec<Armed> {
    text.split(',')
        .filter_map(|entry| {
            let mut parts = entry.trim().splitn(4, ':');
            let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
            let act = match parts.next()? {
                "kill" => Act::Kill,
                "stop" => Act::Stop,
                "panic" => Act::Panic,
                _ => return None,
            };
            let nth = parts.next().and_then(|nth| nth.parse().ok()).unwrap_or(1);
            let subject = parts.next().map(str::to_owned);
            Some(Armed {
                name,
                act,
                nth,
                subject,
                hits: AtomicU32::new(0),
            })
        })
        .collect()
}

/// Does nothing unless the point is armed for any subject.
pub fn hit(name: &str) {
    hit_for(name, "");
}

/// As `hit`, for points that an operation passes once per event: `subject` is the event id.
pub fn hit_for(name: &str, subject: &str) {
    for point in armed().iter().filter(|point| point.name == name) {
        if point
            .subject
            .as_deref()
            .is_some_and(|wanted| wanted != subject)
        {
            continue;
        }
        let hits = point.hits.fetch_add(1, Ordering::SeqCst) + 1;
        let acts = match point.act {
            Act::Stop => hits == point.nth,
            Act::Kill | Act::Panic => hits >= point.nth,
        };
        if acts {
            act(point, subject);
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the test that armed the point reads this line"
)]
fn act(point: &Armed, subject: &str) {
    eprintln!(
        "failpoint reached: {} {:?} {subject}",
        point.name, point.act
    );
    let signal = match point.act {
        Act::Kill => "-KILL",
        Act::Stop => "-STOP",
        Act::Panic => panic!("fail point {}", point.name),
    };
    // The signal goes to the whole process: no other task may go on while this one is "dead". It is addressed by this
    // thread, which therefore has it pending when `kill` has ended: addressed by the process, another thread takes it,
    // and on a busy machine this one goes on past its point before that one is scheduled.
    let _ = Command::new("kill").args([signal, &thread()]).status();
}

/// The number of this thread; `kill` takes it for the process.
fn thread() -> String {
    std::fs::read_link("/proc/thread-self")
        .ok()
        .and_then(|link| Some(link.file_name()?.to_str()?.to_owned()))
        .unwrap_or_else(|| std::process::id().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_name_act_count_and_subject() {
        let points = parse("after_sent:kill, before_ack:stop:3,x:panic:1:evt-7,bad,worse:explode");
        let read: Vec<_> = points
            .iter()
            .map(|p| (p.name.as_str(), p.act, p.nth, p.subject.as_deref()))
            .collect();
        assert_eq!(
            read,
            [
                ("after_sent", Act::Kill, 1, None),
                ("before_ack", Act::Stop, 3, None),
                ("x", Act::Panic, 1, Some("evt-7")),
            ]
        );
    }
}
