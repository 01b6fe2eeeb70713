//! hookwarden stands in front of an app and takes webhooks from identity vendors: it verifies, limits, deduplicates,
//! normalises and forwards them, signed in one standard way. `stack` shows the path; ARCHITECTURE.md the rooms.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::string_slice, reason = "tests cut and read texts they know")
)]

pub mod admin;
pub mod app;
pub mod ascii;
pub mod assemble;
pub mod cli;
pub mod clock;
pub mod cloudevent;
pub mod config;
pub mod courier;
pub mod event;
pub mod fields;
mod file;
pub mod gateway;
pub mod identity;
pub mod inbox;
pub mod json;
pub mod limit;
pub mod metrics;
pub mod outgoing;
mod process;
pub mod rejection;
pub mod scheme;
pub mod secret;
pub mod server;
pub mod source;
pub mod stack;
pub mod stage;
pub mod store;
pub mod units;
pub mod upstream;
pub mod vendor;

/// Compiles the README's Rust.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
