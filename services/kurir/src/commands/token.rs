//! `kurir token`: what upstream apps show to the gateway.

use secrecy::ExposeSecret as _;
use serde_json::json;
use store::Scope;

use crate::cli::Token;
use crate::context::{Context, scope};
use crate::exit::Done;
use crate::output::{Page, at, at_or_empty, one_more, table};

pub(crate) async fn run(context: &Context, command: Token) -> Done {
    let pool = context.pool().await?;
    match command {
        Token::Create {
            tenant,
            name,
            source,
            output,
        } => {
            let (token, secret) =
                store::tokens::create(&pool, &tenant, &name, source.as_deref()).await?;
            let secret = secret.expose_secret();
            output.show(&json!({ "token": token, "secret": secret }), |_| {
                format!(
                    "{secret}\n\nThis is the only time the token is shown. Its id is {}.",
                    token.id
                )
            })
        }
        Token::List {
            tenant,
            limit,
            output,
        } => {
            let tokens =
                store::tokens::list(&pool, scope(tenant.as_ref()), one_more(limit)).await?;
            output.page(&Page::whole(tokens, limit), |tokens| {
                let row = |one: &store::tokens::Token| {
                    vec![
                        one.id.to_string(),
                        one.tenant.clone(),
                        one.name.clone(),
                        one.source.clone().unwrap_or_else(|| "any".to_owned()),
                        at(one.created_at),
                        at_or_empty(one.last_used_at),
                        at_or_empty(one.revoked_at),
                    ]
                };
                let heads = [
                    "id",
                    "tenant",
                    "name",
                    "source",
                    "created",
                    "last used",
                    "revoked",
                ];
                table(
                    &heads,
                    tokens.iter().map(row).collect(),
                    "no tokens yet; `kurir token create` makes one",
                )
            })
        }
        Token::Revoke { id, output } => {
            let token = store::tokens::revoke(&pool, Scope::Everything, id).await?;
            let seconds = context.settings().gateway.token_cache.as_secs();
            output.show(&token, |token| {
                let since = at_or_empty(token.revoked_at);
                format!("token {} of {} is revoked since {since}; gateways stop taking it within {seconds} s", token.name, token.tenant)
            })
        }
    }
}
