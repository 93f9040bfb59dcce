#![doc = include_str!("../README.md")]
//!
//! ---
//!
//! Owns stand-ins for the systems at the other end: stateful servers that behave as `contracts/` says and fail when told to.
//! Deliberately doesn't know any production code: a mistake shared by a client and its simulator would be invisible.
//! The surprise: a simulator is right in *every* reading of what its contract leaves open, so most behaviour is a switch
//! (`metakocka::Readings`), and "it works against the simulator" means "against both presets".

pub mod metakocka;
