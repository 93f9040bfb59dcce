//! One event, several links, which name each other: entries and memberships of the sample worker.

use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use testkit::{Contact, Contacts, Publisher, Route, Running, structured_properties, wait_for};

use super::{Fleet, Partner, TENANT};
use crate::fleet::{END, SOON, rename};

/// A fleet whose worker runs, and where its partner is.
pub(super) struct Scene {
    pub(super) fleet: Fleet,
    pub(super) partner: Partner,
    publisher: Publisher,
    pub(super) source: Contacts,
}

impl Scene {
    pub(super) async fn new() -> Self {
        let fleet = Fleet::new().await;
        let (partner, url) = Partner::start().await;
        fleet.connect(&url).await;
        let publisher = fleet.broker.publisher().await.unwrap();
        Self {
            fleet,
            partner,
            publisher,
            source: Contacts::new(TENANT, 11),
        }
    }

    pub(super) async fn publish(&self, event: &Value) {
        assert_eq!(self.publisher.event(event).await.unwrap(), Route::Routed);
    }

    /// How often the partner was told to do this.
    fn writes(&self, what: &str) -> usize {
        let held = self.partner.held();
        held.writes.iter().filter(|write| *write == what).count()
    }

    pub(super) async fn ask(&self, statement: &'static str) -> Vec<String> {
        sqlx::query_scalar(statement)
            .fetch_all(self.fleet.database.pool())
            .await
            .unwrap()
    }

    pub(super) async fn until(&self, statement: &'static str, wanted: &[&str]) {
        wait_for(&format!("{statement}: {wanted:?}"), SOON, async || {
            let found = self.ask(statement).await;
            if found == wanted { Ok(()) } else { Err(found) }
        })
        .await;
    }

    async fn replay(&self) {
        self.fleet
            .says(&["dead-letters", "replay", "--tenant", TENANT, "--yes"])
            .await;
    }
}

pub(super) async fn end(processes: impl IntoIterator<Item = Running>) {
    for process in processes {
        process.terminate();
        assert!(process.ended(END).await.success());
    }
}

/// The event of a person who belongs to that organization.
fn of_organization(mut event: Value, organization: &Contact) -> Value {
    event["data"]["contact"]["organization"] =
        json!({ "id": organization.id(), "name": organization.name() });
    event
}

const DEAD: &str = "select facet || ' ' || class || ' ' || state from dead_letter order by 1";
const HELD: &str = "select facet || ' ' || reason || ' ' || waits_id from held order by 1";

#[tokio::test(flavor = "multi_thread")]
async fn kill_between_fan_out_and_ack() {
    let mut scene = Scene::new().await;
    let keeper = scene.fleet.keeper().await;
    let doomed = scene.fleet.worker(Some("after_fan_out:kill")).await;
    let contact = scene.source.person();
    scene.publish(&{ contact }.created()).await;
    doomed.killed(END).await;
    let processes = [scene.fleet.worker(None).await, keeper];
    scene.partner.has("entries", 1).await;
    scene.partner.has("members", 1).await;
    // Both sets of copies have been handled: nothing is left anywhere.
    scene.until("select seq::text from outbox", &[]).await;
    scene
        .until(
            "select kind || ' ' || state from link order by kind",
            &["contact linked", "greeting linked", "membership linked"],
        )
        .await;
    end(processes).await;
    for what in ["POST entries", "POST members", "POST greetings"] {
        assert_eq!(scene.writes(what), 1, "{what}");
    }
    let entry = &scene.partner.records("entries")[0]["id"];
    assert_eq!(&scene.partner.records("members")[0]["entry"], entry);
}

