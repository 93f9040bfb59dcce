//! Events that end their process (V28–V31, V37): counted by claims that never came back, held at the fourth, and
//! nobody else with them.

use serde_json::Value;
use simulators::metakocka::{Call, CommitPoint, Fault, ScriptedFault};
use testkit::{Contact, Contacts, Kurir, Running, wait_for};

use crate::fleet::{Fate, Fleet, SOON, TENANT, id_of, plain, ready, rename, settled, settles};

/// Deaths of an event after which it is held.
const LIVES: usize = 3;

/// A worker that dies at this point of any of these events, or doesn't.
fn fragile(fleet: &Fleet, point: &str, events: &[&Value]) -> Kurir {
    events.iter().fold(fleet.worker(), |worker, event| {
        worker.failpoint_if_reached(&format!("{point}:kill:1:{}", id_of(event)))
    })
}

/// Starts such workers, one after the other, until `done`; answers with the last one, which lives, and how many died.
async fn until(
    fleet: &Fleet,
    worker: impl Fn() -> Kurir,
    done: impl AsyncFn() -> bool,
) -> (Running, usize) {
    const MOST: usize = 12;
    for died in 0..MOST {
        let running = worker().start();
        let lives = wait_for("done, or one more death", SOON, async || {
            if running.status().is_some() {
                return Ok(false);
            }
            if done().await {
                Ok(true)
            } else {
                Err(fleet.story().await)
            }
        })
        .await;
        if lives {
            return (running, died);
        }
        fleet.leases_end().await;
    }
    panic!("{MOST} workers died\n{}", fleet.story().await);
}

