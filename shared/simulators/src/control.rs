//! The control routes that every simulator has, under `/_sim/`, for people, scripts and other processes. The README has them
//! with examples. Any other path there is asked of the system that is simulated.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use axum::{Json, Router};
use hyper::body::Bytes;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::fault::{RandomFault, ScriptedFault};
use crate::fault_queue::Script;
use crate::log::LogFilter;
use crate::readings::changed;
use crate::shared::Shared;
use crate::simulated::Simulated;

/// Where the routes begin.
pub(crate) const ROOT: &str = "/_sim";
/// Longest body of a control request, in bytes: a snapshot may be large.
const MAX_CONTROL_BODY: usize = 64 * 1024 * 1024;
/// Log entries in one answer, if no limit is asked for.
const LOG_PAGE: usize = 1_000;

type Answered = Result<Json<Value>, Error>;
type Simulation<S> = State<Arc<Shared<S>>>;

pub(crate) fn routes<S: Simulated>(shared: Arc<Shared<S>>) -> Router {
    let routes = Router::new()
        .route("/state", get(state::<S>).put(restore::<S>))
        .route("/reset", post(reset::<S>))
        .route("/readings", get(readings::<S>).put(set_readings::<S>))
        .route("/strict", get(strict::<S>).put(set_strict::<S>))
        .route(
            "/faults",
            get(faults::<S>)
                .post(add_faults::<S>)
                .delete(clear_faults::<S>),
        )
        .route("/faults/random", put(set_random_faults::<S>))
        .route("/counts", get(counts::<S>))
        .route("/log", get(log::<S>))
        .route("/clock", get(clock::<S>).post(advance::<S>))
        .route("/outage", post(outage::<S>))
        .route("/{*own}", any(own::<S>));
    Router::new()
        .nest(ROOT, routes)
        .route("/_sim", get(overview::<S>))
        .route("/_sim/", get(overview::<S>))
        .fallback(no_such_route)
        .layer(DefaultBodyLimit::max(MAX_CONTROL_BODY))
        .layer(from_fn_with_state(Arc::clone(&shared), check_token::<S>))
        .with_state(shared)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Error::Unknown(_) => StatusCode::NOT_FOUND,
            Error::Method => StatusCode::METHOD_NOT_ALLOWED,
            Error::RealClock | Error::Full(_) => StatusCode::CONFLICT,
            Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::Listen(_) | Error::State(..) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

/// A JSON body whatever its `Content-Type`, so that curl needs no header; mistakes are answered in JSON.
struct Sent<T>(T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let wrong = |rejection: BytesRejection| Error::Invalid(rejection.body_text());
        let body = Bytes::from_request(request, state).await.map_err(wrong)?;
        parsed(&body).map(Sent)
    }
}

/// A body of a control request. [`Error::Invalid`] if it isn't what is wanted.
pub fn parsed<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let wrong = |rejection: JsonRejection| Error::Invalid(rejection.body_text());
    Json::from_bytes(body)
        .map(|Json(value)| value)
        .map_err(wrong)
}

async fn check_token<S: Simulated>(
    State(shared): Simulation<S>,
    request: Request,
    next: Next,
) -> Response {
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

/// A route of the system's own.
async fn own<S: Simulated>(
    State(shared): Simulation<S>,
    Path(path): Path<String>,
    method: Method,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return Error::Invalid(rejection.body_text()).into_response(),
    };
    let path: Vec<&str> = path.split('/').collect();
    if path.contains(&"") {
        return no_such_route().await;
    }
    let method = if method == Method::HEAD {
        Method::GET
    } else {
        method
    };
    let now = shared.clock.now();
    let answered = shared
        .world()
        .system
        .control(method.as_str(), &path, &body, now);
    match answered {
        Some(answered) => answered.map(Json).into_response(),
        None => no_such_route().await,
    }
}

async fn overview<S: Simulated>(State(shared): Simulation<S>) -> Json<Value> {
    let world = shared.world();
    let mut all = world.system.overview();
    all.extend([
        ("simulator".to_owned(), json!(S::NAME)),
        ("calls_begin_at".to_owned(), json!(S::ROOT)),
        ("now".to_owned(), json!(shared.clock.now())),
        ("strict".to_owned(), json!(world.strict)),
    ]);
    Json(Value::Object(all))
}

