//! A partner system as the link engine reaches it: how a connection is opened, and what its records are for one handling.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use worker::budget::PermitPool;
use worker::{Connection, DeadClass, Failure, Job};

use crate::claims::Planner;
use crate::content::Content;
use crate::drive::Grant;
use crate::target::Target;

/// What a service brings for one partner: its planner says what an event means there, its accounts carry it out.
pub trait Partner: Planner {
    /// Opens a connection. `credentials` is their JSON, `epoch` the one they belong to, `permits` what the connection
    /// may ask of the partner. Called again when the epoch grows.
    ///
    /// # Errors
    /// The connection cannot be used as it is stored, and why; never quotes the credentials. A person must look.
    fn open(
        &self,
        connection: &Connection,
        credentials: &SecretString,
        epoch: i64,
        permits: Arc<PermitPool>,
    ) -> Result<Box<dyn Account>, String>;
}

/// One connection with opened credentials; kept and shared by handlings.
pub trait Account: Send + Sync {
    /// The records of this account, for one handling of this job.
    fn target<'a>(&'a self, grant: &Grant, job: &Job) -> Box<dyn Target + 'a>;

    /// The whole content of a plan that is `Later`, from what was known of it. Asked under the lease, and only where no call of
    /// this event has left with one: its keys must find the record, whatever the text. It may add fields, and no parts.
    ///
    /// # Errors
    /// Without this method: its worker plans nothing for later.
    fn make<'a>(
        &'a self,
        _known: Content,
        _grant: &'a Grant,
        _job: &'a Job,
    ) -> BoxFuture<'a, Result<Content, Failure>> {
        let missing = "its worker makes no content under the lease";
        Box::pin(async move { Err(Failure::permanent(DeadClass::Internal, missing)) })
    }
}
