//! Dead letters and their links (V20–V23, V32): dead by the worker or by the broker, stale copies, replays, later
//! versions.

use serde_json::{Value, json};
use simulators::metakocka::{Call, Fault, LateAnswer, ScriptedFault};
use testkit::{Contact, Contacts, wait_for};

use crate::fleet::{
    self, Fate, Fleet, SOON, TENANT, id_of, order_key, plain, ready, rename, settled, settles,
};

fn refusal() -> Fault {
    Fault::Refuse {
        code: 2,
        text: "not this one".to_owned(),
    }
}

/// A call that is never answered, and stored long after the test.
fn silence() -> Fault {
    Fault::CommitLate {
        after_ms: 600_000,
        answer: LateAnswer::Nothing,
    }
}

/// A contact that exists at the partner, with its first event.
async fn applied(fleet: &Fleet) -> (Contact, Value) {
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let created = contact.created();
    fleet.publish(&created).await;
    fleet.becomes(&created, Fate::Covered).await;
    (contact, created)
}

/// v3 is being sent by a worker with this fail point, v2 was superseded by it and is kept.
struct Superseded {
    contact: Contact,
    events: [Value; 3],
    name_of_second: String,
}

async fn superseded(fleet: &Fleet, worker: &testkit::Running) -> Superseded {
    let (mut contact, first) = applied(fleet).await;
    let second = rename(&mut contact);
    let name_of_second = contact.name().to_owned();
    let third = rename(&mut contact);
    fleet.fault(
        ScriptedFault::new(silence())
            .on(Call::UpdatePartner)
            .containing("v#3"),
    );
    fleet.publish(&third).await;
    fleet.called(Call::UpdatePartner, 1).await;
    fleet.publish(&second).await;
    settles(worker, &second, 1).await;
    fleet.becomes(&second, Fate::Kept).await;
    Superseded {
        contact,
        events: [first, second, third],
        name_of_second,
    }
}

