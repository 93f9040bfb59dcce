//! The invented partner of the sample worker: entries and members, and what a test lets go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Path as Segment, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};
use testkit::wait_for;

use crate::fleet::SOON;

pub(super) const TOKEN: &str = "book-token";

/// Records by collection and id.
type Records = BTreeMap<(String, String), Value>;

#[derive(Clone, Default)]
pub(super) struct Partner(Arc<Mutex<Held>>);

#[derive(Default)]
pub(super) struct Held {
    pub(super) records: Records,
    made: usize,
    /// The next entry is stored, and the answer lost; the next greeting.
    pub(super) loses_an_answer: bool,
    pub(super) loses_a_greeting: bool,
    /// Records in which one of these stands are refused.
    pub(super) refuses: BTreeSet<String>,
    /// Look-ups in this collection wait.
    pub(super) looks_wait: Option<&'static str>,
    /// Calls that changed something, in order: `POST members`.
    pub(super) writes: Vec<String>,
    /// Every greeting that came, stored or not.
    pub(super) greetings: Vec<String>,
    /// How often a text was suggested; no two are alike.
    pub(super) suggested: usize,
    /// The next greeting is one too many.
    pub(super) too_many: bool,
}

impl Partner {
    /// With its address.
    pub(super) async fn start() -> (Self, String) {
        let partner = Self::default();
        let routes = axum::Router::new()
            .route("/suggestions", get(suggest))
            .route("/{collection}", get(find).post(create))
            .route("/{collection}/{id}", get(read).put(update).delete(delete))
            .with_state(partner.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (partner, url)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of one collection, in the order of their ids.
    pub(super) fn records(&self, collection: &str) -> Vec<Value> {
        let held = self.held();
        let of = held.records.iter().filter(|((of, _), _)| of == collection);
        of.map(|(_, record)| record.clone()).collect()
    }

    pub(super) async fn holds(&self, names: &[&str]) {
        wait_for(&format!("the entries {names:?}"), SOON, async || {
            let entries = self.records("entries");
            let named: Vec<&str> = entries
                .iter()
                .filter_map(|one| one["name"].as_str())
                .collect();
            if named == names { Ok(()) } else { Err(entries) }
        })
        .await;
    }

    pub(super) async fn has(&self, collection: &str, count: usize) {
        wait_for(&format!("{count} {collection}"), SOON, async || {
            let records = self.records(collection);
            if records.len() == count {
                Ok(())
            } else {
                Err(records)
            }
        })
        .await;
    }
}

fn may(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|given| given == &format!("Bearer {TOKEN}"))
}

async fn find(
    State(partner): State<Partner>,
    Segment(collection): Segment<String>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Json<Vec<Value>> {
    while partner.held().looks_wait == Some(&collection) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let is_asked = |record: &Value| {
        let mut asked = asked.iter();
        asked.all(|(name, value)| record[name].as_str() == Some(value))
    };
    let records = partner.records(&collection).into_iter();
    Json(records.filter(is_asked).collect())
}

async fn suggest(State(partner): State<Partner>) -> Json<Value> {
    let mut held = partner.held();
    held.suggested += 1;
    Json(json!({ "text": format!("Welcome, number {}", held.suggested) }))
}

async fn create(
    State(partner): State<Partner>,
    Segment(collection): Segment<String>,
    Json(mut record): Json<Value>,
) -> Response {
    let mut held = partner.held();
    held.writes.push(format!("POST {collection}"));
    let mut lost = false;
    let texts = record.as_object().into_iter().flatten();
    let mut texts = texts.filter_map(|(_, text)| text.as_str());
    if texts.any(|text| held.refuses.contains(text)) {
        return (StatusCode::UNPROCESSABLE_ENTITY, "no such records here").into_response();
    }
    if let Some(text) = record["text"].as_str() {
        held.greetings.push(text.to_owned());
        if std::mem::take(&mut held.too_many) {
            return StatusCode::TOO_MANY_REQUESTS.into_response();
        }
        // Not the create of an entry.
        lost = std::mem::take(&mut held.loses_a_greeting);
    }
    held.made += 1;
    let id = format!("{}{}", &collection[..1], held.made);
    record["id"] = json!(id);
    let collection_is_entries = collection == "entries";
    held.records.insert((collection, id), record.clone());
    lost |= collection_is_entries && std::mem::take(&mut held.loses_an_answer);
    if lost {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    Json(record).into_response()
}

async fn read(
    State(partner): State<Partner>,
    headers: HeaderMap,
    Segment(record): Segment<(String, String)>,
) -> Response {
    if !may(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match partner.held().records.get(&record) {
        Some(record) => Json(record.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn update(
    State(partner): State<Partner>,
    Segment((collection, id)): Segment<(String, String)>,
    Json(mut record): Json<Value>,
) -> Response {
    record["id"] = json!(id);
    let mut held = partner.held();
    held.writes.push(format!("PUT {collection}"));
    held.records.insert((collection, id), record.clone());
    Json(record).into_response()
}

async fn delete(
    State(partner): State<Partner>,
    Segment(record): Segment<(String, String)>,
) -> StatusCode {
    let mut held = partner.held();
    held.writes.push(format!("DELETE {}", record.0));
    held.records.remove(&record);
    StatusCode::NO_CONTENT
}
