//! Every switch of contract §12, in both settings, on the company itself.

use serde_json::{Value, json};
use simulators::metakocka::core::*;

use crate::caller::{Books, names};

fn books(change: impl FnOnce(&mut Readings)) -> Books {
    let mut readings = Readings::kind();
    change(&mut readings);
    Books::with(readings)
}

/// With a partner at an address in Trebnje.
fn books_with_zuzek(change: impl FnOnce(&mut Readings)) -> Books {
    let mut books = books(change);
    books.add(json!({
        "customer": "Čebelarstvo Žužek d.o.o.", "tax_id_number": "SI99999901", "registration_number": "5000",
        "street": "Češnjeva ulica 7", "post_number": "8210", "place": "Trebnje", "country": "Slovenija", "province": "Dolenjska",
        "partner_contact": {"name": "Špela Žužek", "email": "Spela@Zuzek.example", "gsm": "+386 40 000 111"},
    }));
    books
}

const ZUZEK: &str = "9000000101";

fn only(answer: &Value) -> &Value {
    match &answer["partner_list"] {
        Value::Array(list) => &list[0],
        one => one,
    }
}

fn read(books: &mut Books) -> Value {
    only(&books.call(Call::GetPartner, json!({"partner_id": ZUZEK}))).clone()
}

#[test]
fn lists_of_one_collapse_or_not() {
    for collapse in [true, false] {
        let mut books = books_with_zuzek(|readings| readings.collapse_single_lists = collapse);
        let found = books.call(Call::GetPartner, json!({}));
        let partner = only(&found).clone();
        let added = books.add(json!({"customer": "Novak", "street": "Lipova 1"}));
        let lists = [
            &found["partner_list"],
            &partner["partner_contact_list"],
            &partner["partner_delivery_address_list"],
            &added["mk_address_id_list"],
        ];
        for list in lists {
            assert_eq!(list.is_object(), collapse, "{list}");
            assert_eq!(list.is_array(), !collapse, "{list}");
        }
        // Two are always a list.
        assert!(books.call(Call::GetPartner, json!({}))["partner_list"].is_array());
    }
}

#[test]
fn an_empty_filter_finds_everybody_or_nobody() {
    for (reading, hits) in [(EmptyFilter::Everybody, 1), (EmptyFilter::Nothing, 0)] {
        let mut books = books_with_zuzek(|readings| readings.empty_filter = reading);
        for filter in [
            "partner_id",
            "partner_name",
            "partner_tax_number",
            "partner_email",
            "partner_phone_number",
        ] {
            assert_eq!(
                books.find(json!({filter: ""})).len(),
                hits,
                "{filter} {reading:?}"
            );
            assert_eq!(
                books.find(json!({filter: null})).len(),
                hits,
                "{filter} {reading:?}"
            );
        }
        // Without any filter it is everybody, in both.
        assert_eq!(books.find(json!({})).len(), 1);
    }
}

#[track_caller]
fn check_match(filter: &str, sought: &str, set: fn(&mut Readings, Matching), found_by: [bool; 4]) {
    let settings = [
        Matching::PARTIAL_RAW,
        Matching::PARTIAL_NORMALISED,
        Matching::EXACT_RAW,
        Matching::EXACT_NORMALISED,
    ];
    let found = settings.map(|matching| {
        let mut books = books_with_zuzek(|readings| set(readings, matching));
        !books.find(json!({filter: sought})).is_empty()
    });
    assert_eq!(
        found, found_by,
        "{filter} {sought}: partial raw, partial normalised, exact raw, exact normalised"
    );
}

#[test]
fn names_match_without_case_in_every_reading() {
    let set = |readings: &mut Readings, matching| readings.match_name = matching;
    check_match("partner_name", "ČEBELARSTVO ŽUŽEK D.O.O.", set, [true; 4]);
    check_match("partner_name", "žužek", set, [true, true, false, false]);
    check_match(
        "partner_name",
        " čebelarstvo  žužek d.o.o. ",
        set,
        [false, true, false, true],
    );
    check_match("partner_name", "Novak", set, [false; 4]);
}

#[test]
fn tax_numbers_match_as_set() {
    let set = |readings: &mut Readings, matching| readings.match_tax = matching;
    check_match("partner_tax_number", "SI99999901", set, [true; 4]);
    check_match(
        "partner_tax_number",
        "99999901",
        set,
        [true, true, false, true],
    );
    check_match(
        "partner_tax_number",
        "si 9999 9901",
        set,
        [false, true, false, true],
    );
    check_match(
        "partner_tax_number",
        "9999",
        set,
        [true, true, false, false],
    );
    check_match("partner_tax_number", "SI99999902", set, [false; 4]);
}

