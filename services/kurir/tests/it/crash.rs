//! The crash windows of docs/tests.md, one test or two for each row: real processes, killed or frozen there.
//! Afterwards the partner has exactly one record with the newest content, and every event can be accounted for. Rows
//! whose frozen half is a story of its own have it in `v_create`, `v_dead` and `v_parts` (docs/tests.md).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use simulators::metakocka::{
    Call, CommitPoint, Fault, LateAnswer, LogFilter, Options, ScriptedFault,
};
use testkit::instance::{Postgres, Rabbit};
use testkit::{Contact, Contacts, Kurir, Running, wait_for, wait_until};

use crate::fleet::{
    self, END, Fate, Fleet, READY, SETTLE, SOON, TENANT, id_of, plain, ready, rename, settled,
    settles, settles_as,
};
use crate::v_create::redelivered_while_it_runs;

/// Longer than a restart of a server and the pauses between tries to reach it.
const BACK: Duration = Duration::from_secs(60);

fn contact() -> Contact {
    plain(&mut Contacts::new(TENANT, 1))
}

fn refusal() -> Fault {
    Fault::Refuse {
        code: 2,
        text: "not this one".to_owned(),
    }
}

/// The first event of a contact meets a worker that dies at this point; another worker goes on.
async fn killed_at(fleet: &Fleet, dying: Kurir, point: &str) -> (Contact, Value, Running) {
    let mut contact = contact();
    let event = contact.created();
    let dying = fleet::dying(dying.failpoint(&format!("{point}:kill"))).await;
    fleet.publish(&event).await;
    dying.killed(SOON).await;
    let worker = fleet.working().await;
    (contact, event, worker)
}

/// The first event of a contact meets a worker that stands still at this point until a copy of it has been applied by
/// another worker; then it goes on.
async fn frozen_at(fleet: &Fleet, freezing: Kurir, point: &str) -> (Contact, Value, [Running; 2]) {
    let mut contact = contact();
    let event = contact.created();
    let frozen = ready(freezing.failpoint(&format!("{point}:stop"))).await;
    fleet.publish(&event).await;
    frozen.frozen(SOON).await;
    fleet.leases_end().await;
    let worker = fleet.working().await;
    fleet.publish(&event).await;
    fleet.becomes(&event, Fate::Covered).await;
    frozen.thaw();
    settles(&frozen, &event, 1).await;
    (contact, event, [worker, frozen])
}

