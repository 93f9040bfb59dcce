//! One odd answer at a time: what a write and what a read make of it (contract §1.5).

use std::fmt::Write as _;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router};
use metakocka::{Error, MkId, PartnerKey, PartnerUpdate, Stored};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::setup::{KEY, beekeeper, client, pasture, settings, tax, window};

struct Answering {
    root: String,
    task: JoinHandle<()>,
}

impl Answering {
    async fn start(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let body = body.to_owned();
        let router = Router::new().fallback(move || async move { (status, headers, body) });
        Self::serve(router).await
    }

    async fn serve(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}/rest/eshop", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { root, task }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn shown<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            let stored = match error.stored() {
                Stored::Nothing => "nothing stored",
                Stored::Unknown => "look up",
            };
            let variant = format!("{error:?}");
            let name = variant.split([' ', '{']).next().unwrap_or_default();
            format!("{name}, {stored}: {error}")
        }
    }
}

#[tokio::test]
async fn every_kind_of_answer() {
    const HTML: &str = "<html><body>down for maintenance</body></html>";
    let answers: [(u16, &str); 29] = [
        (200, r#"{"opr_code":"0","opr_time_ms":"2"}"#),
        (200, r#"{}"#),
        (200, r#"{"opr_code":"0","mk_id":""}"#),
        (200, r#"{"opr_code":"1","opr_desc":"internal"}"#),
        (200, r#"{"opr_code":1}"#),
        (
            200,
            r#"{"opr_code":"2","opr_desc":"No partner with such properties."}"#,
        ),
        (
            200,
            r#"{"opr_code":"2","opr_desc":"Paramether 'limit' has invalid value : x."}"#,
        ),
        (
            200,
            r#"{"opr_code":"3","opr_desc":"Invalid value for secret_key sim-key"}"#,
        ),
        (200, r#"{"opr_code":4,"opr_desc":"ip"}"#),
        (200, r#"{"opr_code":"5","opr_desc":"Quote exceeds"}"#),
        (200, r#"{"opr_code":"5","opr_desc":"inventory is closed"}"#),
        (
            200,
            r#"{"opr_code":"6","opr_code_app":"7","opr_desc_app":"exists"}"#,
        ),
        (
            200,
            r#"{"opr_code":"8","opr_desc":"Product with code X not found"}"#,
        ),
        (200, r#"{"opr_code":"4003","error_desc":"furs"}"#),
        (200, r#"{"opr_code":["6"]}"#),
        (200, r#"{"mk_id":"90"#),
        (200, r#"["mk_id"]"#),
        (200, HTML),
        (302, ""),
        (400, HTML),
        (400, r#"{"opr_code":"2","opr_desc":"bad"}"#),
        (401, HTML),
        (403, HTML),
        (404, "<html><body>404</body></html>"),
        (408, ""),
        (429, ""),
        (500, r#"{"opr_code":"2","opr_desc":"no"}"#),
        (502, HTML),
        (503, HTML),
    ];
    let mut table = String::new();
    for (status, body) in answers {
        let server = Answering::start(status, &[], body).await;
        let client = client(&server.root, KEY, settings());
        let id = MkId::new("9000000101").unwrap();
        let update = PartnerUpdate::AppendAddress { address: pasture() };
        let added = client.add_partner(&beekeeper(), window()).await;
        let updated = client.update_partner(&id, &update, window()).await;
        let read = client.partner(&id).await;
        let added = shown(added);
        let updated = shown(updated);
        let kind = |shown: &str| shown.split(':').next().map(str::to_owned);
        assert_eq!(
            kind(&added),
            kind(&updated),
            "both writes mean the same: {body}"
        );
        writeln!(
            table,
            "{status} {body}\n  write {added}\n  read  {}",
            shown(read)
        )
        .unwrap();
    }
    assert!(
        !table.contains(KEY) || table.matches(KEY).count() == 1,
        "only in the answer itself"
    );
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn retry_after_is_obeyed_where_it_is_told() {
    let busy = Answering::start(429, &[("retry-after", "17")], "").await;
    let error = client(&busy.root, KEY, settings())
        .check_credentials()
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Quota { retry_after, .. } if retry_after == Duration::from_secs(17)),
        "{error:?}"
    );
    let down = Answering::start(503, &[("retry-after", "90")], "").await;
    let error = client(&down.root, KEY, settings())
        .check_credentials()
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Transient { retry_after: Some(wait), .. } if wait == Duration::from_secs(90)),
        "{error:?}"
    );
}

#[tokio::test]
async fn nobody_is_told_in_several_ways() {
    let key = PartnerKey::email("nihce@nikjer.example").unwrap();
    for body in [
        r#"{"opr_code":"2","opr_desc":"No partner with such properties."}"#,
        r#"{"opr_code":"2","opr_desc":"Ni partnerja s takimi podatki."}"#,
        r#"{"opr_code":"0"}"#,
        r#"{"partner_list_count":"0"}"#,
        r#"{"partner_list_count":0,"partner_list":[]}"#,
        r#"{"partner_list":""}"#,
        r#"{"opr_code":"0","partner_list":null}"#,
    ] {
        let server = Answering::start(200, &[], body).await;
        let found = client(&server.root, KEY, settings())
            .find_partners(&key)
            .await;
        assert_eq!(found, Ok(vec![]), "{body}");
    }
}

#[tokio::test]
async fn a_list_that_is_not_there_is_not_an_empty_list() {
    let key = PartnerKey::email("nihce@nikjer.example").unwrap();
    for body in [
        r#"{}"#,
        r#"{"opr_time_ms":"3"}"#,
        r#"{"partner_list_count":"3"}"#,
        r#"{"partner_list_count":"x","partner_list":[]}"#,
        r#"{"partner_list":[{"customer":"without an id"}]}"#,
        r#"{"partner_list":"some text"}"#,
    ] {
        let server = Answering::start(200, &[], body).await;
        let found = client(&server.root, KEY, settings())
            .find_partners(&key)
            .await;
        assert!(
            matches!(found, Err(Error::Transient { .. })),
            "{body}: {found:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_ignores_filter_and_offset_ends_all_the_same() {
    let somebody = r#"{"mk_id":"1","customer":"A","tax_id_number":"SI11111112"}"#;
    let page = vec![somebody; metakocka::PAGE].join(",");
    let body = format!(r#"{{"partner_list_count":"100000","partner_list":[{page}]}}"#);
    let server = Answering::start(200, &[], &body).await;
    let client = client(&server.root, KEY, settings());
    let other = tax("SI99999901").unwrap();
    assert_eq!(client.find_partners(&other).await, Ok(vec![]));
    assert_eq!(client.partner(&MkId::new("2").unwrap()).await, Ok(None));
    let same = tax("11111112").unwrap();
    assert_eq!(client.find_partners(&same).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_with_smaller_pages_is_read_on_while_it_promises_more() {
    const ALL: usize = 5;
    const PAGE: usize = 2;
    let router = Router::new().fallback(|Json(request): Json<Value>| async move {
        let offset: usize = request["offset"].as_str().unwrap().parse().unwrap();
        let page: Vec<Value> = (offset..ALL.min(offset + PAGE))
            .map(|number| json!({"mk_id": number + 1, "tax_id_number": format!("SI{}", 10 + number)}))
            .collect();
        Json(json!({"partner_list_count": ALL.to_string(), "partner_list": page}))
    });
    let server = Answering::serve(router).await;
    let last = tax("14").unwrap();
    let found = client(&server.root, KEY, settings())
        .find_partners(&last)
        .await;
    assert_eq!(found.unwrap().len(), 1);
}

#[tokio::test]
async fn an_update_answered_with_another_partner_is_unknown() {
    let body = r#"{"partner_list_count":"1","partner_list":{"mk_id":"9000000102"}}"#;
    let server = Answering::start(200, &[], body).await;
    let id = MkId::new("9000000101").unwrap();
    let update = PartnerUpdate::AppendAddress { address: pasture() };
    let outcome = client(&server.root, KEY, settings())
        .update_partner(&id, &update, window())
        .await;
    assert_eq!(outcome.unwrap_err().stored(), Stored::Unknown);
}

#[tokio::test]
async fn the_examples_of_the_contract_are_understood() {
    let body = r#"{"partner_list_count":"1","partner_list":[{"mk_id":"9000000101","business_entity":"true","taxpayer":"true","foreign_county":"false","buyer":"true","supplier":"false","tax_id_number":"SI99999901","customer":"Čebelarstvo Žužek d.o.o.","count_code":"1042","partner_contact_list":[{"mk_id":"9000000104","mk_address_id":"9000000102","contact_address":"Češnjeva ulica 7","name":"Špela Žužek","gsm":"+386 40 000 111","email":"spela@zuzek.example"}],"partner_delivery_address_list":[{"mk_id":"9000000102","address_type":"Račun","street":"Češnjeva ulica 7","post_number":"8210","city":"Trebnje","country":"Slovenija","language":"Slovenski"},{"mk_id":"9000000103","address_type":"Dobava","street":"Panjska pot 2","post_number":"8210","city":"Trebnje","country":"Slovenija","language":"Slovenski"}]}]}"#;
    let server = Answering::start(200, &[], body).await;
    let client = client(&server.root, KEY, settings());
    let key = tax("99999901").unwrap();
    insta::assert_debug_snapshot!(client.find_partners(&key).await.unwrap());
}

#[tokio::test]
async fn an_unreachable_root_stores_nothing() {
    let closed = testkit::closed_port();
    let root = format!("http://{}/", closed.address());
    let error = client(&root, KEY, settings())
        .add_partner(&beekeeper(), window())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }), "{error:?}");
    assert_eq!(error.stored(), Stored::Nothing);
}
