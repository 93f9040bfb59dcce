//! The statements on a real PostgreSQL: each test has a database of its own.

mod budgets;
mod connections;
mod dead_letters;
mod fan_out;
mod held;
mod holds;
mod janitor;
mod migrations;
mod outbox;
mod pins;
mod pool;
mod replays;
mod rows;
mod scopes;
mod standstill;
mod tokens;
