//! The account of a test, without a database; the tests of shared/clients/metakocka include this file.

use std::sync::Arc;
use std::time::Duration;

use event::TenantId;
use outbound::Purse;
use uuid::Uuid;
use worker::budget::{Answer, BudgetSpec, Signals};

/// An account that has just lent so many calls at once, one of them a search, for as long as the test asks for more.
pub(crate) fn lent(slots: u32) -> Arc<Purse> {
    let spec = BudgetSpec {
        windows: Vec::new(),
        in_flight: slots,
        searches: 1,
    };
    let tenant = TenantId::parse("acme").unwrap();
    let signals = Signals::default();
    let purse = Purse::new(
        Uuid::nil(),
        tenant,
        spec,
        Duration::from_secs(1),
        signals.clone(),
    );
    let purse = Arc::new(purse);
    let account = Arc::downgrade(&purse);
    tokio::spawn(async move {
        while let Some(purse) = account.upgrade() {
            if let Ok(asked) = purse.ask() {
                let answer = Answer {
                    connection: asked.connection,
                    granted: 0,
                    wait: Duration::ZERO,
                    slots,
                    searches: 1,
                    cooldown: None,
                    reason: None,
                    backlog: false,
                    circuits: Vec::new(),
                    rivals: 0,
                };
                purse.answered(&asked, &answer);
            }
            drop(purse);
            let _ = tokio::time::timeout(Duration::from_millis(100), signals.needy.any()).await;
        }
    });
    purse
}