/// The broker gives v3 up; the ledger brings v2 back.
async fn falls_back(fleet: &Fleet, story: &Superseded) {
    let [_, second, third] = &story.events;
    fleet.dies_at_the_broker(third).await;
    // A death that nobody is accused of would be replayed once.
    let keeper = ready(fleet.keeper().setting("keeper.replay", false));
    let (worker, keeper) = tokio::join!(fleet.working(), keeper);
    fleet.becomes(third, Fate::Dead).await;
    fleet.becomes(second, Fate::Covered).await;
    fleet.ends([worker, keeper], &story.events).await;
    fleet
        .has_one_named(&story.contact, &story.name_of_second)
        .await;
    let count = "select count(*) from dead_letter where state = 'open' and link_id is not null";
    assert_eq!(fleet.count(count).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_limit_runs_the_dead_letter_transaction() {
    let fleet = Fleet::start().await;
    // While the third version's call has no answer, the second one is superseded and acknowledged.
    let point = format!("after_call:kill:1:{TENANT}-org-1-v3");
    let worker = ready(fleet.worker().failpoint(&point)).await;
    let story = superseded(&fleet, &worker).await;
    worker.killed(SOON).await;
    falls_back(&fleet, &story).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_death_after_release_before_copy_finds_the_link() {
    let fleet = Fleet::start().await;
    // The third version's first copy is its first outcome: the call's answer stays away.
    let worker = ready(fleet.worker().failpoint("before_settle_copy:kill")).await;
    let story = superseded(&fleet, &worker).await;
    worker.killed(SOON).await;
    let link = fleet.link(story.contact.id()).await.unwrap();
    assert_eq!(link.lease_token, None, "the lease was given back");
    let claims = "select count(*) from link where (claim).event is not null";
    assert_eq!(fleet.count(claims).await, 0);
    falls_back(&fleet, &story).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_death_of_an_applied_event_is_closed() {
    let fleet = Fleet::start().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    let dying = fleet::dying(fleet.worker().failpoint("before_ack:kill")).await;
    fleet.publish(&event).await;
    dying.killed(SOON).await;
    assert_eq!(fleet.fate(&event).await, Fate::Covered);
    fleet.dies_at_the_broker(&event).await;
    let keeper = fleet.keeping().await;
    wait_for("the ledger's note", SOON, async || {
        match fleet
            .count("select count(*) from dead_letter_history")
            .await
        {
            1 => Ok(()),
            rows => Err(rows),
        }
    })
    .await;
    fleet.ends([keeper], [&event]).await;
    assert_eq!(
        fleet
            .count("select count(*) from dead_letter where state = 'open'")
            .await,
        0
    );
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_copy_of_a_dead_version_is_acknowledged() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (mut contact, first) = applied(&fleet).await;
    let second = rename(&mut contact);
    let name = contact.name().to_owned();
    let third = rename(&mut contact);
    fleet.fault(
        ScriptedFault::new(refusal())
            .on(Call::UpdatePartner)
            .containing("v#3")
            .always(),
    );
    fleet.publish(&third).await;
    fleet.becomes(&third, Fate::Dead).await;
    let before = settled(&worker, &third, "");
    fleet.publish(&third).await;
    settles(&worker, &third, before + 1).await;
    assert_eq!(
        settled(&worker, &third, "\"ack\""),
        1,
        "{}",
        fleet.story().await
    );
    let link = fleet.link(contact.id()).await.unwrap();
    assert_eq!(
        link.desired_k.as_deref(),
        Some(order_key(&first, 0).as_bytes())
    );
    fleet.publish(&second).await;
    fleet
        .ends([worker, keeper], [&first, &second, &third])
        .await;
    assert_eq!(fleet.fate(&third).await, Fate::Dead);
    assert_eq!(
        fleet
            .count("select count(*) from dead_letter where deaths = 1")
            .await,
        1
    );
    fleet.has_one_named(&contact, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_is_the_next_generation() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (mut contact, first) = applied(&fleet).await;
    fleet.fault_on(Call::UpdatePartner, refusal());
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Dead).await;
    fleet.replay(&second).await;
    fleet.dead_letter_is(&second, "resolved").await;
    fleet.ends([worker, keeper], [&first, &second]).await;
    let link = fleet.link(contact.id()).await.unwrap();
    assert_eq!(
        link.applied_k.as_deref(),
        Some(order_key(&second, 1).as_bytes())
    );
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_generation_after_an_edit_is_ignored() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (mut contact, first) = applied(&fleet).await;
    fleet.fault_on(Call::UpdatePartner, refusal());
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Dead).await;
    // What an edit and its replay do: the same event with other content, in the next generation.
    let mut edited = second.clone();
    edited["data"]["contact"]["name"] = json!("Popravljeni d.o.o.");
    fleet
        .sql("update dead_letter set generation = 1, state = 'replaying'")
        .await;
    fleet.publish_copy(&edited, &[("x-generation", 1)]).await;
    fleet.dead_letter_is(&second, "resolved").await;
    let before = settled(&worker, &second, "");
    fleet.publish(&second).await;
    settles(&worker, &second, before + 1).await;
    fleet.ends([worker, keeper], [&first, &second]).await;
    fleet.has_one_named(&contact, "Popravljeni d.o.o.").await;
    let link = fleet.link(contact.id()).await.unwrap();
    assert_eq!(
        link.applied_k.as_deref(),
        Some(order_key(&second, 1).as_bytes())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_version_closes_older_dead_letters() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (mut contact, first) = applied(&fleet).await;
    fleet.fault_on(Call::UpdatePartner, refusal());
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Dead).await;
    let third = rename(&mut contact);
    fleet.publish(&third).await;
    fleet.dead_letter_is(&second, "overtaken").await;
    fleet
        .ends([worker, keeper], [&first, &second, &third])
        .await;
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_copy_of_an_applied_version_is_not_dead_lettered() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let (mut contact, first) = applied(&fleet).await;
    fleet.fault_on(Call::UpdatePartner, refusal());
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    let dead = fleet.broker.queue("metakocka-sync.dead");
    wait_for("the refused copy", SOON, async || {
        match fleet.broker.depth(&dead).await.unwrap() {
            Some(1) => Ok(()),
            depth => Err(depth),
        }
    })
    .await;
    // No ledger has seen it yet; another copy is applied.
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Covered).await;
    let keeper = fleet.keeping().await;
    fleet.ends([worker, keeper], [&first, &second]).await;
    assert_eq!(
        fleet
            .count("select count(*) from dead_letter where state = 'open'")
            .await,
        0
    );
    assert_eq!(
        fleet
            .count("select count(*) from dead_letter_history where kind = 'death'")
            .await,
        1
    );
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_without_a_call_needs_the_lease() {
    let fleet = Fleet::start().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let first = contact.created();
    // The same content again: ends without a call.
    let second = contact.updated();
    let at_second = |act: &str| format!("after_claim:{act}:1:{}", id_of(&second));
    let frozen = ready(fleet.narrow_worker().failpoint(&at_second("stop"))).await;
    fleet.publish(&first).await;
    fleet.becomes(&first, Fate::Covered).await;
    fleet.publish(&second).await;
    frozen.frozen(SOON).await;
    fleet.leases_end().await;
    let dying = fleet::dying(fleet.narrow_worker().failpoint(&at_second("kill"))).await;
    fleet.publish(&second).await;
    dying.killed(SOON).await;
    frozen.thaw();
    // The lease is a dead one's now: what was found out without it ends nothing.
    settles(&frozen, &second, 1).await;
    assert_eq!(settled(&frozen, &second, "\"ack\""), 0);
    fleet.ends([frozen], [&first, &second]).await;
    let link = fleet.link(contact.id()).await.unwrap();
    assert_eq!(
        link.applied_k.as_deref(),
        Some(order_key(&second, 0).as_bytes())
    );
    assert_eq!(fleet.calls(Call::UpdatePartner), 0);
}
