//! `kurir keys`: the ring that seals credentials.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::RngCore as _;
use serde_json::json;

use crate::cli::Keys;
use crate::exit::Done;

/// AES-256.
const KEY_BYTES: usize = 32;

pub(crate) fn run(command: Keys) -> Done {
    let Keys::New { id, output } = command;
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
