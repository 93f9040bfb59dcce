//! The demo's last words, for somebody who has never seen Kurir.

use uuid::Uuid;

use super::look::Outcome;
use super::stage::{Published, Stage};
use crate::output::{count, short, table};

const MESSAGE_WIDTH: usize = 64;

pub(super) fn tell(
    stage: &Stage,
    published: &Published,
    outcome: &Outcome,
    replayed: Uuid,
    seed: u64,
) -> String {
    let all =
        |of: fn(&super::look::Seen) -> usize| -> usize { outcome.tenants.iter().map(of).sum() };
    let counts = &outcome.counts;
    let calls: u64 = counts.calls.values().sum();
    let faults: u64 = counts.faults.values().sum();
    let kinds: Vec<String> = counts
        .faults
        .iter()
        .map(|(kind, times)| format!("{times} {}", fault_in_words(kind)))
        .collect();
    let stored = |call: &str| counts.stored.get(call).copied().unwrap_or(0);
    let rows = outcome.tenants.iter().map(|seen| {
        vec![
            seen.name.to_owned(),
            seen.records.to_string(),
            seen.in_step.to_string(),
            seen.deleted.to_string(),
            seen.partners.to_string(),
            seen.doubles.to_string(),
        ]
    });
    let records = table(
        &[
            "tenant",
            "records",
            "in step",
            "deleted",
            "partners there",
            "there twice",
        ],
        rows.collect(),
        "",
    );
    let dead = outcome.dead.iter().map(|letter| {
        vec![
            letter.id.to_string(),
            letter.class.clone(),
            letter.subject.clone().unwrap_or_default(),
            short(letter.message.as_deref().unwrap_or_default(), MESSAGE_WIDTH),
        ]
    });
    let dead = table(&["id", "why", "record", "message"], dead.collect(), "none");
    let wrong: String = outcome
        .tenants
        .iter()
        .flat_map(|seen| {
            seen.wrong
                .iter()
                .map(|line| format!("  NOT IN STEP: {line}\n"))
        })
        .collect();
    format!(
        "What happened (DEMO_SEED={seed})\n\n\
         The CRM published {} for {}: {} over HTTP, {} straight to RabbitMQ;\n\
         {} came twice and {} after a newer one of the same record. All of that must not show at the other end.\n\
         One without a name was refused at once by the gateway: {}.\n\n\
         Metakocka was called {calls} times and failed {faults} times on purpose: {}.\n\
         It stored {} and {}. {} of {} records equal their newest version, {} were deleted in the CRM:\n\n{}\n{wrong}\n\
         Dead letters that wait for a person ({} was repaired and replayed, nothing is lost):\n\n{}\n\n\
         Next: `make demo KEEP=1` leaves all of it running; the same story with another day: DEMO_SEED=2 make demo.{}",
        count(published.events as u64, "event"),
        count(stage.tenants.len() as u64, "tenant"),
        published.over_http,
        published.over_amqp,
        published.twice,
        published.late,
        published.refusal,
        kinds.join(", "),
        count(stored("add_partner"), "new partner"),
        count(stored("update_partner"), "change"),
        all(|seen| seen.in_step),
        all(|seen| seen.records),
        all(|seen| seen.deleted),
        indented(&records),
        short(&replayed.to_string(), 9),
        indented(&dead),
        "",
    )
}

/// What can be looked at while everything goes on.
pub(super) fn addresses(stage: &Stage) -> String {
    let address = |name: &str| stage.address(name).unwrap_or_default();
    let settings = stage.context.settings();
    let secret = |given: &Option<secrecy::SecretString>| {
        given
            .as_ref()
            .map(|url| secrecy::ExposeSecret::expose_secret(url).to_owned())
            .unwrap_or_default()
    };
    let key = stage.key.iter().map(|(id, key)| {
        format!(
            "  export KURIR_KEYS__CURRENT={id} KURIR_KEYS__RING__{}={key}\n",
            id.to_uppercase()
        )
    });
    format!(
        "\nEverything goes on until Ctrl-C.\n\n  \
         gateway              {}/v1/events\n  \
         readiness            {}/readyz\n  \
         Metakocka, simulated {}\n  \
         RabbitMQ             {}\n\n\
         In another terminal:\n\n  \
         export KURIR_AMQP_URL={} KURIR_DATABASE_URL={}\n{}  \
         kurir links list --tenant {}\n  \
         kurir links show contact/org-1 --tenant {}\n  \
         kurir dead-letters list\n",
        address("gateway"),
        address("health"),
        stage.simulator.control_url(),
        secret(&settings.amqp.management_url),
        secret(&settings.amqp.url),
        secret(&settings.database.url),
        key.collect::<String>(),
        stage.tenants[0].id,
        stage.tenants[0].id,
    )
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn fault_in_words(kind: &str) -> &str {
    match kind {
        "error" => "answered by a broken proxy",
        "maintenance" => "in maintenance",
        "reset" => "cut off before anything was stored",
        "commit_then_drop" | "commit_then_reset" => "cut off after it was stored",
        "garbled" => "stored, with half an answer",
        "refuse" => "refused",
        other => other,
    }
}
