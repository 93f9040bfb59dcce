//! Arguments of `kurir notifications`.

use clap::Subcommand;
use event::TenantId;

use super::{LIST_LIMIT, limit, tenant};
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Notifications {
    /// Lists what people were to be told, newest first
    #[command(after_help = "Example:\n  kurir notifications list --tenant acme")]
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
}
