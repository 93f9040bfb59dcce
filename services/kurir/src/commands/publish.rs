//! `kurir publish`: CloudEvents from a file or standard input, to the broker or through the gateway.

use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use broker::{Properties, PublishError, Publisher};
use bytes::Bytes;
use clap::Args;
use event::Problem;
use operations::count;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::context::Context;
use crate::exit::{Done, Exit, Failed};
use crate::fleet;
use crate::output::Output;

#[derive(Debug, Args)]
#[command(after_help = "\
One event, a JSON array of events, or one event per line. Each is checked before anything is published.
Over HTTP the token is read from KURIR_TOKEN or --token-file.

Examples:
  kurir publish contact.json
  kurir publish --http http://127.0.0.1:8080 --token-file token < events.jsonl")]
pub(crate) struct Publish {
    /// File with events; `-` or nothing is standard input
    pub(crate) file: Option<PathBuf>,
    /// Through the gateway at this address, instead of the broker
    #[arg(long, value_name = "URL")]
    pub(crate) http: Option<String>,
    /// File that holds the token for --http
    #[arg(long, value_name = "FILE", requires = "http")]
    pub(crate) token_file: Option<PathBuf>,
    /// Publishes what was given without checking it (to see what becomes of bad input)
    #[arg(long)]
    pub(crate) unchecked: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Most input of one command, in bytes.
const INPUT_LIMIT: u64 = 64 * 1024 * 1024;
/// Most invalid events that are described.
const DESCRIBED: usize = 20;
/// The gateway's batch may hold 100 events and 1 MiB; what is around the events is small.
const BATCH_EVENTS: usize = 100;
const BATCH_BYTES: usize = 900 * 1024;
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: usize = 1024 * 1024;
const TOKEN_VARIABLE: &str = "KURIR_TOKEN";
const BATCH: &str = "application/cloudevents-batch+json; charset=utf-8";

pub(crate) async fn run(context: &Context, command: Publish) -> Done {
    let events = parse(&read(command.file.as_deref())?)?;
    if !command.unchecked {
        check(&events)?;
    }
    let total = events.len() as u64;
    let via = match &command.http {
        None => {
            over_amqp(context, &events).await?;
            "broker"
        }
        Some(gateway) => {
            over_http(gateway, &token(command.token_file.as_deref())?, &events).await?;
            "gateway"
        }
    };
    command
        .output
        .show(&json!({ "published": total, "via": via }), |_| {
            format!(
                "published {} through the {via}, confirmed by the broker",
                count(total, "event")
            )
        })
}

fn read(file: Option<&Path>) -> Done<Vec<u8>> {
    let mut input = Vec::new();
    match file.filter(|path| *path != Path::new("-")) {
        None => std::io::stdin()
            .lock()
            .take(INPUT_LIMIT + 1)
            .read_to_end(&mut input)?,
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(INPUT_LIMIT + 1).read_to_end(&mut input))
            .map_err(|error| {
                Failed::new(
                    Exit::NotFound,
                    format!("{} cannot be read: {error}", path.display()),
                )
            })?,
    };
    if input.len() as u64 > INPUT_LIMIT {
        return Err(Failed::new(
            Exit::Refused,
            format!("more than {INPUT_LIMIT} bytes of input"),
        )
        .next("publish it in parts"));
    }
    Ok(input)
}

/// Each event as it was written: one, an array of them, or one after another.
fn parse(input: &[u8]) -> Done<Vec<Box<RawValue>>> {
    let refused = |error: serde_json::Error| {
        Failed::new(Exit::Refused, format!("the input is not JSON: {error}"))
    };
    let mut events = Vec::new();
    for value in
        serde_json::Deserializer::from_slice(event::unmarked(input)).into_iter::<Box<RawValue>>()
    {
        let value = value.map_err(refused)?;
        if value.get().starts_with('[') {
            events
                .extend(serde_json::from_str::<Vec<Box<RawValue>>>(value.get()).map_err(refused)?);
        } else {
            events.push(value);
        }
    }
    if events.is_empty() {
        return Err(Failed::new(
            Exit::Refused,
            "there are no events in the input",
        ));
    }
    Ok(events)
}

fn check(events: &[Box<RawValue>]) -> Done {
    let refused: Vec<String> = events
        .iter()
        .enumerate()
        .filter_map(|(place, body)| {
            event::decode(body.get().as_bytes())
                .err()
                .map(|error| (place, error))
        })
        .map(|(place, error)| {
            let id = error.identity.id.as_deref().unwrap_or("without an id");
            let problems: Vec<String> = error.problems.iter().map(Problem::to_string).collect();
            format!(
                "  event {} ({id}), {}: {}",
                place + 1,
                error.class,
                problems.join("; ")
            )
        })
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let described = refused
        .iter()
        .take(DESCRIBED)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    let message = format!(
        "{} of {} not valid, nothing was published:\n{described}",
        refused.len(),
        count(events.len() as u64, "event")
    );
    Err(Failed::new(Exit::Refused, message)
        .next("schemas/ describes every type; --unchecked publishes them all the same"))
}

/// What routes a message; anything else of it is the consumer's business.
#[derive(Deserialize)]
struct Routed {
    #[serde(default)]
    id: String,
    #[serde(default, rename = "type")]
    event_type: String,
    #[serde(default)]
    tenantid: String,
}

