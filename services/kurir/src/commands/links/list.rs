//! `kurir links list`.

use clap::Args;
use event::TenantId;
use operations::links::{account, agreement};
use store::Pool;
use store::held;
use store::links_read::{Filter, LinkSummary};

use crate::commands::waiting;
use crate::context::scope;
use crate::exit::Done;
use crate::output::{Output, Page, at, one_more, short, table};
use crate::values::{LIST_LIMIT, limit, tenant};

const ERROR_WIDTH: usize = 50;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kurir links list --tenant acme --state conflict")]
pub(crate) struct List {
    /// Only of this tenant
    #[arg(long, value_parser = tenant)]
    tenant: Option<TenantId>,
    /// pending, linked, conflict, deleted or alias
    #[arg(long, value_parser = ["pending", "linked", "conflict", "deleted", "alias"])]
    state: Option<String>,
    /// The record's id at its source: `512` or `contact/512`
    #[arg(long, value_name = "ID")]
    record: Option<String>,
    /// The record's id at the partner
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// Only those left behind: they name another record at the partner than the one that theirs is now; their next event
    /// takes them along
    #[arg(long)]
    moved: bool,
    /// Begins after this link
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    /// At most so many
    #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
    limit: i64,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn list(pool: &Pool, given: List) -> Done {
    let List {
        tenant,
        state,
        record,
        target,
        moved,
        after,
        limit,
        output,
    } = given;
    let held = held::Filter {
        record: record.clone(),
        ..held::Filter::default()
    };
    let filter = Filter {
        state,
        source_id: record,
        target_id: target,
        moved,
        ..Filter::default()
    };
    let scope = scope(tenant.as_ref());
    let asked = one_more(limit);
    let links = store::links_read::list(pool, scope, &filter, after, asked).await?;
    let page = Page::new(links, limit, |last| format!("--after {}", last.id));
    // A link's state or its id there is nothing that a held event has.
    let held = match filter.state.is_none() && filter.target_id.is_none() && !moved {
        true => operations::waiting::render(pool, scope, &held).await?,
        false => String::new(),
    };
    output.page(&page, |links| {
        let heads = [
            "link",
            "tenant",
            "record",
            "target",
            "account",
            "its id there",
            "state",
            "version",
            "changed",
            "last error",
        ];
        let list = table(&heads, links.iter().map(row).collect(), "no links");
        waiting::below(list, &held)
    })
}

fn row(link: &LinkSummary) -> Vec<String> {
    vec![
        link.id.to_string(),
        link.tenant.clone(),
        format!("{}/{}", link.kind, link.source_id),
        link.target_system.clone(),
        account(link).to_owned(),
        link.target_id.clone().unwrap_or_default(),
        link.state.clone(),
        agreement(link).to_owned(),
        at(link.updated_at),
        short(link.last_error.as_deref().unwrap_or_default(), ERROR_WIDTH),
    ]
}
