//! The binary as a person and as a script use it, and the rules of the house that only a look at the whole shows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod bad_input;
mod budgets;
mod cli;
mod config;
mod connections;
mod cost;
mod crash;
mod dead_letters;
mod demo;
mod doctor;
mod edges;
mod endurance;
mod expected;
mod fleet;
mod held;
mod lag;
mod metrics;
mod monitoring;
mod readings;
mod release;
mod replay;
mod rights;
mod roles;
mod run;
mod stories;
mod tenants;
mod traces;
mod unrouted;
mod v_create;
mod v_dead;
mod v_guard;
mod v_keys;
mod v_order;
mod v_parts;
mod v_poison;
