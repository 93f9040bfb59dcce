//! A small memory of tokens, so that neither each request nor a database that blinks costs a publisher anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::ports::{Principal, Tokens, TokensAway};

/// Known tokens kept; when more are in use the oldest answers are asked for again.
pub const MAX_CACHED_TOKENS: usize = 10_000;
/// How long a known token stays good while the store can't be asked.
pub const STALE_TOKENS: Duration = Duration::from_secs(15 * 60);
/// How long the store may take to answer before it counts as away.
const ASK_LIMIT: Duration = Duration::from_secs(3);
/// How long the store is left alone once it was away, as far as known tokens are concerned.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// Remembers who known tokens are, by their SHA-256. Unknown ones are asked for each time, so that a token works
/// as soon as it exists.
pub struct TokenCache {
    tokens: Arc<dyn Tokens>,
    fresh: Duration,
    known: Mutex<HashMap<[u8; 32], Known>>,
    away_until: Mutex<Option<Instant>>,
}

struct Known {
    principal: Principal,
    asked: Instant,
}

impl TokenCache {
    pub fn new(tokens: Arc<dyn Tokens>, fresh: Duration) -> Self {
        Self {
            tokens,
            fresh,
            known: Mutex::new(HashMap::new()),
            away_until: Mutex::new(None),
        }
    }

    /// Who the token stands for; `None` for nobody.
    ///
    /// # Errors
    /// The store can't be asked, and has not answered for this token within [`STALE_TOKENS`].
    pub async fn principal(&self, token: &SecretString) -> Result<Option<Principal>, TokensAway> {
        let key: [u8; 32] = Sha256::digest(token.expose_secret().as_bytes()).into();
        if let Some(known) = self.remembered(&key, self.fresh) {
            return Ok(Some(known));
        }
        if self.is_away()
            && let Some(known) = self.remembered(&key, STALE_TOKENS)
        {
            return Ok(Some(known));
        }
        let asked = tokio::time::timeout(ASK_LIMIT, self.tokens.authenticate(token)).await;
        match asked.unwrap_or_else(|_late| {
            Err(TokensAway(format!(
                "no answer within {} s",
                ASK_LIMIT.as_secs()
            )))
        }) {
            Ok(Some(principal)) => {
                self.remember(key, principal.clone());
                Ok(Some(principal))
            }
            Ok(None) => {
                lock(&self.known).remove(&key);
                Ok(None)
            }
            Err(away) => {
                *lock(&self.away_until) = Some(Instant::now() + AWAY_PAUSE);
                let known = self.remembered(&key, STALE_TOKENS).ok_or(away)?;
                tracing::warn!(
                    "tokens cannot be looked up; a known one is believed without asking"
                );
                Ok(Some(known))
            }
        }
    }

    fn is_away(&self) -> bool {
        lock(&self.away_until).is_some_and(|until| Instant::now() < until)
    }

    fn remembered(&self, key: &[u8; 32], not_older_than: Duration) -> Option<Principal> {
        let known = lock(&self.known);
        known
            .get(key)
            .filter(|known| known.asked.elapsed() < not_older_than)
            .map(|known| known.principal.clone())
    }

    fn remember(&self, key: [u8; 32], principal: Principal) {
        let mut known = lock(&self.known);
        if known.len() >= MAX_CACHED_TOKENS && !known.contains_key(&key) {
            // The older half goes at once, so that a full memory is not searched for every newcomer.
            let mut ages: Vec<Instant> = known.values().map(|known| known.asked).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            known.retain(|_, known| known.asked > middle);
        }
        known.insert(
            key,
            Known {
                principal,
                asked: Instant::now(),
            },
        );
    }
}

/// Entries are put in whole; a panic elsewhere leaves none half-made.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
