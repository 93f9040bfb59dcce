//! The worker against the simulator of Metakocka and a real Postgres, driven as the consumer loop drives it.

mod conflict;
mod mapping;
mod readings;
mod records;
mod stage;
mod story;
mod trouble;
