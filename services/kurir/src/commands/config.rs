//! `kurir config`: the settings in force, secrets hidden.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::exit::Done;
use crate::fleet;
use crate::output::{Output, print, table};

#[derive(Debug, Args)]
#[command(after_help = "\
Settings come from the defaults, then the file of --config or KURIR_CONFIG, then the environment. A setting
`worker.slots` is the variable KURIR_WORKER__SLOTS; lists are separated by commas. KURIR_AMQP_URL,
KURIR_DATABASE_URL, KURIR_RABBITMQ_MANAGEMENT_URL and KURIR_LOG_FORMAT work under these plain names.

Examples:
  kurir config
  kurir config --defaults > kurir.toml      every setting, explained, to start a file from")]
pub(crate) struct Config {
    /// Prints the commented defaults instead
    #[arg(long, conflicts_with = "json")]
    defaults: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(file: Option<PathBuf>, given: Config) -> Done {
    let Config { defaults, output } = given;
    if defaults {
        let of_sections = fleet::sections()
            .into_iter()
            .map(|section| section.defaults);
        let tables: Vec<&str> = [runtime::DEFAULTS]
            .into_iter()
            .chain(of_sections)
            .map(str::trim_end)
            .collect();
        return print(&tables.join("\n\n"));
    }
    let shown = Context::load(file, &[])?.loaded.shown;
    let by_path: Map<String, Value> = shown
        .iter()
        .map(|one| {
            (
                one.path.to_owned(),
                json!({ "value": one.value, "from": one.origin }),
            )
        })
        .collect();
    output.show(&by_path, |_| {
        let rows = shown
            .iter()
            .map(|one| {
                vec![
                    one.path.to_owned(),
                    one.value.to_string(),
                    one.origin.clone(),
                ]
            })
            .collect();
        table(&["setting", "value", "from"], rows, "")
    })
}
