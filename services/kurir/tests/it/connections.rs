//! A tenant with two accounts at one partner: each of its contacts gets into both, and what one account does or suffers is
//! nothing to the other.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use simulators::metakocka::{
    Call, CompanyOptions, Fault, LogFilter, Options, Partner, ScriptedFault,
};
use testkit::{Contact, Contacts, Kurir, structured_properties, wait_for, wait_until};
use uuid::Uuid;

use crate::fleet::{
    self, COMPANY, END, Fleet, SOON, TENANT, id_of, is_of, order_key, plain, ready, rename,
};

/// The accounts' companies: `default` is the fleet's own, `croatia` the second one.
const CROATIA: &str = "4712";
const CROATIA_CREDENTIALS: &str = r#"{"secret_key":"croatia-key","company_id":"4712"}"#;
/// Another tenant, with an account of its own.
const OTHER: &str = "vrtnar";
const OTHER_COMPANY: &str = "4713";
const OTHER_CREDENTIALS: &str = r#"{"secret_key":"other-key","company_id":"4713"}"#;
const RECORDS: usize = 6;

fn companies() -> Options {
    Options {
        companies: vec![
            CompanyOptions::new(COMPANY, "sim-key"),
            CompanyOptions::new(CROATIA, "croatia-key"),
            CompanyOptions::new(OTHER_COMPANY, "other-key"),
        ],
        strict: true,
        ..Options::default()
    }
}

/// The tenant has both accounts.
async fn two() -> Fleet {
    let fleet = Fleet::with(companies()).await;
    add(&fleet, TENANT, "croatia", CROATIA_CREDENTIALS).await;
    fleet
}

async fn add(fleet: &Fleet, tenant: &str, account: &str, credentials: &str) {
    let add = [
        "connection",
        "add",
        "--tenant",
        tenant,
        "--system",
        "metakocka",
        "--account",
        account,
        "--credentials-env",
        "TEST_CREDENTIALS",
    ];
    fleet
        .kurir(&add)
        .env("TEST_CREDENTIALS", credentials)
        .run(END)
        .await
        .expect(0);
}

/// `kurir connection <command>` for one of the two accounts.
async fn connection(fleet: &Fleet, command: &str, account: &str) {
    let arguments = [
        "connection",
        command,
        "--tenant",
        TENANT,
        "--system",
        "metakocka",
        "--account",
        account,
    ];
    fleet.command(&arguments).await.expect(0);
}

async fn id(fleet: &Fleet, tenant: &str, account: &str) -> Uuid {
    sqlx::query_scalar("select id from connection where tenant = $1 and account = $2")
        .bind(tenant)
        .bind(account)
        .fetch_one(fleet.database.pool())
        .await
        .unwrap()
}

fn contacts(count: usize) -> Vec<Contact> {
    let mut source = Contacts::new(TENANT, 1);
    (0..count).map(|_| plain(&mut source)).collect()
}

fn calls(fleet: &Fleet, company: &str) -> usize {
    let of_company = LogFilter {
        company: Some(company.to_owned()),
        ..LogFilter::default()
    };
    fleet.simulator.log(&of_company).len()
}

fn partners_of(fleet: &Fleet, company: &str, contact: &Contact) -> Vec<Partner> {
    let mut partners = fleet.simulator.partners(company).unwrap();
    partners.retain(|partner| is_of(partner, contact));
    partners
}

/// The company has exactly one partner of this contact, with its newest name.
async fn has_one(fleet: &Fleet, company: &str, contact: &Contact) {
    let mine = partners_of(fleet, company, contact);
    let names: Vec<&str> = mine
        .iter()
        .map(|partner| partner.customer.as_str())
        .collect();
    assert_eq!(
        names,
        [contact.name()],
        "{company}\n{}",
        fleet.story().await
    );
}

/// How many of these contacts are linked at the account.
async fn linked(fleet: &Fleet, account: &str, contacts: &[Contact]) -> i64 {
    let records: Vec<String> = contacts.iter().map(|one| one.id().to_owned()).collect();
    sqlx::query_scalar(
        "select count(*) from link l join connection c on c.id = l.connection_id
         where c.account = $1 and l.tenant = $2 and l.state = 'linked' and l.source_id = any($3)",
    )
    .bind(account)
    .bind(TENANT)
    .bind(records)
    .fetch_one(fleet.database.pool())
    .await
    .unwrap()
}

