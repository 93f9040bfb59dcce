//! `kurir held`: what waits, why, and what a hand does with it.

use serde_json::{Value, json};
use simulators::metakocka::Options;
use testkit::{Contact, Contacts};

use crate::fleet::{Fate, Fleet, TENANT, id_of, plain};

/// Three contacts that wait for a connection, and a fleet that takes care of them.
async fn three_wait(fleet: &Fleet) -> (Vec<Contact>, Vec<Value>) {
    let mut source = Contacts::new(TENANT, 1);
    let mut contacts: Vec<Contact> = (0..3).map(|_| plain(&mut source)).collect();
    let events: Vec<Value> = contacts.iter_mut().map(Contact::created).collect();
    fleet.publish_all(&events).await;
    for event in &events {
        fleet.becomes(event, Fate::Held).await;
    }
    (contacts, events)
}

async fn unconnected() -> Fleet {
    let (database, broker) = tokio::join!(testkit::database(), testkit::broker());
    Fleet::without_connection(database, broker, Options::default()).await
}

async fn json_of(fleet: &Fleet, arguments: &[&str]) -> Value {
    let ended = fleet.command(arguments).await.expect(0);
    serde_json::from_str(&ended.stdout).unwrap()
}

async fn id(fleet: &Fleet, event: &Value) -> String {
    let found = json_of(fleet, &["held", "list", "--text", id_of(event), "--json"]).await;
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    found[0]["id"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn is_found_by_what_an_operator_knows() {
    let fleet = unconnected().await;
    let worker = fleet.working().await;
    let (contacts, events) = three_wait(&fleet).await;
    let record = format!("contact/{}", contacts[1].id());
    let found = async |filter: &[&str]| {
        let list = [&["held", "list", "--json"], filter].concat();
        json_of(&fleet, &list).await.as_array().unwrap().len()
    };
    assert_eq!(found(&["--record", &record]).await, 1);
    assert_eq!(found(&["--record", contacts[1].id()]).await, 1);
    assert_eq!(found(&["--type", "crm.contact.created.v1"]).await, 3);
    assert_eq!(found(&["--type", "crm.contact.deleted.v1"]).await, 0);
    assert_eq!(
        found(&["--cause", "no_connection", "--tenant", TENANT]).await,
        3
    );
    assert_eq!(
        found(&["--worker", "metakocka-sync", "--limit", "2"]).await,
        2
    );
    let nobody = "0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e";
    assert_eq!(found(&["--connection", nobody]).await, 0);
    let id = id(&fleet, &events[1]).await;
    let shown = fleet.command(&["held", "show", &id]).await.expect(0).stdout;
    for words in [
        "no_connection",
        "the tenant has no connection to this system yet",
        id_of(&events[1]),
        &record,
        "Next: `kurir connection add --tenant acme --system metakocka`; then it leaves by itself",
    ] {
        assert!(shown.contains(words), "{words} is missing in\n{shown}");
    }
    let elsewhere = fleet
        .command(&["held", "show", &id, "--tenant", "another"])
        .await;
    elsewhere.expect(3);
    fleet.ends([worker], &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_given_up_and_the_others_leave_by_themselves() {
    let fleet = unconnected().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (contacts, events) = three_wait(&fleet).await;
    let given_up = id(&fleet, &events[0]).await;
    let discard = |scope: &'static str| {
        [
            "held",
            "discard",
            "--tenant",
            scope,
            "--note",
            "a test record",
            "--actor",
            "ana",
            "--json",
        ]
    };
    let foreign = fleet
        .command(&[&discard("another")[..], &[&given_up]].concat())
        .await;
    foreign.expect(3);
    let done = json_of(&fleet, &[&discard(TENANT)[..], &[&given_up]].concat()).await;
    assert_eq!(
        done,
        json!({ "discarded": 1, "by_cause": { "no_connection": 1 } })
    );
    assert_eq!(
        fleet.dead_letter(&events[0]).await,
        Some(("discarded".to_owned(), "no_connection".to_owned()))
    );
    let gone = fleet
        .command(&["held", "discard", &given_up, "--note", "again"])
        .await;
    gone.expect(3);
    fleet.connect().await;
    for event in &events[1..] {
        fleet.becomes(event, Fate::Covered).await;
    }
    fleet.ends([worker, keeper], &events).await;
    assert_eq!(fleet.partners().len(), 2);
    for contact in &contacts[1..] {
        fleet.has_one(contact).await;
    }
    let audited: (String, String, String) =
        sqlx::query_as("select actor, what, detail ->> 'note' from audit where what like 'held.%'")
            .fetch_one(fleet.database.pool())
            .await
            .unwrap();
    assert_eq!(
        audited,
        (
            "ana".to_owned(),
            "held.discard".to_owned(),
            "a test record".to_owned()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_counted_by_cause_first() {
    let fleet = unconnected().await;
    let worker = fleet.working().await;
    let (_contacts, events) = three_wait(&fleet).await;
    fleet
        .sql("update held set reason = 'poison' where id = (select min(id) from held)")
        .await;
    for command in ["release", "discard"] {
        let vague = fleet.command(&["held", command, "--note", "x"]).await;
        vague.expect(64);
    }
    let discard = ["held", "discard", "--tenant", TENANT, "--note", "all of it"];
    let refused = fleet.command(&discard).await;
    let refused = refused.expect(4);
    insta::assert_snapshot!(refused.stderr, @r"
    error: this gives up 3 events (2 no_connection, 1 poison)
     next: look at them with `kurir held list`, then repeat with --yes
    ");
    assert_eq!(fleet.count("select count(*) from held").await, 3);
    let released = ["held", "release", "--tenant", TENANT, "--cause", "poison"];
    let released = fleet.command(&released).await.expect(0).stdout;
    insta::assert_snapshot!(released, @"released 1 event (1 poison); the keeper sends them to their workers");
    let discarded = fleet.command(&[&discard[..], &["--yes"]].concat()).await;
    insta::assert_snapshot!(discarded.expect(0).stdout, @"discarded 2 events (2 no_connection); `kurir dead-letters list --state discarded` shows them");
    assert_eq!(
        fleet
            .count("select count(*) from audit where what in ('held.release', 'held.discard')")
            .await,
        3
    );
    let keeper = fleet.keeping().await;
    fleet.ends([worker, keeper], &events).await;
}
