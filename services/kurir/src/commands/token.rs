//! `kurir token`: what upstream apps show to the gateway.

use clap::Subcommand;
use event::TenantId;
use secrecy::ExposeSecret as _;
use serde_json::json;
use store::Scope;
use uuid::Uuid;

use crate::context::{Context, scope};
use crate::exit::Done;
use crate::output::{Output, Page, at, at_or_empty, one_more, table};
use crate::values::{LIST_LIMIT, limit, number, tenant};

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Makes a token; it is shown once and never again
    #[command(
        after_help = "Example:\n  kurir token create --tenant acme --name crm --source urn:kurir:acme:crm:default"
    )]
    Create {
        /// Whose it is
        #[arg(long, value_parser = tenant)]
        tenant: TenantId,
        /// Who uses it, for the list
        #[arg(long)]
        name: String,
        /// Only events of this source; without it, any of the tenant's
        #[arg(long)]
        source: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Lists tokens, newest first; never their secrets
    #[command(after_help = "Example:\n  kurir token list --tenant acme")]
    List {
        /// Only of this tenant
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Revokes a token; gateways believe it at most `gateway.token_cache_seconds` longer
    #[command(after_help = "Example:\n  kurir token revoke 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e")]
    Revoke {
        /// Id of the token
        #[arg(value_parser = token_id)]
        id: Uuid,
        #[command(flatten)]
        output: Output,
    },
}

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

fn token_id(text: &str) -> Result<Uuid, String> {
    number(text, "a token's id", "kurir token list")
}
