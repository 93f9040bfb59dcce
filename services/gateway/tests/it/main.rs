//! The gateway over real HTTP: at its ports, and with the real broker and database.

mod bad_input;
mod bus;
mod docs;
mod edge;
mod tokens;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::TenantId;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gateway::{Deps, Message, Principal, Publish, PublishError, Settings, Tokens, TokensAway};
use inbound::Served;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use testkit::Http;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) const PATH: &str = "/v1/events";
pub(crate) const TOKEN: &str = "kurir_orodje";
/// Of the tenant that the examples of docs/events.md have.
pub(crate) const DEMO_TOKEN: &str = "kurir_demo";
/// As `TOKEN`, but only for this source.
pub(crate) const CRM_TOKEN: &str = "kurir_orodje_crm";
pub(crate) const CRM_SOURCE: &str = "urn:kurir:orodje:crm:main";

/// The bus at its port: what was published, and answers of every kind a broker can give.
#[derive(Default)]
pub(crate) struct Recording {
    pub(crate) published: Mutex<Vec<Message>>,
    /// Ids of events that are not confirmed, and why.
    pub(crate) refused: Mutex<Vec<(String, PublishError)>>,
    /// Holds every publish back until it is set.
    pub(crate) held: Mutex<Option<Arc<tokio::sync::Notify>>>,
}

impl Publish for Recording {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), PublishError>> {
        async move {
            let refused = self.refused.lock().expect("lock").clone();
            let held = self.held.lock().expect("lock").clone();
            let id = message.message_id.clone();
            self.published.lock().expect("lock").push(message);
            if let Some(held) = held {
                held.notified().await;
            }
            refused
                .into_iter()
                .find(|(of, _)| *of == id || of == "*")
                .map_or(Ok(()), |(_, error)| Err(error))
        }
        .boxed()
    }
}

/// Tokens at their port: two known ones, a store that can be away, and a count of questions.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) away: Mutex<bool>,
    pub(crate) revoked: Mutex<bool>,
    pub(crate) asked: AtomicUsize,
}

impl Tokens for Known {
    fn authenticate<'a>(
        &'a self,
        token: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<Principal>, TokensAway>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let source = match token.expose_secret() {
            TOKEN => Some(("orodje", None)),
            DEMO_TOKEN => Some(("demo", None)),
            CRM_TOKEN => Some(("orodje", Some(CRM_SOURCE.to_owned()))),
            _ => None,
        };
        let principal =
            source
                .filter(|_| !*self.revoked.lock().expect("lock"))
                .map(|(tenant, source)| Principal {
                    token: Uuid::nil(),
                    tenant: TenantId::parse(tenant).expect("tenant"),
                    source,
                });
        let away = *self.away.lock().expect("lock");
        async move {
            if away {
                Err(TokensAway("no database".to_owned()))
            } else {
                Ok(principal)
            }
        }
        .boxed()
    }
}

pub(crate) struct Gateway {
    /// With `TOKEN`.
    pub(crate) http: Http,
    pub(crate) bus: Arc<Recording>,
    pub(crate) tokens: Arc<Known>,
    _served: JoinHandle<Served>,
}

pub(crate) fn generous() -> Settings {
    Settings {
        events_per_second: NonZeroU32::new(100_000).expect("not zero"),
        burst: NonZeroU32::new(100_000).expect("not zero"),
        ..Settings::default()
    }
}

pub(crate) async fn start(settings: &Settings) -> Gateway {
    let (bus, tokens) = (Arc::new(Recording::default()), Arc::new(Known::default()));
    let (http, served) = serve(
        Deps {
            tokens: tokens.clone(),
            publisher: bus.clone(),
            metrics: gateway::Metrics::default(),
        },
        settings,
    )
    .await;
    Gateway {
        http: http.with_token(TOKEN),
        bus,
        tokens,
        _served: served,
    }
}

pub(crate) async fn serve(deps: Deps, settings: &Settings) -> (Http, JoinHandle<Served>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("address"));
    let router = gateway::router(deps, settings);
    let served = tokio::spawn(inbound::serve(
        listener,
        router,
        std::future::pending(),
        Duration::ZERO,
    ));
    (Http::new(base), served)
}

pub(crate) fn contact(id: &str) -> Value {
    json!({
        "specversion": "1.0",
        "id": id,
        "source": CRM_SOURCE,
        "type": "crm.contact.updated.v1",
        "tenantid": "orodje",
        "time": "2026-06-17T10:35:11.472150Z",
        "data": { "contact": {
            "id": "512", "kind": "organization", "name": "Čebelarstvo Žnidaršič d.o.o.",
            "emails": [{ "value": "info@cebelarstvo-znidarsic.example", "primary": true }],
        } },
    })
}

/// `contact` with one member replaced; `Value::Null` takes it out.
pub(crate) fn with(pointer: &str, value: Value) -> Value {
    let mut event = contact("evt-1");
    let (parent, name) = pointer.rsplit_once('/').expect("pointer");
    let parent = event
        .pointer_mut(parent)
        .expect("parent")
        .as_object_mut()
        .expect("object");
    match value {
        Value::Null => parent.remove(name),
        value => parent.insert(name.to_owned(), value),
    };
    event
}
