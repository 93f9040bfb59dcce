//! The routes under `/_sim/`, for people, scripts and other processes. The README has them with examples.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::Error;
use super::core::{MkId, PartnerEdit, Quota, Readings};
use super::fault::{RandomFault, ScriptedFault};
use super::log::LogFilter;
use super::shared::Shared;
use super::world::Snapshot;

/// Where the routes begin.
pub(super) const ROOT: &str = "/_sim";
/// Longest body of a control request, in bytes: a snapshot may be large.
const MAX_CONTROL_BODY: usize = 64 * 1024 * 1024;
/// Log entries in one answer, if no limit is asked for.
const LOG_PAGE: usize = 1_000;

type Answered = Result<Json<Value>, Error>;

pub(super) fn routes(shared: Arc<Shared>) -> Router {
    let routes = Router::new()
        .route("/state", get(state).put(restore))
        .route("/reset", post(reset))
        .route("/readings", get(readings).put(set_readings))
        .route("/strict", get(strict).put(set_strict))
        .route("/faults", get(faults).post(add_faults).delete(clear_faults))
        .route("/faults/random", put(set_random_faults))
        .route("/counts", get(counts))
        .route("/log", get(log))
        .route("/clock", get(clock).post(advance))
        .route("/outage", post(outage))
        .route("/companies/{company}", put(set_access))
        .route("/companies/{company}/readings", put(set_company_readings))
        .route(
            "/companies/{company}/partners",
            get(partners).post(add_partner),
        )
        .route(
            "/companies/{company}/partners/{mk_id}",
            get(partner).patch(edit_partner).delete(delete_partner),
        )
        .route(
            "/companies/{company}/partners/{mk_id}/rename",
            post(rename_partner),
        )
        .route(
            "/companies/{company}/partners/{mk_id}/merge",
            post(merge_partner),
        );
    Router::new()
        .nest(ROOT, routes)
        .route("/_sim", get(overview))
        .route("/_sim/", get(overview))
        .fallback(no_such_route)
        .layer(DefaultBodyLimit::max(MAX_CONTROL_BODY))
        .layer(from_fn_with_state(Arc::clone(&shared), check_token))
        .with_state(shared)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Error::UnknownCompany(_) | Error::UnknownPartner { .. } => StatusCode::NOT_FOUND,
            Error::RealClock | Error::Full(_) => StatusCode::CONFLICT,
            Error::Invalid(_) | Error::CompanyTwice(_) => StatusCode::BAD_REQUEST,
            Error::Listen(_) | Error::State(..) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

/// A JSON body whatever its `Content-Type`, so that curl needs no header; mistakes are answered in JSON.
struct Sent<T>(T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Error;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Error> {
        let json = axum::http::HeaderValue::from_static("application/json");
        request
            .headers_mut()
            .insert(axum::http::header::CONTENT_TYPE, json);
        let parsed: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        parsed
            .map(|Json(value)| Sent(value))
            .map_err(|rejection| Error::Invalid(rejection.body_text()))
    }
}

async fn check_token(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let sent = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let right = shared.control_token.as_ref().is_none_or(|token| {
        sent.and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|sent| sent == token.expose_secret())
    });
    if right {
        return next.run(request).await;
    }
    (
        StatusCode::UNAUTHORIZED,
        Json(json!({"error": "this simulator wants its control token: Authorization: Bearer …"})),
    )
        .into_response()
}

async fn no_such_route() -> Response {
    (
        StatusCode::NOT_FOUND,
        Json(json!({"error": "the simulator has no such route; its README lists them"})),
    )
        .into_response()
}

async fn overview(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world();
    let companies = world.companies.values().map(|company| {
        json!({
            "company_id": company.company_id(),
            "partners": company.partners().count(),
            "late_writes": company.scheduled(),
        })
    });
    Json(json!({
        "simulator": "metakocka",
        "calls_begin_at": super::server::ROOT,
        "now": shared.clock.now(),
        "strict": world.strict,
        "companies": companies.collect::<Vec<_>>(),
    }))
}

