//! Events per second through the gateway, with connections that are kept and several senders at a time: one event per
//! request, and full batches. Each is answered when the broker has confirmed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::Port;

use crate::contacts::TENANT;
use crate::harness::Harness;
use crate::process::{Process, address, client, run};
use crate::report::Report;
use crate::{Size, cpu};

/// Senders at a time.
const SENDERS: usize = 16;
/// The most that a batch may hold.
const BATCH: usize = 100;
/// Events that are made before the clock starts, and sent again and again.
const DIFFERENT: usize = 400;

/// One way of sending.
struct Way {
    name: &'static str,
    content_type: &'static str,
    /// Bodies of requests.
    bodies: Arc<Vec<Vec<u8>>>,
    events_each: usize,
    speed: Vec<f64>,
    cost: Vec<f64>,
}

pub(crate) async fn measure(harness: &mut Harness, size: Size, report: &mut Report) {
    let (rounds, time) = (size.of(3, 2), Duration::from_secs_f64(size.of(3.0, 1.0)));
    let token = run(harness.kurir(&[
        "token", "create", "--tenant", TENANT, "--name", "bench", "--json",
    ]));
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    let token = token["secret"].as_str().unwrap().to_owned();
    let (health, port) = (Port::reserve(), Port::reserve());
    let mut command = harness.kurir(&["gateway"]);
    command
        .env("KURIR_HEALTH__GATEWAY", address(&health))
        .env("KURIR_GATEWAY__LISTEN", address(&port));
    let gateway = Process::ready(command, health).await;
    let url = format!("http://{}/v1/events", address(&port));
    let numbers = harness.unknown(DIFFERENT);
    let events: Vec<Vec<u8>> = harness
        .messages(numbers, 1)
        .into_iter()
        .map(|message| message.body)
        .collect();
    let batches = events.chunks(BATCH).map(|batch| {
        let mut body = b"[".to_vec();
        body.extend(batch.join(&b','));
        body.push(b']');
        body
    });
    let mut ways = [
        Way {
            name: "one event per request",
            content_type: "application/cloudevents+json",
            bodies: Arc::new(events.clone()),
            events_each: 1,
            speed: Vec::new(),
            cost: Vec::new(),
        },
        Way {
            name: "batches of 100",
            content_type: "application/cloudevents-batch+json",
            bodies: Arc::new(batches.collect()),
            events_each: BATCH,
            speed: Vec::new(),
            cost: Vec::new(),
        },
    ];
    for _ in 0..rounds {
        for way in &mut ways {
            let before = cpu::used(gateway.pid());
            let begun = Instant::now();
            let requests = send(way, &url, &token, time).await;
            let events = (requests * way.events_each) as f64;
            way.speed.push(events / begun.elapsed().as_secs_f64());
            let used = cpu::used(gateway.pid()) - before;
            way.cost.push(used.as_secs_f64() * 1e6 / events);
            harness.filler.purge(&harness.queue()).await;
        }
    }
    for way in &ways {
        report.line("gateway", way.name, "events/s", &way.speed);
        report.line("gateway", way.name, "µs own CPU per event", &way.cost);
    }
    gateway.stop().await;
}

/// For so long; how many requests were answered.
async fn send(way: &Way, url: &str, token: &str, time: Duration) -> usize {
    let answered = Arc::new(AtomicUsize::new(0));
    let client = client();
    let end = Instant::now() + time;
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (client, answered) = (client.clone(), Arc::clone(&answered));
            let (bodies, kind) = (Arc::clone(&way.bodies), way.content_type);
            let (url, token) = (url.to_owned(), token.to_owned());
            tokio::spawn(async move {
                for body in bodies.iter().cycle().skip(sender) {
                    if Instant::now() >= end {
                        return;
                    }
                    let request = client.post(&url).bearer_auth(&token);
                    let request = request.header("content-type", kind).body(body.clone());
                    let answer = request.send().await.unwrap();
                    assert_eq!(answer.status(), 202);
                    // Read to its end, so that the connection is used again.
                    answer.bytes().await.unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    answered.load(Ordering::Relaxed)
}
