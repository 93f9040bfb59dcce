//! What would help a dead letter, in the order in which to try it, each step with its command.

use registry::Worker;
use serde::Serialize;
use store::dead_letters::{ConnectionNow, Timeline};
use worker::DeadClass;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub why: String,
    /// Ready to be copied, where a command does it.
    pub command: Option<String>,
}

fn step(why: impl Into<String>, command: impl Into<String>) -> Step {
    Step {
        why: why.into(),
        command: Some(command.into()),
    }
}

fn thought(why: impl Into<String>) -> Step {
    Step {
        why: why.into(),
        command: None,
    }
}

/// The workers are those of this build.
pub fn advice(timeline: &Timeline, workers: &[&Worker]) -> Vec<Step> {
    let id = timeline.dead_letter.id;
    match timeline.dead_letter.state.as_str() {
        "open" => open(timeline, workers),
        "replaying" => match timeline.replays.last() {
            Some(replay) => vec![step(
                "It is on its way to its worker; wait for the end of its replay.",
                format!(
                    "kurir dead-letters replays show {} --follow",
                    replay.replay_id
                ),
            )],
            None => vec![thought("It is on its way to its worker.")],
        },
        "resolved" if timeline.held.is_some() => vec![step(
            "Its event waits until the cause named in the note is gone, and goes on by itself then.",
            "kurir held list",
        )],
        "overtaken" => vec![
            thought("Nothing: its record has newer content, which is at the partner."),
            step(
                "If this content must win all the same, open it again and replay it with a new version.",
                format!(
                    "kurir dead-letters reopen {id} && kurir dead-letters replay {id} --restamp"
                ),
            ),
        ],
        _ => vec![step(
            "Nothing: it is closed. If that was wrong, open it again.",
            format!("kurir dead-letters reopen {id}"),
        )],
    }
}

fn open(timeline: &Timeline, workers: &[&Worker]) -> Vec<Step> {
    let id = timeline.dead_letter.id;
    let replay = format!("kurir dead-letters replay {id}");
    let class = DeadClass::parse(&timeline.dead_letter.class);
    let mut steps = prerequisites(timeline, workers);
    let overtaken = timeline.link.as_ref().is_some_and(|link| {
        let k = timeline.dead_letter.k.as_ref();
        k.is_some() && (link.applied_k.as_ref() >= k || link.desired_k.as_ref() > k)
    });
    if overtaken {
        steps.push(step(
            "Its record has newer content already: a replay would change nothing. Close it, ...",
            resolve(timeline, "newer content is there"),
        ));
        steps.push(step(
            "... or, if this content must win, replay it with a new version.",
            format!("{replay} --restamp"),
        ));
        return steps;
    }
    steps.extend(by_class(timeline, class, &replay));
    steps.push(step(
        "If nothing more is to be done for it, close it with a note.",
        resolve(timeline, "..."),
    ));
    steps
}

fn resolve(timeline: &Timeline, note: &str) -> String {
    format!(
        "kurir dead-letters resolve {} --note '{note}'",
        timeline.dead_letter.id
    )
}

/// What must be there before any replay can succeed.
fn prerequisites(timeline: &Timeline, workers: &[&Worker]) -> Vec<Step> {
    let Some(tenant) = &timeline.dead_letter.tenant else {
        return Vec::new();
    };
    let system = workers
        .iter()
        .find(|worker| worker.name == timeline.dead_letter.worker)
        .map_or("SYSTEM", |worker| worker.system.name);
    let connect =
        format!("kurir connection add --tenant {tenant} --system {system} < credentials.json");
    let mut steps = Vec::new();
    if !timeline.tenant_known {
        steps.push(step(
            format!("The tenant '{tenant}' is not known here. If it is one of yours, add it, ..."),
            format!("kurir tenant add {tenant}"),
        ));
        steps.push(step("... and connect it to the partner.", connect));
        return steps;
    }
    if timeline.connections.is_empty() {
        steps.push(step(
            format!("The tenant '{tenant}' has no connection to the partner: add it."),
            connect,
        ));
    }
    steps.extend(timeline.connections.iter().filter_map(connection));
    if let Some(link) = timeline
        .link
        .as_ref()
        .filter(|link| link.state == "conflict")
    {
        steps.push(step(
            "Its record is in conflict; nothing is sent for it until a person has looked.",
            format!("kurir links show {}", link.id),
        ));
    }
    steps
}

fn connection(connection: &ConnectionNow) -> Option<Step> {
    let id = connection.id;
    if !connection.enabled {
        return Some(step(
            format!(
                "Its connection to {} is switched off: switch it on.",
                connection.system
            ),
            format!("kurir connection enable {id}"),
        ));
    }
    (connection.state == "suspended").then(|| {
        step(
            format!(
                "Its connection to {} is suspended ({}): give it new credentials, then test it.",
                connection.system,
                connection
                    .state_reason
                    .as_deref()
                    .unwrap_or("no reason noted")
            ),
            format!(
                "kurir connection update {id} < credentials.json && kurir connection test {id}"
            ),
        )
    })
}

