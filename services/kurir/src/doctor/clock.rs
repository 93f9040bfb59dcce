//! How far the clocks of Postgres and the broker are from this machine's.

use chrono::Utc;
use operations::doctor::clock::{self, HTTP_GRAIN, apart, judged};
use operations::doctor::{Finding, Subject};

use super::{Ground, NO_DATABASE};

const SUBJECT: Subject = Subject::Clock;

pub(super) async fn check(ground: &Ground<'_>) -> Vec<Finding> {
    let (database, broker) = tokio::join!(of_database(ground), of_broker(ground));
    vec![database, broker]
}

async fn of_database(ground: &Ground<'_>) -> Finding {
    match ground.pool() {
        Ok(pool) => clock::database(pool).await,
        Err(_told) => Finding::not_checked(SUBJECT, "Postgres", NO_DATABASE),
    }
}

async fn of_broker(ground: &Ground<'_>) -> Finding {
    let management = match &ground.management {
        Ok(management) => management,
        Err(because) => return Finding::not_checked(SUBJECT, "broker", because),
    };
    let before = Utc::now();
    match management.ask("whoami").await {
        Ok(answer) => match answer.date {
            Some(there) => judged("broker", apart(before, Utc::now(), there, HTTP_GRAIN)),
            None => Finding::not_checked(SUBJECT, "broker", "its answer tells no time"),
        },
        Err(_) => Finding::not_checked(SUBJECT, "broker", "the management API does not answer"),
    }
}
