//! From the start of a process to the moment at which its probe says ready, with broker and database there.

use crate::Size;
use crate::harness::{Harness, WORKER};
use crate::report::{Bound, Report, median};

/// Every role that runs by itself.
pub(crate) const ROLES: [(&str, &[&str]); 3] = [
    ("gateway", &["gateway"]),
    ("worker", &["worker", WORKER]),
    ("keeper", &["keeper"]),
];

pub(crate) async fn measure(harness: &Harness, size: Size, report: &mut Report) {
    let rounds = size.of(5, 2);
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        for (at, (_, arguments)) in ROLES.iter().enumerate() {
            let process = harness.role(arguments).await;
            times[at].push(process.ready_after.as_secs_f64());
            process.stop().await;
        }
    }
    for (at, (name, _)) in ROLES.iter().enumerate() {
        report.line("start", &format!("{name}, start to ready"), "s", &times[at]);
    }
    let slowest = times.iter().map(|times| median(times));
    report.target(
        "start to ready, s, slowest role",
        Bound::AtMost(1.0),
        slowest.fold(0.0, f64::max),
    );
}