async fn state(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(shared.world().snapshot()))
}

async fn restore(State(shared): State<Arc<Shared>>, Sent(snapshot): Sent<Snapshot>) -> Answered {
    shared.world().restore(snapshot)?;
    Ok(done())
}

async fn reset(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.world().reset();
    done()
}

async fn readings(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(shared.world().readings))
}

/// `{"preset": "nasty", "index_lag_seconds": 2}`: the preset (or what holds now) with these switches changed.
async fn set_readings(
    State(shared): State<Arc<Shared>>,
    Sent(changes): Sent<Map<String, Value>>,
) -> Answered {
    let mut world = shared.world();
    let readings = changed(&world.readings, changes)?;
    world.set_readings(readings.clone());
    Ok(Json(json!(readings)))
}

async fn set_company_readings(
    State(shared): State<Arc<Shared>>,
    Path(company): Path<String>,
    Sent(changes): Sent<Map<String, Value>>,
) -> Answered {
    let mut world = shared.world();
    let company = world.company(&company)?;
    let readings = changed(company.readings(), changes)?;
    company.set_readings(readings.clone());
    Ok(Json(json!(readings)))
}

fn changed(now: &Readings, mut changes: Map<String, Value>) -> Result<Readings, Error> {
    let base = match changes
        .remove("preset")
        .as_ref()
        .map(|preset| preset.as_str().unwrap_or_default())
    {
        None => now.clone(),
        Some("kind") => Readings::kind(),
        Some("nasty") => Readings::nasty(),
        Some(other) => {
            return Err(Error::Invalid(format!(
                "the presets are kind and nasty, not {other:?}"
            )));
        }
    };
    let Value::Object(mut all) = json!(base) else {
        unreachable!("readings are an object")
    };
    all.extend(changes);
    serde_json::from_value(Value::Object(all)).map_err(|wrong| Error::Invalid(wrong.to_string()))
}

