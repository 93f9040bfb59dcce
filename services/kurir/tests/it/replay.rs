//! Replays with real processes: killed at each step, stopping themselves, overtaken, edited, of neighbours of a crash
//! (docs/dead-letters.md).

use serde_json::Value;
use simulators::metakocka::{Call, CommitPoint, Fault, ScriptedFault};
use testkit::instance::Postgres;
use testkit::{Contact, Contacts, Ended, Running, wait_for, wait_until};

use crate::fleet::{self, END, Fate, Fleet, SOON, TENANT, id_of, plain, rename};

fn refusal() -> Fault {
    Fault::Refuse {
        code: 2,
        text: "not this one".to_owned(),
    }
}

/// So many contacts whose first events are dead letters, the first to die first, and the events.
async fn dead(fleet: &Fleet, count: usize) -> (Vec<Contact>, Vec<Value>) {
    fleet.fault(ScriptedFault::new(refusal()).on(Call::AddPartner).always());
    let mut source = Contacts::new(TENANT, 1);
    let mut contacts: Vec<Contact> = (0..count).map(|_| plain(&mut source)).collect();
    let events: Vec<Value> = contacts.iter_mut().map(Contact::created).collect();
    fleet.publish_all(&events).await;
    for event in &events {
        fleet.becomes(event, Fate::Dead).await;
    }
    // Workers handle them side by side: here they die one after the other.
    for (place, event) in events.iter().enumerate() {
        sqlx::query(
            "update dead_letter set first_at = to_timestamp(1800000000 + $2) where event_id = $1",
        )
        .bind(id_of(event))
        .bind(i32::try_from(place).unwrap())
        .execute(fleet.database.pool())
        .await
        .unwrap();
    }
    (contacts, events)
}

/// Orders a replay of all and does not wait for it.
async fn ordered(fleet: &Fleet) -> String {
    let replay = [
        "dead-letters",
        "replay",
        "--all",
        "--yes",
        "--detach",
        "--json",
    ];
    let ordered = fleet.command(&replay).await.expect(0);
    let ordered: Value = serde_json::from_str(&ordered.stdout).unwrap();
    ordered["replay"].as_str().unwrap().to_owned()
}

async fn followed(fleet: &Fleet, replay: &str) -> (Ended, Value) {
    let show = [
        "dead-letters",
        "replays",
        "show",
        replay,
        "--follow",
        "--json",
    ];
    let ended = fleet.command(&show).await;
    let progress = serde_json::from_str(&ended.stdout).unwrap_or_default();
    (ended, progress)
}

async fn progress(fleet: &Fleet, replay: &str) -> Value {
    let show = ["dead-letters", "replays", "show", replay, "--json"];
    let shown = fleet.command(&show).await.expect(0);
    serde_json::from_str(&shown.stdout).unwrap()
}

/// As if thirty seconds had passed since its keeper died.
async fn lease_ends(fleet: &Fleet) {
    fleet.sql("update replay set lease_until = now()").await;
}

