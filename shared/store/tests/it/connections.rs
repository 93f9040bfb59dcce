use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use store::connection_cache::ConnectionCache;
use store::connections::{
    ACCOUNTS_LIMIT, Changed, NewConnection, add, credentials, find, of_system, reseal, resume,
    set_enabled, suspend, update_credentials,
};
use store::sealing::KeyRing;
use store::{Error, Scope, tenants};
use testkit::{database, wait_until};
use worker::{ConnectionAnswer, ConnectionState, Connections};

use crate::rows::{
    SYSTEM, add_connection, add_tenant, count, insert_held, new_connection, outbox, pool, prefix,
    ring, tenant,
};

/// The view of the cache may be this old.
const SEEN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_tenant_has_one_connection_for_each_account() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let first = add_connection(&pool, &shop).await.connection;
    let refused = add(&pool, &ring(), &prefix(), &new_connection(&shop))
        .await
        .expect_err("refused");
    insta::assert_snapshot!(refused, @"tenant 'shop' has a connection to the account 'default' of metakocka already; change its credentials with `kurir connection update`, or name another account with --account");
    let only = find(&pool, &shop, SYSTEM, None).await.expect("the first");
    assert_eq!(only.id, first.id);

    let second = add_account(&pool, &shop, "croatia").await.expect("added");
    let ambiguous = find(&pool, &shop, SYSTEM, None)
        .await
        .expect_err("which one?");
    insta::assert_snapshot!(ambiguous, @"tenant 'shop' has 2 connections to metakocka, with the accounts croatia, default; name one with --account");
    let named = find(&pool, &shop, SYSTEM, Some("croatia"))
        .await
        .expect("the second");
    assert_eq!(named.id, second.connection.id);
    let unknown = find(&pool, &shop, SYSTEM, Some("austria")).await;
    assert!(matches!(unknown, Err(Error::Missing { .. })), "{unknown:?}");
    // Another tenant's are not among them.
    let bakery = add_tenant(&pool, "bakery").await;
    add_account(&pool, &bakery, "croatia").await.expect("added");
    assert_eq!(of_system(&pool, &shop, SYSTEM).await.expect("two").len(), 2);
    for n in 2..ACCOUNTS_LIMIT {
        add_account(&pool, &shop, &format!("shop {n}"))
            .await
            .expect("added");
    }
    let full = add_account(&pool, &shop, "one more").await;
    insta::assert_snapshot!(full.expect_err("refused"), @"tenant 'shop' has 32 connections to metakocka already, and that is the most");
    let nobody = add(
        &pool,
        &ring(),
        &prefix(),
        &new_connection(&tenant("nobody")),
    )
    .await;
    assert!(matches!(nobody, Err(Error::Missing { what: "tenant", .. })));
    let mut not_json = new_connection(&shop);
    not_json.credentials = SecretString::from("s3cret");
    let error = add(&pool, &ring(), &prefix(), &not_json)
        .await
        .expect_err("refused")
        .to_string();
    assert_eq!(error, "credentials must be a JSON object");
}

async fn add_account(
    pool: &store::Pool,
    tenant: &event::TenantId,
    account: &str,
) -> Result<Changed, Error> {
    let new = NewConnection {
        account: account.to_owned(),
        ..new_connection(tenant)
    };
    add(pool, &ring(), &prefix(), &new).await
}

