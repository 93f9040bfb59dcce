//! Contract §10.3, the examples about partners, literally.

use serde_json::{Value, json};
use simulators::metakocka::Readings;

use crate::caller::{Caller, http_client};

fn example_c() -> Value {
    serde_json::from_str(
        r#"{"partner":{"business_entity":"true","taxpayer":"true","foreign_county":"false","buyer":"true","supplier":"false","customer":"Čebelarstvo Žužek d.o.o.","tax_id_number":"SI99999901","street":"Češnjeva ulica 7","post_number":"8210","place":"Trebnje","country":"Slovenija","partner_contact":{"name":"Špela Žužek","email":"spela@zuzek.example","gsm":"+386 40 000 111"},"partner_delivery_address":{"address_type":"Dobava","street":"Panjska pot 2","post_number":"8210","city":"Trebnje","country":"Slovenija"}}}"#,
    )
    .unwrap()
}

async fn caller_with_example_c() -> (Caller, Value) {
    let caller = Caller::with(Readings::kind()).await;
    let answer = caller.call("v1/add_partner", example_c()).await;
    (caller, answer)
}

#[tokio::test]
async fn a_wrong_key() {
    let caller = Caller::with(Readings::kind()).await;
    let url = format!("{}v1/get_partner", caller.simulator.base_url());
    let body = json!({"secret_key": "bad", "company_id": "4711"});
    let mut answer: Value = http_client()
        .post(url)
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    answer["opr_time_ms"].take();
    assert_eq!(
        answer,
        json!({"opr_code": "3", "opr_desc": "Invalid value for secret_key and company_id", "opr_time_ms": null})
    );
}

#[tokio::test]
async fn b_wrong_path_family() {
    let caller = Caller::with(Readings::kind()).await;
    for path in [
        "v1/product_list",
        "v1/json/get_partner",
        "get_partner",
        "v1/get_partner/",
        "v1/delete_partner",
    ] {
        let response = caller.send(path, json!({})).await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(response.headers()["content-type"], "text/html");
        assert_eq!(
            response.text().await.unwrap(),
            "<html><body>404</body></html>"
        );
    }
    let url = format!("{}v1/get_partner", caller.simulator.base_url());
    assert_eq!(http_client().get(url).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn c_add_a_partner() {
    let (_caller, answer) = caller_with_example_c().await;
    let expected = json!({"mk_id":"9000000101","mk_contact_id":"9000000104","mk_address_id_list":[{"mk_id":"9000000102","street":"Češnjeva ulica 7"},{"mk_id":"9000000103","street":"Panjska pot 2"}]});
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn d_find_by_tax_number() {
    let (caller, _) = caller_with_example_c().await;
    let answer = caller
        .call(
            "v1/get_partner",
            json!({"partner_tax_number": "SI99999901"}),
        )
        .await;
    let expected: Value = serde_json::from_str(
        r#"{"partner_list_count":"1","partner_list":[{"mk_id":"9000000101","business_entity":"true","taxpayer":"true","foreign_county":"false","buyer":"true","supplier":"false","tax_id_number":"SI99999901","customer":"Čebelarstvo Žužek d.o.o.","count_code":"1042","partner_contact_list":[{"mk_id":"9000000104","mk_address_id":"9000000102","contact_address":"Češnjeva ulica 7","name":"Špela Žužek","gsm":"+386 40 000 111","email":"spela@zuzek.example"}],"partner_delivery_address_list":[{"mk_id":"9000000102","address_type":"Račun","street":"Češnjeva ulica 7","post_number":"8210","city":"Trebnje","country":"Slovenija","language":"Slovenski"},{"mk_id":"9000000103","address_type":"Dobava","street":"Panjska pot 2","post_number":"8210","city":"Trebnje","country":"Slovenija","language":"Slovenski"}]}]}"#,
    )
    .unwrap();
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn e_nobody_found() {
    let (caller, _) = caller_with_example_c().await;
    let answer = caller
        .call(
            "v1/get_partner",
            json!({"partner_email": "nihce@nikjer.example"}),
        )
        .await;
    assert_eq!(
        answer,
        json!({"opr_code": "2", "opr_desc": "No partner with such properties.", "opr_time_ms": "5"})
    );
}

#[tokio::test]
async fn f_appended_twice_is_three_contacts() {
    let (caller, _) = caller_with_example_c().await;
    let append = json!({"partner": {"mk_id": "9000000101", "partner_contact_list": [{"mk_address_id": "9000000103", "name": "Đuro Šimić", "email": "skladisce@zuzek.example"}]}});
    let once = caller.call("v1/update_partner", append.clone()).await;
    let contacts = once["partner_list"][0]["partner_contact_list"]
        .as_array()
        .unwrap();
    assert_eq!(contacts.len(), 2);
    assert_eq!(
        contacts[1],
        json!({"mk_id": "9000000105", "mk_address_id": "9000000103", "contact_address": "Panjska pot 2", "name": "Đuro Šimić", "email": "skladisce@zuzek.example"})
    );
    assert_eq!(once["partner_list_count"], "1");
    assert_eq!(once.get("opr_code"), None);
    let twice = caller.call("v1/update_partner", append).await;
    assert_eq!(
        twice["partner_list"][0]["partner_contact_list"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn s_quota_and_upgrade_change_nothing() {
    let caller = Caller::with(Readings::kind()).await;
    let put = |path: &'static str, body| caller.control(reqwest::Method::PUT, path, body);
    put(
        "companies/4711",
        json!({"quota": {"calls": 1, "per_seconds": 3600}}),
    )
    .await;
    caller.add("Prva").await;
    let refused = caller.add("Druga").await;
    assert_eq!(
        (&refused["opr_code"], &refused["opr_desc"]),
        (&json!("5"), &json!("Quote exceeds"))
    );
    put("companies/4711", json!({"quota": null})).await;
    caller
        .control(
            reqwest::Method::POST,
            "faults",
            json!({"fault": {"kind": "maintenance"}}),
        )
        .await;
    let upgrade = caller
        .send("v1/add_partner", json!({"partner": {"customer": "Tretja"}}))
        .await
        .unwrap();
    assert_eq!(upgrade.status(), 503);
    assert!(upgrade.text().await.unwrap().starts_with("<html>"));
    assert_eq!(caller.customers(), ["Prva"]);
}

#[tokio::test]
async fn t_lost_answer_is_found_by_its_key() {
    let caller = Caller::with(Readings::kind()).await;
    let fault = json!({"fault": {"kind": "commit_then_drop"}, "call": "add_partner"});
    caller.control(reqwest::Method::POST, "faults", fault).await;
    assert!(caller.send("v1/add_partner", example_c()).await.is_err());
    let found = caller
        .call(
            "v1/get_partner",
            json!({"partner_tax_number": "SI99999901"}),
        )
        .await;
    assert_eq!(found["partner_list"][0]["mk_id"], "9000000101");
}
