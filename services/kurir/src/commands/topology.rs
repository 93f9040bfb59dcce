//! `kurir topology`: what must be at the broker.

use broker::Finding;
use clap::Subcommand;
use operations::count;
use serde_json::json;

use crate::context::Context;
use crate::exit::{Done, Exit, Failed};
use crate::fleet::{self, queues};
use crate::management::Management;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    /// Compares what is at the broker with what this build needs; exit code 4 if they differ
    #[command(after_help = "\
Policies can only be seen through the management API: set KURIR_RABBITMQ_MANAGEMENT_URL.

Example:
  kurir topology check")]
    Check {
        #[command(flatten)]
        output: Output,
    },
    /// Declares everything; what exists already stays
    #[command(
        after_help = "Roles do this at their start; it is for set-ups where they may not.\n\nExample:\n  kurir topology declare"
    )]
    Declare {
        #[command(flatten)]
        output: Output,
    },
}

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
            let policies_seen = match Management::of(context)? {
                None => false,
                Some(management) => {
                    let (there, bindings) =
                        (management.queues().await?, management.bindings().await?);
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