pub(crate) async fn over_amqp(context: &Context, events: &[Box<RawValue>]) -> Done {
    let broker = fleet::broker(context, "publish").await?;
    let topology = fleet::topology(context);
    topology.declare_events(&broker).await?;
    let publisher = broker.publisher();
    let mut published = Ok(());
    // One after the other: events without a version are ordered by their arrival.
    for event in events {
        published = publish_one(&publisher, &topology.events(), event).await;
        if published.is_err() {
            break;
        }
    }
    broker.close().await;
    published
}

async fn publish_one(publisher: &Publisher, exchange: &str, event: &RawValue) -> Done {
    let unknown = || "unknown".to_owned();
    let routed: Routed = serde_json::from_str(event.get()).unwrap_or_else(|_unreadable| Routed {
        id: String::new(),
        event_type: unknown(),
        tenantid: unknown(),
    });
    let properties = Properties::of_event(&routed.id, &routed.event_type);
    let key = format!("{}.{}", routed.event_type, routed.tenantid);
    let body = Bytes::copy_from_slice(event.get().as_bytes());
    publisher
        .publish(exchange, &key, body, &properties)
        .await
        .map_err(|error| {
            let exit = match error {
                PublishError::Invalid(_) => Exit::Refused,
                PublishError::Returned { .. }
                | PublishError::Nacked
                | PublishError::Closed(_)
                | PublishError::Unknown => Exit::Unavailable,
            };
            Failed::new(
                exit,
                format!("event {} was not published: {error}", routed.id),
            )
            .next("repeat the whole command: events keep their ids, so nothing happens twice")
        })
}

fn token(file: Option<&Path>) -> Done<SecretString> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Failed::new(
                Exit::NotFound,
                format!("{} cannot be read: {error}", path.display()),
            )
        })?,
        None => std::env::var(TOKEN_VARIABLE).map_err(|_unset| {
            Failed::new(
                Exit::Usage,
                format!("no token: neither --token-file nor {TOKEN_VARIABLE} is given"),
            )
            .next("`kurir token create --tenant ID --name NAME` makes one")
        })?,
    };
    Ok(SecretString::from(text.trim()))
}

pub(crate) async fn over_http(
    gateway: &str,
    token: &SecretString,
    events: &[Box<RawValue>],
) -> Done {
    let client = crate::http::client(GATEWAY_TIMEOUT)?;
    let url = format!("{}/v1/events", gateway.trim_end_matches('/'));
    let mut done = 0;
    for batch in batches(events) {
        let failed = |exit: Exit, why: String| {
            Failed::new(exit, format!("{done} of {} published, then: {why}", count(events.len() as u64, "event")))
                .next("repeat the whole command after that: events keep their ids, so nothing happens twice")
        };
        let body = format!(
            "[{}]",
            batch
                .iter()
                .map(|event| event.get())
                .collect::<Vec<_>>()
                .join(",")
        );
        let request = client
            .post(&url)
            .bearer_auth(token.expose_secret())
            .header(reqwest::header::CONTENT_TYPE, BATCH)
            .body(body);
        let answer = request
            .send()
            .await
            .map_err(|error| failed(Exit::Unavailable, crate::http::without_address(error)))?;
        let status = answer.status();
        let body = crate::http::body(answer, ANSWER_LIMIT)
            .await
            .map_err(|why| failed(Exit::Unavailable, why))?;
        if !status.is_success() {
            let away = status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS;
            let exit = if away {
                Exit::Unavailable
            } else {
                Exit::Refused
            };
            return Err(failed(
                exit,
                format!(
                    "the gateway answered {status}\n{}",
                    String::from_utf8_lossy(&body)
                ),
            ));
        }
        done += batch.len();
    }
    Ok(())
}

/// Neighbours that fit into one request together.
fn batches(events: &[Box<RawValue>]) -> Vec<&[Box<RawValue>]> {
    let mut batches = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (place, event) in events.iter().enumerate() {
        let length = event.get().len() + 1;
        if place > begin && (place - begin == BATCH_EVENTS || bytes + length > BATCH_BYTES) {
            batches.push(&events[begin..place]);
            (begin, bytes) = (place, 0);
        }
        bytes += length;
    }
    if begin < events.len() {
        batches.push(&events[begin..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_event_an_array_and_one_per_line() {
        let texts = |input: &str| -> Vec<String> {
            parse(input.as_bytes())
                .expect("events")
                .iter()
                .map(|event| event.get().to_owned())
                .collect()
        };
        assert_eq!(texts(r#"{"id":1}"#), [r#"{"id":1}"#]);
        assert_eq!(
            texts(r#" [{"id":1}, {"id": 2}]"#),
            [r#"{"id":1}"#, r#"{"id": 2}"#]
        );
        assert_eq!(
            texts("{\"id\":1}\n{\"id\":2}\n"),
            [r#"{"id":1}"#, r#"{"id":2}"#]
        );
        for broken in ["", "[]", "{", "{\"id\":1} nonsense"] {
            assert!(parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn batches_keep_both_limits_and_lose_nothing() {
        let event = |bytes: usize| {
            RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).expect("JSON")
        };
        let many: Vec<_> = (0..250).map(|_| event(10)).collect();
        assert_eq!(
            batches(&many)
                .iter()
                .map(|batch| batch.len())
                .collect::<Vec<_>>(),
            [100, 100, 50]
        );
        let large: Vec<_> = (0..7).map(|_| event(250 * 1024)).collect();
        assert_eq!(
            batches(&large)
                .iter()
                .map(|batch| batch.len())
                .collect::<Vec<_>>(),
            [3, 3, 1]
        );
        assert!(batches(&[]).is_empty());
    }
}
