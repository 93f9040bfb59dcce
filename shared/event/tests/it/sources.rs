//! An id counts within its source: what a source that is not of Kurir's form makes of system and account.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use crate::decode::{decode, with};

fn account(source: &str) -> String {
    decode(&with("/source", json!(source))).account
}

/// Sources as other people's programs write them.
const FOREIGN: [&str; 20] = [
    "https://shop-a.example/",
    "https://shop-b.example/",
    // CloudEvents compares a source as it is written.
    "https://shop-a.example",
    "https://SHOP-A.example/",
    "http://shop-a.example/",
    "https://shop-a.example:8443/",
    "https://shop-a.example/?shop=1",
    "https://shop-a.example/#1",
    "//shop-a.example/",
    "/shop/a",
    "/shop/b",
    "shop-a",
    "default",
    "main",
    "crm",
    "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
    "urn:uuid:6E8BC430-9C3A-11D9-9669-0800200C9A66",
    "urn:kurirji:orodje:crm:main",
    "mailto:shop@shop-a.example",
    "%2F",
];

#[test]
fn two_foreign_sources_are_two_accounts() {
    let mut seen = BTreeSet::new();
    for source in FOREIGN {
        let event = decode(&with("/source", json!(source)));
        assert_eq!(event.system, "crm", "{source}");
        assert_eq!(
            account(source),
            event.account,
            "{source}: not the same again"
        );
        assert!(event.account.len() <= 80, "{source}: {}", event.account);
        assert!(
            seen.insert(event.account.clone()),
            "{source} is another's {}",
            event.account
        );
    }
    for honest in ["main", "default", "shop-a.example"] {
        let own = account(&format!("urn:kurir:orodje:crm:{honest}"));
        assert_eq!(own, honest);
        assert!(!seen.contains(&own));
    }
}

/// Links are kept under it: these never change.
#[test]
fn a_foreign_account_can_be_read_and_never_changes() {
    let long = format!("https://shop-a.example/{}", "x".repeat(480));
    let accounts = [
        "https://shop-a.example/",
        "/apps/crm",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "https://xn--ebela-zva.example/trgovina?id=7",
        "_",
        &long,
    ]
    .map(account);
    insta::assert_snapshot!(accounts.join("\n"));
}

proptest! {
    #[test]
    fn no_two_sources_meet(one in "[a-cA-C:/.#?-]{1,40}", other in "[a-cA-C:/.#?-]{1,40}") {
        let read = |source: &str| event::decode(&with("/source", json!(source))).ok().map(|event| event.account);
        if let (Some(first), Some(second)) = (read(&one), read(&other)) {
            prop_assert_eq!(one == other, first == second);
        }
    }
}
