//! `kurir topology`: what must be at the broker.

use std::time::Duration;

use broker::Finding;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::cli::Topology;
use crate::context::Context;
use crate::exit::{Done, Exit, Failed};
use crate::fleet::{self, queues};
use crate::output::count;

const MANAGEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer of the management API that is read.
const MANAGEMENT_LIMIT: usize = 16 * 1024 * 1024;

pub(crate) async fn run(context: &Context, command: Topology) -> Done {
    let topology = fleet::topology(context);
    let broker = fleet::broker(context, "topology").await?;
    match command {
        Topology::Declare { output } => {
            topology.declare_events(&broker).await?;
            for (worker, consumes) in queues() {
                topology.declare_worker(&broker, worker, consumes).await?;
            }
            broker.close().await;
            let names: Vec<&str> = queues().into_iter().map(|(name, _)| name).collect();
            output.show(
                &json!({ "events": topology.events(), "workers": names }),
                |_| {
                    format!(
                        "{} and the queues of {} are declared",
                        topology.events(),
                        names.join(", ")
                    )
                },
            )
        }
        Topology::Check { output } => {
            let mut findings = topology.check(&broker, &queues()).await?;
            broker.close().await;
            let policies_seen = match management(context).await? {
                None => false,
                Some((there, bindings)) => {
                    findings.extend(topology.check_management(&there, &bindings, &queues()));
                    true
                }
            };
            let texts: Vec<String> = findings.iter().map(Finding::to_string).collect();
            output.show(&json!({ "findings": texts, "policies_and_bindings_seen": policies_seen }), |_| {
                let mut lines = texts.clone();
                if texts.is_empty() {
                    lines.push("everything is there as this build needs it".to_owned());
                }
                if !policies_seen {
                    lines.push("policies and bindings were not looked at: KURIR_RABBITMQ_MANAGEMENT_URL is not set".to_owned());
                }
                lines.join("\n")
            })?;
            if texts.is_empty() {
                return Ok(());
            }
            Err(Failed::new(
                Exit::Refused,
                format!(
                    "the broker differs in {}",
                    count(texts.len() as u64, "point")
                ),
            )
            .next(
                "`kurir topology declare` adds what is missing; what differs names its own command",
            ))
        }
    }
}

/// Queues and bindings as the management API tells them; `None` where no address is set.
async fn management(context: &Context) -> Done<Option<(Value, Value)>> {
    let amqp = &context.settings().amqp;
    let (Some(management), Some(broker)) = (&amqp.management_url, &amqp.url) else {
        return Ok(None);
    };
    let host = virtual_host(broker.expose_secret());
    let client = crate::http::client(MANAGEMENT_TIMEOUT)?;
    let ask = async |what: &str| -> Done<Value> {
        let url = format!(
            "{}/api/{what}/{host}",
            management.expose_secret().trim_end_matches('/')
        );
        let unavailable = |error: String| {
            Failed::new(Exit::Unavailable, format!("the management API: {error}"))
                .next("check KURIR_RABBITMQ_MANAGEMENT_URL, or unset it")
        };
        let answer = crate::http::get(&client, &url, MANAGEMENT_LIMIT)
            .await
            .map_err(unavailable)?;
        serde_json::from_slice(&answer).map_err(|error| unavailable(format!("no JSON: {error}")))
    };
    Ok(Some((ask("queues").await?, ask("bindings").await?)))
}

/// As it stands in the address, percent-encoded; the default one is `/`.
fn virtual_host(address: &str) -> String {
    let path =
        outbound::Url::parse(address).map(|url| url.path().trim_start_matches('/').to_owned());
    path.ok()
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "%2f".to_owned())
}

#[cfg(test)]
mod tests {
    use super::virtual_host;

    #[test]
    fn the_virtual_host_stays_encoded() {
        for (address, expected) in [
            ("amqp://u:p@h:5672/%2f", "%2f"),
            ("amqp://h", "%2f"),
            ("amqps://h/team%20a", "team%20a"),
        ] {
            assert_eq!(virtual_host(address), expected);
        }
    }
}
