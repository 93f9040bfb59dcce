//! Credentials at rest: AES-256-GCM with a random nonce, bound to the tenant and the connection they belong to, so
//! that a row copied to another connection does not open. The key's id stands beside the sealed bytes; a key ring may
//! hold older keys for reading while the current one is used for writing.

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::TenantId;
use rand::RngCore as _;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

const NONCE_BYTES: usize = 12;
const KEY_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("key '{0}' is not 32 bytes in base64")]
    BadKey(String),
    #[error("the current key '{0}' is not in the key ring")]
    NoCurrentKey(String),
    #[error("sealed with key '{0}', which the key ring does not hold")]
    UnknownKey(String),
    /// Another key under this id, another connection's bytes, or damaged ones: which of them cannot be told.
    #[error("not sealed with key '{0}' for this connection, or damaged")]
    Unreadable(String),
}

/// Sealed bytes with the id of their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub key_id: String,
    pub bytes: Vec<u8>,
}

/// Ids → keys, and which of them seals. Prints as its ids.
#[derive(Clone)]
pub struct KeyRing {
    current: String,
    keys: BTreeMap<String, Aes256Gcm>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("current", &self.current)
            .field("ids", &self.keys.keys())
            .finish()
    }
}

impl KeyRing {
    /// Each key is 32 bytes in standard base64 (`openssl rand -base64 32`).
    pub fn new<'a>(
        current: &str,
        keys: impl IntoIterator<Item = (&'a str, &'a SecretString)>,
    ) -> Result<Self, Error> {
        let mut ring = BTreeMap::new();
        for (id, key) in keys {
            let bytes = STANDARD
                .decode(key.expose_secret().trim())
                .ok()
                .filter(|bytes| bytes.len() == KEY_BYTES)
                .ok_or_else(|| Error::BadKey(id.to_owned()))?;
            let cipher = Aes256Gcm::new_from_slice(&bytes)
                .map_err(|_length| Error::BadKey(id.to_owned()))?;
            ring.insert(id.to_owned(), cipher);
        }
        if !ring.contains_key(current) {
            return Err(Error::NoCurrentKey(current.to_owned()));
        }
        Ok(Self {
            current: current.to_owned(),
            keys: ring,
        })
    }

    pub fn current_key_id(&self) -> &str {
        &self.current
    }

    pub fn seal(&self, tenant: &TenantId, connection: Uuid, plain: &SecretString) -> Sealed {
        let mut nonce = [0u8; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let cipher = &self.keys[&self.current];
        let text = cipher
            .encrypt(
                &Nonce::from(nonce),
                Payload {
                    msg: plain.expose_secret().as_bytes(),
                    aad: &bound_to(tenant, connection),
                },
            )
            .expect("credentials are far below AES-GCM's length limit");
        let mut bytes = nonce.to_vec();
        bytes.extend(text);
        Sealed {
            key_id: self.current.clone(),
            bytes,
        }
    }

    pub fn open(
        &self,
        tenant: &TenantId,
        connection: Uuid,
        sealed: &Sealed,
    ) -> Result<SecretString, Error> {
        let cipher = self
            .keys
            .get(&sealed.key_id)
            .ok_or_else(|| Error::UnknownKey(sealed.key_id.clone()))?;
        let unreadable = || Error::Unreadable(sealed.key_id.clone());
        let (nonce, text) = sealed
            .bytes
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(unreadable)?;
        let plain = cipher
            .decrypt(
                &Nonce::from(*nonce),
                Payload {
                    msg: text,
                    aad: &bound_to(tenant, connection),
                },
            )
            .map_err(|_opaque| unreadable())?;
        String::from_utf8(plain)
            .map(SecretString::from)
            .map_err(|_not_text| unreadable())
    }
}

/// The associated data. Changing it makes every stored credential unreadable.
fn bound_to(tenant: &TenantId, connection: Uuid) -> Vec<u8> {
    format!("kurir:credentials:1\0{tenant}\0{connection}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretString {
        SecretString::from(STANDARD.encode([byte; KEY_BYTES]))
    }

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).expect("a tenant id")
    }

    #[test]
    fn opens_only_for_its_own_connection_and_with_its_own_key() {
        let (old, new) = (key(1), key(2));
        let before = KeyRing::new("2026", [("2026", &old)]).expect("a ring");
        let after = KeyRing::new("2027", [("2026", &old), ("2027", &new)]).expect("a ring");
        let id = Uuid::from_u128(7);
        let sealed = before.seal(&tenant("a"), id, &SecretString::from("{\"secret\":\"š\"}"));

        let opened = after
            .open(&tenant("a"), id, &sealed)
            .expect("the old key is kept");
        assert_eq!(opened.expose_secret(), "{\"secret\":\"š\"}");
        let message =
            |result: Result<SecretString, Error>| result.expect_err("must not open").to_string();
        assert_eq!(
            message(after.open(&tenant("b"), id, &sealed)),
            "not sealed with key '2026' for this connection, or damaged"
        );
        assert_eq!(
            message(after.open(&tenant("a"), Uuid::from_u128(8), &sealed)),
            "not sealed with key '2026' for this connection, or damaged"
        );
        let only_new = KeyRing::new("2027", [("2027", &new)]).expect("a ring");
        assert_eq!(
            message(only_new.open(&tenant("a"), id, &sealed)),
            "sealed with key '2026', which the key ring does not hold"
        );
        for cut in 0..sealed.bytes.len() {
            let damaged = Sealed {
                bytes: sealed.bytes[..cut].to_vec(),
                ..sealed.clone()
            };
            assert!(
                after.open(&tenant("a"), id, &damaged).is_err(),
                "{cut} bytes left"
            );
        }
    }

    #[test]
    fn the_same_credentials_are_never_sealed_alike() {
        let one = key(1);
        let ring = KeyRing::new("k", [("k", &one)]).expect("a ring");
        let seal = || ring.seal(&tenant("a"), Uuid::nil(), &SecretString::from("x"));
        assert_ne!(seal().bytes, seal().bytes);
    }

    #[test]
    fn a_ring_needs_whole_keys_and_its_current_one() {
        let good = key(1);
        let short = SecretString::from(STANDARD.encode([1; 16]));
        let text = |result: Result<KeyRing, Error>| result.expect_err("refused").to_string();
        assert_eq!(
            text(KeyRing::new("a", [("a", &short)])),
            "key 'a' is not 32 bytes in base64"
        );
        assert_eq!(
            text(KeyRing::new("b", [("a", &good)])),
            "the current key 'b' is not in the key ring"
        );
        let ring = KeyRing::new("a", [("a", &good)]).expect("a ring");
        assert_eq!(
            format!("{ring:?}"),
            r#"KeyRing { current: "a", ids: ["a"] }"#
        );
    }
}
