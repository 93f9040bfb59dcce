//! Whom a TLS connection of ours believes: the authorities of this machine's own store and those of a file that a setting
//! names, as PEM, which every TLS library takes; and what a refused certificate means, in words that say what helps.
//!
//! It deliberately does not know what is connected to. Certificates are read once, when a process starts: a new authority
//! is believed after a restart.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod authorities;
mod refusal;

pub use authorities::{Error, check_file, of_file, of_pem, of_system, pem};
pub use refusal::{Refusal, refusal};
