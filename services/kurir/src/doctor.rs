//! `kurir doctor`: looks at everything that a fleet stands on and says what to do. Changes nothing, prints no secret.
//!
//! It is used when things are down, so no check relies on another one: what cannot be looked at is told as "not
//! checked, because …", and every look has a limit of time.

mod bus;
mod clock;
mod configuration;
mod permissions;
mod policies;
mod queues;
mod report;
mod roles;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use broker::Broker;
use clap::Args;
use event::TenantId;
use operations::doctor::{self as found, Finding, Subject, Verdict, summary};
use serde_json::json;
use store::{Pool, Scope};
use tokio::time::timeout;

use crate::context::scope;
use crate::context::{Context, PATIENCE};
use crate::exit::{Done, Exit, Failed};
use crate::fleet;
use crate::management::Management;
use crate::output::Output;
use crate::partners;
use crate::values::tenant;
use report::render;

#[derive(Debug, Args)]
#[command(after_help = "\
Broker, queues, policies, permissions, database, clocks, credentials, partners and settings, in less than a minute. What
cannot be looked at is told as \"not checked\", with the reason. Each line that is not ok names the next command. Some
answers need RabbitMQ's management API: set KURIR_RABBITMQ_MANAGEMENT_URL.

Exit code 0 if there is no problem (there may be warnings), 1 if there is one.

Examples:
  kurir doctor
  kurir doctor --no-partners --role-url http://127.0.0.1:9092 --role-url http://127.0.0.1:9093
  kurir doctor --json | jq '.findings[] | select(.verdict == \"problem\")'")]
pub(crate) struct Doctor {
    /// Asks no partner system
    #[arg(long)]
    pub(crate) no_partners: bool,
    /// Only connections of this tenant
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// Also asks the role whose health routes are here; may be repeated
    #[arg(long = "role-url", value_name = "URL")]
    pub(crate) role_urls: Vec<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Reaching a server, above what its own client allows itself.
const REACH_LIMIT: Duration = Duration::from_secs(8);
/// All checks of one subject; the run takes at most this and `REACH_LIMIT`.
const SUBJECT_LIMIT: Duration = Duration::from_secs(40);

/// What checks stand on. What cannot be reached says why; its own subject tells it as a problem.
struct Ground<'a> {
    context: &'a Context,
    pool: Result<Pool, Failed>,
    broker: Result<Broker, Failed>,
    /// Not set, or its settings are unusable. It was not asked anything yet.
    management: Result<Management, String>,
}

/// Why other subjects are not checked.
const NO_DATABASE: &str = "the database cannot be reached";
const NO_BROKER: &str = "the broker cannot be reached";

impl Ground<'_> {
    fn pool(&self) -> Result<&Pool, &'static str> {
        self.pool.as_ref().map_err(|_told| NO_DATABASE)
    }

    fn broker(&self) -> Result<&Broker, &'static str> {
        self.broker.as_ref().map_err(|_told| NO_BROKER)
    }
}

pub(crate) async fn run(context: &Context, file: Option<&Path>, given: Doctor) -> Done {
    let settings = context.settings();
    let (pool, broker) = tokio::join!(
        reach("the database", context.pool_within(PATIENCE)),
        reach("the broker", fleet::broker(context, "doctor")),
    );
    let pool = pool.map_err(|failed| {
        named(
            failed,
            settings.database.url.is_none(),
            "KURIR_DATABASE_URL",
        )
    });
    let broker =
        broker.map_err(|failed| named(failed, settings.amqp.url.is_none(), "KURIR_AMQP_URL"));
    if let Ok(pool) = &pool
        && let Err(unknown) = context.check_tenant(pool).await
        && unknown.exit == Exit::NotFound
    {
        return Err(unknown);
    }
    let management = match Management::of(context) {
        Ok(Some(management)) => Ok(management),
        Ok(None) => Err("KURIR_RABBITMQ_MANAGEMENT_URL is not set".to_owned()),
        Err(failed) => Err(failed.message),
    };
    let ground = Ground {
        context,
        pool,
        broker,
        management,
    };
    let mut findings = Box::pin(examine(&ground, file, &given)).await;
    if let Ok(broker) = &ground.broker {
        // A broker that stands still may keep the goodbye waiting.
        let _ = timeout(REACH_LIMIT, broker.close()).await;
    }
    findings.sort_by_key(|finding| finding.subject);
    let worst = findings.iter().map(|finding| finding.verdict).max();
    given.output.show(
        &json!({ "verdict": worst.unwrap_or(Verdict::Ok), "findings": findings }),
        |_| render(&findings),
    )?;
    if worst == Some(Verdict::Problem) {
        return Err(Failed::new(Exit::Failed, summary(&findings))
            .next("begin with the first problem: later ones are often its consequence"));
    }
    Ok(())
}