async fn all_linked(fleet: &Fleet, account: &str, contacts: &[Contact]) {
    wait_for(
        &format!("all contacts are linked at {account}"),
        SOON,
        async || match linked(fleet, account, contacts).await {
            count if count == contacts.len() as i64 => Ok(()),
            count => Err((count, fleet.story().await)),
        },
    )
    .await;
}

/// (account, state, class) of the dead letters of an event, in the order of accounts; without an account first.
async fn dead_letters(fleet: &Fleet, event: &Value) -> Vec<(String, String, String)> {
    sqlx::query_as(
        "select coalesce(c.account, ''), d.state, d.class from dead_letter d
           left join connection c on c.id = d.connection_id
         where d.event_id = $1 order by 1",
    )
    .bind(id_of(event))
    .fetch_all(fleet.database.pool())
    .await
    .unwrap()
}

async fn dead_letters_are(fleet: &Fleet, event: &Value, wanted: &[(&str, &str)]) {
    wait_for(
        &format!("the dead letters are {wanted:?}"),
        SOON,
        async || {
            let found = dead_letters(fleet, event).await;
            let states: Vec<(&str, &str)> = found
                .iter()
                .map(|(account, state, _)| (account.as_str(), state.as_str()))
                .collect();
            match states == wanted {
                true => Ok(()),
                false => Err((found, fleet.story().await)),
            }
        },
    )
    .await;
}

/// The only dead letter of an event is sent once more.
async fn replay(fleet: &Fleet, event: &Value, arguments: &[&str]) {
    let dead_letter: Uuid = sqlx::query_scalar("select id from dead_letter where event_id = $1")
        .bind(id_of(event))
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    let dead_letter = dead_letter.to_string();
    let replay = [
        &["dead-letters", "replay", dead_letter.as_str()][..],
        arguments,
    ]
    .concat();
    fleet.command(&replay).await.expect(0);
}