async fn state<S: Simulated>(State(shared): Simulation<S>) -> Json<Value> {
    Json(json!(shared.world().system.snapshot()))
}

async fn restore<S: Simulated>(
    State(shared): Simulation<S>,
    Sent(snapshot): Sent<S::Snapshot>,
) -> Answered {
    shared.world().restore(snapshot)?;
    Ok(done())
}

async fn reset<S: Simulated>(State(shared): Simulation<S>) -> Json<Value> {
    shared.world().reset();
    done()
}

async fn readings<S: Simulated>(State(shared): Simulation<S>) -> Json<Value> {
    Json(json!(shared.world().system.readings()))
}

async fn set_readings<S: Simulated>(
    State(shared): Simulation<S>,
    Sent(changes): Sent<Map<String, Value>>,
) -> Answered {
    let mut world = shared.world();
    let readings = changed(&world.system.readings(), changes, S::preset)?;
    let shown = json!(readings);
    world.system.set_readings(readings);
    Ok(Json(shown))
}

async fn strict<S: Simulated>(State(shared): Simulation<S>) -> Json<Value> {
    let world = shared.world();
    let violations = world.system.strict_violations();
    Json(json!({"strict": world.strict, "strict_violations": violations}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    strict: bool,
}

async fn set_strict<S: Simulated>(
    State(shared): Simulation<S>,
    Sent(sent): Sent<Strict>,
) -> Json<Value> {
    shared.world().set_strict(sent.strict);
    done()
}

async fn faults<S: Simulated>(State(shared): Simulation<S>) -> Json<Value> {
    let world = shared.world();
    let waiting: Vec<Value> = world
        .faults
        .scripted()
        .iter()
        .map(in_own_words::<S>)
        .collect();
    Json(
        json!({"scripted": waiting, "random": world.faults.random(), "happened": world.counts().faults}),
    )
}

/// A waiting fault, with the account under the name the system has for it.
fn in_own_words<S: Simulated>(script: &Script<S::Fault, S::Call>) -> Value {
    let mut shown = json!(script);
    let account = shown["account"].take();
    if let Value::Object(keys) = &mut shown {
        keys.remove("account");
        keys.insert(S::ACCOUNT.to_owned(), account);
    }
    shown
}

async fn add_faults<S: Simulated>(
    State(shared): Simulation<S>,
    Sent(sent): Sent<Value>,
) -> Answered {
    let wrong = |error: serde_json::Error| Error::Invalid(error.to_string());
    let faults: Vec<ScriptedFault<S::Fault, S::Call>> = match sent {
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

async fn clear_faults<S: Simulated>(State(shared): Simulation<S>) -> Json<Value> {
    shared.world().faults.clear();
    done()
}

async fn set_random_faults<S: Simulated>(
    State(shared): Simulation<S>,
    Sent(random): Sent<Vec<RandomFault<S::Fault, S::Call>>>,
) -> Answered {
    shared.world().faults.set_random(random)?;
    Ok(done())
}

async fn counts<S: Simulated>(State(shared): Simulation<S>) -> Json<Value> {
    Json(json!(shared.world().counts()))
}

async fn log<S: Simulated>(
    State(shared): Simulation<S>,
    filter: Result<Query<LogFilter<S::Call>>, QueryRejection>,
) -> Answered {
    let Query(filter) = filter.map_err(|rejection| Error::Invalid(rejection.body_text()))?;
    let filter = LogFilter {
        limit: filter.limit.or(Some(LOG_PAGE)),
        ..filter
    };
    let world = shared.world();
    let entries = world.log.show(&filter, S::account);
    let next = entries
        .last()
        .map_or(world.log.last_seq(), |entry| entry.seq);
    Ok(Json(json!({"entries": entries, "next_since": next})))
}

async fn clock<S: Simulated>(State(shared): Simulation<S>) -> Json<Value> {
    Json(json!({"now": shared.clock.now()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: u64,
}

async fn advance<S: Simulated>(
    State(shared): Simulation<S>,
    Sent(sent): Sent<Advance>,
) -> Answered {
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

async fn outage<S: Simulated>(State(shared): Simulation<S>, Sent(sent): Sent<Outage>) -> Answered {
    shared.outage(Duration::from_millis(sent.ms))?;
    Ok(done())
}

fn done() -> Json<Value> {
    Json(json!({"done": true}))
}
