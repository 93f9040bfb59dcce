//! The statements on a real PostgreSQL: each test has a database of its own.

mod budgets;
mod connections;
mod cuts;
mod dead_letters;
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