/// A poison event is held, by the worker that comes with the answer.
async fn held_as_poison(fleet: &Fleet, event: &Value) -> Running {
    let poison = async || fleet.held(event).await.as_deref() == Some("poison");
    let (running, died) = until(fleet, || fragile(fleet, "after_claim", &[event]), poison).await;
    assert_eq!(died, LIVES);
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn held_poison_lets_older_content_through() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let keeper = fleet.keeping().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let first = contact.created();
    let second = rename(&mut contact);
    let name = contact.name().to_owned();
    let third = rename(&mut contact);
    fleet.publish(&third).await;
    fleet.kills("after_claim", &third, 1).await;
    fleet.publish_all([&first, &second]).await;
    let poison = async || fleet.held(&third).await.as_deref() == Some("poison");
    let (worker, died) = until(&fleet, || fragile(&fleet, "after_claim", &[&third]), poison).await;
    assert_eq!(died, LIVES - 1);
    fleet.becomes(&second, Fate::Covered).await;
    fleet
        .ends([worker, keeper], [&first, &second, &third])
        .await;
    assert_eq!(fleet.fate(&third).await, Fate::Held);
    fleet.has_one_named(&contact, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_poison_events_of_one_link_end_held_in_turn() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let keeper = fleet.keeping().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let first = contact.created();
    let name = contact.name().to_owned();
    let (second, third) = (rename(&mut contact), rename(&mut contact));
    fleet.publish_all([&third, &second, &first]).await;
    let both = async || {
        fleet.held(&second).await.as_deref() == Some("poison")
            && fleet.held(&third).await.as_deref() == Some("poison")
    };
    let poison = || fragile(&fleet, "after_claim", &[&second, &third]);
    let (worker, died) = until(&fleet, poison, both).await;
    assert_eq!(died, 2 * LIVES);
    fleet
        .ends([worker, keeper], [&first, &second, &third])
        .await;
    fleet.has_one_named(&contact, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn release_after_newer_is_a_duplicate() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let first = contact.created();
    fleet.publish(&first).await;
    let worker = held_as_poison(&fleet, &first).await;
    // Released; before it is on its way, a newer version is applied.
    fleet.release().await;
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Covered).await;
    worker.kill();
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    settles(&worker, &first, 1).await;
    assert_eq!(settled(&worker, &first, "duplicate"), 1);
    fleet.ends([worker, keeper], [&first, &second]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.count("select count(*) from held").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_does_not_reset_the_claim_count() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.kills("after_sent", &event, 1).await;
    // Longer than a process on a busy machine needs to start.
    fleet
        .sql("update effect set settle_at = clock_timestamp() + interval '15 seconds' where state in ('sent', 'unknown')")
        .await;
    // Too early to believe that nothing was stored: it waits, in order, and dies only then.
    let waiting = fragile(&fleet, "after_sent", &[&event]).start();
    waiting.killed(SOON).await;
    assert!(settled(&waiting, &event, "an earlier call may still take effect") > 0);
    fleet.leases_end().await;
    fleet.effects_settle().await;
    let poison = async || fleet.held(&event).await.as_deref() == Some("poison");
    let (worker, died) = until(&fleet, || fragile(&fleet, "after_sent", &[&event]), poison).await;
    assert_eq!(died, LIVES - 2);
    fleet.effects_settle().await;
    let keeper = fleet.keeping().await;
    fleet.ends([worker, keeper], [&event]).await;
    assert_eq!(fleet.partners(), [], "it never left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_ends_by_itself_does_not_reset_the_claim_count() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let event = plain(&mut Contacts::new(TENANT, 1)).created();
    fleet.publish(&event).await;
    fleet.kills("after_claim", &event, 1).await;
    // It comes back to a suspended connection, is held without a call, and leaves when that is repaired.
    fleet
        .sql("update connection set state = 'suspended', epoch = epoch + 1, updated_at = clock_timestamp()")
        .await;
    let waiting = fleet.working().await;
    fleet.becomes(&event, Fate::Held).await;
    assert_eq!(fleet.held(&event).await.as_deref(), Some("suspended"));
    waiting.kill();
    fleet.accepted().await;
    let keeper = fleet.keeping().await;
    let poison = async || fleet.held(&event).await.as_deref() == Some("poison");
    let (worker, died) = until(&fleet, || fragile(&fleet, "after_claim", &[&event]), poison).await;
    assert_eq!(died, LIVES - 1);
    fleet.ends([worker, keeper], [&event]).await;
    assert_eq!(fleet.partners(), [], "it never left");
}

#[tokio::test(flavor = "multi_thread")]
async fn janitor_claims_count_under_the_link() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    fleet.fault_on(Call::AddPartner, Fault::Error { status: 502 });
    // Its last attempt: the create's outcome stays unknown, and no event comes back for it.
    fleet.publish_copy(&event, &[("x-attempt", 12)]).await;
    fleet.becomes(&event, Fate::Dead).await;
    worker.terminate();
    worker.ended(SOON).await;
    fleet.effects_settle().await;
    let given_up = async || fleet.link(contact.id()).await.unwrap().state == "conflict";
    let deadly = || fleet.worker().failpoint_if_reached("after_claim:kill");
    let (worker, died) = until(&fleet, deadly, given_up).await;
    assert_eq!(died, LIVES);
    let said: String = sqlx::query_scalar("select last_error from link")
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    assert!(said.contains("three times"), "{said}");
    drop((worker, keeper));
}

/// A poison event and three innocent ones in the same process.
#[tokio::test(flavor = "multi_thread")]
async fn neighbours_of_a_poison_event_are_applied() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut source = Contacts::new(TENANT, 1);
    let mut contacts: Vec<Contact> = (0..4).map(|_| plain(&mut source)).collect();
    let events: Vec<Value> = contacts.iter_mut().map(Contact::created).collect();
    let poison = &events[0];
    // Slow enough that they are still at work when the poison ends their process.
    let slow = Fault::Slow {
        ms: 700,
        commit: CommitPoint::AtEnd,
    };
    fleet.fault(ScriptedFault::new(slow).on(Call::GetPartner).always());
    fleet.publish_all(&events).await;
    let held = async || fleet.held(poison).await.as_deref() == Some("poison");
    let four_handlers = || fragile(&fleet, "after_claim", &[poison]).setting("worker.slots", 4);
    let (worker, died) = until(&fleet, four_handlers, held).await;
    assert_eq!(died, LIVES);
    fleet.simulator.clear_faults();
    fleet.ends([worker], &events).await;
    for (contact, event) in contacts.iter().zip(&events).skip(1) {
        assert_eq!(fleet.fate(event).await, Fate::Covered);
        fleet.has_one(contact).await;
    }
    assert_eq!(fleet.count("select count(*) from held").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_suspects_do_not_wait_for_each_other() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut source = Contacts::new(TENANT, 1);
    let (mut one, mut other) = (plain(&mut source), plain(&mut source));
    let events = [one.created(), other.created()];
    fleet.publish_all(&events).await;
    // Neither is done before the other is claimed.
    let slow = Fault::Slow {
        ms: 1_900,
        commit: CommitPoint::AtEnd,
    };
    fleet.fault(ScriptedFault::new(slow).on(Call::GetPartner).always());
    for _ in 0..LIVES - 1 {
        // Both have been claimed when the process ends.
        let dying = fleet.worker().failpoint("after_claim:kill:2").start();
        dying.killed(SOON).await;
        let counted = "select count(*) from link where (claim).event is not null";
        assert_eq!(fleet.count(counted).await, 2);
        fleet.leases_end().await;
    }
    fleet.simulator.clear_faults();
    let worker = fleet.working().await;
    fleet.ends([worker], &events).await;
    fleet.has_one(&one).await;
    fleet.has_one(&other).await;
    assert_eq!(fleet.count("select count(*) from held").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_copy_of_a_held_event_is_acknowledged() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    fleet.publish(&event).await;
    let worker = held_as_poison(&fleet, &event).await;
    // It would kill again, if it were claimed.
    let before = settled(&worker, &event, "");
    fleet.publish(&event).await;
    settles(&worker, &event, before + 1).await;
    fleet.ends([worker], [&event]).await;
    assert_eq!(fleet.count("select count(*) from held").await, 1);
    assert_eq!(fleet.count("select count(*) from unsettled_claim").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn verdict_and_hold_are_one_transaction() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.kills("after_claim", &event, LIVES).await;
    // The verdict has been read and nothing else was done: the row is there all the same.
    fleet.kills("before_ack", &event, 1).await;
    assert_eq!(fleet.held(&event).await.as_deref(), Some("poison"));
    let worker = fleet.working().await;
    settles(&worker, &event, 1).await;
    fleet.ends([worker], [&event]).await;
    assert_eq!(fleet.count("select count(*) from held").await, 1);
    assert_eq!(fleet.partners(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_ack_removes_its_held_row() {
    let fleet = Fleet::start().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    let frozen = ready(fleet.narrow_worker().failpoint("after_call:stop")).await;
    fleet.publish(&event).await;
    frozen.frozen(SOON).await;
    fleet.leases_end().await;
    // Two more that die with it, and it counts as poison while the first one's answer is on its way.
    fleet.publish(&event).await;
    fleet.kills("after_claim", &event, LIVES - 1).await;
    let worker = fleet.working().await;
    fleet.becomes(&event, Fate::Held).await;
    frozen.thaw();
    fleet.becomes(&event, Fate::Covered).await;
    fleet.ends([worker, frozen], [&event]).await;
    assert_eq!(fleet.count("select count(*) from held").await, 0);
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1);
}

/// Renewals that fail take the lease away again and again; nothing dies, so nothing is counted.
#[tokio::test(flavor = "multi_thread")]
async fn lost_lease_returns_its_claim() {
    let fleet = Fleet::start().await;
    fleet
        .sql("create or replace function renew_links(p_items jsonb, p_lease interval) returns int language sql as 'select 0'")
        .await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    // Two looks before the create, together almost two leases long.
    let slow = Fault::Slow {
        ms: 1_700,
        commit: CommitPoint::AtEnd,
    };
    fleet.fault(ScriptedFault::new(slow).on(Call::GetPartner).always());
    // One takes the lease from the other whenever it ends.
    fleet.publish_all([&event, &event]).await;
    wait_for("the lease to be lost three times", SOON, async || {
        match settled(&worker, &event, "\"wait\"")
            - settled(&worker, &event, "holds the record's lease")
        {
            lost if lost >= LIVES => Ok(()),
            lost => Err((lost, fleet.story().await)),
        }
    })
    .await;
    fleet.simulator.clear_faults();
    fleet.ends([worker], [&event]).await;
    assert_eq!(fleet.fate(&event).await, Fate::Covered);
    assert_eq!(fleet.count("select count(*) from unsettled_claim").await, 0);
    fleet.has_one(&contact).await;
}