#[tokio::test]
async fn adding_releases_what_waited_for_it_and_nothing_else() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    insert_held(&pool, "shop", "waited", "no_connection", None).await;
    insert_held(&pool, "shop", "poison", "poison", None).await;
    insert_held(&pool, "bakery", "another's", "no_connection", None).await;
    let elsewhere = insert_held(&pool, "shop", "for krayin", "no_connection", None).await;
    sqlx::query("update held set target_system = 'krayin' where id = $1")
        .bind(elsewhere)
        .execute(&pool)
        .await
        .expect("another system");
    assert_eq!(add_connection(&pool, &shop).await.released, 1);
    let sent = outbox(&pool).await;
    assert_eq!((sent.len(), sent[0].1.as_str()), (1, r#"{"id":"waited"}"#));
    assert_eq!(count(&pool, "held").await, 3);
}

/// A hold looks for the connection after it has the tenant's row: whichever comes first, nothing stays behind.
#[tokio::test]
async fn no_event_is_left_behind_by_an_addition() {
    let database = database().await;
    let pool = pool(&database).await;
    let links = store::links::Links::new(pool.clone(), "kurir", Duration::from_secs(30));
    let mut both = (0, 0);
    for round in 0..25 {
        let shop = add_tenant(&pool, &format!("shop-{round}")).await;
        let holders = (0..4).map(|n| {
            let (links, tenant) = (links.clone(), shop.to_string());
            async move {
                links
                    .hold(vec![held_item(&tenant, n)])
                    .await
                    .expect("a verdict")
            }
        });
        let adding = async {
            tokio::time::sleep(Duration::from_micros(200 * round)).await;
            add_connection(&pool, &shop).await.released
        };
        let (verdicts, released) = tokio::join!(futures_util::future::join_all(holders), adding);
        let gone = verdicts
            .iter()
            .flatten()
            .filter(|verdict| **verdict == store::links::HeldVerdict::CauseGone)
            .count();
        assert_eq!(count(&pool, "held").await, 0, "round {round}");
        assert_eq!(released + gone as u64, 4, "round {round}");
        both = (both.0 + released, both.1 + gone);
    }
    assert!(
        both.0 > 0 && both.1 > 0,
        "released and handled at once both occurred: {both:?}"
    );
}

pub(crate) fn held_item(tenant: &str, n: usize) -> store::links::HeldItem {
    store::links::HeldItem {
        worker: "metakocka-sync".to_owned(),
        target_system: SYSTEM.to_owned(),
        tenant: tenant.to_owned(),
        connection_id: None,
        epoch: None,
        cause: "no_connection".to_owned(),
        person: false,
        detail: "no connection".to_owned(),
        kind: "contact".to_owned(),
        source_system: "crm".to_owned(),
        source_account: "default".to_owned(),
        source_id: n.to_string(),
        k: None,
        source: "urn:crm".to_owned(),
        event_id: format!("{tenant}-{n}"),
        generation: 0,
        event_type: "crm.contact.updated.v1".to_owned(),
        subject: format!("contact/{n}"),
        body: b"{}".to_vec(),
        properties: serde_json::json!({}),
        headers: serde_json::json!({}),
        link: None,
        release_at: None,
        waits_for: None,
    }
}

#[tokio::test]
async fn credentials_are_sealed_and_every_change_raises_the_epoch() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let added = add_connection(&pool, &shop).await.connection;
    let row: String =
        sqlx::query_scalar("select c::text || encode(sealed, 'escape') from connection c")
            .fetch_one(&pool)
            .await
            .expect("the row");
    assert!(!row.contains("s3cret"), "{row}");
    let scope = Scope::Tenant(&shop);
    let (opened, epoch) = credentials(&pool, &ring(), scope, added.id)
        .await
        .expect("opened");
    assert_eq!(
        (opened.expose_secret(), epoch),
        (r#"{"secret_key":"s3cret"}"#, 1)
    );

    let changed = update_credentials(&pool, &ring(), scope, added.id, &SecretString::from("{}"))
        .await
        .expect("changed");
    assert_eq!(changed.epoch, 2);
    let off = set_enabled(&pool, scope, added.id, false)
        .await
        .expect("off");
    let again = set_enabled(&pool, scope, added.id, false)
        .await
        .expect("off");
    assert_eq!((off.enabled, off.epoch, again.epoch), (false, 3, 3));
}

#[tokio::test]
async fn late_401_does_not_suspend_a_repaired_connection() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let scope = Scope::Tenant(&shop);
    let added = add_connection(&pool, &shop).await.connection;
    let repaired = update_credentials(&pool, &ring(), scope, added.id, &SecretString::from("{}"))
        .await
        .expect("changed");
    assert!(
        !suspend(&pool, added.id, added.epoch, "401")
            .await
            .expect("an answer")
    );
    assert!(
        suspend(&pool, added.id, repaired.epoch, "401")
            .await
            .expect("an answer")
    );
    assert!(
        !suspend(&pool, added.id, repaired.epoch + 1, "401")
            .await
            .expect("suspended already")
    );

    insert_held(&pool, "shop", "waits", "suspended", Some(added.id)).await;
    let stale = resume(&pool, scope, added.id, repaired.epoch)
        .await
        .expect_err("stale");
    assert!(matches!(stale, Error::Conflict(_)), "{stale:?}");
    let resumed = resume(&pool, scope, added.id, repaired.epoch + 1)
        .await
        .expect("resumed");
    assert_eq!(
        (resumed.connection.state.as_str(), resumed.waiting),
        ("ok", 1)
    );
    assert_eq!(
        (outbox(&pool).await.len(), resumed.connection.epoch),
        (0, repaired.epoch + 2),
        "the keeper lets it go"
    );
}

