//! The demo's last words, for somebody who has never seen Kurir.

use operations::count;
use simulators::metakocka::Counts;
use store::dead_letters::DeadLetter;

use super::Demo;
use super::check::{Outcome, Seen};
use super::stage::{Published, Stage};
use crate::output::{short, table};

const MESSAGE_WIDTH: usize = 64;
const NEXT: &str = "Next: `make demo KEEP=1` leaves all of it running and says where to look; `DEMO_SEED=2 make demo` is another day.";

pub(super) fn render(
    stage: &Stage,
    published: &Published,
    outcome: &Outcome,
    failure: String,
    Demo { seed, keep }: Demo,
) -> String {
    let Outcome {
        tenants,
        counts,
        dead,
    } = outcome;
    let calls: u64 = counts.calls.values().sum();
    let failed: u64 = counts.faults.values().sum();
    let stored = |call: &str| counts.stored.get(call).copied().unwrap_or(0);
    let events = count(published.events as u64, "event");
    let tenants_in_words = count(stage.tenants.len() as u64, "tenant");
    [
        format!("What happened (DEMO_SEED={seed})"),
        format!(
            "The CRM published {events} about the contacts of {tenants_in_words}, {} over HTTP and {} straight to RabbitMQ.\n\
             {} of them came twice and {} after a newer one of the same contact: none of that may show at the other end.\n\
             One contact without a name was refused by the gateway at once: {}.",
            published.over_http, published.over_amqp, published.twice, published.late, published.refusal,
        ),
        format!(
            "Metakocka was called {calls} times and went wrong {failed} times, on purpose:\n\n{}",
            indented(&table(&["times", "how"], faults(counts), "nothing"))
        ),
        format!(
            "It stored {} and {}. What it holds now, compared with the CRM:\n\n{}",
            count(stored("add_partner"), "new partner"),
            count(stored("update_partner"), "change"),
            indented(&records(tenants)),
        ),
        wrong(tenants),
        failure,
        format!(
            "Dead letters that are left, kept until a person decides:\n\n{}",
            indented(&dead_letters(dead)),
        ),
        if keep { String::new() } else { NEXT.to_owned() },
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join("\n\n")
}

/// Most frequent first.
fn faults(counts: &Counts) -> Vec<Vec<String>> {
    let mut faults: Vec<(u64, &str)> = counts
        .faults
        .iter()
        .map(|(kind, times)| (*times, fault_in_words(kind)))
        .collect();
    faults.sort_by(|one, other| other.cmp(one));
    faults
        .into_iter()
        .map(|(times, how)| vec![times.to_string(), how.to_owned()])
        .collect()
}

fn records(tenants: &[Seen]) -> String {
    let row = |seen: &Seen| {
        vec![
            seen.name.to_owned(),
            seen.records.to_string(),
            seen.in_step.to_string(),
            seen.deleted.to_string(),
            seen.partners.to_string(),
            seen.doubles.to_string(),
        ]
    };
    let heads = [
        "tenant",
        "contacts",
        "equal their newest version",
        "deleted in the CRM",
        "partners",
        "of them doubles",
    ];
    table(&heads, tenants.iter().map(row).collect(), "")
}

fn wrong(tenants: &[Seen]) -> String {
    let lines = tenants.iter().flat_map(|seen| &seen.wrong);
    lines
        .map(|line| format!("NOT AS IT MUST BE: {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn dead_letters(dead: &[DeadLetter]) -> String {
    let row = |dead_letter: &DeadLetter| {
        let message = dead_letter.message.as_deref().unwrap_or_default();
        let subject = dead_letter.subject.clone().unwrap_or_default();
        vec![
            dead_letter.id.to_string(),
            dead_letter.class.clone(),
            subject,
            short(message, MESSAGE_WIDTH),
        ]
    };
    table(
        &["id", "why", "record", "message"],
        dead.iter().map(row).collect(),
        "none",
    )
}

/// What can be looked at while everything goes on.
pub(super) fn addresses(stage: &Stage) -> String {
    let address = |name: &str| stage.address(name).unwrap_or_default();
    let settings = stage.context.settings();
    // As it was called: it need not be on the path of the other terminal.
    let kurir = std::env::args()
        .next()
        .unwrap_or_else(|| "kurir".to_owned());
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
         export KURIR_AMQP_URL={} KURIR_AMQP__PREFIX={}\n  \
         export KURIR_DATABASE_URL={}\n{}  \
         {} links list --tenant {}\n  \
         {} links show contact/org-1 --tenant {}\n  \
         {} dead-letters list\n",
        address("gateway"),
        address("health"),
        stage.simulator.control_url(),
        secret(&settings.amqp.management_url),
        secret(&settings.amqp.url),
        settings.amqp.prefix,
        secret(&settings.database.url),
        key.collect::<String>(),
        kurir,
        stage.tenants[0].id,
        kurir,
        stage.tenants[0].id,
        kurir,
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
        "error" => "nothing stored, an error page of a proxy",
        "maintenance" => "nothing stored, in maintenance",
        "reset" => "nothing stored, cut off",
        "commit_then_drop" => "stored, then cut off before the answer",
        "garbled" => "stored, then half an answer",
        "refuse" => "refused, a person must repair it",
        other => other,
    }
}
