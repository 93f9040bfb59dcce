//! Two tenants with two companies of one Metakocka: what is one's never reaches, and is never shown to, the other.

use serde_json::{Value, json};
use simulators::metakocka::{
    Call, CompanyOptions, Fault, LogFilter, Options, Partner, ScriptedFault,
};
use testkit::{Contact, Contacts};

use crate::expected;
use crate::fleet::{COMPANY, END, Fate, Fleet, TENANT, ready};

const OTHER: &str = "vrtnar";
const OTHER_COMPANY: &str = "4712";
const OTHER_CREDENTIALS: &str = r#"{"secret_key":"other-key","company_id":"4712"}"#;
const RECORDS: usize = 6;

/// Both tenants are connected, each to its own company.
async fn two() -> Fleet {
    let options = Options {
        companies: vec![
            CompanyOptions::new(COMPANY, "sim-key"),
            CompanyOptions::new(OTHER_COMPANY, "other-key"),
        ],
        strict: true,
        ..Options::default()
    };
    let fleet = Fleet::with(options).await;
    fleet.command(&["tenant", "add", OTHER]).await.expect(0);
    let add = [
        "connection",
        "add",
        "--tenant",
        OTHER,
        "--system",
        "metakocka",
        "--credentials-env",
        "TEST_CREDENTIALS",
    ];
    fleet
        .kurir(&add)
        .env("TEST_CREDENTIALS", OTHER_CREDENTIALS)
        .run(END)
        .await
        .expect(0);
    fleet
}

/// Contacts of a tenant. Both tenants' have the same ids, as those of two CRMs that count from one, and other content.
fn contacts(tenant: &str, seed: u64) -> (Contacts, Vec<Contact>) {
    let mut source = Contacts::new(tenant, seed);
    let contacts = (0..RECORDS).map(|_| source.organization()).collect();
    (source, contacts)
}

fn company_of(tenant: &str) -> &'static str {
    if tenant == TENANT {
        COMPANY
    } else {
        OTHER_COMPANY
    }
}

