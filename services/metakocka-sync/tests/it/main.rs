//! The worker against the simulator of Metakocka and a real Postgres, driven as the consumer loop drives it.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic like tests")]

mod conflict;
mod connection;
mod identity;
mod left_behind;
mod mailbox;
mod mapping;
mod readings;
mod records;
mod stage;
mod story;
mod trouble;
