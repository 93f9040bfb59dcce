//! `kurir keys`: the ring that seals credentials.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Subcommand;
use operations::count;
use rand::RngCore as _;
use serde_json::json;

use crate::context::Context;
use crate::exit::Done;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Makes a key and prints the settings that use it
    #[command(after_help = "\
The key is printed once and stored nowhere. Keep older keys in keys.ring: they open what they sealed.

Example:
  kurir keys new --id 2026-08 >> kurir.env")]
    New {
        /// Its name in the ring; lower-case letters, digits, `-` and `_`
        #[arg(long, default_value = "k1", value_parser = key_id)]
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Seals all credentials with keys.current, so that older keys can leave the ring
    #[command(after_help = "\
Every role must have the new key in its ring before. Run again, it finds nothing to do.

Example, with the old and the new key in keys.ring and the new one as keys.current:
  kurir keys reseal")]
    Reseal {
        #[command(flatten)]
        output: Output,
    },
}

/// AES-256.
const KEY_BYTES: usize = 32;

pub(crate) fn new(id: &str, output: Output) -> Done {
    let mut key = [0_u8; KEY_BYTES];
    rand::rng().fill_bytes(&mut key);
    let key = BASE64_STANDARD.encode(key);
    // Lines for an environment file: `source` and `docker --env-file` both read them.
    output.show(&json!({ "id": id, "key": key }), |_| {
        format!(
            "KURIR_KEYS__CURRENT={id}\nKURIR_KEYS__RING__{}={key}",
            id.to_uppercase()
        )
    })
}

pub(crate) async fn reseal(context: &Context, output: Output) -> Done {
    let ring = context.key_ring()?;
    let pool = context.pool().await?;
    let sealed = store::connections::reseal(&pool, &ring).await?;
    let current = ring.current_key_id();
    output.show(&json!({ "resealed": sealed, "key": current }), |_| {
        format!(
            "sealed the credentials of {} anew with key {current}; all are sealed with it now",
            count(sealed, "connection")
        )
    })
}

fn key_id(text: &str) -> Result<String, String> {
    let fits = (1..=60).contains(&text.len())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
        });
    fits.then(|| text.to_owned())
        .ok_or_else(|| "1 to 60 lower-case letters, digits, `-` or `_`".to_owned())
}