#[test]
fn emails_match_as_set() {
    let set = |readings: &mut Readings, matching| readings.match_email = matching;
    check_match("partner_email", "Spela@Zuzek.example", set, [true; 4]);
    check_match(
        "partner_email",
        "spela@zuzek.example",
        set,
        [false, true, false, true],
    );
    check_match(
        "partner_email",
        "@Zuzek.example",
        set,
        [true, true, false, false],
    );
}

#[test]
fn phones_match_as_set() {
    let set = |readings: &mut Readings, matching| readings.match_phone = matching;
    check_match("partner_phone_number", "+386 40 000 111", set, [true; 4]);
    check_match(
        "partner_phone_number",
        "0038640000111",
        set,
        [false, true, false, true],
    );
    check_match(
        "partner_phone_number",
        "40 000",
        set,
        [true, true, false, false],
    );
    // Nothing of it is left when normalised: nobody, not everybody.
    check_match("partner_phone_number", "ext.", set, [false; 4]);
}

#[test]
fn past_the_end_is_code_2_or_an_empty_list() {
    for (reading, code) in [(PastEnd::Code2, Some("2")), (PastEnd::EmptyList, None)] {
        let mut books = books_with_zuzek(|readings| readings.paging_past_end = reading);
        let page = books.call(Call::GetPartner, json!({"offset": "1", "limit": "10"}));
        assert_eq!(page["opr_code"].as_str(), code);
        assert_eq!(page.get("partner_list"), None);
        // A search without a hit is code 2 in both.
        assert_eq!(
            books.call(Call::GetPartner, json!({"partner_name": "Novak"}))["opr_code"],
            "2"
        );
    }
}

#[test]
fn several_filters_are_anded_or_the_last_one_sent_wins() {
    let zuzek_last = r#"{"secret_key":"sim-key","company_id":"4711","partner_tax_number":"0","partner_name":"žužek"}"#;
    let zuzek_first = r#"{"secret_key":"sim-key","company_id":"4711","partner_name":"žužek","partner_tax_number":"0"}"#;
    for (reading, found_last) in [(SeveralFilters::And, 0), (SeveralFilters::LastWins, 1)] {
        let mut books = books_with_zuzek(|readings| readings.several_filters = reading);
        assert_eq!(
            names(&books.call_text(Call::GetPartner, zuzek_last)).len(),
            found_last,
            "{reading:?}"
        );
        assert_eq!(
            names(&books.call_text(Call::GetPartner, zuzek_first)).len(),
            0,
            "{reading:?}"
        );
        assert_eq!(
            books
                .find(json!({"partner_name": "žužek", "partner_tax_number": "SI99999901"}))
                .len(),
            1
        );
    }
}

#[test]
fn empty_text_clears_or_keeps() {
    for (reading, cleared) in [(Clearing::Clears, true), (Clearing::Keeps, false)] {
        let mut books = books_with_zuzek(|readings| readings.clearing = reading);
        let before = read(&mut books);
        let (contact, address) = (
            &before["partner_contact_list"][0],
            &before["partner_delivery_address_list"][0],
        );
        books.update(json!({
            "mk_id": ZUZEK, "registration_number": "",
            "partner_contact_list": [{"mk_id": contact["mk_id"], "gsm": ""}],
            "partner_delivery_address_list": [{"mk_id": address["mk_id"], "province": ""}],
        }));
        let after = read(&mut books);
        assert_eq!(after.get("registration_number").is_none(), cleared);
        assert_eq!(
            after["partner_contact_list"][0].get("gsm").is_none(),
            cleared
        );
        assert_eq!(
            after["partner_delivery_address_list"][0]
                .get("province")
                .is_none(),
            cleared
        );
        // Absent and null keep, in both.
        books.update(json!({"mk_id": ZUZEK, "tax_id_number": null}));
        assert_eq!(read(&mut books)["tax_id_number"], "SI99999901");
    }
}

