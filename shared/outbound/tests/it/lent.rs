//! The account of a test, without a database; the tests of shared/clients/metakocka include this file.

use std::sync::Arc;
use std::time::Duration;

use event::TenantId;
use outbound::PermitPool;
use uuid::Uuid;
use worker::budget::{Answer, BudgetSpec, Signals};

/// An account that has just lent so many calls at once, one of them a search, for as long as the test asks for more.
pub(crate) fn lent(slots: u32) -> Arc<PermitPool> {
    let spec = BudgetSpec {
        windows: Vec::new(),
        in_flight: slots,
        searches: 1,
    };
    let tenant = TenantId::parse("acme").unwrap();
    let signals = Signals::default();
    let permit_pool = PermitPool::new(
        Uuid::nil(),
        tenant,
        spec,
        Duration::from_secs(1),
        signals.clone(),
    );
    let permit_pool = Arc::new(permit_pool);
    let account = Arc::downgrade(&permit_pool);
    tokio::spawn(async move {
        while let Some(permit_pool) = account.upgrade() {
            if let Ok(asked) = permit_pool.ask() {
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
                permit_pool.answered(&asked, &answer);
            }
            drop(permit_pool);
            let _ =
                tokio::time::timeout(Duration::from_millis(100), signals.refill_queue.any()).await;
        }
    });
    permit_pool
}