/// Side by side; a subject that takes too long is told as not checked, and the others are not kept.
async fn examine(ground: &Ground<'_>, file: Option<&Path>, given: &Doctor) -> Vec<Finding> {
    let scope = scope(given.tenant.as_ref());
    let (bus, queues, policies, permissions, database, clock, credentials, partners, held, roles) = tokio::join!(
        within(Subject::Broker, bus::check(ground)),
        within(Subject::Queues, queues::check(ground)),
        within(Subject::Policies, policies::check(ground)),
        within(Subject::Permissions, permissions::check(ground)),
        within(Subject::Database, database(ground)),
        within(Subject::Clock, clock::check(ground)),
        within(Subject::Credentials, credentials(ground, scope)),
        within(
            Subject::Partners,
            of_partners(ground, scope, given.no_partners)
        ),
        within(Subject::Events, held(ground, scope)),
        within(Subject::Roles, roles::check(&given.role_urls)),
    );
    let parts = [
        configuration::check(ground.context, file),
        bus,
        queues,
        policies,
        permissions,
        database,
        clock,
        credentials,
        partners,
        held,
        roles,
    ];
    parts.into_iter().flatten().collect()
}

async fn database(ground: &Ground<'_>) -> Vec<Finding> {
    match &ground.pool {
        Ok(pool) => {
            found::database::check(pool, ground.context.settings().database.max_connections).await
        }
        Err(failed) => found::database::unreachable(failed, NO_DATABASE),
    }
}

async fn credentials(ground: &Ground<'_>, scope: Scope<'_>) -> Vec<Finding> {
    let pool = match ground.pool() {
        Ok(pool) => pool,
        Err(because) => return vec![Finding::not_checked(Subject::Credentials, "all", because)],
    };
    let ring = match ground.context.settings().keys.current {
        Some(_) => ground.context.key_ring().map(Some),
        None => Ok(None),
    };
    let ring = ring.map_err(|failed| (&failed).into());
    found::credentials::check(pool, scope, ring).await
}

async fn of_partners(ground: &Ground<'_>, scope: Scope<'_>, left_out: bool) -> Vec<Finding> {
    const SUBJECT: Subject = Subject::Partners;
    if left_out {
        let because = "--no-partners leaves them out";
        return vec![Finding::not_checked(SUBJECT, "all", because)];
    }
    let pool = match ground.pool() {
        Ok(pool) => pool,
        Err(because) => return vec![Finding::not_checked(SUBJECT, "all", because)],
    };
    let ring = ground.context.key_ring().map_err(|failed| (&failed).into());
    match partners::of(ground.context.settings()) {
        Ok(partners) => found::partners::check(pool, scope, &partners, &ring).await,
        Err(failed) => vec![Finding::failed(SUBJECT, "all", &failed)],
    }
}

async fn held(ground: &Ground<'_>, scope: Scope<'_>) -> Vec<Finding> {
    match ground.pool() {
        Ok(pool) => found::held::check(pool, scope).await,
        Err(because) => vec![Finding::not_checked(Subject::Events, "held", because)],
    }
}

async fn within(
    subject: Subject,
    check: impl Future<Output = Vec<Finding>> + Send,
) -> Vec<Finding> {
    timeout(SUBJECT_LIMIT, check).await.unwrap_or_else(|_late| {
        let because = format!("it took longer than {} s", SUBJECT_LIMIT.as_secs());
        vec![Finding::not_checked(subject, "all", because)]
    })
}

/// A setting that is not there is not a server that is down.
fn named(failed: Failed, unset: bool, variable: &str) -> Failed {
    if unset {
        failed.next(format!("set {variable}; `make dev` starts a local server"))
    } else {
        failed
    }
}

async fn reach<T>(what: &str, reached: impl Future<Output = Done<T>> + Send) -> Done<T> {
    timeout(REACH_LIMIT, reached).await.unwrap_or_else(|_late| {
        Err(Failed::new(
            Exit::Unavailable,
            format!("{what} did not answer within {} s", REACH_LIMIT.as_secs()),
        )
        .next("look whether its machine is overloaded or stopped, and whether a firewall drops the connection"))
    })
}