#[test]
fn the_top_level_address_is_taken_whole_by_field_or_not_at_all() {
    let complete = json!({"mk_id": ZUZEK, "street": "Nova 1", "post_number": "1000", "place": "Ljubljana", "country": "Slovenija"});
    let half = json!({"mk_id": ZUZEK, "street": "Nova 1"});
    for (reading, after_half, after_complete) in [
        (
            TopLevelAddress::CompleteOnly,
            ["Češnjeva ulica 7", "Trebnje"],
            ["Nova 1", "Ljubljana"],
        ),
        (
            TopLevelAddress::FieldByField,
            ["Nova 1", "Trebnje"],
            ["Nova 1", "Ljubljana"],
        ),
        (
            TopLevelAddress::NotApplied,
            ["Češnjeva ulica 7", "Trebnje"],
            ["Češnjeva ulica 7", "Trebnje"],
        ),
    ] {
        for (update, expected) in [(&half, after_half), (&complete, after_complete)] {
            let mut books = books_with_zuzek(|readings| readings.top_level_address = reading);
            assert_eq!(books.update(update.clone()).get("opr_code"), None);
            let main = read(&mut books)["partner_delivery_address_list"][0].clone();
            assert_eq!([&main["street"], &main["city"]], expected, "{reading:?}");
        }
    }
}

#[test]
fn the_answer_of_an_update_may_show_what_was() {
    let update = json!({"mk_id": ZUZEK, "customer": "Žužek in hči", "street": "Nova 1", "post_number": "1000", "place": "Ljubljana", "country": "Slovenija"});
    for (reading, shown) in [
        (UpdateAnswer::Stored, ["Žužek in hči", "Nova 1"]),
        (
            UpdateAnswer::OldAddresses,
            ["Žužek in hči", "Češnjeva ulica 7"],
        ),
        (
            UpdateAnswer::OldPartner,
            ["Čebelarstvo Žužek d.o.o.", "Češnjeva ulica 7"],
        ),
    ] {
        let mut books = books_with_zuzek(|readings| readings.update_answer = reading);
        let answer = only(&books.update(update.clone())).clone();
        assert_eq!(
            [
                &answer["customer"],
                &answer["partner_delivery_address_list"][0]["street"]
            ],
            shown,
            "{reading:?}"
        );
        let back = read(&mut books);
        assert_eq!(
            [
                &back["customer"],
                &back["partner_delivery_address_list"][0]["street"]
            ],
            ["Žužek in hči", "Nova 1"]
        );
    }
}

#[test]
fn refused_calls_use_the_quota_up_or_not() {
    for (counts, let_in_again) in [(true, false), (false, true)] {
        let mut books = books(|readings| readings.quota_counts_refused = counts);
        books.company.set_access(
            None,
            None,
            Some(Some(Quota {
                calls: 1,
                per_seconds: 60,
            })),
        );
        let mut refused = || {
            let answer = books.call(Call::GetPartner, json!({}));
            books.later(40);
            answer["opr_code"] == "5"
        };
        assert!(!refused());
        assert!(refused());
        // 80 s after the first, 40 s after the refused one.
        assert_eq!(refused(), !let_in_again, "{counts}");
    }
}

#[test]
fn an_exhausted_quota_is_code_5_or_http_429() {
    for (reading, status) in [(QuotaAnswer::Code5, 200), (QuotaAnswer::Http429, 429)] {
        let mut books = books(|readings| {
            readings.quota_answer = reading;
            readings.quota_retry_after_seconds = Some(7);
        });
        books.company.set_access(
            None,
            None,
            Some(Some(Quota {
                calls: 0,
                per_seconds: 60,
            })),
        );
        let body = crate::caller::with_credentials(json!({})).to_string();
        let reply = books
            .company
            .call(Call::GetPartner, body.as_bytes(), books.now);
        assert_eq!(reply.status, status);
        assert_eq!(reply.retry_after, (status == 429).then_some(7));
        assert_eq!(reply.json().is_some(), status == 200);
    }
}

#[test]
fn success_says_so_or_not() {
    for omit in [true, false] {
        let mut books = books_with_zuzek(|readings| readings.omit_opr_code = omit);
        let answers = [
            books.add(json!({"customer": "Novak"})),
            books.update(json!({"mk_id": ZUZEK})),
            books.call(Call::GetPartner, json!({})),
        ];
        for answer in answers {
            assert_eq!(
                answer.get("opr_code").and_then(Value::as_str),
                (!omit).then_some("0"),
                "{answer}"
            );
        }
    }
}