#[tokio::test]
async fn a_new_key_takes_over_everything() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let added = add_connection(&pool, &shop).await.connection;
    let old = SecretString::from(format!("{}=", "A".repeat(43)));
    let new = SecretString::from(format!("{}=", "B".repeat(42) + "A"));
    let both = KeyRing::new("second", [("first", &old), ("second", &new)]).expect("a ring");
    assert_eq!(reseal(&pool, &both).await.expect("resealed"), 1);
    assert_eq!(reseal(&pool, &both).await.expect("nothing left"), 0);
    let alone = KeyRing::new("second", [("second", &new)]).expect("a ring");
    let (opened, epoch) = credentials(&pool, &alone, Scope::Everything, added.id)
        .await
        .expect("opened");
    assert_eq!(
        (opened.expose_secret(), epoch),
        (r#"{"secret_key":"s3cret"}"#, 1)
    );
    let lost = credentials(&pool, &ring(), Scope::Everything, added.id)
        .await
        .expect_err("the key is not there");
    assert_eq!(
        lost.with_causes(),
        "the credentials cannot be read: sealed with key 'second', which the key ring does not hold"
    );
}

#[tokio::test]
async fn the_cache_sees_changes_without_being_asked() {
    let database = database().await;
    let pool = pool(&database).await;
    let cache = ConnectionCache::start(pool.clone());
    let shop = tenant("shop");
    assert_eq!(cache.cached(&shop, SYSTEM), None);
    assert_eq!(
        cache.resolve(&shop, SYSTEM).await.expect("asked"),
        ConnectionAnswer::UnknownTenant
    );
    assert_eq!(
        cache.cached(&shop, SYSTEM),
        Some(ConnectionAnswer::UnknownTenant)
    );

    tenants::add(&pool, &shop, "").await.expect("a tenant");
    let resolved = |wanted: fn(&ConnectionAnswer) -> bool, what: &'static str| {
        let (cache, shop) = (cache.clone(), shop.clone());
        async move {
            wait_until(
                what,
                SEEN,
                async || {
                    let asked = cache.resolve(&shop, SYSTEM).await.expect("an answer");
                    cache.cached(&shop, SYSTEM).unwrap_or(asked)
                },
                wanted,
            )
            .await
        }
    };
    resolved(
        |answer| *answer == ConnectionAnswer::NoConnection,
        "the tenant is known",
    )
    .await;
    let added = add_connection(&pool, &shop).await.connection;
    resolved(
        |answer| matches!(answer, ConnectionAnswer::Known(_)),
        "the connection is known",
    )
    .await;
    suspend(&pool, added.id, added.epoch, "401")
        .await
        .expect("suspended");
    let seen = |cache: &ConnectionCache| match cache.cached(&tenant("shop"), SYSTEM) {
        Some(ConnectionAnswer::Known(known)) => known
            .iter()
            .map(|one| (one.account.clone(), one.state, one.epoch))
            .collect(),
        _ => Vec::new(),
    };
    wait_until(
        "the suspension is seen in memory",
        SEEN,
        async || seen(&cache),
        |seen| *seen == [("default".to_owned(), ConnectionState::Suspended, 2)],
    )
    .await;
    // Another account is seen too, and in the order of accounts.
    add_account(&pool, &shop, "croatia").await.expect("added");
    let both = [
        ("croatia".to_owned(), ConnectionState::Ok, 1),
        ("default".to_owned(), ConnectionState::Suspended, 2),
    ];
    wait_until(
        "both are in memory",
        SEEN,
        async || seen(&cache),
        |seen| *seen == both,
    )
    .await;
    // Who asks gets what is there now, not what is in memory.
    add_account(&pool, &shop, "austria").await.expect("added");
    let asked = cache.resolve(&shop, SYSTEM).await.expect("asked");
    assert!(
        matches!(&asked, ConnectionAnswer::Known(known) if known.len() == 3 && known[0].account == "austria"),
        "{asked:?}"
    );
}
