//! Names of the headers beside an event's body, over AMQP and HTTP alike. A published name never changes: messages that
//! carry it lie in queues and tables. Which of them are believed, and when, is the broker's business.

/// CloudEvents attributes in binary mode, and our copies of some for routing and operations, begin with it.
pub const CE_PREFIX: &str = "ce-";
pub const CE_SPECVERSION: &str = "ce-specversion";
pub const CE_ID: &str = "ce-id";
pub const CE_SOURCE: &str = "ce-source";
pub const CE_TYPE: &str = "ce-type";
pub const CE_SUBJECT: &str = "ce-subject";
pub const CE_TENANT: &str = "ce-tenantid";
pub const CE_PARTITION_KEY: &str = "ce-partitionkey";

/// W3C Trace Context; an attribute of the same name carries it inside a body.
pub const TRACEPARENT: &str = "traceparent";
/// What other vendors added; travels with `traceparent` and is never read.
pub const TRACESTATE: &str = "tracestate";

pub const ATTEMPT: &str = "x-attempt";
pub const WAITS: &str = "x-waits";
pub const DUE: &str = "x-due";
pub const FIRST_RECEIVED: &str = "x-first-received";
/// Its failed attempts, as JSON.
pub const HISTORY: &str = "x-history";
pub const GENERATION: &str = "x-generation";
pub const REPLAY: &str = "x-replay";
/// Id of the dead letter that this is a replay of: its row follows what becomes of this copy.
pub const DEAD_LETTER: &str = "x-dead-letter";
/// The connection that a copy is for.
pub const CONNECTION: &str = "x-connection";
/// The facet that a copy is for, where its worker makes several things of such an event, or another than its entity.
pub const FACET: &str = "x-facet";
pub const PERMIT: &str = "x-permit";
pub const LINK: &str = "x-link";
pub const DEAD_CLASS: &str = "x-dead-class";
pub const DEAD_FINGERPRINT: &str = "x-dead-fingerprint";
pub const DEAD_TEXT: &str = "x-dead-message";
pub const DEAD_AT: &str = "x-dead-at";
/// Of what could not be read: the key under which it came, all that is left of its type and tenant.
pub const DEAD_KEY: &str = "x-dead-key";
