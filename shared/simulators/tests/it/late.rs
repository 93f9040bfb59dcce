//! Commits that come after their caller has gone, on the company itself: what schedule simulations stand on.

use chrono::TimeDelta;
use serde_json::json;
use simulators::metakocka::core::{Call, MkId, Readings};

use crate::caller::{Books, with_credentials};

#[test]
fn a_late_commit_is_there_for_whatever_comes_later_and_for_nothing_before() {
    let mut books = Books::with(Readings::kind());
    let body = with_credentials(json!({"partner": {"customer": "Pozni"}})).to_string();
    let request = books
        .company
        .admit(Call::AddPartner, body.as_bytes(), None, books.now)
        .unwrap();
    let ticket = books
        .company
        .schedule(request, books.now + TimeDelta::seconds(48))
        .unwrap();
    books.later(47);
    assert_eq!(books.find(json!({"partner_name": "pozni"})).len(), 0);
    assert_eq!(books.company.scheduled(), 1);
    books.later(1);
    assert_eq!(books.find(json!({"partner_name": "pozni"})).len(), 1);
    let finished = books.company.settle(books.now);
    assert_eq!(finished.len(), 1);
    assert_eq!((finished[0].ticket, finished[0].at), (ticket, books.now));
    assert_eq!(finished[0].reply.seen.mk_id, Some(MkId(9_000_000_101)));
    assert!(finished[0].reply.seen.stored);
    assert!(books.company.settle(books.now).is_empty(), "told once");
}

#[test]
fn the_index_lags_from_the_late_commit_on() {
    let mut readings = Readings::kind();
    readings.index_lag_seconds = 10;
    let mut books = Books::with(readings);
    let body = with_credentials(json!({"partner": {"customer": "Pozni"}})).to_string();
    let request = books
        .company
        .admit(Call::AddPartner, body.as_bytes(), None, books.now)
        .unwrap();
    books
        .company
        .schedule(request, books.now + TimeDelta::seconds(30))
        .unwrap();
    books.later(39);
    assert_eq!(books.find(json!({"partner_name": "pozni"})).len(), 0);
    assert_eq!(books.company.partners().count(), 1);
    books.later(1);
    assert_eq!(books.find(json!({"partner_name": "pozni"})).len(), 1);
}

#[test]
fn late_commits_come_in_the_order_of_their_times() {
    let mut books = Books::with(Readings::kind());
    books.add(json!({"customer": "Prva"}));
    for (seconds, name) in [(20, "Tretja"), (10, "Druga")] {
        let body = with_credentials(json!({"partner": {"mk_id": "9000000101", "customer": name}}))
            .to_string();
        let request = books
            .company
            .admit(Call::UpdatePartner, body.as_bytes(), None, books.now)
            .unwrap();
        books
            .company
            .schedule(request, books.now + TimeDelta::seconds(seconds))
            .unwrap();
    }
    books.later(10);
    assert_eq!(books.find(json!({})), ["Druga"]);
    books.later(60);
    assert_eq!(books.find(json!({})), ["Tretja"]);
}

#[test]
fn an_update_that_changes_nothing_stores_nothing() {
    let mut books = Books::with(Readings::kind());
    books.add(json!({"customer": "Novak"}));
    let body = with_credentials(json!({"partner": {"mk_id": "9000000101", "customer": "Novak"}}))
        .to_string();
    assert!(
        !books
            .company
            .call(Call::UpdatePartner, body.as_bytes(), books.now)
            .seen
            .stored
    );
}
