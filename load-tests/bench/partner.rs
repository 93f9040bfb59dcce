//! A Metakocka that answers at once and remembers only when it was asked to write what. The simulator keeps records, logs
//! and faults, and would be what is measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use serde::Deserialize;
use serde_json::json;
use testkit::wait_for;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::contacts::number_in;

const ROOT: &str = "/rest/eshop";
const LIMIT: Duration = Duration::from_secs(180);

/// A write that arrived: of which organization, which version, when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) number: u64,
    pub(crate) version: u32,
    pub(crate) at: Instant,
}

/// How it treats writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Answers,
    /// Refuses each write for good: its event dies.
    Refuses,
    /// Answers writes only when the mood changes.
    Keeps,
}

struct Shared {
    arrivals: Mutex<Vec<Arrival>>,
    searches: AtomicU64,
    mood: watch::Sender<Mood>,
}

/// Listens until the end of the process.
#[derive(Clone)]
pub(crate) struct Partner {
    shared: Arc<Shared>,
    address: String,
}

impl Partner {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared {
            arrivals: Mutex::default(),
            searches: AtomicU64::new(0),
            mood: watch::Sender::new(Mood::Answers),
        });
        let routes = Router::new()
            .route(&format!("{ROOT}/v1/get_partner"), post(search))
            .route(&format!("{ROOT}/v1/add_partner"), post(add))
            .route(&format!("{ROOT}/v1/update_partner"), post(update))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { shared, address }
    }

    /// Ends in a slash, as settings want it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{ROOT}/", self.address)
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.shared.mood.send_replace(mood);
    }

    /// Forgets what has arrived.
    pub(crate) fn forget(&self) {
        self.shared.arrivals.lock().unwrap().clear();
        self.shared.searches.store(0, Ordering::Relaxed);
    }

    pub(crate) fn writes(&self) -> usize {
        self.shared.arrivals.lock().unwrap().len()
    }

    pub(crate) fn searches(&self) -> u64 {
        self.shared.searches.load(Ordering::Relaxed)
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap().clone()
    }

    /// Waits until so many writes have arrived; when the last of them did.
    pub(crate) async fn has(&self, writes: usize) -> Instant {
        wait_for(
            &format!("{writes} writes at the partner"),
            LIMIT,
            async || {
                let arrivals = self.shared.arrivals.lock().unwrap();
                match arrivals.get(writes.saturating_sub(1)) {
                    Some(last) => Ok(last.at),
                    None => Err(arrivals.len()),
                }
            },
        )
        .await
    }
}

#[derive(Deserialize)]
struct Asked {
    partner: Written,
}

#[derive(Deserialize)]
struct Written {
    /// Of an update.
    mk_id: Option<String>,
    customer: Option<String>,
    registration_number: String,
}

fn answer(body: serde_json::Value) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], body.to_string())
}

async fn search(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    shared.searches.fetch_add(1, Ordering::Relaxed);
    answer(json!({ "opr_code": "0", "partner_list_count": "0", "partner_list": [] }))
}

/// Notes it; the id is the number of the organization, so that the hand-written loop needs no look-up. `None`: refused.
async fn written(shared: &Shared, body: &[u8]) -> Option<(u64, String)> {
    let at = Instant::now();
    let asked: Asked = serde_json::from_slice(body).unwrap();
    let written = asked.partner;
    let known = written.mk_id.and_then(|id| id.parse().ok());
    let number = known
        .or_else(|| number_in(written.customer.as_deref()?))
        .unwrap();
    let version = written.registration_number.parse().unwrap();
    shared.arrivals.lock().unwrap().push(Arrival {
        number,
        version,
        at,
    });
    let mut mood = shared.mood.subscribe();
    let mood = *mood.wait_for(|mood| *mood != Mood::Keeps).await.unwrap();
    (mood == Mood::Answers).then_some((number, written.registration_number))
}

fn refusal() -> serde_json::Value {
    json!({ "opr_code": "6", "opr_desc": "the benchmark refuses everything now" })
}

async fn add(State(shared): State<Arc<Shared>>, body: Bytes) -> impl IntoResponse {
    answer(match written(&shared, &body).await {
        Some((number, _)) => json!({
            "opr_code": "0",
            "mk_id": number.to_string(),
            "mk_contact_id": format!("{number}0"),
        }),
        None => refusal(),
    })
}

async fn update(State(shared): State<Arc<Shared>>, body: Bytes) -> impl IntoResponse {
    answer(match written(&shared, &body).await {
        Some((number, registration)) => json!({
            "opr_code": "0",
            "partner_list": [{ "mk_id": number.to_string(), "registration_number": registration }],
        }),
        None => refusal(),
    })
}
