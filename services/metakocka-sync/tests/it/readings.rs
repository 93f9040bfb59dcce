//! Each row of contract §12 about partners, by its switch in the simulator: what the worker does is right either way.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::metakocka::{
    AddressType, Call, Fault, LogFilter, PartnerEdit, PersonAddress, PersonContact, Readings,
};

use crate::stage::{LAG, Stage, beekeeper, both, person, saved};

/// A preset with one switch set to a value, by its name.
pub(crate) fn switched(preset: Readings, switch: &str, value: Value) -> Readings {
    let mut readings = serde_json::to_value(preset).unwrap();
    assert!(readings.get(switch).is_some(), "no switch {switch}");
    readings[switch] = value;
    serde_json::from_value(readings).unwrap()
}

/// Both presets with each of these values.
pub(crate) fn each(switch: &str, values: &[Value]) -> Vec<Readings> {
    both()
        .into_iter()
        .flat_map(|preset| {
            values
                .iter()
                .map(move |value| switched(preset.clone(), switch, value.clone()))
        })
        .collect()
}

fn bools() -> [Value; 2] {
    [json!(false), json!(true)]
}

fn hand(customer: &str) -> PartnerEdit {
    PartnerEdit {
        customer: Some(customer.to_owned()),
        ..PartnerEdit::default()
    }
}

fn lives(customer: &str, street: &str) -> PartnerEdit {
    PartnerEdit {
        business_entity: Some(false),
        addresses: Some(vec![PersonAddress {
            address_type: AddressType::Billing,
            street: street.to_owned(),
            post_number: "1000".to_owned(),
            city: "Ljubljana".to_owned(),
            country: "Slovenija".to_owned(),
            ..PersonAddress::default()
        }]),
        ..hand(customer)
    }
}

fn bodies(stage: &Stage, call: Call) -> Vec<Value> {
    let log = stage.simulator.log(&LogFilter::call(call));
    log.into_iter().map(|entry| entry.body).collect()
}

/// Create, update of everything, one part more: the story in short, after a lost answer to the create.
async fn lives_through(readings: Readings) -> Stage {
    let stage = Stage::new(readings).await;
    stage.fault(Fault::CommitThenDrop, Call::AddPartner);
    stage.deliver(&saved(1, &beekeeper())).await;
    stage.advance(LAG).await;
    // Proven by the look: nobody waits for the settle time.
    let end = stage.deliver(&saved(1, &beekeeper())).await;
    assert_eq!(end.word(), "ack applied");
    let mut moved = beekeeper();
    moved["name"] = json!("Žužek d.o.o.");
    moved["addresses"][0]["street"] = json!("Šolska ulica 1");
    moved["addresses"].as_array_mut().unwrap().push(
        json!({"kind": "delivery", "street": "Đurina 8", "postal_code": "8210", "city": "Trebnje", "country": "SI"}),
    );
    let end = stage.deliver(&saved(2, &moved)).await;
    assert_eq!(end.word(), "ack applied");
    let partner = stage.only_partner();
    assert_eq!(partner.customer, "Žužek d.o.o.");
    assert_eq!(partner.addresses.len(), 3, "{partner:#?}");
    assert_eq!(partner.addresses[0].street, "Šolska ulica 1");
    assert_eq!(partner.addresses[0].city, "Trebnje");
    assert_eq!(partner.addresses[0].province, "Dolenjska");
    assert_eq!(partner.contacts.len(), 1);
    let history = stage.history().await;
    assert!(
        history
            .iter()
            .all(|(_, detail)| not_taken(detail).is_empty()),
        "{history:#?}"
    );
    let mark = stage.mark();
    assert_eq!(
        stage.deliver(&saved(3, &moved)).await.word(),
        "ack unchanged"
    );
    assert!(stage.calls_since(mark).is_empty());
    assert_eq!(stage.simulator.strict_violations(), []);
    stage
}

