//! `kurir config`: the settings in force, secrets hidden.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::exit::Done;
use crate::fleet;
use crate::output::{Output, say, table};

pub(crate) fn run(file: Option<PathBuf>, defaults: bool, output: Output) -> Done {
    if defaults {
        let of_sections = fleet::sections()
            .into_iter()
            .map(|section| section.defaults);
        let tables: Vec<&str> = [runtime::DEFAULTS]
            .into_iter()
            .chain(of_sections)
            .map(str::trim_end)
            .collect();
        return say(&tables.join("\n\n"));
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