async fn strict(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world();
    Json(json!({"strict": world.strict, "strict_violations": world.strict_violations()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    strict: bool,
}

async fn set_strict(State(shared): State<Arc<Shared>>, Sent(sent): Sent<Strict>) -> Json<Value> {
    shared.world().set_strict(sent.strict);
    done()
}

async fn faults(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let world = shared.world();
    let waiting = world.faults.scripted();
    Json(
        json!({"scripted": waiting, "random": world.faults.random(), "happened": world.counts().faults}),
    )
}

async fn add_faults(State(shared): State<Arc<Shared>>, Sent(sent): Sent<Value>) -> Answered {
    let wrong = |error: serde_json::Error| Error::Invalid(error.to_string());
    let faults: Vec<ScriptedFault> = match sent {
        Value::Array(_) => serde_json::from_value(sent).map_err(wrong)?,
        one => vec![serde_json::from_value(one).map_err(wrong)?],
    };
    let mut world = shared.world();
    let ids = faults
        .into_iter()
        .map(|fault| world.faults.script(fault))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Json(json!({"ids": ids})))
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.world().faults.clear();
    done()
}

async fn set_random_faults(
    State(shared): State<Arc<Shared>>,
    Sent(random): Sent<Vec<RandomFault>>,
) -> Answered {
    shared.world().faults.set_random(random)?;
    Ok(done())
}

async fn counts(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(shared.world().counts()))
}

async fn log(
    State(shared): State<Arc<Shared>>,
    filter: Result<Query<LogFilter>, axum::extract::rejection::QueryRejection>,
) -> Answered {
    let Query(filter) = filter.map_err(|rejection| Error::Invalid(rejection.body_text()))?;
    let filter = LogFilter {
        limit: filter.limit.or(Some(LOG_PAGE)),
        ..filter
    };
    let world = shared.world();
    let entries = world.log.show(&filter);
    let next = entries
        .last()
        .map_or(world.log.last_seq(), |entry| entry.seq);
    Ok(Json(json!({"entries": entries, "next_since": next})))
}

async fn clock(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({"now": shared.clock.now()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: u64,
}

async fn advance(State(shared): State<Arc<Shared>>, Sent(sent): Sent<Advance>) -> Answered {
    let now = shared
        .clock
        .advance(Duration::from_millis(sent.advance_ms))?;
    drop(shared.world());
    Ok(Json(json!({"now": now})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    ms: u64,
}

async fn outage(State(shared): State<Arc<Shared>>, Sent(sent): Sent<Outage>) -> Answered {
    shared.outage(Duration::from_millis(sent.ms))?;
    Ok(done())
}

/// What is absent stays; a quota of null is taken away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Access {
    secret_key: Option<SecretString>,
    allowed_ips: Option<Vec<IpAddr>>,
    #[serde(default, deserialize_with = "present")]
    quota: Option<Option<Quota>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Quota>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

async fn set_access(
    State(shared): State<Arc<Shared>>,
    Path(company): Path<String>,
    Sent(access): Sent<Access>,
) -> Answered {
    shared.world().company(&company)?.set_access(
        access.secret_key,
        access.allowed_ips,
        access.quota,
    );
    Ok(done())
}

async fn partners(State(shared): State<Arc<Shared>>, Path(company): Path<String>) -> Answered {
    let mut world = shared.world();
    let partners: Vec<_> = world.company(&company)?.partners().collect();
    Ok(Json(json!({"partners": partners})))
}

async fn partner(
    State(shared): State<Arc<Shared>>,
    Path((company, mk_id)): Path<(String, String)>,
) -> Answered {
    let mk_id = parse_id(&mk_id)?;
    let mut world = shared.world();
    match world.company(&company)?.partner(mk_id) {
        Some(partner) => Ok(Json(json!(partner))),
        None => Err(Error::UnknownPartner { company, mk_id }),
    }
}

async fn add_partner(
    State(shared): State<Arc<Shared>>,
    Path(company): Path<String>,
    Sent(edit): Sent<PartnerEdit>,
) -> Answered {
    let now = shared.clock.now();
    let mut world = shared.world();
    let company = world.company(&company)?;
    let mk_id = company.person_adds(edit, now)?;
    Ok(Json(json!(company.partner(mk_id))))
}

async fn edit_partner(
    State(shared): State<Arc<Shared>>,
    Path((company, mk_id)): Path<(String, String)>,
    Sent(edit): Sent<PartnerEdit>,
) -> Answered {
    let (mk_id, now) = (parse_id(&mk_id)?, shared.clock.now());
    let mut world = shared.world();
    let company = world.company(&company)?;
    company.person_edits(mk_id, edit, now)?;
    Ok(Json(json!(company.partner(mk_id))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    customer: String,
}

async fn rename_partner(
    State(shared): State<Arc<Shared>>,
    Path((company, mk_id)): Path<(String, String)>,
    Sent(sent): Sent<Rename>,
) -> Answered {
    let (mk_id, now) = (parse_id(&mk_id)?, shared.clock.now());
    shared
        .world()
        .company(&company)?
        .person_renames(mk_id, &sent.customer, now)?;
    Ok(done())
}

async fn delete_partner(
    State(shared): State<Arc<Shared>>,
    Path((company, mk_id)): Path<(String, String)>,
) -> Answered {
    let (mk_id, now) = (parse_id(&mk_id)?, shared.clock.now());
    shared
        .world()
        .company(&company)?
        .person_deletes(mk_id, now)?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Merge {
    into: MkId,
}

async fn merge_partner(
    State(shared): State<Arc<Shared>>,
    Path((company, mk_id)): Path<(String, String)>,
    Sent(sent): Sent<Merge>,
) -> Answered {
    let (mk_id, now) = (parse_id(&mk_id)?, shared.clock.now());
    shared
        .world()
        .company(&company)?
        .person_merges(mk_id, sent.into, now)?;
    Ok(done())
}

fn parse_id(text: &str) -> Result<MkId, Error> {
    text.parse()
        .map_err(|_not_a_number| Error::Invalid(format!("{text:?} is not an mk_id")))
}

fn done() -> Json<Value> {
    Json(json!({"done": true}))
}
