//! First receipts of state events that brought neither version nor time, the version scheme of each source, and the
//! database's clock as this process knows it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use event::{SubjectVersion, TenantId, VersionScheme};
use futures_util::future::BoxFuture;
use tokio_util::task::AbortOnDropHandle;
use worker::{PinItem, Pins, PortError};

use crate::{Error, Pool};

/// Schemes kept in memory; they never change, so forgetting all of them only costs asking again.
pub const SCHEME_CAPACITY: usize = 50_000;
/// How often the offset to the database's clock is measured.
pub const MEASURE: Duration = Duration::from_secs(30);
/// A measurement that took longer says too little about the moment in between.
const SLOWEST_MEASUREMENT: Duration = Duration::from_secs(1);

/// Implements `worker::Pins`. Cheap to clone; the background task ends with the last clone.
#[derive(Clone)]
pub struct EventPins {
    shared: Arc<Shared>,
    _measuring: Arc<AbortOnDropHandle<()>>,
}

struct Shared {
    pool: Pool,
    schemes: Mutex<HashMap<(TenantId, String), VersionScheme>>,
    /// Database clock minus local clock, in microseconds.
    offset: AtomicI64,
}

impl EventPins {
    /// Measures the clock once, then in the background.
    pub async fn start(pool: Pool) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            pool,
            schemes: Mutex::new(HashMap::new()),
            offset: AtomicI64::new(0),
        });
        shared.measure().await?;
        let measured = shared.clone();
        let measuring = tokio::spawn(async move {
            loop {
                tokio::time::sleep(MEASURE).await;
                if let Err(error) = measured.measure().await {
                    tracing::debug!(error = %error.with_causes(), "the database's clock could not be read");
                }
            }
        });
        Ok(Self {
            shared,
            _measuring: Arc::new(AbortOnDropHandle::new(measuring)),
        })
    }
}

impl Shared {
    async fn measure(&self) -> Result<(), Error> {
        let mut connection = self.pool.acquire().await?;
        let before = Utc::now();
        let theirs: DateTime<Utc> = sqlx::query_scalar("select kurir_now()")
            .fetch_one(&mut *connection)
            .await?;
        let took = Utc::now() - before;
        if took.to_std().is_ok_and(|took| took <= SLOWEST_MEASUREMENT) {
            let offset = theirs - (before + took / 2);
            self.offset.store(
                offset.num_microseconds().unwrap_or_default(),
                Ordering::Relaxed,
            );
        }
        Ok(())
    }

    async fn pin(&self, items: &[PinItem]) -> Result<Vec<SubjectVersion>, Error> {
        let of = |field: fn(&PinItem) -> &str| -> Vec<String> {
            items.iter().map(|item| field(item).to_owned()).collect()
        };
        let versions: Vec<String> = items
            .iter()
            .map(|item| SubjectVersion::from_micros(item.received_at.timestamp_micros()).into())
            .collect();
        // The update that changes nothing makes the statement wait for and return a row that another process is
        // inserting: `do nothing` would return none. One row per key, in key order, so that two batches cannot block
        // each other; of copies in one batch the earliest receipt counts.
        let pinned: Vec<String> = sqlx::query_scalar(
            "with item as (
               select * from unnest($1::text[], $2::text[], $3::text[], $4::text[])
                 with ordinality as t(tenant, source, event_id, version, place)),
             pinned as (
               insert into event_pin (tenant, source, event_id, version)
               select distinct on (tenant, source, event_id) tenant, source, event_id, version from item
               order by tenant, source, event_id, version
               on conflict (tenant, source, event_id) do update set version = event_pin.version
               returning tenant, source, event_id, version)
             select p.version from item i join pinned p using (tenant, source, event_id) order by i.place",
        )
        .bind(of(|item| item.tenant.as_str()))
        .bind(of(|item| &item.source))
        .bind(of(|item| &item.event_id))
        .bind(versions)
        .fetch_all(&self.pool)
        .await?;
        pinned
            .iter()
            .map(|version| {
                SubjectVersion::parse(version)
                    .ok_or_else(|| Error::Invalid(format!("stored version '{version}' is not one")))
            })
            .collect()
    }

    async fn scheme(
        &self,
        tenant: &TenantId,
        source: &str,
        scheme: VersionScheme,
    ) -> Result<VersionScheme, Error> {
        let key = (tenant.clone(), source.to_owned());
        let known = self.schemes().get(&key).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let pinned: String = sqlx::query_scalar(
            "insert into source_scheme (tenant, source, scheme) values ($1, $2, $3)
             on conflict (tenant, source) do update set scheme = source_scheme.scheme returning scheme",
        )
        .bind(tenant.as_str())
        .bind(source)
        .bind(scheme.as_str())
        .fetch_one(&self.pool)
        .await?;
        let pinned = match pinned.as_str() {
            "revision" => VersionScheme::Revision,
            _ => VersionScheme::Time,
        };
        let mut schemes = self.schemes();
        if schemes.len() >= SCHEME_CAPACITY {
            schemes.clear();
        }
        schemes.insert(key, pinned);
        Ok(pinned)
    }

    fn schemes(&self) -> std::sync::MutexGuard<'_, HashMap<(TenantId, String), VersionScheme>> {
        self.schemes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pins for EventPins {
    fn pin(&self, items: Vec<PinItem>) -> BoxFuture<'_, Result<Vec<SubjectVersion>, PortError>> {
        Box::pin(async move { Ok(self.shared.pin(&items).await?) })
    }

    fn check_scheme<'a>(
        &'a self,
        tenant: &'a TenantId,
        source: &'a str,
        scheme: VersionScheme,
    ) -> BoxFuture<'a, Result<VersionScheme, PortError>> {
        Box::pin(async move { Ok(self.shared.scheme(tenant, source, scheme).await?) })
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::microseconds(self.shared.offset.load(Ordering::Relaxed))
    }
}