fn by_class(timeline: &Timeline, class: Option<DeadClass>, replay: &str) -> Vec<Step> {
    let id = timeline.dead_letter.id;
    let edit = format!("kurir dead-letters edit {id} --replay");
    let publisher = || thought("Tell the publisher: its next events will die in the same way.");
    let why = explained(class);
    match class {
        Some(
            DeadClass::Schema
            | DeadClass::SpecVersion
            | DeadClass::UnknownType
            | DeadClass::VersionScheme,
        ) => vec![step(why, edit), publisher()],
        Some(DeadClass::Malformed) => vec![
            step(
                why,
                format!("kurir dead-letters edit {id} --file event.json --replay"),
            ),
            publisher(),
        ],
        Some(DeadClass::FutureVersion) => {
            vec![step(why, format!("{replay} --restamp")), publisher()]
        }
        Some(
            DeadClass::TooLarge
            | DeadClass::TenantMismatch
            | DeadClass::IdMismatch
            | DeadClass::Loop,
        ) => vec![thought(why)],
        Some(DeadClass::Refused | DeadClass::Unmappable) => vec![
            step(why, replay),
            step(
                "If the event's own data are wrong, correct them here; correct them at their source too.",
                edit,
            ),
        ],
        Some(DeadClass::DeliveryLimit) => vec![
            thought(why),
            step("Once that is repaired, replay it.", replay),
        ],
        Some(DeadClass::Expired) => vec![
            step(why, replay),
            thought(
                "Tell the publisher to leave `expiration` out: Kurir carries the newest content of a record, however late.",
            ),
        ],
        Some(
            DeadClass::Exhausted
            | DeadClass::Unavailable
            | DeadClass::RateLimited
            | DeadClass::Unknown
            | DeadClass::Timeout,
        ) => {
            let first = timeline.connections.first();
            let look = first.map(|one| step(why, format!("kurir connection test {}", one.id)));
            let replay = step("Once the partner answers, replay it.", replay);
            look.into_iter().chain([replay]).collect()
        }
        Some(
            DeadClass::NewerMajor
            | DeadClass::WrongConnection
            | DeadClass::UnknownTenant
            | DeadClass::CrashNeighbour
            | DeadClass::Internal,
        )
        | None => vec![step(why, replay)],
    }
}

/// What happened, and what the first step is.
fn explained(class: Option<DeadClass>) -> &'static str {
    match class {
        Some(DeadClass::Schema | DeadClass::SpecVersion) => {
            "The event breaks its schema, at the places named in the message: repair it and replay it."
        }
        Some(DeadClass::Malformed) => {
            "The body is no event that could be read. If you know what it should be, give the whole event."
        }
        Some(DeadClass::UnknownType) => {
            "No such event type is known. If its name is misspelled, repair it and replay it."
        }
        Some(DeadClass::NewerMajor) => {
            "It has a newer version of its type than this build knows: deploy the build that knows it, then replay it."
        }
        Some(DeadClass::TooLarge | DeadClass::TenantMismatch | DeadClass::IdMismatch) => {
            "Neither an edit nor a replay helps: the message names the mistake, the publisher must send it anew."
        }
        Some(DeadClass::WrongConnection) => {
            "It came for a connection that is not its tenant's; a replay goes to the tenant's own connections."
        }
        Some(DeadClass::Loop) => {
            "Events cause each other without an end: find the two sides that answer each other before anything else."
        }
        Some(DeadClass::UnknownTenant) => "Once tenant and connection are there, replay it.",
        Some(DeadClass::FutureVersion) => {
            "Its time lies in the future: the publisher's clock is wrong. If its content is the newest, replay it with a new version."
        }
        Some(DeadClass::VersionScheme) => {
            "Its version is of another kind than those before it: give it one of the same kind."
        }
        Some(DeadClass::Refused | DeadClass::Unmappable) => {
            "The partner cannot take it as it is; the message says why. If something is missing or wrong at the partner, repair that, then replay it."
        }
        Some(DeadClass::DeliveryLimit) => {
            "Its worker ended again and again while it had this event: look into the worker's log for the reason."
        }
        Some(DeadClass::CrashNeighbour) => {
            "It was beside an event that ended its worker. Kurir replays it once by itself; if it died again, look into the worker's log, then replay it."
        }
        Some(DeadClass::Expired) => {
            "Its publisher let it live for a limited time (the AMQP property `expiration`), and no worker took it before that ended. A replay carries it on, without a limit."
        }
        Some(
            DeadClass::Exhausted
            | DeadClass::Unavailable
            | DeadClass::RateLimited
            | DeadClass::Unknown
            | DeadClass::Timeout,
        ) => {
            "All attempts failed, though waiting should have helped: see whether the partner answers."
        }
        Some(DeadClass::Internal) | None => {
            "Look into the worker's log for the reason, then replay it."
        }
    }
}
