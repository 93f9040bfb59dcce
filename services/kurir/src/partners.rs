//! Partner systems as commands and roles use them: the process's way out to each, and their budgets. What differs between
//! systems stands in their registrations.

use operations::connections::Partners;
use outbound::Client;
use registry::System;
use runtime::Settings;

use crate::exit::{Done, Exit, Failed};
use crate::fleet;

/// The process's way out. Each system's calls leave under its own policy, and count together.
pub(crate) fn client() -> Done<Client> {
    Client::new(outbound::Settings::default()).map_err(no_client)
}

/// How this process applies budgets.
pub(crate) fn budgets(settings: &Settings) -> Done<store::budgets::Settings> {
    let of = |system: &System| {
        let budget = (system.budget)(settings.section(system.name)).map_err(unreadable)?;
        Ok((system.name.to_owned(), budget))
    };
    let defaults: Done<_> = fleet::systems().into_iter().map(of).collect();
    Ok(store::budgets::Settings {
        defaults: defaults?,
        circuit_open: settings.worker.circuit_open,
    })
}

fn no_client(error: outbound::Error) -> Failed {
    Failed::new(Exit::Failed, error.to_string())
}

/// The rules of the section let something through that its owner cannot read.
pub(crate) fn unreadable(why: String) -> Failed {
    Failed::new(Exit::Configuration, why)
}

/// For tests of connections.
pub(crate) fn of(settings: &Settings) -> Done<Partners<'_>> {
    Ok(Partners {
        systems: fleet::systems(),
        client: client()?,
        settings,
    })
}
