//! What any publisher can put into a message, and lapin's parser does not survive, is mended on the way in: text that is no
//! UTF-8 ends a whole connection, again at each redelivery, and tables nested some hundred levels deep overflow a stack. Why
//! here and not in the parser: docs/decisions/0008.

mod kit;
mod mend;
mod stream;

pub(crate) use kit::connect;