/// One create reached the partner, and its record has the newest content.
async fn made_once(fleet: &Fleet, contact: &Contact) {
    fleet.has_one(contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1, "{}", fleet.story().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn window_1_gateway_killed_between_publish_and_answer() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let create = [
        "token", "create", "--tenant", TENANT, "--name", "crm", "--json",
    ];
    let created = fleet.command(&create).await.expect(0);
    let created: Value = serde_json::from_str(&created.stdout).unwrap();
    let token = created["secret"].as_str().unwrap();
    let mut contact = contact();
    let event = contact.created();
    let dying = fleet::dying(fleet.gateway().failpoint("gateway_after_publish:kill")).await;
    let heard = dying
        .http("gateway")
        .with_token(token)
        .post_event("/v1/events", &event)
        .await;
    assert!(heard.is_err(), "{heard:?}");
    dying.killed(SOON).await;
    // The sender repeats, as it must.
    let gateway = ready(fleet.gateway()).await;
    let http = gateway.http("gateway").with_token(token);
    http.post_event("/v1/events", &event)
        .await
        .unwrap()
        .expect(202);
    // The second copy may meet the first one's lease and wait a second.
    settles_as(&worker, &event, "duplicate", 1).await;
    fleet.ends([worker, gateway], [&event]).await;
    made_once(&fleet, &contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_2_killed_between_receive_and_claim() {
    let fleet = Fleet::start().await;
    let (contact, event, worker) = killed_at(&fleet, fleet.worker(), "after_receive").await;
    fleet.ends([worker], [&event]).await;
    made_once(&fleet, &contact).await;
    assert_eq!(fleet.count("select count(*) from unsettled_claim").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn window_2_frozen_before_claim_finds_a_duplicate() {
    let fleet = Fleet::start().await;
    let (contact, event, processes) =
        frozen_at(&fleet, fleet.narrow_worker(), "before_claim").await;
    assert_eq!(settled(&processes[1], &event, "duplicate"), 1);
    fleet.ends(processes, [&event]).await;
    made_once(&fleet, &contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_3_killed_after_claim() {
    let fleet = Fleet::start().await;
    let (contact, event, worker) = killed_at(&fleet, fleet.worker(), "after_claim").await;
    fleet.becomes(&event, Fate::Covered).await;
    // It waited for the lease, and no attempt was counted.
    assert_eq!(
        settled(&worker, &event, "\"attempt\":1"),
        settled(&worker, &event, "")
    );
    fleet.ends([worker], [&event]).await;
    made_once(&fleet, &contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_3_frozen_after_claim_books_nothing() {
    let fleet = Fleet::start().await;
    let (contact, event, processes) = frozen_at(&fleet, fleet.narrow_worker(), "after_claim").await;
    fleet.ends(processes, [&event]).await;
    made_once(&fleet, &contact).await;
    assert_eq!(fleet.effects().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn window_5_killed_between_sent_and_the_call() {
    let fleet = Fleet::start().await;
    let (contact, event, worker) = killed_at(&fleet, fleet.worker(), "after_sent").await;
    fleet.ends([worker], [&event]).await;
    made_once(&fleet, &contact).await;
    let sent: DateTime<Utc> = sqlx::query_scalar("select min(sent_at) from effect")
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    let called = fleet.simulator.log(&LogFilter::call(Call::AddPartner))[0].at;
    let pause = (called - sent).to_std().unwrap();
    assert!(pause >= SETTLE, "believed absent after {pause:?}");
    let states: Vec<String> = fleet
        .effects()
        .await
        .into_iter()
        .map(|effect| effect.state)
        .collect();
    assert_eq!(states, ["abandoned", "confirmed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn window_6_killed_between_the_commit_and_its_answer() {
    let fleet = Fleet::start().await;
    let dying = fleet.working().await;
    let slow = Fault::Slow {
        ms: 1_900,
        commit: CommitPoint::AtOnce,
    };
    fleet.fault_on(Call::AddPartner, slow);
    let mut contact = contact();
    let first = contact.created();
    fleet.publish(&first).await;
    wait_until(
        "the commit",
        SOON,
        async || fleet.partners().len(),
        |partners| *partners == 1,
    )
    .await;
    dying.kill();
    // Found by whichever event of the record comes first.
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    let worker = fleet.working().await;
    fleet.ends([worker], [&first, &second]).await;
    made_once(&fleet, &contact).await;
    assert_eq!(fleet.effects().await[0].state, "confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn window_7_committed_after_the_caller_died_and_before_settle() {
    let fleet = Fleet::start().await;
    let dying = fleet.working().await;
    let late = Fault::CommitLate {
        after_ms: 2_000,
        answer: LateAnswer::Nothing,
    };
    fleet.fault_on(Call::AddPartner, late);
    let mut contact = contact();
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.called(Call::AddPartner, 1).await;
    dying.kill();
    fleet.leases_end().await;
    let worker = fleet.working().await;
    fleet.ends([worker], [&event]).await;
    made_once(&fleet, &contact).await;
    assert_eq!(fleet.effects().await[0].state, "confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn window_8_create_committed_after_settle_becomes_a_conflict() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let late = Fault::CommitLate {
        after_ms: 4_000,
        answer: LateAnswer::Error,
    };
    fleet.fault_on(Call::AddPartner, late);
    let mut contact = contact();
    let event = contact.created();
    fleet.publish(&event).await;
    fleet
        .effect("unknown", |effect| effect.state == "unknown")
        .await;
    fleet.effects_settle().await;
    fleet.becomes(&event, Fate::Covered).await;
    wait_until(
        "the late commit",
        SOON,
        async || fleet.partners().len(),
        |partners| *partners == 2,
    )
    .await;
    fleet.recheck_now().await;
    wait_for("the conflict to be seen", SOON, async || {
        let link = fleet.link(contact.id()).await.unwrap();
        if link.state == "conflict" {
            Ok(())
        } else {
            Err(fleet.story().await)
        }
    })
    .await;
    fleet.ends([worker, keeper], [&event]).await;
    assert_eq!(fleet.calls(Call::AddPartner), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn window_8_update_committed_after_settle_is_written_over() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = contact();
    let first = contact.created();
    fleet.publish(&first).await;
    fleet.becomes(&first, Fate::Covered).await;
    let late = Fault::CommitLate {
        after_ms: 4_000,
        answer: LateAnswer::Error,
    };
    fleet.fault_on(Call::UpdatePartner, late);
    let second = rename(&mut contact);
    let older = contact.name().to_owned();
    fleet.publish(&second).await;
    fleet
        .effect("unknown", |effect| effect.state == "unknown")
        .await;
    fleet.effects_settle().await;
    let third = rename(&mut contact);
    fleet.publish(&third).await;
    fleet.becomes(&third, Fate::Covered).await;
    let name = async || fleet.partners().pop().unwrap().customer;
    wait_until("the late commit", SOON, name, |name| *name == older).await;
    fleet.recheck_now().await;
    wait_until("the newest content", SOON, name, |name| {
        name == contact.name()
    })
    .await;
    fleet
        .ends([worker, keeper], [&first, &second, &third])
        .await;
    made_once(&fleet, &contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_9_killed_between_the_answer_and_complete() {
    let fleet = Fleet::start().await;
    let (contact, event, worker) = killed_at(&fleet, fleet.worker(), "after_call").await;
    fleet.ends([worker], [&event]).await;
    made_once(&fleet, &contact).await;
    let states: Vec<String> = fleet
        .effects()
        .await
        .into_iter()
        .map(|effect| effect.state)
        .collect();
    assert_eq!(states, ["confirmed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn window_10_killed_between_complete_and_ack() {
    for point in ["after_complete", "before_ack"] {
        let fleet = Fleet::start().await;
        let (contact, event, worker) = killed_at(&fleet, fleet.worker(), point).await;
        settles(&worker, &event, 1).await;
        assert_eq!(settled(&worker, &event, "duplicate"), 1, "{point}");
        fleet.ends([worker], [&event]).await;
        made_once(&fleet, &contact).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn window_11_killed_between_the_retry_copy_and_ack() {
    let fleet = Fleet::start().await;
    fleet.fault_on(Call::AddPartner, Fault::CommitThenDrop);
    let (contact, event, worker) = killed_at(&fleet, fleet.worker(), "after_retry_copy").await;
    // The copy and the original.
    settles(&worker, &event, 2).await;
    fleet.ends([worker], [&event]).await;
    made_once(&fleet, &contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_12_killed_between_the_dead_letter_copy_and_ack() {
    let fleet = Fleet::start().await;
    let keeper = fleet.keeping().await;
    fleet.fault(ScriptedFault::new(refusal()).on(Call::AddPartner).always());
    let mut contact = contact();
    let event = contact.created();
    let dying = fleet::dying(fleet.worker().failpoint("after_dead_copy:kill")).await;
    fleet.publish(&event).await;
    dying.killed(SOON).await;
    fleet.becomes(&event, Fate::Dead).await;
    // The original meets its own open dead letter.
    let worker = fleet.working().await;
    settles(&worker, &event, 1).await;
    assert_eq!(settled(&worker, &event, "\"ack\""), 1);
    assert_eq!(
        fleet
            .count("select count(*) from dead_letter where deaths = 1")
            .await,
        1
    );
    assert_eq!(fleet.partners(), []);
    fleet.simulator.clear_faults();
    fleet.replay(&event).await;
    fleet.dead_letter_is(&event, "resolved").await;
    fleet.ends([worker, keeper], [&event]).await;
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_12_success_of_the_original_closes_the_dead_letter() {
    let fleet = Fleet::start().await;
    fleet.fault_on(Call::AddPartner, refusal());
    // Nobody keeps the ledger meanwhile: the original is handled again, and the partner takes it.
    let (contact, event, worker) = killed_at(&fleet, fleet.worker(), "after_dead_copy").await;
    fleet.becomes(&event, Fate::Covered).await;
    let keeper = fleet.keeping().await;
    fleet.ends([worker, keeper], [&event]).await;
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

/// Killed there, the keeper commits the death once, and its fall-back with it.
async fn ledger_killed_at(point: &str) {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut contact = contact();
    let refused = ScriptedFault::new(refusal()).on(Call::AddPartner);
    fleet.fault(refused.containing("v#2").always());
    let first = contact.created();
    let name = contact.name().to_owned();
    let second = rename(&mut contact);
    fleet.publish_all([&second, &first]).await;
    let dying = fleet::dying(fleet.keeper().failpoint(&format!("{point}:kill"))).await;
    let worker = fleet.working().await;
    dying.killed(SOON).await;
    let keeper = fleet.keeping().await;
    fleet.becomes(&first, Fate::Covered).await;
    fleet.ends([worker, keeper], [&first, &second]).await;
    assert_eq!(fleet.fate(&second).await, Fate::Dead);
    assert_eq!(
        fleet
            .count("select count(*) from dead_letter where deaths = 1")
            .await,
        1
    );
    assert_eq!(
        fleet
            .count("select count(*) from dead_letter_history where kind = 'death'")
            .await,
        1
    );
    fleet.has_one_named(&contact, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_13_ledger_killed_before_its_commit() {
    ledger_killed_at("ledger_before_commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_13_ledger_killed_after_its_commit() {
    ledger_killed_at("ledger_after_commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_14_killed_until_the_broker_gives_up() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut contact = contact();
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.kills("after_sent", &event, 1).await;
    fleet.dies_at_the_broker(&event).await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    fleet.becomes(&event, Fate::Dead).await;
    let link = fleet.link(contact.id()).await.unwrap();
    assert_eq!((link.desired_k, link.applied_k), (None, None));
    // Whole and in a person's hand: replayed, it is applied.
    fleet.replay(&event).await;
    fleet.dead_letter_is(&event, "resolved").await;
    fleet.ends([worker, keeper], [&event]).await;
    made_once(&fleet, &contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_16_channel_closed_while_its_task_runs() {
    let fleet = Fleet::start().await;
    let (worker, mut contact, first) = redelivered_while_it_runs(&fleet).await;
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.ends([worker], [&first, &second]).await;
    made_once(&fleet, &contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_17_relay_killed_between_confirm_and_mark() {
    let database = testkit::database().await;
    let fleet =
        Fleet::without_connection(database, testkit::broker().await, Options::default()).await;
    let worker = fleet.working().await;
    let mut contact = contact();
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.becomes(&event, Fate::Held).await;
    let dying = fleet::dying(fleet.keeper().failpoint("relay_after_confirm:kill")).await;
    // Adding the connection lets go what waited for it, through the outbox.
    fleet.connect().await;
    dying.killed(SOON).await;
    assert_eq!(
        fleet
            .count("select count(*) from outbox where exchange = ''")
            .await,
        1
    );
    let keeper = fleet.keeping().await;
    // Held, released, and released once more.
    settles(&worker, &event, 3).await;
    fleet.ends([worker, keeper], [&event]).await;
    made_once(&fleet, &contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_19_janitor_killed_in_the_middle_of_a_round() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = contact();
    let event = contact.created();
    fleet.fault_on(Call::AddPartner, Fault::CommitThenDrop);
    // Its last attempt: nobody comes back for the open create.
    fleet.publish_copy(&event, &[("x-attempt", 12)]).await;
    fleet.becomes(&event, Fate::Dead).await;
    keeper.terminate();
    keeper.ended(END).await;
    fleet.effects_settle().await;
    let dying = fleet::dying(fleet.keeper().failpoint("relay_after_confirm:kill")).await;
    dying.killed(SOON).await;
    // Two that share the work from now on.
    let (one, other) = tokio::join!(fleet.keeping(), fleet.keeping());
    fleet.dead_letter_is(&event, "resolved").await;
    fleet.ends([worker, one, other], [&event]).await;
    made_once(&fleet, &contact).await;
    assert_eq!(fleet.count("select count(*) from janitor_request").await, 1);
}

/// Contacts with two versions each: the first published before, the second after the server was away.
struct Many {
    contacts: Vec<Contact>,
    events: Vec<Value>,
}

impl Many {
    async fn begin(fleet: &Fleet) -> Self {
        let mut source = Contacts::new(TENANT, 1);
        let mut contacts: Vec<Contact> = (0..6).map(|_| plain(&mut source)).collect();
        let events: Vec<Value> = contacts.iter_mut().map(Contact::created).collect();
        // Some are at the partner when it happens.
        let slow = Fault::Slow {
            ms: 500,
            commit: CommitPoint::AtEnd,
        };
        fleet.fault(ScriptedFault::new(slow).on(Call::AddPartner).always());
        fleet.publish_all(&events).await;
        fleet.called(Call::AddPartner, 2).await;
        Self { contacts, events }
    }

    async fn go_on(&mut self, fleet: &Fleet) {
        fleet.simulator.clear_faults();
        let second: Vec<Value> = self.contacts.iter_mut().map(rename).collect();
        fleet.publish_all(&second).await;
        self.events.extend(second);
    }

    async fn end(self, fleet: &Fleet, processes: [Running; 2]) {
        fleet.ends(processes, &self.events).await;
        for contact in &self.contacts {
            fleet.has_one(contact).await;
        }
        assert_eq!(
            fleet.calls(Call::AddPartner),
            self.contacts.len(),
            "{}",
            id_of(&self.events[0])
        );
    }
}

/// Every one of these says that it is not ready, and lives.
async fn say_so(processes: &[Running; 2]) {
    for process in processes {
        let status = async || process.http("health").get("/readyz").await.unwrap().status;
        wait_until("readiness says so", READY, status, |status| *status == 503).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn window_20_broker_restart() {
    let rabbit = Rabbit::start().await;
    let fleet = Fleet::on(
        testkit::database().await,
        rabbit.broker().await,
        Options::default(),
    )
    .await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let processes = [worker, keeper];
    rabbit.flush().await;
    let mut many = Many::begin(&fleet).await;
    rabbit.kill().await;
    say_so(&processes).await;
    rabbit.start_again().await;
    for process in &processes {
        process.ready(BACK).await;
    }
    many.go_on(&fleet).await;
    many.end(&fleet, processes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_20_database_restart() {
    let postgres = Postgres::start().await;
    let fleet = Fleet::on(
        postgres.database().await,
        testkit::broker().await,
        Options::default(),
    )
    .await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let processes = [worker, keeper];
    let mut many = Many::begin(&fleet).await;
    postgres.kill().await;
    say_so(&processes).await;
    postgres.start_again().await;
    for process in &processes {
        process.ready(BACK).await;
    }
    many.go_on(&fleet).await;
    many.end(&fleet, processes).await;
}
