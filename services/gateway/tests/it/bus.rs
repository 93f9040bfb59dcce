//! With the real broker and the real store: the message as RabbitMQ holds it, and what happens without them.

use std::sync::Arc;
use std::time::Duration;

use event::TenantId;
use gateway::{Bus, Deps, StoredTokens};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use testkit::instance::Rabbit;
use testkit::{Http, wait_until};

use crate::{CRM_SOURCE, PATH, contact, generous, serve};

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Real {
    http: Http,
    broker: broker::Broker,
    /// Dropped last: they take the test's part of the servers with them.
    bus: testkit::Broker,
    _database: testkit::Database,
}

/// A gateway on this part of a broker and on a database of its own; its token is for the CRM's source of `orodje`.
async fn real(bus: testkit::Broker) -> Real {
    let mut settings = broker::Settings::new(SecretString::from(bus.amqp_url()));
    bus.prefix().clone_into(&mut settings.prefix);
    let broker = broker::Broker::start(settings).expect("an address");
    broker.connected(PATIENCE).await.expect("connected");
    let topology = broker.topology();
    topology.declare_events(&broker).await.expect("declared");

    let database = testkit::database().await;
    let pool = database.pool().clone();
    let tenant = TenantId::parse("orodje").expect("tenant");
    store::tenants::add(&pool, &tenant, "Orodje")
        .await
        .expect("tenant");
    let (_, token) = store::tokens::create(&pool, &tenant, "crm", Some(CRM_SOURCE))
        .await
        .expect("token");

    let publisher = Bus {
        publisher: broker.publisher(),
        exchange: topology.events(),
    };
    let deps = Deps {
        tokens: Arc::new(StoredTokens(pool)),
        publisher: Arc::new(publisher),
        metrics: gateway::Metrics::default(),
    };
    let (http, _served) = serve(deps, &generous()).await;
    Real {
        http: http.with_token(token.expose_secret()),
        broker,
        bus,
        _database: database,
    }
}

/// What is unrouted, once something is: it is confirmed a moment before it is there.
pub(crate) async fn kept(bus: &testkit::Broker) -> Vec<testkit::Message> {
    let queue = bus.queue("unrouted");
    let depth = async || bus.depth(&queue).await.expect("depth");
    wait_until("something is kept", PATIENCE, depth, |depth| {
        *depth > Some(0)
    })
    .await;
    bus.take(&queue, 9).await.expect("take")
}

/// No worker is bound, so what the gateway published is kept as unrouted.
async fn one_message(real: &Real) -> testkit::Message {
    let mut taken = kept(&real.bus).await;
    assert_eq!(taken.len(), 1, "{taken:?}");
    taken.remove(0)
}

#[tokio::test]
async fn an_accepted_event_is_in_the_broker_with_the_properties_of_the_contract() {
    let real = real(testkit::broker().await).await;
    real.http
        .post_event(PATH, &contact("evt-č"))
        .await
        .expect("answer")
        .expect(202);
    let message = one_message(&real).await;
    let properties = &message.properties;
    let text = |property: &Option<_>| property.as_ref().map(ToString::to_string);
    insta::assert_json_snapshot!(json!({
        "routing_key": message.routing_key,
        "content_type": text(properties.content_type()),
        "delivery_mode": properties.delivery_mode(),
        "message_id": text(properties.message_id()),
        "type": text(properties.kind()),
        "timestamp": properties.timestamp(),
        "correlation_id": text(properties.correlation_id()),
        "app_id": text(properties.app_id()).map(|app| app.split('/').next().map(str::to_owned)),
        "expiration": text(properties.expiration()),
        // The broker adds its own counter, which is no text, and where it moved the message on to be kept.
        "headers": properties.headers().as_ref().map(|headers| {
            let texts = headers.inner().iter().filter_map(|(name, value)| {
                Some((name.to_string(), value.as_long_string()?.to_string()))
            });
            let ours = texts.filter(|(name, _)| !name.contains("-death-"));
            ours.collect::<std::collections::BTreeMap<_, _>>()
        }),
        "body": message.json(),
    }));
}

#[tokio::test]
async fn a_token_of_another_tenant_or_source_publishes_nothing() {
    let real = real(testkit::broker().await).await;
    let mut other = contact("evt-1");
    other["source"] = json!("urn:kurir:orodje:crm:other");
    real.http
        .post_event(PATH, &other)
        .await
        .expect("answer")
        .expect(403);
    other["tenantid"] = json!("vrtnar");
    other["source"] = json!("urn:kurir:vrtnar:crm:main");
    real.http
        .post_event(PATH, &other)
        .await
        .expect("answer")
        .expect(403);
    real.http
        .with_token("kurir_nobody")
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(401);
    assert_eq!(
        real.bus
            .depth(&real.bus.queue("unrouted"))
            .await
            .expect("depth"),
        Some(0)
    );
}

#[tokio::test]
async fn while_the_broker_is_away_senders_hear_503_and_their_repeat_arrives() {
    let rabbit = Rabbit::start().await;
    let real = real(rabbit.broker().await).await;
    rabbit.stop().await;
    let answer = real
        .http
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(503);
    assert_eq!(answer.header("retry-after"), Some("5"));
    let status = answer.json()["events"][0]["status"].clone();
    assert!(status == "not_published" || status == "unknown", "{status}");
    rabbit.start_again().await;
    real.broker
        .connected(PATIENCE)
        .await
        .expect("connected again");
    let status = wait_until(
        "the repeat is accepted",
        PATIENCE,
        async || repeat(&real).await,
        |status| *status != 503,
    )
    .await;
    assert_eq!(status, 202);
    let taken = kept(&real.bus).await;
    // More than one only if a confirm was lost on the way; they are the same event then.
    assert!(!taken.is_empty());
    assert!(taken.iter().all(|message| message.json()["id"] == "evt-1"));
}

async fn repeat(real: &Real) -> u16 {
    real.http
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .status
}
