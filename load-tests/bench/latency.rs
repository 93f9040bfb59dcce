//! From publish to the partner, at half of the load that Kurir's whole path can carry: an open loop, so that a slow answer
//! delays no further event, measured from the moment at which an event was to be published.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use crate::fill::Message;
use crate::full::{self, EVENTS, Samples, UPDATES, Who};
use crate::harness::{Harness, Linked};
use crate::report::{Bound, Report, median, quantile};
use crate::{Size, contacts, fill};

/// Changed in turn: long enough apart that two events of one never meet.
const ORGANIZATIONS: usize = 1_000;
/// Events that open connections and fill what is remembered, before the clock starts.
const WARM: usize = 64;
const HEAD_START: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Delays {
    half: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) async fn measure(harness: &mut Harness, size: Size, report: &mut Report) {
    full::prepare(harness).await;
    harness.link(ORGANIZATIONS).await;
    let speed = match report.median_of(UPDATES, EVENTS) {
        Some(speed) => speed,
        None => {
            let (numbers, version) = next_version(&mut harness.linked);
            let mut samples = Samples::default();
            full::run(harness, Who::Kurir, numbers, version, &mut samples).await;
            median(&samples.speed)
        }
    };
    let rate = speed / 2.0;
    let (rounds, seconds) = (size.of(3, 2), size.of(8.0, 3.0));
    let mut delays: [Delays; 2] = Default::default();
    let order = [Who::Kurir, Who::ByHand];
    for round in 0..rounds {
        for turn in 0..2 {
            let at = (turn + round) % 2;
            let found = delayed(harness, order[at], rate, (rate * seconds) as usize).await;
            delays[at].half.push(quantile(&found, 0.5));
            delays[at].p99.push(quantile(&found, 0.99));
        }
    }
    report.line("latency", "load", EVENTS, &[rate]);
    for (name, delays) in ["Kurir", "by hand"].iter().zip(&delays) {
        let what = |part: &str| format!("{name}, publish to partner, {part}");
        report.line("latency", &what("p50"), "ms", &delays.half);
        report.line("latency", &what("p99"), "ms", &delays.p99);
    }
    let added = |of: fn(&Delays) -> &Vec<f64>| {
        let rounds = of(&delays[0]).iter().zip(of(&delays[1]));
        let added: Vec<f64> = rounds.map(|(kurir, by_hand)| kurir - by_hand).collect();
        median(&added)
    };
    report.target(
        "latency added to the hand-written loop's at half load, ms, p50",
        Bound::AtMost(5.0),
        added(|delays| &delays.half),
    );
    report.target(
        "latency added to the hand-written loop's at half load, ms, p99",
        Bound::AtMost(30.0),
        added(|delays| &delays.p99),
    );
}

fn next_version(linked: &mut Linked) -> (Range<u64>, u32) {
    linked.version += 1;
    (linked.numbers.clone(), linked.version)
}

/// Milliseconds of each event.
async fn delayed(harness: &mut Harness, who: Who, rate: f64, events: usize) -> Vec<f64> {
    let (warm, version) = next_version(&mut harness.linked);
    let warm = warm.start..warm.start + WARM as u64;
    harness.partner.forget();
    let process = who.start(harness).await;
    who.fill(harness, warm, version).await;
    harness.partner.has(WARM).await;
    let messages = changed(harness, who, events);
    let exchange = who.exchange(harness);
    let gap = Duration::from_secs_f64(1.0 / rate);
    let begin = Instant::now() + HEAD_START;
    let mut confirms = Vec::with_capacity(events);
    let mut due = HashMap::with_capacity(events);
    let mut at = begin;
    for (name, message) in &messages {
        sleep_until(at).await;
        due.insert(*name, at);
        let sent = harness.filler.send(&exchange, &message.key, message).await;
        confirms.push(sent);
        at += gap;
    }
    join_all(confirms).await;
    harness.partner.has(WARM + events).await;
    let arrivals = harness.partner.arrivals();
    fill::holds(&harness.broker, &who.queue(harness), 0).await;
    full::end(who, harness, process).await;
    arrivals
        .iter()
        .filter_map(|arrival| {
            let due = due.get(&(arrival.number, arrival.version))?.into_std();
            Some((arrival.at - due).as_secs_f64() * 1e3)
        })
        .collect()
}

/// One event after the other, over all organizations and again.
fn changed(harness: &mut Harness, who: Who, events: usize) -> Vec<((u64, u32), Message)> {
    let mut messages = Vec::with_capacity(events);
    while messages.len() < events {
        let (numbers, version) = next_version(&mut harness.linked);
        for number in numbers.take(events - messages.len()) {
            let mut message = harness.message(number, version, contacts::BODY);
            who.route(harness, &mut message);
            messages.push(((number, version), message));
        }
    }
    messages
}
