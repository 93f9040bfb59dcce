//! A contact's whole life under both readings of what Metakocka's sources leave open (contract §12): found, made,
//! changed, added to, cleared, deleted, made again, sent again. The outcome is the same wherever the sources agree.

use chrono::TimeDelta;
use serde_json::{Value, json};
use simulators::metakocka::core::{Clearing, TopLevelAddress};
use simulators::metakocka::{
    AddressType, Call, CompanyOptions, LogFilter, MkId, Options, PartnerEdit, PersonAddress,
    PersonContact, Readings,
};
use testkit::{Contact, Contacts, Running, wait_until};

use crate::expected;
use crate::fleet::{COMPANY, Fleet, SOON, TENANT};

const SEED: u64 = 11;
/// Look-ups are behind by this; far below the settle time of these tests.
const LAG_SECONDS: u32 = 1;

struct Life {
    fleet: Fleet,
    processes: Vec<Running>,
    source: Contacts,
    /// Everything published so far.
    events: Vec<Value>,
}

impl Life {
    async fn start(readings: Readings) -> Self {
        let options = Options {
            companies: vec![CompanyOptions::new(COMPANY, "sim-key")],
            readings,
            strict: true,
            ..Options::default()
        };
        let fleet = Fleet::with(options).await;
        let processes = vec![
            fleet.working().await,
            fleet.working().await,
            fleet.keeping().await,
        ];
        Self {
            fleet,
            processes,
            source: Contacts::new(TENANT, SEED),
            events: Vec::new(),
        }
    }

    async fn carry(&mut self, events: impl IntoIterator<Item = Value>) {
        let events: Vec<Value> = events.into_iter().collect();
        self.fleet.publish_all(&events).await;
        self.fleet.rests(&events).await;
        self.events.extend(events);
    }

    /// The linked partner is as the record says; answers with its id.
    async fn agrees(&self, contact: &Contact) -> MkId {
        let partner = self.fleet.partner_of(contact.id()).await;
        let story = self.fleet.story().await;
        let partner = partner.unwrap_or_else(|| panic!("no {}\n{story}", contact.id()));
        assert_eq!(
            expected::differences(&contact.record, &partner),
            "",
            "{story}"
        );
        partner.mk_id
    }

    fn person_adds(&self, edit: PartnerEdit) -> MkId {
        let simulator = &self.fleet.simulator;
        simulator
            .with_company(COMPANY, |company, now| company.person_adds(edit, now))
            .unwrap()
            .unwrap()
    }

    /// Waits until look-ups show everything that is there now.
    async fn indexed(&self) {
        let simulator = &self.fleet.simulator;
        let until = simulator.now() + TimeDelta::seconds(i64::from(LAG_SECONDS));
        wait_until(
            "the index",
            SOON,
            async || simulator.now(),
            |now| *now > until,
        )
        .await;
    }

    /// Somebody else's partners, each as near to this contact as a partial or raw match can be fooled.
    fn decoys(&self, contact: &Contact) -> Vec<MkId> {
        let name = contact.name();
        let tax = contact.record["tax_id"].as_str().unwrap_or("SI0");
        let email = contact.record["emails"][0]["value"].as_str().unwrap();
        let partner = |customer: String, tax: String, email: String| PartnerEdit {
            customer: Some(customer),
            business_entity: Some(true),
            tax_id_number: Some(tax),
            contacts: Some(vec![PersonContact {
                name: "Nekdo Drug".to_owned(),
                email,
                ..PersonContact::default()
            }]),
            ..PartnerEdit::default()
        };
        [
            partner(
                format!("{name} - podružnica"),
                format!("{tax}9"),
                format!("x{email}"),
            ),
            partner(
                format!("Stari {name}"),
                format!("9{tax}"),
                format!("{email}.si"),
            ),
        ]
        .map(|edit| self.person_adds(edit))
        .to_vec()
    }

    fn snapshot(&self, ids: &[MkId]) -> Vec<simulators::metakocka::Partner> {
        let partner = |id: &MkId| self.fleet.simulator.partner(COMPANY, *id).unwrap();
        ids.iter().map(partner).collect()
    }

    fn writes(&self) -> usize {
        self.fleet.calls(Call::AddPartner) + self.fleet.calls(Call::UpdatePartner)
    }
}

