//! The kit itself, on the real database, the real broker and real processes.

mod broker;
mod database;
mod instance;
mod process;
