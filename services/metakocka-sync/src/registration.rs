//! What the fleet must know of this worker and of Metakocka.

use std::sync::Arc;

use event::EventType;
use futures_util::FutureExt as _;
use metakocka::{Operation, SYSTEM};
use registry::{Member, System, Worker};
use worker::Facets;

use crate::connection_test::connection_test;
use crate::planner::MetakockaSync;
use crate::settings::{self, Settings};

/// Its queue is `<prefix>.metakocka-sync`.
pub(crate) const NAME: &str = "metakocka-sync";

/// The worker.
pub static WORKER: Worker = Worker {
    name: NAME,
    about: "Carries contacts of the CRM to Metakocka as business partners",
    consumes: &[
        EventType::CrmContactCreated,
        EventType::CrmContactUpdated,
        EventType::CrmContactDeleted,
    ],
    facets: Facets::ENTITY,
    system: &METAKOCKA,
    partner: |client, settings| {
        let settings = Settings::read(settings)?;
        Ok(Arc::new(MetakockaSync::new(client.clone(), settings)))
    },
};

/// The ERP. Its secret key and company stand in the account's settings (contract §1.2).
pub static METAKOCKA: System = System {
    name: SYSTEM,
    title: "Metakocka",
    section: &settings::SECTION,
    credentials: &[
        Member::text("secret_key"),
        Member::text_or_number("company_id"),
    ],
    operations: || Operation::ALL.map(Operation::name).to_vec(),
    policy: settings::policy,
    budget: settings::budget,
    test: |trial| connection_test(trial).boxed(),
};