/// Who publishes does not choose what becomes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_publishers_facet_is_not_believed() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    let event = scene.source.person().created();
    let mut headers = FieldTable::default();
    headers.insert("x-facet".into(), AMQPValue::LongString("contact".into()));
    let properties = structured_properties(&event).with_headers(headers);
    let (exchange, key) = (
        scene.fleet.broker.queue("events"),
        format!("crm.contact.created.v1.{TENANT}"),
    );
    let body = event.to_string();
    let sent = scene
        .publisher
        .raw(&exchange, &key, body.as_bytes(), properties);
    assert_eq!(sent.await.unwrap(), Route::Routed);
    for of in ["entries", "members", "greetings"] {
        scene.partner.has(of, 1).await;
    }
    end(processes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_facet_neither_repeats_nor_delays_another() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    let mut contact = scene.source.person();
    scene.partner.held().refuses.insert(contact.id().to_owned());
    let first = contact.created();
    scene.publish(&first).await;
    scene
        .until(DEAD, &["greeting refused open", "membership refused open"])
        .await;
    scene.partner.has("entries", 1).await;
    // The same event once more: one facet is done, the other is in the ledger.
    scene.publish(&first).await;
    let renamed = rename(&mut contact);
    scene.publish(&renamed).await;
    scene.partner.holds(&[contact.name()]).await;
    let shown = scene.fleet.says(&["dead-letters", "list"]).await;
    assert!(shown.contains("membership"), "{shown}");

    scene.partner.held().refuses.clear();
    scene.replay().await;
    scene.partner.has("members", 1).await;
    scene
        .until(
            "select distinct state from dead_letter where state in ('open', 'replaying')",
            &[],
        )
        .await;
    end(processes).await;
    for (what, often) in [("POST entries", 1), ("PUT entries", 1)] {
        assert_eq!(scene.writes(what), often, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_organization_holds_person_and_lead_until_replay() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    let mut organization = scene.source.organization();
    let mut person = scene.source.person();
    let name = organization.name().to_owned();
    scene.partner.held().refuses.insert(name);
    scene.publish(&organization.created()).await;
    scene.until(DEAD, &["contact refused open"]).await;
    scene
        .publish(&of_organization(person.created(), &organization))
        .await;
    // The person's own entry waits for nobody.
    scene.partner.has("entries", 1).await;
    let waits = |facet| format!("{facet} prerequisite {}", organization.id());
    let (member, greeting) = (waits("membership"), waits("greeting"));
    scene.until(HELD, &[&greeting, &member, &member]).await;
    let held = scene.ask("select id::text from held order by id").await;
    let shown = scene.fleet.says(&["held", "show", &held[2]]).await;
    let dead_letter = scene.ask("select id::text from dead_letter").await;
    assert!(
        shown.contains(&format!("dead letter {}", dead_letter[0])),
        "{shown}"
    );

    scene.partner.held().refuses.clear();
    scene.replay().await;
    scene.partner.has("entries", 2).await;
    scene.partner.has("members", 2).await;
    scene.until(HELD, &[]).await;
    end(processes).await;
    let entries = scene.partner.records("entries");
    let entry_of = |contact: &Contact| {
        let mut named = entries.iter().filter(|one| one["name"] == contact.name());
        named.next().unwrap()["id"].clone()
    };
    let members = scene.partner.records("members");
    let of_person = members.iter().find(|one| one["of"] == person.id()).unwrap();
    assert_eq!(of_person["company"], entry_of(&organization));
    assert_eq!(of_person["entry"], entry_of(&person));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_waits_for_a_record_that_was_never_seen() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    let mut organization = scene.source.organization();
    let mut person = scene.source.person();
    scene
        .publish(&of_organization(person.created(), &organization))
        .await;
    let waits = format!("membership prerequisite {}", organization.id());
    scene.until(HELD, &[&waits]).await;
    let held = scene.ask("select id::text from held").await;
    let shown = scene.fleet.says(&["held", "show", &held[0]]).await;
    assert!(shown.contains("no event of it has come yet"), "{shown}");
    scene.publish(&organization.created()).await;
    scene.partner.has("members", 2).await;
    end(processes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeat_sends_the_stored_text() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    scene.partner.held().too_many = true;
    scene.partner.held().loses_a_greeting = true;
    let created = scene.source.person().created();
    scene.publish(&created).await;
    // Once it was one too many, once the answer was lost: it is found by its key, whatever it says.
    scene.partner.has("greetings", 1).await;
    scene
        .until(
            "select state from effect where operation = 'create' and request -> 'fields' ? 'text' order by created_at",
            &["failed", "unknown"],
        )
        .await;
    scene
        .fleet
        .sql("update effect set settle_at = clock_timestamp() where state in ('sent', 'unknown')")
        .await;
    scene
        .until(
            "select kind || ' ' || state from link where kind = 'greeting'",
            &["greeting linked"],
        )
        .await;
    end(processes).await;
    let held = scene.partner.held();
    assert_eq!(held.suggested, 1);
    assert_eq!(held.greetings, ["Welcome, number 1"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_moved_before_send_is_planned_anew() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    scene.partner.held().looks_wait = Some("members");
    let mut person = scene.source.person();
    scene.publish(&person.created()).await;
    scene
        .until(
            "select kind from link where kind = 'membership' and lease_token is not null",
            &["membership"],
        )
        .await;
    // Planned with the first entry, and not sent yet.
    scene
        .fleet
        .sql("update link set target_id = 'moved' where kind = 'contact'")
        .await;
    scene.partner.held().looks_wait = None;
    scene.partner.has("members", 1).await;
    end(processes).await;
    assert_eq!(scene.partner.records("members")[0]["entry"], "moved");
    assert_eq!(scene.writes("POST members"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn document_left_behind_is_listed() {
    let mut scene = Scene::new().await;
    let processes = [scene.fleet.worker(None).await, scene.fleet.keeper().await];
    let mut person = scene.source.person();
    scene.publish(&person.created()).await;
    scene.partner.has("members", 1).await;
    scene
        .until(
            "select kind from link where refers <> '[]' and state = 'linked' order by kind",
            &["greeting", "membership"],
        )
        .await;
    let moved = ["links", "list", "--moved"];
    assert!(!scene.fleet.says(&moved).await.contains("membership"));
    scene
        .fleet
        .sql("update link set target_id = 'moved' where kind = 'contact'")
        .await;
    let listed = scene.fleet.says(&moved).await;
    assert!(listed.contains("membership"), "{listed}");
    let record = format!("membership/{}", person.id());
    let shown = scene.fleet.says(&["links", "show", &record]).await;
    assert!(
        shown.contains("moved; its next event takes it along"),
        "{shown}"
    );
    // Its next event takes it along.
    scene.publish(&person.updated()).await;
    wait_for("the membership of the moved entry", SOON, async || {
        let members = scene.partner.records("members");
        match members[0]["entry"] == "moved" {
            true => Ok(()),
            false => Err(members),
        }
    })
    .await;
    scene
        .until(
            "select kind from link where refers -> 0 ->> 'target_id' = 'moved'",
            &["membership"],
        )
        .await;
    assert!(!scene.fleet.says(&moved).await.contains("membership"));
    end(processes).await;
}