fn nasty() -> Readings {
    Readings {
        index_lag_seconds: LAG_SECONDS,
        ..Readings::nasty()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_under_kind_readings() {
    whole_life(Readings::kind()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_under_nasty_readings() {
    whole_life(nasty()).await;
}

/// The third reading of the row, which neither preset has.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_never_applied_is_not_tried_for_ever() {
    let readings = Readings {
        top_level_address: TopLevelAddress::NotApplied,
        ..Readings::kind()
    };
    let mut life = Life::start(readings).await;
    let mut contact = life.source.organization();
    life.carry([contact.created()]).await;
    life.agrees(&contact).await;
    contact.record["addresses"][0]["street"] = json!("Nova cesta 1");
    contact.record["name"] = json!("Novo ime d.o.o.");
    let before = life.writes();
    life.carry([contact.updated()]).await;
    let partner = life.fleet.partner_of(contact.id()).await.unwrap();
    assert_eq!(partner.customer, "Novo ime d.o.o.");
    assert_eq!(expected::doubles(&partner), "");
    // Tried, found not to be possible, and left: a repeat of the event tries no more.
    let tried = life.writes() - before;
    assert!(
        (1..=3).contains(&tried),
        "{tried} writes\n{}",
        life.fleet.story().await
    );
    let again = life.events.clone();
    life.carry(again).await;
    assert_eq!(life.writes() - before, tried);
    life.fleet.ends(life.processes, &life.events).await;
}

async fn whole_life(readings: Readings) {
    let keeps = readings.clearing == Clearing::Keeps;
    let mut life = Life::start(readings).await;
    let mut company = life.source.organization();
    let mut person = life.source.person();
    let mut known = life.source.organization();
    let decoys = life.decoys(&company);
    let before = life.snapshot(&decoys);
    let adopted = life.person_adds(found_at_the_partner(&known));

    life.indexed().await;

    // Made, and found.
    life.carry([company.created(), person.created(), known.created()])
        .await;
    let company_id = life.agrees(&company).await;
    let person_id = life.agrees(&person).await;
    assert_eq!(life.agrees(&known).await, adopted, "not adopted");
    assert_eq!(life.fleet.calls(Call::AddPartner), 2);

    // Changed, several times and out of order.
    let mut changes = Vec::new();
    for _ in 0..3 {
        for contact in [&mut company, &mut person, &mut known] {
            changes.push(life.source.change(contact));
        }
    }
    let changes = life.source.shuffled(changes, 0.4);
    life.carry(changes).await;
    for (contact, id) in [
        (&company, company_id),
        (&person, person_id),
        (&known, adopted),
    ] {
        assert_eq!(life.agrees(contact).await, id);
    }

    // Further addresses come, one by one, and stay when they leave the record.
    for (at, street) in ["Panjska pot 2", "Đurđevačka 3", "Čebelarska 4"]
        .iter()
        .enumerate()
    {
        let address = json!({
            "kind": "delivery", "street": street, "postal_code": "8210", "city": "Trebnje", "country": "SI",
        });
        company.record["addresses"]
            .as_array_mut()
            .unwrap()
            .push(address);
        let event = company.updated();
        life.carry([event]).await;
        life.agrees(&company).await;
        let partner = life.fleet.partner_of(company.id()).await.unwrap();
        let further = partner.addresses.iter().filter(|one| one.city == "Trebnje");
        assert!(further.count() > at, "{partner:#?}");
    }
    let all = life.fleet.partner_of(company.id()).await.unwrap().addresses;
    company.record["addresses"]
        .as_array_mut()
        .unwrap()
        .truncate(1);
    let event = company.updated();
    life.carry([event]).await;
    life.agrees(&company).await;
    let left = life.fleet.partner_of(company.id()).await.unwrap().addresses;
    assert_eq!(left.len(), all.len(), "{left:#?}");

    // What Metakocka does not clear is tried once, and then known.
    person.record["registration_number"] = json!("7654321000");
    let event = person.updated();
    life.carry([event]).await;
    person.record["registration_number"] = Value::Null;
    let event = person.updated();
    life.carry([event]).await;
    let cleared = life.fleet.partner_of(person.id()).await.unwrap();
    let kept = if keeps { "7654321000" } else { "" };
    assert_eq!(cleared.registration_number, kept);
    let writes = life.writes();
    let unchanged = person.updated();
    life.carry([unchanged]).await;
    assert_eq!(
        life.writes(),
        writes,
        "cleared again\n{}",
        life.fleet.story().await
    );

    // Deleted in the CRM: nothing happens at Metakocka.
    let seen = life.snapshot(&[company_id]);
    life.carry([company.deleted()]).await;
    assert_eq!(life.snapshot(&[company_id]), seen);
    assert_eq!(
        life.fleet.link(company.id()).await.unwrap().state,
        "deleted"
    );

    // And made again: its partner is still there.
    company.record["name"] = json!("Čebelarstvo Žužek in hči d.o.o.");
    life.carry([company.created()]).await;
    assert_eq!(life.agrees(&company).await, company_id);
    assert_eq!(life.fleet.link(company.id()).await.unwrap().state, "linked");

    // Everything once more, in another order.
    let calls = life.fleet.simulator.log(&LogFilter::default()).len();
    let again = life.source.shuffled(life.events.clone(), 0.5);
    life.fleet.publish_all(&again).await;
    life.fleet.rests(&life.events).await;
    for (contact, id) in [
        (&company, company_id),
        (&person, person_id),
        (&known, adopted),
    ] {
        assert_eq!(life.fleet.partner_of(contact.id()).await.unwrap().mk_id, id);
    }
    assert_eq!(life.fleet.partners().len(), 3 + decoys.len());
    assert_eq!(
        life.snapshot(&decoys),
        before,
        "somebody else's partner was touched"
    );
    assert_eq!(life.fleet.simulator.strict_violations(), []);
    assert_eq!(
        life.fleet.count("select count(*) from dead_letter").await,
        0
    );
    let made = life.fleet.simulator.log(&LogFilter::default()).len() - calls;
    assert_eq!(made, 0, "repeats made calls\n{}", life.fleet.story().await);
    life.fleet.ends(life.processes, &life.events).await;
}

/// The contact as a person has typed it there: its tax number without prefix, its name and address in another spelling.
fn found_at_the_partner(contact: &Contact) -> PartnerEdit {
    let record = &contact.record;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let address = &record["addresses"][0];
    PartnerEdit {
        customer: Some(contact.name().to_uppercase()),
        business_entity: Some(true),
        tax_id_number: Some(text(&record["tax_id"]).trim_start_matches("SI").to_owned()),
        addresses: Some(vec![PersonAddress {
            address_type: AddressType::Billing,
            street: text(&address["street"]).to_uppercase(),
            post_number: text(&address["postal_code"]),
            city: text(&address["city"]),
            country: "Slovenija".to_owned(),
            ..PersonAddress::default()
        }]),
        ..PartnerEdit::default()
    }
}
