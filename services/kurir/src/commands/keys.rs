//! `kurir keys`: the ring that seals credentials.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::RngCore as _;
use serde_json::json;

use crate::context::Context;
use crate::exit::Done;
use crate::output::{Output, count};

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
