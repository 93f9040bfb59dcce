//! The rows the driver works on: `store::links` in production, a model of it in the schedule tests.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use store::Error;
use store::links::{
    Completed, Completion, Finish, Finished, Links, Reservation, Reserved, Resolution, Resolved,
};
use uuid::Uuid;

/// Each call is one transaction. Errors decided nothing; what was answered is committed.
pub trait Ledger: Send + Sync {
    fn reserve(&self, item: Reservation) -> BoxFuture<'_, Result<Reserved, Error>>;
    fn complete(&self, item: Completion) -> BoxFuture<'_, Result<Completed, Error>>;
    fn resolve(&self, item: Resolution) -> BoxFuture<'_, Result<Resolved, Error>>;
    fn finish(&self, item: Finish) -> BoxFuture<'_, Result<Finished, Error>>;
    fn release(
        &self,
        link: i64,
        token: Uuid,
        error: Option<String>,
    ) -> BoxFuture<'_, Result<(), Error>>;
}

impl Ledger for Links {
    fn reserve(&self, item: Reservation) -> BoxFuture<'_, Result<Reserved, Error>> {
        self.reserve(item).boxed()
    }

    fn complete(&self, item: Completion) -> BoxFuture<'_, Result<Completed, Error>> {
        self.complete(item).boxed()
    }

    fn resolve(&self, item: Resolution) -> BoxFuture<'_, Result<Resolved, Error>> {
        self.resolve(item).boxed()
    }

    fn finish(&self, item: Finish) -> BoxFuture<'_, Result<Finished, Error>> {
        self.finish(item).boxed()
    }

    fn release(
        &self,
        link: i64,
        token: Uuid,
        error: Option<String>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        async move { Links::release(self, &[token], &[Some(link)], &[error]).await }.boxed()
    }
}