async fn partner_of(fleet: &Fleet, tenant: &str, contact: &Contact) -> Partner {
    let id: String =
        sqlx::query_scalar("select target_id from link where tenant = $1 and source_id = $2")
            .bind(tenant)
            .bind(contact.id())
            .fetch_one(fleet.database.pool())
            .await
            .unwrap();
    let id = id.parse().unwrap();
    fleet.simulator.partner(company_of(tenant), id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_with_the_same_ids_stay_in_their_companies() {
    let fleet = two().await;
    let workers = [fleet.working().await, fleet.working().await];
    let (mut source, mut ours) = contacts(TENANT, 1);
    let (mut other_source, mut theirs) = contacts(OTHER, 2);
    let mut events = Vec::new();
    for (our, their) in ours.iter_mut().zip(&mut theirs) {
        assert_eq!(our.id(), their.id());
        events.extend([our.created(), their.created()]);
        events.extend([source.change(our), other_source.change(their)]);
    }
    let shuffled = source.shuffled(events.clone(), 0.3);
    fleet.publish_all(&shuffled).await;
    fleet.rests(&events).await;
    let names = |contacts: &[Contact]| -> Vec<String> {
        contacts.iter().map(|one| one.name().to_owned()).collect()
    };
    for (tenant, contacts, others) in [
        (TENANT, &ours, names(&theirs)),
        (OTHER, &theirs, names(&ours)),
    ] {
        let company = company_of(tenant);
        let partners = fleet.simulator.partners(company).unwrap();
        assert_eq!(partners.len(), RECORDS, "{tenant}: {partners:#?}");
        for contact in contacts {
            let partner = partner_of(&fleet, tenant, contact).await;
            assert_eq!(expected::differences(&contact.record, &partner), "");
        }
        let of_company = LogFilter {
            company: Some(company.to_owned()),
            ..LogFilter::default()
        };
        let calls = fleet.simulator.log(&of_company);
        assert!(calls.len() >= RECORDS, "{calls:#?}");
        for call in calls {
            let body = call.body.to_string();
            let stray = others.iter().find(|name| body.contains(name.as_str()));
            assert_eq!(stray, None, "{tenant}: {body}");
        }
    }
    assert_eq!(fleet.simulator.strict_violations(), []);
    fleet.ends(workers, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_one_tenant_is_not_the_others() {
    let fleet = two().await;
    let processes = [fleet.working().await, fleet.keeping().await];
    let (_, mut ours) = contacts(TENANT, 1);
    let (_, mut theirs) = contacts(OTHER, 2);
    // Our company refuses our key: what is ours waits, what is theirs goes on.
    let auth = ScriptedFault::new(Fault::Auth { code: 3 });
    fleet.fault(auth.of_company(COMPANY).always());
    let our_events: Vec<Value> = ours.iter_mut().map(Contact::created).collect();
    let their_events: Vec<Value> = theirs.iter_mut().map(Contact::created).collect();
    fleet.publish_all(&our_events).await;
    fleet.becomes(&our_events[0], Fate::Held).await;
    fleet.publish_all(&their_events).await;
    for contact in &theirs {
        applied(&fleet, OTHER, contact).await;
    }
    assert_eq!(
        fleet.simulator.partners(OTHER_COMPANY).unwrap().len(),
        RECORDS
    );
    assert!(fleet.partners().is_empty());
    let states = json_of(&fleet, &["connection", "list", "--json"]).await;
    let state = |tenant: &str| {
        let rows = states.as_array().unwrap();
        let row = rows.iter().find(|row| row["tenant"] == tenant).unwrap();
        row["state"].clone()
    };
    assert_eq!(
        (state(TENANT), state(OTHER)),
        (json!("suspended"), json!("ok"))
    );
    fleet.simulator.clear_faults();
    let test = [
        "connection",
        "test",
        "--tenant",
        TENANT,
        "--system",
        "metakocka",
    ];
    fleet.command(&test).await.expect(0);
    for contact in &ours {
        applied(&fleet, TENANT, contact).await;
    }
    assert_eq!(fleet.partners().len(), RECORDS);
    fleet.ends(processes, []).await;
}

async fn applied(fleet: &Fleet, tenant: &str, contact: &Contact) {
    testkit::wait_for(
        &format!("{} of {tenant} to be linked", contact.id()),
        crate::fleet::SOON,
        async || {
            let linked: i64 = sqlx::query_scalar(
                "select count(*) from link where tenant = $1 and source_id = $2 and state = 'linked'",
            )
            .bind(tenant)
            .bind(contact.id())
            .fetch_one(fleet.database.pool())
            .await
            .unwrap();
            match linked {
                1 => Ok(()),
                _ => Err(fleet.story().await),
            }
        },
    )
    .await;
}

async fn json_of(fleet: &Fleet, arguments: &[&str]) -> Value {
    let ended = fleet.command(arguments).await.expect(0);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_for_one_tenant_show_nothing_of_the_other() {
    let fleet = two().await;
    let processes = [
        fleet.working().await,
        fleet.keeping().await,
        ready(fleet.gateway()).await,
    ];
    let (_, mut ours) = contacts(TENANT, 1);
    let (_, mut theirs) = contacts(OTHER, 2);
    let (our, their) = (ours[0].created(), theirs[0].created());
    fleet.publish_all([&our, &their]).await;
    applied(&fleet, TENANT, &ours[0]).await;
    applied(&fleet, OTHER, &theirs[0]).await;
    // A dead letter and a held event of each.
    for contact in [&mut ours[1], &mut theirs[1]] {
        let refused = Fault::Refuse {
            code: 2,
            text: format!("Davčna številka {} ni v registru.", contact.id()),
        };
        let on_add = ScriptedFault::new(refused).on(Call::AddPartner);
        fleet.fault(on_add.containing(contact.name()).always());
        let event = contact.created();
        fleet.publish(&event).await;
    }
    testkit::wait_until(
        "a dead letter of each",
        crate::fleet::SOON,
        async || fleet.count("select count(*) from dead_letter").await,
        |count| *count == 2,
    )
    .await;
    fleet.fault(ScriptedFault::new(Fault::Auth { code: 3 }).always());
    for contact in [&mut ours[2], &mut theirs[2]] {
        let event = contact.created();
        fleet.publish(&event).await;
    }
    testkit::wait_until(
        "a held event of each",
        crate::fleet::SOON,
        async || fleet.count("select count(*) from held").await,
        |count| *count == 2,
    )
    .await;
    for (tenant, other) in [(TENANT, OTHER), (OTHER, TENANT)] {
        for command in [
            &["links", "list"][..],
            &["held", "list"],
            &["dead-letters", "list"],
            &["connection", "list"],
            &["token", "list"],
        ] {
            let scoped = [command, &["--tenant", tenant, "--json"]].concat();
            let shown = json_of(&fleet, &scoped).await;
            let rows = shown.as_array().unwrap();
            let strays: Vec<&Value> = rows.iter().filter(|row| row["tenant"] != tenant).collect();
            assert!(strays.is_empty(), "{command:?}: {strays:#?}");
            assert!(!shown.to_string().contains(other), "{command:?}: {shown:#}");
            if command[0] != "token" {
                assert!(!rows.is_empty(), "{command:?} shows nothing of {tenant}");
            }
        }
        let theirs = json_of(&fleet, &["links", "list", "--tenant", other, "--json"]).await;
        let id = theirs[0]["id"].to_string();
        let show = ["links", "show", &id, "--tenant", tenant];
        fleet.command(&show).await.expect(3);
        let release = [
            "held", "release", "--tenant", tenant, "--text", other, "--json",
        ];
        assert_eq!(json_of(&fleet, &release).await["released"], 0);
    }
    // Each tenant that asks by a record's name sees its own record.
    let show = |tenant: &'static str| {
        [
            "links",
            "show",
            "contact/org-1",
            "--tenant",
            tenant,
            "--json",
        ]
    };
    let (our, their) = (
        json_of(&fleet, &show(TENANT)).await,
        json_of(&fleet, &show(OTHER)).await,
    );
    assert!(our.to_string().contains(ours[0].name()), "{our:#}");
    assert!(!our.to_string().contains(theirs[0].name()), "{our:#}");
    assert!(their.to_string().contains(theirs[0].name()), "{their:#}");
    // Which of the two is meant must be said.
    let ambiguous = fleet.command(&["links", "show", "contact/org-1"]).await;
    assert!(!ambiguous.status.success(), "{}", ambiguous.stdout);
    drop(processes);
}
