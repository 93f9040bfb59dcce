use secrecy::{ExposeSecret, SecretString};
use store::tokens::{authenticate, create, list, revoke};
use store::{Error, Scope, tenants};
use testkit::database;

use crate::rows::{add_tenant, pool, tenant};

#[tokio::test]
async fn a_token_stands_for_its_tenant_and_source_until_it_is_revoked() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let (token, secret) = create(&pool, &shop, "crm", Some("urn:crm"))
        .await
        .expect("a token");
    assert!(secret.expose_secret().starts_with("kurir_"));

    let bearer = authenticate(&pool, &secret)
        .await
        .expect("an answer")
        .expect("known");
    assert_eq!(
        (bearer.token, bearer.tenant, bearer.source.as_deref()),
        (token.id, shop.clone(), Some("urn:crm"))
    );
    let used = list(&pool, Scope::Tenant(&shop), 10).await.expect("a list");
    assert!(used[0].last_used_at.is_some());
    for nobody in ["kurir_", "", "kurir_AAAA", &secret.expose_secret()[..40]] {
        let answer = authenticate(&pool, &SecretString::from(nobody))
            .await
            .expect("an answer");
        assert_eq!(answer, None, "{nobody}");
    }

    let first = revoke(&pool, Scope::Everything, token.id)
        .await
        .expect("revoked");
    let second = revoke(&pool, Scope::Everything, token.id)
        .await
        .expect("still revoked");
    assert_eq!(first.revoked_at, second.revoked_at);
    assert_eq!(authenticate(&pool, &secret).await.expect("an answer"), None);
}

#[tokio::test]
async fn the_secret_is_nowhere_in_the_row() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let (_, secret) = create(&pool, &shop, "crm", None).await.expect("a token");
    let row: String =
        sqlx::query_scalar("select t::text || encode(hash, 'escape') from api_token t")
            .fetch_one(&pool)
            .await
            .expect("the row");
    assert!(
        !row.contains(&secret.expose_secret()["kurir_".len()..]),
        "{row}"
    );
}

#[tokio::test]
async fn tenants_are_added_once_and_must_exist() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let again = tenants::add(&pool, &shop, "").await.expect_err("twice");
    assert_eq!(again.to_string(), "tenant 'shop' exists already");
    let nobody = create(&pool, &tenant("nobody"), "crm", None)
        .await
        .expect_err("no tenant");
    assert!(matches!(nobody, Error::Missing { what: "tenant", .. }));
    add_tenant(&pool, "bakery").await;
    let all = tenants::list(&pool, None, 10).await.expect("a list");
    let rest = tenants::list(&pool, Some("bakery"), 10)
        .await
        .expect("a list");
    assert_eq!((all.len(), rest.len(), rest[0].id.as_str()), (2, 1, "shop"));
    assert!(tenants::get(&pool, &tenant("nobody")).await.is_err());
}