#[test]
fn booleans_and_numbers_are_text_or_not() {
    for (native, truth, one, two) in [
        (Native::String, json!("true"), json!("1"), json!("2")),
        (Native::Native, json!(true), json!(1), json!(2)),
    ] {
        let mut books = books(|readings| {
            readings.booleans = native;
            readings.numbers = native;
        });
        books.add(json!({"customer": "Novak", "business_entity": true, "taxpayer": "true"}));
        let found = books.call(Call::GetPartner, json!({}));
        assert_eq!(found["partner_list_count"], one);
        assert_eq!(only(&found)["business_entity"], truth);
        assert_eq!(only(&found)["taxpayer"], truth);
        assert!(only(&found)["mk_id"].is_string(), "ids are always text");
        assert_eq!(
            books.call(Call::GetPartner, json!({"partner_id": "1"}))["opr_code"],
            two
        );
    }
}

#[test]
fn the_province_has_two_spellings() {
    for (reading, key) in [
        (ProvinceKey::Province, "province"),
        (ProvinceKey::Provice, "provice"),
    ] {
        let mut books = books_with_zuzek(|readings| readings.province_key = reading);
        let partner = read(&mut books);
        let address = partner["partner_delivery_address_list"][0]
            .as_object()
            .unwrap();
        let keys: Vec<_> = address
            .keys()
            .filter(|key| key.starts_with("prov"))
            .collect();
        assert_eq!(keys, [key]);
    }
}

#[test]
fn searches_lag_and_reads_by_id_do_not() {
    for lag in [0, 10] {
        let mut books = books_with_zuzek(|readings| readings.index_lag_seconds = lag);
        assert_eq!(books.find(json!({"partner_id": ZUZEK})).len(), 1);
        let at_once = usize::from(lag == 0);
        assert_eq!(books.find(json!({"partner_name": "žužek"})).len(), at_once);
        assert_eq!(books.find(json!({})).len(), at_once);
        books.later(10);
        assert_eq!(books.find(json!({"partner_name": "žužek"})).len(), 1);
        books.update(json!({"mk_id": ZUZEK, "customer": "Nova"}));
        assert_eq!(books.find(json!({"partner_name": "nova"})).len(), at_once);
        assert_eq!(
            books.find(json!({"partner_name": "žužek"})).len(),
            1 - at_once,
            "found by what it was"
        );
        books.later(10);
        assert_eq!(books.find(json!({"partner_name": "nova"})).len(), 1);
    }
}

#[test]
fn reads_by_id_may_lag_and_show_the_old_or_nothing() {
    for (reading, meanwhile) in [(ChangedInIndex::Old, 1), (ChangedInIndex::Hidden, 0)] {
        let mut books = books_with_zuzek(|readings| {
            readings.index_lag_seconds = 10;
            readings.changed_in_index = reading;
            readings.read_by_id = ReadById::Lags;
        });
        assert_eq!(books.find(json!({"partner_id": ZUZEK})).len(), 0, "new");
        books.later(10);
        assert_eq!(books.find(json!({"partner_id": ZUZEK})).len(), 1);
        books.update(json!({"mk_id": ZUZEK, "customer": "Nova"}));
        let shown = books.find(json!({"partner_id": ZUZEK}));
        assert_eq!(shown.len(), meanwhile, "{reading:?}");
        assert!(shown.iter().all(|name| name != "Nova"));
        assert_eq!(
            books.find(json!({"partner_name": "žužek"})).len(),
            meanwhile
        );
        books.later(10);
        assert_eq!(books.find(json!({"partner_id": ZUZEK})), ["Nova"]);
    }
}

#[test]
fn a_deleted_partner_may_stay_in_the_index() {
    for (reading, at_once, after_lag) in [
        (DeletedInIndex::Gone, 0, 0),
        (DeletedInIndex::AfterLag, 1, 0),
        (DeletedInIndex::Stays, 1, 1),
    ] {
        let mut books = books_with_zuzek(|readings| {
            readings.index_lag_seconds = 10;
            readings.deleted_in_index = reading;
        });
        books.later(10);
        assert_eq!(books.find(json!({"partner_name": "žužek"})).len(), 1);
        books
            .company
            .person_deletes(MkId(9_000_000_101), books.now)
            .unwrap();
        assert_eq!(
            books.find(json!({"partner_name": "žužek"})).len(),
            at_once,
            "{reading:?}"
        );
        assert_eq!(
            books.find(json!({"partner_id": ZUZEK})).len(),
            0,
            "a read by id knows"
        );
        assert_eq!(
            books.update(json!({"mk_id": ZUZEK, "customer": "x"}))["opr_code"],
            "2"
        );
        books.later(10);
        assert_eq!(
            books.find(json!({"partner_name": "žužek"})).len(),
            after_lag,
            "{reading:?}"
        );
    }
}

