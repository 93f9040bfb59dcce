//! One entity at one partner, as the engine needs it.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use worker::{DeadClass, Failure, HoldCause};

use crate::content::{Content, Fields, NaturalKey, Part, Record};
use crate::effect::Operation;

/// One partner call of an effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Create {
        fields: Fields,
        parts: Vec<Part>,
    },
    /// `changed` is what must change; `whole` is the record's content afterwards, for partners that want a group of
    /// fields together. `part` is a part of ours, by its id, that takes on new content in the same call.
    Update {
        id: String,
        changed: Fields,
        whole: Fields,
        part: Option<(String, Part)>,
    },
    AppendPart {
        id: String,
        part: Part,
    },
    ChangePart {
        id: String,
        part_id: String,
        part: Part,
    },
    Delete {
        id: String,
    },
}

impl Call {
    pub fn operation(&self) -> Operation {
        match self {
            Self::Create { .. } => Operation::Create,
            Self::Update { .. } => Operation::Update,
            Self::AppendPart { .. } => Operation::AppendPart,
            Self::ChangePart { .. } => Operation::ChangePart,
            Self::Delete { .. } => Operation::Delete,
        }
    }

    pub fn target_id(&self) -> Option<&str> {
        match self {
            Self::Create { .. } => None,
            Self::Update { id, .. }
            | Self::AppendPart { id, .. }
            | Self::ChangePart { id, .. }
            | Self::Delete { id } => Some(id),
        }
    }
}

/// A clear "done".
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub target_id: String,
    /// Ids of the parts that this call made or changed, as far as the answer names them.
    pub part_ids: Vec<(String, Part)>,
    /// The record after the call, where it was answered or read back.
    pub record: Option<Record>,
}

impl Answer {
    /// With the record as the partner shows it now, or as it was where the call has deleted it.
    pub fn of(target_id: impl Into<String>, record: Option<Record>) -> Self {
        Self {
            target_id: target_id.into(),
            part_ids: Vec::new(),
            record,
        }
    }
}

/// Why a call did not end in a clear "done": the class decides what becomes of its effect.
#[derive(Debug)]
pub enum SendError {
    /// It provably never left: the effect failed.
    NotSent(Failure),
    /// Answered with a refusal that the client lists as "nothing stored": the effect failed.
    Refused(Failure),
    /// It did not leave: a look that must come before it does not show the record now. The effect failed, the event waits.
    Hidden(String),
    /// The partner says that it is done and does not show it yet: a look settles it, after the lag. A wait at first.
    Unseen(String),
    /// Everything else: it may have happened, or may still.
    Unknown(String),
}

/// Why a look-up could not answer. Look-ups change nothing, so nothing is ever unknown.
#[derive(Debug)]
pub struct LookError(pub Failure);

impl LookError {
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self(Failure::transient(DeadClass::Unavailable, message))
    }

    pub fn suspended(epoch: i64, message: impl Into<String>) -> Self {
        Self(Failure::blocked(HoldCause::Suspended, Some(epoch), message))
    }
}

/// Find, read, create, update, delete; natural keys, settle times, and what a refusal means. The second time a call is
/// made it may do its work twice: the engine never makes one without an open effect, and never two.
pub trait Target: Send + Sync {
    /// Records that carry exactly one of these keys, compared by ourselves; keys are tried strongest first, and the
    /// first one with a hit decides. A hit may be a deleted record of a stale index: it is read before it is adopted.
    fn find<'a>(&'a self, keys: &'a [NaturalKey]) -> BoxFuture<'a, Result<Vec<Record>, LookError>>;

    /// By id; `None` is "no such record (any more, or yet)": see `lag`.
    fn read<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, LookError>>;

    /// `left` is how long the call may still leave (send window); an attempt that cannot start within it is `NotSent`.
    fn send<'a>(
        &'a self,
        call: &'a Call,
        left: Duration,
    ) -> BoxFuture<'a, Result<Answer, SendError>>;

    /// From `sent` until an absent look-up is believed: W + P + L of docs/architecture.md, "Effects".
    fn settle(&self, operation: Operation) -> Duration;

    /// L: how long a look, by key or by id, may show a record as it was before a change, or not at all.
    fn lag(&self) -> Duration;

    /// Longest a call may take; with less of the handler's deadline left it is not begun.
    fn longest(&self, operation: Operation) -> Duration;

    /// Whether a record is deleted at the partner when its source is. Where not, the tombstone ends the link.
    fn deletes(&self) -> bool;

    /// The parts that can ride with the create call; the others are appended one by one.
    fn parts_in_create(&self, _content: &Content) -> Vec<Part> {
        Vec::new()
    }

    /// When our own limits of the connection may have room again, if they refused a call of this handling: then nothing
    /// failed, and the event waits.
    fn limited(&self) -> Option<Instant> {
        None
    }
}
