//! The engine under an adversary: the real driver and the real decision on a virtual clock, once on a model of the
//! store and once on Postgres, compared step by step.

mod lab;
mod model;
mod partner;
mod postgres;
mod schedules;
mod sim_store;
mod v_chains;
mod v_claims;
mod v_creates;
mod v_dead;
mod v_janitor;
mod v_keys;
mod v_kill;
mod v_lag;
mod v_order;
mod v_poison;
mod v_postgres;
mod v_references;
mod world;
