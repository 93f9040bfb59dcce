//! What a failed attempt costs: the confirmed copy into a delay queue, its way back, and the second attempt.

use serde_json::Value;

use crate::consumers::{Contender, How};
use crate::harness::Harness;
use crate::machine::{broker_process, management};
use crate::report::Report;
use crate::{Size, cpu, empty, fill};

use std::time::Duration;

/// The broker counts for its management API every five seconds.
const COUNTED: Duration = Duration::from_secs(7);

pub(crate) async fn measure(harness: &Harness, size: Size, report: &mut Report) {
    let (events, rounds) = (size.of(4_000, 1_000), size.of(3, 2));
    empty::declare(harness).await;
    let queue = empty::queue(harness);
    let messages = empty::messages(harness, events);
    let broker = broker_process(harness).await;
    let (mut own, mut servers) = (Vec::new(), Vec::new());
    let mut counted = Vec::new();
    for round in 0..rounds {
        let mut costs = Vec::new();
        for how in [How::Empty, How::FailOnce] {
            harness.filler.fill("", &messages).await;
            fill::holds(&harness.broker, &queue, events).await;
            let counts = match round {
                0 => Some(count(harness).await),
                _ => None,
            };
            let before = cpu::used_by(&broker);
            let consumed = Contender::new(harness, how, events).run().await;
            let broker = cpu::used_by(&broker) - before;
            fill::holds(&harness.broker, &queue, 0).await;
            costs.push((consumed.cpu_seconds, broker.as_secs_f64()));
            if let Some(before) = counts {
                let after = count(harness).await;
                counted.push(std::array::from_fn::<f64, 3, _>(|at| {
                    after[at] - before[at]
                }));
            }
        }
        let per_event = |seconds: f64| seconds * 1e6 / events as f64;
        own.push(per_event(costs[1].0 - costs[0].0));
        servers.push(per_event(costs[1].1 - costs[0].1));
    }
    report.line("retry", "a failed attempt", "µs own CPU", &own);
    report.line("retry", "a failed attempt", "µs RabbitMQ CPU", &servers);
    let names = ["publishes", "deliveries", "acknowledgements"];
    for (at, name) in names.iter().enumerate() {
        let more = (counted[1][at] - counted[0][at]) / events as f64;
        // None without the management API.
        if more.is_finite() {
            report.line(
                "retry",
                &format!("a failed attempt, {name}"),
                "messages",
                &[more],
            );
        }
    }
}

/// Published by clients, delivered, acknowledged so far.
async fn count(harness: &Harness) -> [f64; 3] {
    tokio::time::sleep(COUNTED).await;
    let vhost = management(harness, &format!("vhosts/{}", harness.broker.vhost())).await;
    match vhost["message_stats"].as_object() {
        // What has never happened is not in it.
        Some(stats) => ["publish", "deliver_get", "ack"]
            .map(|name| stats.get(name).and_then(Value::as_f64).unwrap_or(0.0)),
        None => [f64::NAN; 3],
    }
}
