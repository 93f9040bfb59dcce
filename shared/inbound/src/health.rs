//! `/livez` and `/readyz`. A role names what it needs ([`Readiness::check`]) and says how that is; until it has
//! said so once, it is not ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;

/// What a process needs to be ready. Clones share the same checks.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    checks: BTreeMap<String, Kept>,
    draining: bool,
}

#[derive(Debug)]
struct Kept {
    ok: bool,
    detail: String,
    since: Instant,
}

/// One named need. Dropping it changes nothing: what was said last stays.
#[derive(Clone, Debug)]
pub struct Check {
    name: String,
    shared: Arc<Mutex<Shared>>,
}

/// One check as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckState {
    pub ok: bool,
    pub detail: String,
    /// Seconds since `ok` last changed.
    pub for_seconds: u64,
}

/// The body of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    pub ready: bool,
    pub draining: bool,
    pub checks: BTreeMap<String, CheckState>,
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a need, not ready ("starting") until it says otherwise. The same name again is the same check.
    pub fn check(&self, name: &str) -> Check {
        let starting = || Kept {
            ok: false,
            detail: "starting".to_owned(),
            since: Instant::now(),
        };
        lock(&self.shared)
            .checks
            .entry(name.to_owned())
            .or_insert_with(starting);
        Check {
            name: name.to_owned(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Not ready from now on, so that nobody sends new work to a process that is about to end.
    pub fn drain(&self) {
        lock(&self.shared).draining = true;
    }

    pub fn report(&self) -> ReadinessReport {
        let now = Instant::now();
        let shared = lock(&self.shared);
        let state = |kept: &Kept| CheckState {
            ok: kept.ok,
            detail: kept.detail.clone(),
            for_seconds: (now - kept.since).as_secs(),
        };
        let checks: BTreeMap<String, CheckState> = shared
            .checks
            .iter()
            .map(|(name, kept)| (name.clone(), state(kept)))
            .collect();
        let draining = shared.draining;
        ReadinessReport {
            ready: !draining && checks.values().all(|check| check.ok),
            draining,
            checks,
        }
    }
}

impl Check {
    pub fn ready(&self, detail: &str) {
        self.say(true, detail);
    }

    /// The detail is shown to anybody who can reach the port: no addresses with passwords, no personal data.
    pub fn not_ready(&self, detail: &str) {
        self.say(false, detail);
    }

    fn say(&self, ok: bool, detail: &str) {
        let now = Instant::now();
        let mut shared = lock(&self.shared);
        let kept = shared
            .checks
            .get_mut(&self.name)
            .expect("a check is never taken out");
        if kept.ok != ok {
            kept.since = now;
        }
        kept.ok = ok;
        detail.clone_into(&mut kept.detail);
    }
}

/// A panic while holding it leaves whole values: each change is one assignment.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `/livez`: 200 as long as the process can answer. `/readyz`: 200 or 503, the report as JSON either way.
pub fn health_routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(async || Json(json!({ "live": true }))))
        .route(
            "/readyz",
            get(async |State(readiness): State<Readiness>| {
                let report = readiness.report();
                let status = if report.ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                (status, Json(report))
            }),
        )
        .with_state(readiness)
}
