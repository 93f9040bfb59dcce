//! Writes `schemas/*.json` and `schemas/asyncapi.yaml` again: `cargo run -p event --example schemas`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in event::documents() {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}
