//! The page about the workers of a build (docs/workers.md), from nothing but their registrations.

use std::fmt::Write as _;

use crate::{System, Worker};

const HEAD: &str = "\
# Workers

<!-- Written from the registrations; a test compares. docs/tests.md says how to write it anew. -->

Each worker is a process of its own, `kurir worker NAME`; `kurir up` runs them all in one. Start as many processes of a
worker as the load needs. docs/events.md describes the events, docs/new-worker.md how a worker is made.
";

/// Markdown; the same list gives the same text.
pub fn page(workers: &[&Worker]) -> String {
    let mut text = HEAD.to_owned();
    let mut systems: Vec<&System> = Vec::new();
    for worker in workers {
        if systems.iter().all(|known| known.name != worker.system.name) {
            systems.push(worker.system);
        }
        text.push_str(&about(worker));
    }
    for system in systems {
        text.push_str(&system_text(system));
    }
    text
}

fn about(worker: &Worker) -> String {
    let consumes: Vec<String> = worker
        .consumes
        .iter()
        .map(|of| {
            let facets = worker.facets.of(*of).join("`, `");
            let made = match facets.is_empty() {
                true => String::new(),
                false => format!(" Makes of it: `{facets}`."),
            };
            format!("* `{of}`: {}{made}\n", of.description())
        })
        .collect();
    format!(
        "
## {name}

{about}.

| | |
|---|---|
| queue | `kurir.{name}`, with `kurir.{name}.retry.*` and `kurir.{name}.dead` |
| leads to | {title} (`{system}`) |

Takes:

{consumes}",
        name = worker.name,
        about = worker.about,
        title = worker.system.title,
        system = worker.system.name,
        consumes = consumes.concat(),
    )
}

fn system_text(system: &System) -> String {
    let operations: Vec<String> = (system.operations)()
        .iter()
        .map(|operation| format!("`{operation}`"))
        .collect();
    let mut text = format!(
        "
## Connections to {title}

`kurir connection add --tenant TENANT --system {name}` reads credentials of this shape: `{shape}`. Calls are counted as
{operations}. Its settings, with their defaults:

```toml
",
        title = system.title,
        name = system.name,
        shape = system.credentials_shape(),
        operations = operations.join(", "),
    );
    let _ = writeln!(text, "{}\n```", system.section.defaults.trim_end());
    text
}