/// The keeper dies there in the middle of a replay of two; another one goes on.
async fn replay_killed_at(point: &str) {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (contacts, events) = dead(&fleet, 2).await;
    keeper.terminate();
    keeper.ended(END).await;
    fleet.simulator.clear_faults();
    let replay = ordered(&fleet).await;
    let dying = fleet::dying(fleet.keeper().failpoint(&format!("{point}:kill"))).await;
    dying.killed(SOON).await;
    let between = progress(&fleet, &replay).await;
    let counted: i64 = between["counts"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "held_briefly")
        .map(|(_, number)| number.as_i64().unwrap())
        .sum();
    assert_eq!((counted, &between["state"]), (2, &Value::from("running")));
    lease_ends(&fleet).await;
    let keeper = fleet.keeping().await;
    let (ended, progress) = followed(&fleet, &replay).await;
    ended.expect(0);
    assert_eq!(
        (&progress["state"], &progress["counts"]["done"]),
        (&Value::from("done"), &Value::from(2))
    );
    for event in &events {
        fleet.dead_letter_is(event, "resolved").await;
    }
    fleet.ends([worker, keeper], &events).await;
    for contact in &contacts {
        fleet.has_one(contact).await;
    }
    // Two refusals and two records.
    assert_eq!(fleet.calls(Call::AddPartner), 4, "{}", fleet.story().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn window_18_replay_killed_before_its_commit() {
    replay_killed_at("replay_before_commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_18_replay_killed_after_its_commit() {
    replay_killed_at("replay_after_commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn window_18_replay_killed_between_confirm_and_mark_of_the_relay() {
    replay_killed_at("relay_after_confirm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_after_its_keeper_was_killed() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (contacts, events) = dead(&fleet, 3).await;
    fleet.simulator.clear_faults();
    let replay = ordered(&fleet).await;
    fleet.dead_letter_is(&events[0], "resolved").await;
    keeper.kill();
    lease_ends(&fleet).await;
    let keeper = fleet.keeping().await;
    followed(&fleet, &replay).await.0.expect(0);
    fleet.ends([worker, keeper], &events).await;
    for contact in &contacts {
        fleet.has_one(contact).await;
    }
    assert_eq!(fleet.calls(Call::AddPartner), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_what_still_fails_stops_itself_and_ends_after_the_repair() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (contacts, events) = dead(&fleet, 7).await;
    fleet.simulator.clear_faults();
    // Three of the first five still fail.
    for place in [0, 1, 3] {
        fleet.fault(
            ScriptedFault::new(refusal())
                .on(Call::AddPartner)
                .containing(contacts[place].name())
                .always(),
        );
    }
    let replay = ordered(&fleet).await;
    let (ended, stopped) = followed(&fleet, &replay).await;
    let ended = ended.expect(1);
    assert!(
        ended.stderr.contains("the replay stopped itself"),
        "{}",
        ended.stderr
    );
    assert_eq!(stopped["state"], "stopped");
    assert_eq!(
        stopped["stopped_reason"],
        "3 of the last 5 did not succeed, most often: refused:metakocka refused with code #: not this one"
    );
    assert!(
        stopped["counts"]["waiting"].as_i64().unwrap() >= 1,
        "{stopped}"
    );
    assert_eq!(
        keeper.count_lines(
            |line| line.contains("\"WARN\"") && line.contains("the replay stopped itself")
        ),
        1
    );
    fleet.simulator.clear_faults();
    let resume = ["dead-letters", "replays", "resume", &replay];
    fleet.command(&resume).await.expect(0);
    let (ended, done) = followed(&fleet, &replay).await;
    ended.expect(0);
    assert_eq!(done["counts"]["done"], 7);
    fleet.ends([worker, keeper], &events).await;
    for contact in &contacts {
        fleet.has_one(contact).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_whose_record_has_moved_on_ends_as_overtaken() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let first = contact.created();
    fleet.publish(&first).await;
    fleet.becomes(&first, Fate::Covered).await;
    fleet.fault_on(Call::UpdatePartner, refusal());
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Dead).await;
    // The third version is being sent while the second one comes again.
    let slow = Fault::Slow {
        ms: 1_800,
        commit: CommitPoint::AtEnd,
    };
    fleet.fault_on(Call::UpdatePartner, slow);
    let third = rename(&mut contact);
    fleet.publish(&third).await;
    fleet.called(Call::UpdatePartner, 2).await;
    let replay = ordered(&fleet).await;
    let (ended, progress) = followed(&fleet, &replay).await;
    ended.expect(0);
    assert_eq!(progress["counts"]["overtaken"], 1, "{progress}");
    fleet
        .ends([worker, keeper], [&first, &second, &third])
        .await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::UpdatePartner), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_says_what_is_retried_and_what_is_held() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (contacts, events) = dead(&fleet, 2).await;
    fleet.simulator.clear_faults();
    // Until the repair: back before the suspension, it would be done and not held.
    fleet.fault(
        ScriptedFault::new(Fault::Maintenance)
            .on(Call::AddPartner)
            .containing(contacts[0].name())
            .always(),
    );
    fleet.fault(
        ScriptedFault::new(Fault::Auth { code: 3 })
            .on(Call::AddPartner)
            .containing(contacts[1].name()),
    );
    let replay = ordered(&fleet).await;
    let counts = async || progress(&fleet, &replay).await["counts"].clone();
    // For a second or two: a command would start too late to see it on a busy machine.
    let retrying = "select count(*) from replay_item where state = 'retrying'";
    wait_until(
        "the first one is retried",
        SOON,
        async || fleet.count(retrying).await,
        |count| *count == 1,
    )
    .await;
    // The second one suspends the connection; both wait for it now.
    let (ended, progress) = followed(&fleet, &replay).await;
    ended.expect(1);
    assert_eq!(
        (&progress["state"], &progress["counts"]["held"]),
        (&Value::from("done"), &Value::from(2)),
        "{progress}"
    );
    fleet.repair().await;
    for event in &events {
        fleet.becomes(event, Fate::Covered).await;
    }
    // What came home is told by its replay too.
    assert_eq!(counts().await["done"], 2);
    fleet.ends([worker, keeper], &events).await;
    for contact in &contacts {
        fleet.has_one(contact).await;
    }
}

/// Its budget lets nobody do anything for an hour.
async fn exhausted(fleet: &Fleet) {
    fleet
        .sql("update budget set cooldown_until = clock_timestamp() + interval '1 hour', cooldown_reason = 'enough'")
        .await;
}

async fn suspended(fleet: &Fleet) {
    fleet
        .sql("select suspend_connection(tenant, id, epoch, 'refused') from connection")
        .await;
}

/// A replay whose only dead letter is held for the budget; the worker stands still at `point` of it, if any.
async fn held_for_the_budget(
    fleet: &Fleet,
    point: Option<&str>,
) -> (Running, Contact, Value, String) {
    let worker = fleet.working().await;
    let (mut contacts, mut events) = dead(fleet, 1).await;
    let (contact, event) = (contacts.remove(0), events.remove(0));
    fleet.simulator.clear_faults();
    worker.terminate();
    worker.ended(END).await;
    exhausted(fleet).await;
    // A new one: it has to ask before it knows what it may.
    let worker = match point {
        Some(point) => fleet
            .worker()
            .failpoint(&format!("{point}:stop:1:{}", id_of(&event))),
        None => fleet.worker(),
    };
    let worker = fleet::ready(worker).await;
    let replay = ordered(fleet).await;
    (worker, contact, event, replay)
}

/// The end of both orders: held for the suspension, told so, and done; after the repair it goes home.
async fn ends_for_the_suspension(fleet: &Fleet, replay: &str, event: &Value) {
    let (ended, progress) = followed(fleet, replay).await;
    ended.expect(1);
    let counts = &progress["counts"];
    assert_eq!(
        (&progress["state"], &counts["held"], &counts["held_briefly"]),
        (&Value::from("done"), &Value::from(1), &Value::from(0)),
        "{progress}"
    );
    assert_eq!(progress["failures"][0]["detail"], "suspended", "{progress}");
    wait_until(
        "the row says the suspension",
        SOON,
        async || fleet.held(event).await,
        |reason| reason.as_deref() == Some("suspended"),
    )
    .await;
    fleet.sql("update budget set cooldown_until = null").await;
    fleet.repair().await;
    fleet.becomes(event, Fate::Covered).await;
    let home = self::progress(fleet, replay).await;
    assert_eq!(home["counts"]["done"], 1, "{home}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_when_the_connection_of_what_waits_for_its_budget_is_suspended() {
    let fleet = Fleet::start().await;
    let keeper = fleet.keeping().await;
    let (worker, contact, event, replay) = held_for_the_budget(&fleet, None).await;
    wait_until(
        "it is held for the budget",
        SOON,
        async || fleet.held(&event).await,
        |reason| reason.as_deref() == Some("budget"),
    )
    .await;
    // It is waited for, and not told as ended.
    let show = ["dead-letters", "replays", "show", &replay];
    let shown = fleet.command(&show).await.expect(0).stdout;
    assert!(shown.contains("  held briefly  1"), "{shown}");
    suspended(&fleet).await;
    ends_for_the_suspension(&fleet, &replay, &event).await;
    fleet.ends([worker, keeper], [&event]).await;
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_when_the_connection_is_suspended_between_admission_and_hold() {
    let fleet = Fleet::start().await;
    let keeper = fleet.keeping().await;
    let (worker, contact, event, replay) = held_for_the_budget(&fleet, Some("before_hold")).await;
    worker.frozen(SOON).await;
    suspended(&fleet).await;
    worker.thaw();
    ends_for_the_suspension(&fleet, &replay, &event).await;
    fleet.ends([worker, keeper], [&event]).await;
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_repaired_in_an_editor_and_replayed() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    contact.record["name"] = "Napačni d.o.o.".into();
    fleet.fault(
        ScriptedFault::new(refusal())
            .on(Call::AddPartner)
            .containing("Napačni")
            .always(),
    );
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.becomes(&event, Fate::Dead).await;
    let dead_letter: String = sqlx::query_scalar("select id::text from dead_letter")
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    let edit = ["dead-letters", "edit", &dead_letter, "--replay"];
    let ended = fleet
        .kurir(&edit)
        .env("EDITOR", "sed -i s/Napačni/Pravilni/")
        .run(END)
        .await
        .expect(0);
    assert!(
        ended.stderr.contains("-      \"name\": \"Napačni d.o.o.\"")
            && ended
                .stderr
                .contains("+      \"name\": \"Pravilni d.o.o.\""),
        "{}",
        ended.stderr
    );
    fleet.ends([worker, keeper], [&event]).await;
    fleet.has_one_named(&contact, "Pravilni d.o.o.").await;
    let kinds: Vec<String> = sqlx::query_scalar("select kind from dead_letter_history order by at")
        .fetch_all(fleet.database.pool())
        .await
        .unwrap();
    assert_eq!(kinds, ["death", "edit", "replay"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_of_a_crash_is_replayed_once_by_itself() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.dies_at_the_broker(&event).await;
    let keeper = fleet.keeping().await;
    let queue = fleet.broker.queue("metakocka-sync");
    let depth = async || fleet.broker.depth(&queue).await.unwrap();
    wait_until("it is in its queue again", SOON, depth, |depth| {
        *depth == Some(1)
    })
    .await;
    assert_eq!(
        fleet.dead_letter(&event).await,
        Some(("replaying".to_owned(), "crash_neighbour".to_owned()))
    );
    keeper.terminate();
    keeper.ended(END).await;
    // A second such death stays open.
    fleet.dies_at_the_broker(&event).await;
    let keeper = fleet.keeping().await;
    fleet.dead_letter_is(&event, "open").await;
    let deaths = "select deaths::bigint from dead_letter";
    assert_eq!(fleet.count(deaths).await, 2);
    let looked = async || keeper.count_lines(|line| line.contains("neighbours of a crash"));
    testkit::stays(
        "it stays open",
        std::time::Duration::from_secs(6),
        looked,
        |times| *times == 0,
    )
    .await;
    let worker = fleet.working().await;
    let replay = ordered(&fleet).await;
    followed(&fleet, &replay).await.0.expect(0);
    fleet.ends([worker, keeper], [&event]).await;
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_down_while_dead_letters_die_and_each_arrives_once() {
    const DEAD_LETTERS: usize = 60;
    let postgres = Postgres::start().await;
    let fleet = Fleet::on(
        postgres.database().await,
        testkit::broker().await,
        simulators::metakocka::Options::default(),
    )
    .await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    postgres.kill().await;
    let mut source = Contacts::new(TENANT, 1);
    let events: Vec<Value> = (0..DEAD_LETTERS)
        .map(|_| {
            let mut event = plain(&mut source).created();
            // Nobody needs the database to see that this is no contact.
            event["data"]["contact"]["name"] = 7.into();
            event
        })
        .collect();
    fleet.publish_all(&events).await;
    let queue = fleet.broker.queue("metakocka-sync.dead");
    wait_for("all wait in the dead-letter queue", SOON, async || {
        // Those that the ledger holds are not ready; it gives them back with its channel.
        match fleet.broker.depth(&queue).await.unwrap() {
            Some(depth) if depth as usize == DEAD_LETTERS => Ok(()),
            depth => Err(depth),
        }
    })
    .await;
    postgres.start_again().await;
    for event in &events {
        fleet.becomes(event, Fate::Dead).await;
    }
    fleet.ends([worker, keeper], &events).await;
    let once =
        "select count(*) from dead_letter where state = 'open' and deaths = 1 and class = 'schema'";
    assert_eq!(fleet.count(once).await, DEAD_LETTERS as i64);
    assert_eq!(
        fleet
            .count("select count(*) from dead_letter_history")
            .await,
        DEAD_LETTERS as i64
    );
}