fn not_taken(detail: &Value) -> Vec<String> {
    let fields = detail["not_taken"].as_array().cloned().unwrap_or_default();
    fields
        .iter()
        .map(|field| field.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn collapse_single_lists() {
    for readings in each("collapse_single_lists", &bools()) {
        lives_through(readings).await;
    }
}

#[tokio::test]
async fn booleans_and_numbers() {
    for switch in ["booleans", "numbers"] {
        for readings in each(switch, &[json!("string"), json!("native")]) {
            lives_through(readings).await;
        }
    }
}

#[tokio::test]
async fn omit_opr_code() {
    for readings in each("omit_opr_code", &bools()) {
        lives_through(readings).await;
    }
}

#[tokio::test]
async fn province_key() {
    for readings in each("province_key", &[json!("province"), json!("provice")]) {
        lives_through(readings).await;
    }
}

#[tokio::test]
async fn partner_list_count() {
    for readings in each("partner_list_count", &[json!("page"), json!("total")]) {
        // Ours is the only one on the second page.
        let stage = Stage::new(readings).await;
        namesakes(&stage, metakocka::PAGE);
        let ours = stage
            .by_hand(lives("Živa Đorđević", "Šmartinska cesta 12"))
            .await;
        let end = stage.deliver(&saved(1, &person())).await;
        assert_eq!(end.word(), "ack applied");
        assert_eq!(stage.link().await.1, Some(ours.to_string()));
    }
}

/// People whose names contain that of `person`, and who live elsewhere.
fn namesakes(stage: &Stage, count: usize) {
    for number in 0..count {
        let edit = lives(&format!("Živa Đorđević {number}"), "Druga ulica 1");
        stage
            .simulator
            .with_company(crate::stage::COMPANY, |company, now| {
                company.person_adds(edit, now)
            })
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn update_answer() {
    let values = ["stored", "old_addresses", "old_partner"].map(Value::from);
    for readings in each("update_answer", &values) {
        lives_through(readings).await;
    }
}

#[tokio::test]
async fn lane() {
    for readings in each("lane", &[json!("search_only"), json!("all_reads")]) {
        let stage = Stage::new(readings).await;
        let (company, somebody) = (saved(1, &beekeeper()), saved(1, &person()));
        let (one, two) = tokio::join!(stage.deliver(&company), stage.deliver(&somebody));
        assert_eq!([one.word(), two.word()], ["ack applied", "ack applied"]);
        assert_eq!(stage.partners().len(), 2);
    }
}

#[tokio::test]
async fn empty_filter() {
    for readings in each("empty_filter", &[json!("everybody"), json!("nothing")]) {
        let stage = Stage::new(readings).await;
        stage.by_hand(hand("Somebody else")).await;
        // No text of it identifies anybody.
        let nobody = json!({
            "id": "org-5", "kind": "organization", "name": "***", "tax_id": " - ",
            "emails": [], "phones": [], "addresses": [{"kind": "main", "street": "-", "postal_code": "", "city": "Trebnje"}]
        });
        let end = stage.deliver(&saved(1, &nobody)).await;
        assert_eq!(end.word(), "ack applied");
        assert_eq!(stage.calls_since(0), ["add"]);
        stage.deliver(&saved(1, &beekeeper())).await;
        for body in bodies(&stage, Call::GetPartner) {
            let filters = filters(&body);
            assert!(
                filters
                    .iter()
                    .all(|(_, text)| text.chars().any(char::is_alphanumeric)),
                "{body}"
            );
        }
        assert_eq!(stage.partners().len(), 3);
    }
}

fn filters(body: &Value) -> Vec<(String, String)> {
    body.as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.starts_with("partner_"))
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

#[tokio::test]
async fn several_filters() {
    for readings in each("several_filters", &[json!("and"), json!("last_wins")]) {
        let stage = lives_through(readings).await;
        for body in bodies(&stage, Call::GetPartner) {
            assert_eq!(filters(&body).len(), 1, "{body}");
        }
    }
}

pub(crate) fn matchings() -> Vec<Value> {
    let mut all = Vec::new();
    for extent in ["partial", "exact"] {
        for text in ["raw", "normalised"] {
            all.push(json!({"extent": extent, "text": text}));
        }
    }
    all
}

#[tokio::test]
async fn match_tax() {
    for readings in each("match_tax", &matchings()) {
        let stage = Stage::new(readings.clone()).await;
        for (customer, tax) in [("Daljša", "SI999999011"), ("Tuja", "HR99999901")] {
            stage
                .by_hand(PartnerEdit {
                    business_entity: Some(true),
                    tax_id_number: Some(tax.to_owned()),
                    ..hand(customer)
                })
                .await;
        }
        stage.deliver_until_done(&saved(1, &beekeeper())).await;
        assert_eq!(stage.partners().len(), 3, "neither of them is ours");
        for theirs in ["SI99999901", "99999901"] {
            let stage = Stage::new(readings.clone()).await;
            stage
                .by_hand(PartnerEdit {
                    business_entity: Some(true),
                    tax_id_number: Some(theirs.to_owned()),
                    ..lives("Naša", "Lipova 3")
                })
                .await;
            stage.deliver_until_done(&saved(1, &beekeeper())).await;
            assert_eq!(
                stage.partners().len(),
                1,
                "{theirs} under {:?}",
                readings.match_tax
            );
        }
    }
}

#[tokio::test]
async fn match_email() {
    for readings in each("match_email", &matchings()) {
        let stage = Stage::new(readings).await;
        let mailbox = |email: &str| PartnerEdit {
            business_entity: Some(false),
            contacts: Some(vec![PersonContact {
                email: email.to_owned(),
                ..PersonContact::default()
            }]),
            ..hand("Nekdo")
        };
        stage.by_hand(mailbox("pre.ziva@dordevic.example")).await;
        stage.by_hand(mailbox("ziva@dordevic.example.org")).await;
        stage.deliver_until_done(&saved(1, &person())).await;
        assert_eq!(stage.partners().len(), 3);

        // What we wrote ourselves is found again under every matching.
        stage.advance(LAG).await;
        stage.deliver(&crate::stage::deleted(2, "person-1")).await;
        let mut again = person();
        again["id"] = json!("person-2");
        again["emails"] = json!([{"value": "ZIVA@dordevic.EXAMPLE"}]);
        again["addresses"] = json!([]);
        stage.deliver_until_done(&saved(1, &again)).await;
        assert_eq!(stage.partners().len(), 3);
    }
}

#[tokio::test]
async fn match_name() {
    let values = [
        json!({"extent": "partial", "text": "raw"}),
        json!({"extent": "partial", "text": "normalised"}),
        json!({"extent": "exact", "text": "normalised"}),
    ];
    for readings in each("match_name", &values) {
        let stage = Stage::new(readings).await;
        stage.by_hand(lives("Živa Đorđević", "Drugje 1")).await;
        stage
            .by_hand(lives("Živa Đorđević Kos", "Šmartinska cesta 12"))
            .await;
        let ours = stage
            .by_hand(lives("živa đorđević", "Šmartinska cesta 12"))
            .await;
        stage.deliver_until_done(&saved(1, &person())).await;
        assert_eq!(stage.partners().len(), 3);
        assert_eq!(stage.link().await.1, Some(ours.to_string()));
    }
}

#[tokio::test]
async fn paging_past_end() {
    /// Fills the first page exactly, so that the next one is asked for.
    const PAGE: usize = metakocka::PAGE;
    for readings in each("paging_past_end", &[json!("code2"), json!("empty_list")]) {
        let stage = Stage::new(readings.clone()).await;
        namesakes(&stage, PAGE - 1);
        let ours = stage
            .by_hand(lives("Živa Đorđević", "Šmartinska cesta 12"))
            .await;
        let end = stage.deliver(&saved(1, &person())).await;
        assert_eq!(end.word(), "ack applied", "{readings:?}");
        assert_eq!(stage.partners().len(), PAGE);
        assert_eq!(stage.link().await.1, Some(ours.to_string()));
    }
}

#[tokio::test]
async fn clearing() {
    for readings in each("clearing", &[json!("keeps"), json!("clears")]) {
        let keeps = serde_json::to_value(readings.clearing).unwrap() == json!("keeps");
        let stage = Stage::new(readings).await;
        stage.deliver(&saved(1, &beekeeper())).await;
        let mut cleared = beekeeper();
        cleared["registration_number"] = Value::Null;
        let end = stage.deliver(&saved(2, &cleared)).await;
        assert_eq!(end.word(), "ack applied");
        let expected = if keeps { "6123456000" } else { "" };
        assert_eq!(stage.only_partner().registration_number, expected);
        let told: Vec<String> = stage
            .history()
            .await
            .iter()
            .flat_map(|(_, detail)| not_taken(detail))
            .collect();
        let expected: &[&str] = if keeps { &["registration_number"] } else { &[] };
        assert_eq!(told, expected, "said once where it cannot be cleared");
        let mark = stage.mark();
        let end = stage.deliver(&saved(3, &cleared)).await;
        assert_eq!(end.word(), "ack unchanged", "and never tried again");
        assert!(stage.calls_since(mark).is_empty());
    }
}

#[tokio::test]
async fn top_level_address() {
    for readings in each(
        "top_level_address",
        &[json!("complete_only"), json!("field_by_field")],
    ) {
        let stage = Stage::new(readings).await;
        // Without a country, so that "all fields" includes an empty one.
        let mut moved = beekeeper();
        moved["addresses"][0]["country"] = json!("");
        stage.deliver(&saved(1, &moved)).await;
        moved["addresses"][0]["street"] = json!("Šolska ulica 1");
        stage.deliver(&saved(2, &moved)).await;
        moved["name"] = json!("Žužek");
        stage.deliver(&saved(3, &moved)).await;
        let address = stage.only_partner().addresses[0].clone();
        assert_eq!(
            [
                address.street,
                address.post_number,
                address.city,
                address.province
            ],
            ["Šolska ulica 1", "8210", "Trebnje", "Dolenjska"]
        );
        for body in bodies(&stage, Call::UpdatePartner) {
            let sent = ["street", "post_number", "place", "province", "country"]
                .into_iter()
                .filter(|name| body["partner"].get(name).is_some())
                .count();
            assert!(sent == 0 || sent == 5, "{body}");
        }
        let mark = stage.mark();
        stage.deliver(&saved(4, &moved)).await;
        assert!(stage.calls_since(mark).is_empty());
    }
}

#[tokio::test]
async fn quota_answer() {
    for readings in each("quota_answer", &[json!("code5"), json!("http429")]) {
        for call in [Call::GetPartner, Call::AddPartner] {
            let stage = Stage::new(readings.clone()).await;
            stage.fault(Fault::Quota, call);
            let end = stage.deliver(&saved(1, &beekeeper())).await;
            assert_eq!(end.word(), "transient rate_limited");
            assert_eq!(stage.open_effects().await, 0, "nothing was stored");
        }
    }
}

#[tokio::test]
async fn quota_retry_after_seconds() {
    // Unnamed, it is the setting `quota_backoff`.
    let unnamed = crate::stage::QUOTA_BACKOFF;
    let secs = Duration::from_secs;
    for (told, waits) in [
        (json!(null), unnamed),
        (json!(5), secs(5)),
        (json!(600), secs(600)),
    ] {
        let readings = switched(Readings::nasty(), "quota_retry_after_seconds", told);
        let stage = Stage::new(readings).await;
        stage.fault(Fault::Quota, Call::GetPartner);
        match stage.deliver(&saved(1, &beekeeper())).await {
            crate::stage::End::Failed(worker::Failure::Transient { retry_after, .. }) => {
                assert_eq!(retry_after, Some(waits));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn code_1_on_write() {
    for readings in each("code_1_on_write", &[json!("stored"), json!("not_stored")]) {
        let stage = Stage::new(readings).await;
        stage.fault(Fault::Code1, Call::AddPartner);
        let end = stage.deliver(&saved(1, &beekeeper())).await;
        assert_eq!(end.word(), "transient unknown");
        stage.deliver_until_done(&saved(1, &beekeeper())).await;
        assert_eq!(stage.partners().len(), 1);
    }
}

#[tokio::test]
async fn index_lag_seconds() {
    for readings in each("index_lag_seconds", &[json!(0), json!(10), json!(50)]) {
        let stage = Stage::new(readings).await;
        stage.fault(Fault::CommitThenDrop, Call::AddPartner);
        for _ in 0..3 {
            stage.deliver(&saved(1, &beekeeper())).await;
        }
        stage.deliver_until_done(&saved(1, &beekeeper())).await;
        assert_eq!(stage.partners().len(), 1);
    }
}

#[tokio::test]
async fn deleted_in_index() {
    for readings in each(
        "deleted_in_index",
        &[json!("gone"), json!("after_lag"), json!("stays")],
    ) {
        let stage = Stage::new(readings).await;
        let gone = stage
            .by_hand(PartnerEdit {
                business_entity: Some(true),
                tax_id_number: Some("SI99999901".to_owned()),
                ..hand("Žužek")
            })
            .await;
        stage
            .simulator
            .with_company(crate::stage::COMPANY, |company, now| {
                company.person_deletes(gone, now)
            })
            .unwrap()
            .unwrap();
        let end = stage.deliver_until_done(&saved(1, &beekeeper())).await;
        assert_eq!(end.as_str(), "applied");
        assert_ne!(stage.only_partner().mk_id, gone);
    }
}

#[tokio::test]
async fn over_long() {
    for readings in each("over_long", &[json!("refuse"), json!("truncate")]) {
        let stage = Stage::new(readings).await;
        let mut long = beekeeper();
        long["name"] = json!("Ž".repeat(101));
        let end = stage.deliver(&saved(1, &long)).await;
        assert_eq!(end.word(), "dead unmappable");
        assert!(end.text().contains("/contact/name"), "{}", end.text());
        assert!(stage.calls_since(0).is_empty());
    }
}

#[tokio::test]
async fn empty_address() {
    for readings in each("empty_address", &[json!("made"), json!("not_made")]) {
        let made = serde_json::to_value(readings.empty_address).unwrap() == json!("made");
        let stage = Stage::new(readings).await;
        let mut contact = person();
        contact["addresses"] = json!([{"kind": "delivery", "street": "Dostavna 1", "postal_code": "1000", "city": "Ljubljana"}]);
        stage.deliver_until_done(&saved(1, &contact)).await;
        let partner = stage.only_partner();
        assert_eq!(partner.addresses.len(), if made { 2 } else { 1 });
        // The delivery address is never taken for the main one.
        contact["addresses"] = json!([
            {"kind": "delivery", "street": "Dostavna 1", "postal_code": "1000", "city": "Ljubljana"},
            {"kind": "main", "street": "Glavna 2", "postal_code": "1000", "city": "Ljubljana", "country": "SI"}
        ]);
        stage.deliver_until_done(&saved(2, &contact)).await;
        let streets: std::collections::BTreeSet<String> = stage
            .only_partner()
            .addresses
            .iter()
            .map(|address| format!("{} {}", address.address_type.as_str(), address.street))
            .collect();
        let expected = ["Dobava Dostavna 1", "Račun Glavna 2"].map(str::to_owned);
        assert_eq!(streets, std::collections::BTreeSet::from(expected));
    }
}

#[tokio::test]
async fn a_delivery_address_is_not_the_main_one() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        let mut theirs = lives("Živa Đorđević", "Šmartinska cesta 12");
        for address in theirs.addresses.iter_mut().flatten() {
            address.address_type = AddressType::Delivery;
        }
        stage.by_hand(theirs).await;
        stage.deliver_until_done(&saved(1, &person())).await;
        let kinds: Vec<&str> = stage
            .only_partner()
            .addresses
            .iter()
            .map(|address| address.address_type.as_str())
            .collect();
        assert_eq!(kinds, ["Dobava", "Račun"]);
    }
}

#[tokio::test]
async fn errors_echo_key() {
    const KEY: &str = "a-key-nobody-knows";
    for readings in each("errors_echo_key", &bools()) {
        let stage = Stage::with(crate::stage::Wanted {
            readings,
            key: KEY,
            ..crate::stage::Wanted::default()
        })
        .await;
        let end = stage.deliver(&saved(1, &beekeeper())).await;
        assert_eq!(end.word(), "blocked suspended");
        assert!(!end.text().contains(KEY), "{}", end.text());
    }
}
