//! What Kurir tells of an event's end, as a listener hears it.

use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::Value;
use testkit::wait_for;

use super::many::{Scene, end};
use super::{NAME, SYSTEM, TENANT};
use crate::fleet::{END, SOON, rename};

/// A queue that somebody has bound to the exchange of outcomes.
struct Listener<'a> {
    scene: &'a Scene,
    queue: String,
}

impl<'a> Listener<'a> {
    async fn of(scene: &'a Scene, key: &str) -> Self {
        let broker = &scene.fleet.broker;
        let channel = broker.channel().await.unwrap();
        let queue = broker.queue("listener");
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let none = FieldTable::default;
        channel
            .queue_declare(queue.as_str().into(), durable, none())
            .await
            .unwrap();
        let exchange = broker.queue("outcomes");
        let (to, from) = (queue.as_str().into(), exchange.as_str().into());
        let bound = QueueBindOptions::default();
        channel
            .queue_bind(to, from, key.into(), bound, none())
            .await
            .unwrap();
        Self { scene, queue }
    }

    /// So many events, in the order of their times.
    async fn hears(&self, count: u32) -> Vec<Value> {
        wait_for(&format!("{count} outcomes"), SOON, async || {
            let depth = self.scene.fleet.broker.depth(&self.queue).await;
            match depth.unwrap() {
                Some(depth) if depth >= count => Ok(()),
                other => Err(other),
            }
        })
        .await;
        let taken = self.scene.fleet.broker.take(&self.queue, 100).await;
        let mut events: Vec<Value> = taken.unwrap().iter().map(|one| one.json()).collect();
        assert_eq!(events.len(), count as usize, "{events:#?}");
        events.sort_by_key(|event| event["time"].as_str().unwrap_or_default().to_owned());
        events
    }
}

/// Entity, operation and whether there is a record.
fn brief(event: &Value) -> (String, String, bool) {
    let data = &event["data"];
    let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    (
        text("entity"),
        text("operation"),
        data["target_id"].is_string(),
    )
}

fn done(entity: &str, operation: &str, there: bool) -> (String, String, bool) {
    (entity.to_owned(), operation.to_owned(), there)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_told_once() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    let mut contact = scene.source.person();
    let (created, renamed, deleted) = (contact.created(), rename(&mut contact), contact.deleted());
    let listener = Listener::of(&scene, &format!("*.*.*.{TENANT}")).await;

    scene.publish(&created).await;
    let made = listener.hears(3).await;
    let mut ends: Vec<_> = made.iter().map(brief).collect();
    ends.sort();
    let made_of = ["contact", "greeting", "membership"];
    assert_eq!(ends, made_of.map(|of| done(of, "create", true)));
    let entry = made
        .iter()
        .find(|event| event["data"]["entity"] == "contact");
    let entry = entry.unwrap();
    assert_eq!(
        entry["data"]["target_id"],
        scene.partner.records("entries")[0]["id"]
    );
    for (name, wanted) in [
        ("type", "sync.completed.v1"),
        ("tenantid", TENANT),
        ("source", &format!("urn:kurir:{TENANT}:kurir:{NAME}")),
        ("causationid", created["id"].as_str().unwrap()),
        ("subject", &format!("contact/{}", contact.id())),
    ] {
        assert_eq!(entry[name], *wanted, "{name}");
    }
    assert_eq!(entry["data"]["target_system"], SYSTEM);

    // Once more the same: nothing new is told, because nothing ended.
    scene.publish(&created).await;
    scene.publish(&renamed).await;
    let mut changed: Vec<_> = listener.hears(2).await.iter().map(brief).collect();
    changed.sort();
    assert_eq!(
        changed,
        [
            done("contact", "update", true),
            done("membership", "none", true)
        ]
    );
    scene.publish(&deleted).await;
    let mut gone: Vec<_> = listener.hears(2).await.iter().map(brief).collect();
    gone.sort();
    let both = ["contact", "membership"];
    assert_eq!(gone, both.map(|of| done(of, "delete", false)));
    end(processes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completed_event_leaves_after_a_kill() {
    let mut scene = Scene::new().await;
    let keeper = scene.fleet.keeper().await;
    let doomed = scene.fleet.worker(Some("after_complete:kill")).await;
    let created = scene.source.person().created();
    let listener = Listener::of(&scene, "#").await;
    scene.publish(&created).await;
    doomed.killed(END).await;
    let processes = [scene.fleet.worker(None).await, keeper];
    let told = listener.hears(3).await;
    end(processes).await;
    let mut ids: Vec<&Value> = told.iter().map(|event| &event["id"]).collect();
    ids.sort_by_key(|id| id.as_str());
    ids.dedup();
    assert_eq!(ids.len(), 3, "{told:#?}");
}

/// Nobody knows whether it happened, until a look proves it: told once, as what it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_was_lost_is_told_once() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    let created = scene.source.person().created();
    let listener = Listener::of(&scene, "#").await;
    scene.partner.held().loses_an_answer = true;
    scene.publish(&created).await;
    let unknown = "select state from effect where state = 'unknown'";
    scene.until(unknown, &["unknown"]).await;
    let none: [Value; 0] = [];
    assert_eq!(listener.hears(0).await, none);
    scene
        .fleet
        .sql("update effect set settle_at = clock_timestamp() where state = 'unknown'")
        .await;
    let mut told: Vec<_> = listener.hears(3).await.iter().map(brief).collect();
    told.sort();
    let made_of = ["contact", "greeting", "membership"];
    assert_eq!(told, made_of.map(|of| done(of, "create", true)));
    end(processes).await;
    assert_eq!(scene.partner.records("entries").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_event_tells_of_its_dead_letter() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    let mut organization = scene.source.organization();
    let listener = Listener::of(&scene, "sync.failed.v1.#").await;
    let name = organization.name().to_owned();
    scene.partner.held().refuses.insert(name.clone());
    scene.publish(&organization.created()).await;
    let first = listener.hears(1).await.remove(0);
    let dead_letter = scene
        .ask("select id::text from dead_letter")
        .await
        .remove(0);
    let data = &first["data"];
    assert_eq!(data["dead_letter"], dead_letter.as_str());
    assert_eq!(
        (&data["entity"], &data["class"]),
        (&"contact".into(), &"refused".into())
    );
    // What the partner said, and whom it named, stays in the ledger.
    assert!(!first.to_string().contains(&name), "{first}");

    // Another death is another event.
    let again = ["dead-letters", "replay", "--tenant", TENANT, "--yes"];
    scene.fleet.run(&again).run(END).await.expect(1);
    let second = listener.hears(1).await.remove(0);
    assert_eq!(second["data"]["dead_letter"], dead_letter.as_str());
    assert_ne!(second["id"], first["id"]);
    end(processes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_is_no_failure() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    let created = scene.source.person().created();
    scene.publish(&created).await;
    scene.partner.has("greetings", 1).await;
    scene.until("select seq::text from outbox", &[]).await;
    let unrouted = scene.fleet.broker.queue("unrouted");
    assert_eq!(scene.fleet.broker.depth(&unrouted).await.unwrap(), Some(0));
    end(processes).await;
}