fn refusal(company: &str, contact: &Contact) -> ScriptedFault {
    let refused = Fault::Refuse {
        code: 2,
        text: "not this one".to_owned(),
    };
    ScriptedFault::new(refused)
        .on(Call::AddPartner)
        .of_company(company)
        .containing(contact.name())
        .always()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_contact_gets_into_both_accounts() {
    let fleet = two().await;
    let processes = [
        fleet.working().await,
        fleet.working().await,
        fleet.keeping().await,
    ];
    let mut source = Contacts::new(TENANT, 1);
    let mut contacts: Vec<Contact> = (0..RECORDS).map(|_| plain(&mut source)).collect();
    let mut events: Vec<Value> = Vec::new();
    for contact in &mut contacts {
        events.extend([contact.created(), rename(contact), rename(contact)]);
    }
    let shuffled = source.shuffled(events.clone(), 0.3);
    fleet.publish_all(&shuffled).await;
    // What a stranger says about connections is not believed.
    let mut claimed = plain(&mut source);
    let event = claimed.created();
    let mut headers = FieldTable::default();
    let croatia = id(&fleet, TENANT, "croatia").await.to_string();
    headers.insert("x-connection".into(), AMQPValue::LongString(croatia.into()));
    fleet
        .publisher()
        .await
        .raw(
            &fleet.broker.queue("events"),
            &format!("crm.contact.created.v1.{TENANT}"),
            event.to_string().as_bytes(),
            structured_properties(&event).with_headers(headers),
        )
        .await
        .unwrap();
    contacts.push(claimed);
    for account in ["default", "croatia"] {
        all_linked(&fleet, account, &contacts).await;
    }
    fleet.ends(processes, &events).await;
    for company in [COMPANY, CROATIA] {
        for contact in &contacts {
            has_one(&fleet, company, contact).await;
        }
    }
    assert_eq!(calls(&fleet, OTHER_COMPANY), 0);
    assert_eq!(fleet.count("select count(*) from dead_letter").await, 0);
    assert_eq!(fleet.simulator.strict_violations(), []);
}

/// How the second account fails, and how it is repaired.
enum Trouble {
    Errors,
    Suspended,
    Slow,
}

/// What the healthy account is asked for while the other one is in trouble, and that it need not wait for it.
async fn trouble_of_one_is_nothing_to_the_other(trouble: Trouble) {
    let fleet = two().await;
    // An answer of 2 s is slow, and no failure.
    let patient = |kurir: Kurir| {
        kurir
            .setting("metakocka.write_timeout_seconds", 6)
            .setting("metakocka.read_timeout_seconds", 6)
            .setting("metakocka.create_settle_seconds", 7)
            .setting("metakocka.update_settle_seconds", 7)
            .setting("metakocka.in_flight", 2)
    };
    let processes = [ready(patient(fleet.worker())).await, fleet.keeping().await];
    let mut happy = contacts(2 * RECORDS);
    let mut meanwhile = happy.split_off(RECORDS);
    let events: Vec<Value> = happy.iter_mut().map(Contact::created).collect();
    fleet.publish_all(&events).await;
    all_linked(&fleet, "default", &happy).await;
    all_linked(&fleet, "croatia", &happy).await;
    fleet.rests(&events).await;
    let happy_calls = calls(&fleet, COMPANY);

    let fault = match trouble {
        Trouble::Errors => Fault::Error { status: 502 },
        Trouble::Suspended => Fault::Auth { code: 3 },
        Trouble::Slow => Fault::Slow {
            ms: 2000,
            commit: Default::default(),
        },
    };
    fleet.fault(ScriptedFault::new(fault).of_company(CROATIA).always());
    let events: Vec<Value> = meanwhile.iter_mut().map(Contact::created).collect();
    fleet.publish_all(&events).await;
    all_linked(&fleet, "default", &meanwhile).await;
    let behind = linked(&fleet, "croatia", &meanwhile).await;
    assert!(
        behind < RECORDS as i64,
        "the healthy account had to wait for the other one\n{}",
        fleet.story().await
    );

    fleet.simulator.clear_faults();
    if matches!(trouble, Trouble::Suspended) {
        connection(&fleet, "test", "croatia").await;
    }
    all_linked(&fleet, "croatia", &meanwhile).await;
    fleet.ends(processes, &events).await;
    for company in [COMPANY, CROATIA] {
        for contact in happy.iter().chain(&meanwhile) {
            has_one(&fleet, company, contact).await;
        }
    }
    assert_eq!(
        calls(&fleet, COMPANY),
        2 * happy_calls,
        "the healthy account was called again for the other one's sake"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_one_account_neither_repeat_nor_delay_the_other() {
    trouble_of_one_is_nothing_to_the_other(Trouble::Errors).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_neither_repeats_nor_delays_the_other() {
    trouble_of_one_is_nothing_to_the_other(Trouble::Suspended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_account_neither_repeats_nor_delays_the_other() {
    trouble_of_one_is_nothing_to_the_other(Trouble::Slow).await;
}

/// A worker dies at this point of the fan-out; another one goes on.
async fn killed_at_the_fan_out(point: &str, copies: i64) {
    let fleet = two().await;
    let mut contact = contacts(1).remove(0);
    let event = contact.created();
    let dying = fleet::dying(fleet.worker().failpoint(&format!("{point}:kill"))).await;
    fleet.publish(&event).await;
    dying.killed(SOON).await;
    // No keeper has carried them on yet.
    assert_eq!(
        fleet
            .count("select count(*) from outbox where exchange = ''")
            .await,
        copies
    );
    let processes = [fleet.working().await, fleet.keeping().await];
    let contacts = [contact];
    for account in ["default", "croatia"] {
        all_linked(&fleet, account, &contacts).await;
    }
    fleet.ends(processes, [&event]).await;
    for company in [COMPANY, CROATIA] {
        has_one(&fleet, company, &contacts[0]).await;
        let adds = LogFilter {
            company: Some(company.to_owned()),
            ..LogFilter::call(Call::AddPartner)
        };
        assert_eq!(fleet.simulator.log(&adds).len(), 1);
    }
    assert_eq!(fleet.count("select count(*) from link").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_fan_out() {
    killed_at_the_fan_out("before_fan_out", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_fan_out_before_its_commit() {
    killed_at_the_fan_out("fan_out_before_commit", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_commit_of_the_fan_out() {
    killed_at_the_fan_out("after_fan_out", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_fan_out_and_its_acknowledgement() {
    killed_at_the_fan_out("before_ack", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_names_another_tenants_connection_reaches_nobody() {
    let fleet = two().await;
    fleet.command(&["tenant", "add", OTHER]).await.expect(0);
    add(&fleet, OTHER, "default", OTHER_CREDENTIALS).await;
    let processes = [fleet.working().await, fleet.keeping().await];
    let mut contact = contacts(1).remove(0);
    let event = contact.created();
    let foreign = id(&fleet, OTHER, "default").await;
    sqlx::query(
        "insert into outbox (tenant, exchange, routing_key, body, headers) values ($1, '', $2, $3, $4)",
    )
    .bind(TENANT)
    .bind(fleet.broker.queue("metakocka-sync"))
    .bind(event.to_string().into_bytes())
    .bind(json!({ "x-connection": foreign }))
    .execute(fleet.database.pool())
    .await
    .unwrap();
    dead_letters_are(&fleet, &event, &[("", "open")]).await;
    assert_eq!(dead_letters(&fleet, &event).await[0].2, "wrong_connection");
    for company in [COMPANY, CROATIA, OTHER_COMPANY] {
        assert_eq!(calls(&fleet, company), 0);
    }
    assert_eq!(fleet.count("select count(*) from link").await, 0);
    // Sent once more it goes where it belongs.
    replay(&fleet, &event, &[]).await;
    let contacts = [contact];
    for account in ["default", "croatia"] {
        all_linked(&fleet, account, &contacts).await;
    }
    dead_letters_are(&fleet, &event, &[("", "resolved")]).await;
    fleet.ends(processes, [&event]).await;
    assert_eq!(calls(&fleet, OTHER_COMPANY), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_off_gets_nothing_and_changes_nothing_for_the_other() {
    let fleet = two().await;
    let processes = [fleet.working().await, fleet.keeping().await];
    connection(&fleet, "disable", "croatia").await;
    let mut contacts = contacts(3);
    let mut probe = contacts.pop().unwrap();
    until_seen(&fleet, &mut probe, false).await;
    let off = calls(&fleet, CROATIA);
    fleet.fault(refusal(COMPANY, &contacts[1]));
    let (applied, dead) = (contacts[0].created(), contacts[1].created());
    fleet.publish_all([&applied, &dead]).await;
    dead_letters_are(&fleet, &dead, &[("default", "open")]).await;
    fleet.rests([&applied]).await;
    assert_eq!(calls(&fleet, CROATIA), off);
    let links_at_default = links_of(&fleet, "default").await;

    connection(&fleet, "enable", "croatia").await;
    fleet.simulator.clear_faults();
    // The dead letter died for one account, and is still that one's.
    replay(&fleet, &dead, &[]).await;
    dead_letters_are(&fleet, &dead, &[("default", "resolved")]).await;
    has_one(&fleet, COMPANY, &contacts[1]).await;
    assert_eq!(calls(&fleet, CROATIA), off);
    // What is published from now on goes to both, into the same links.
    until_seen(&fleet, &mut probe, true).await;
    let events: Vec<Value> = contacts.iter_mut().map(rename).collect();
    fleet.publish_all(&events).await;
    fleet.ends(processes, &events).await;
    for company in [COMPANY, CROATIA] {
        for contact in &contacts {
            has_one(&fleet, company, contact).await;
        }
    }
    let after = links_of(&fleet, "default").await;
    for (record, link) in links_at_default {
        assert_eq!(after[&record], link);
    }
}

/// A worker may believe for a second what was true before. Changes of the probe are published until one of them reaches
/// the second account, or until one does not.
async fn until_seen(fleet: &Fleet, probe: &mut Contact, on: bool) {
    wait_until(
        "the switch is seen",
        SOON,
        async || {
            let before = calls(fleet, CROATIA);
            let event = rename(probe);
            fleet.publish(&event).await;
            // At the account that is on in any case; whether the other one has it, too, is what is asked.
            applied_at(fleet, "default", &event).await;
            fleet.rests([]).await;
            calls(fleet, CROATIA) > before
        },
        |reached| *reached == on,
    )
    .await;
}

async fn applied_at(fleet: &Fleet, account: &str, event: &Value) {
    let subject = event["subject"].as_str().unwrap();
    let record = subject.trim_start_matches("contact/");
    wait_for("the event is applied", SOON, async || {
        let applied: bool = sqlx::query_scalar(
            "select exists (select from link l join connection c on c.id = l.connection_id
               where c.account = $1 and l.source_id = $2 and l.applied_k >= $3)",
        )
        .bind(account)
        .bind(record)
        .bind(order_key(event, 0).as_bytes())
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
        match applied {
            true => Ok(()),
            false => Err(fleet.story().await),
        }
    })
    .await;
}

/// Link by record, at one account.
async fn links_of(fleet: &Fleet, account: &str) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select l.source_id, l.id from link l join connection c on c.id = l.connection_id where c.account = $1",
    )
    .bind(account)
    .fetch_all(fleet.database.pool())
    .await
    .unwrap();
    rows.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_for_one_account_touches_only_that_one() {
    let fleet = two().await;
    let processes = [fleet.working().await, fleet.keeping().await];
    let mut contacts = contacts(1);
    fleet.fault(refusal(CROATIA, &contacts[0]));
    let event = contacts[0].created();
    fleet.publish(&event).await;
    all_linked(&fleet, "default", &contacts).await;
    dead_letters_are(&fleet, &event, &[("croatia", "open")]).await;
    fleet.rests([]).await;
    let healthy = calls(&fleet, COMPANY);
    fleet.simulator.clear_faults();
    replay(&fleet, &event, &[]).await;
    dead_letters_are(&fleet, &event, &[("croatia", "resolved")]).await;
    all_linked(&fleet, "croatia", &contacts).await;
    fleet.ends(processes, [&event]).await;
    assert_eq!(calls(&fleet, COMPANY), healthy);
    has_one(&fleet, CROATIA, &contacts[0]).await;
}

/// An event that died before it was for any connection goes to all that there are when it is replayed, and its dead letter is
/// closed: each copy is on its own from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_no_connection_is_closed_when_its_replay_is_fanned_out() {
    let (database, broker) = tokio::join!(testkit::database(), testkit::broker());
    let fleet = Fleet::without_connection(database, broker, companies()).await;
    let processes = [fleet.working().await, fleet.keeping().await];
    let mut contacts = contacts(2);
    let mut probe = contacts.pop().unwrap();
    let mut event = contacts[0].created();
    event["time"] = json!((chrono::Utc::now() + chrono::TimeDelta::hours(1)).to_rfc3339());
    event.as_object_mut().unwrap().remove("subjectversion");
    fleet.publish(&event).await;
    dead_letters_are(&fleet, &event, &[("", "open")]).await;
    assert_eq!(dead_letters(&fleet, &event).await[0].2, "future_version");
    fleet.connect().await;
    add(&fleet, TENANT, "croatia", CROATIA_CREDENTIALS).await;
    until_seen(&fleet, &mut probe, true).await;
    // At one of them it dies once more, and that is a dead letter of its own.
    fleet.fault(refusal(CROATIA, &contacts[0]));
    replay(&fleet, &event, &["--restamp"]).await;
    dead_letters_are(&fleet, &event, &[("", "resolved"), ("croatia", "open")]).await;
    all_linked(&fleet, "default", &contacts).await;
    let note: Option<String> =
        sqlx::query_scalar("select note from dead_letter where state = 'resolved'")
            .fetch_one(fleet.database.pool())
            .await
            .unwrap();
    assert_eq!(
        note.as_deref(),
        Some("fanned out into one copy for each of 2 connections")
    );
    fleet.ends(processes, []).await;
    has_one(&fleet, COMPANY, &contacts[0]).await;
    assert!(partners_of(&fleet, CROATIA, &contacts[0]).is_empty());
}

/// A dead letter that died when there was one account only is that account's, whichever are added later.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_from_before_the_second_account_stays_the_first_ones() {
    let fleet = Fleet::with(companies()).await;
    let processes = [fleet.working().await, fleet.keeping().await];
    let mut contacts = contacts(1);
    fleet.fault(refusal(COMPANY, &contacts[0]));
    let event = contacts[0].created();
    fleet.publish(&event).await;
    dead_letters_are(&fleet, &event, &[("default", "open")]).await;
    add(&fleet, TENANT, "croatia", CROATIA_CREDENTIALS).await;
    fleet.simulator.clear_faults();
    replay(&fleet, &event, &[]).await;
    dead_letters_are(&fleet, &event, &[("default", "resolved")]).await;
    // The second account is none of this event's business: it has no fate there to wait for.
    fleet.ends(processes, []).await;
    has_one(&fleet, COMPANY, &contacts[0]).await;
    assert_eq!(calls(&fleet, CROATIA), 0);
}

/// The janitor's requests name a link, whichever account that is of.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_call_at_the_second_account_is_cleared_up() {
    let fleet = two().await;
    let processes = [fleet.working().await, fleet.keeping().await];
    let mut contacts = contacts(1);
    let event = contacts[0].created();
    let lost = ScriptedFault::new(Fault::CommitThenDrop).on(Call::AddPartner);
    fleet.fault(lost.of_company(CROATIA));
    fleet.publish(&event).await;
    all_linked(&fleet, "default", &contacts).await;
    fleet.effects_settle().await;
    all_linked(&fleet, "croatia", &contacts).await;
    fleet.recheck_now().await;
    fleet.ends(processes, [&event]).await;
    has_one(&fleet, CROATIA, &contacts[0]).await;
}