#[test]
fn over_long_text_is_refused_or_truncated() {
    let long = "ž".repeat(101);
    let partner = json!({"customer": long});
    let mut refusing = books(|readings| readings.over_long = OverLong::Refuse);
    assert_eq!(refusing.add(partner.clone())["opr_code"], "2");
    assert_eq!(refusing.company.partners().count(), 0);
    let mut truncating = books(|readings| readings.over_long = OverLong::Truncate);
    truncating.add(partner);
    assert_eq!(
        truncating.company.partners().next().unwrap().customer,
        "ž".repeat(100)
    );
}

#[test]
fn every_length_of_the_contract_is_held() {
    let lengths: [(&[&str], usize); 12] = [
        (&["customer"], 100),
        (&["tax_id_number"], 50),
        (&["registration_number"], 50),
        (&["street"], 150),
        (&["post_number"], 20),
        (&["place"], 100),
        (&["province"], 50),
        (&["country"], 50),
        (&["partner_contact", "name"], 255),
        (&["partner_contact", "email"], 255),
        (&["partner_contact", "phone"], 255),
        (&["partner_delivery_address", "city"], 100),
    ];
    for (path, longest) in lengths {
        for (length, right) in [(longest, true), (longest + 1, false)] {
            let mut partner = json!({"customer": "Novak"});
            let place = path
                .iter()
                .fold(&mut partner, |value, key| &mut value[*key]);
            *place = json!("š".repeat(length));
            let answer = Books::with(Readings::kind()).add(partner);
            assert_eq!(answer.get("opr_code").is_none(), right, "{path:?} {length}");
        }
    }
}

#[test]
fn without_an_address_one_is_made_or_not_or_it_is_refused() {
    for (reading, addresses) in [
        (EmptyAddress::Made, Some(1)),
        (EmptyAddress::NotMade, Some(0)),
        (EmptyAddress::Refused, None),
    ] {
        let mut books = books(|readings| readings.empty_address = reading);
        let answer = books.add(json!({"customer": "Novak", "partner_contact": {"name": "Ana"}}));
        assert_eq!(answer.get("opr_code").is_some(), addresses.is_none());
        assert_eq!(
            books
                .company
                .partners()
                .next()
                .map(|partner| partner.addresses.len()),
            addresses
        );
    }
}

#[test]
fn the_count_is_of_the_page_or_of_all() {
    for (reading, count) in [
        (PartnerListCount::Page, "2"),
        (PartnerListCount::Total, "3"),
    ] {
        let mut books = books(|readings| readings.partner_list_count = reading);
        for name in ["A", "B", "C"] {
            books.add(json!({"customer": name}));
        }
        let page = books.call(Call::GetPartner, json!({"limit": 2}));
        assert_eq!(page["partner_list_count"], count);
        assert_eq!(names(&page), ["A", "B"]);
    }
}

#[test]
fn the_text_of_error_3_repeats_the_key_or_not() {
    for echo in [true, false] {
        let mut books = books(|readings| readings.errors_echo_key = echo);
        let answer = books.call_text(
            Call::GetPartner,
            r#"{"secret_key":"hush","company_id":"4711"}"#,
        );
        assert_eq!(answer["opr_code"], "3");
        assert_eq!(answer["opr_desc"].as_str().unwrap().contains("hush"), echo);
    }
}

#[test]
fn the_presets_disagree_where_the_contract_does() {
    let (kind, nasty) = (json!(Readings::kind()), json!(Readings::nasty()));
    let same: Vec<_> = kind
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, value)| nasty[*key] == **value)
        .map(|(key, _)| key)
        .collect();
    assert_eq!(
        same,
        [
            "changed_in_index",
            "empty_address",
            "match_name",
            "omit_opr_code",
            "quota_retry_after_seconds",
            "read_by_id"
        ]
    );
}

#[test]
fn the_readme_names_every_switch() {
    let readme = include_str!("../../README.md");
    for switch in json!(Readings::kind()).as_object().unwrap().keys() {
        assert!(readme.contains(&format!("`{switch}`")), "{switch}");
    }
}
