//! All integration tests in one binary: what it starts is the real program, on free ports, with real sockets.

#![allow(
    clippy::disallowed_methods,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests know their texts"
)]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod admin;
mod assurance;
mod bounds;
mod check;
mod check_values;
mod cli;
mod client;
mod commands;
mod crowds;
mod dedup;
mod delivery;
mod failures;
mod floods;
mod floors;
mod frames;
mod framing;
mod golden;
mod harness;
mod http2;
mod inbox;
mod json;
mod json_texts;
mod limits;
mod mapping;
mod packaging;
mod poison;
mod refusals;
mod reload;
mod secrets;
mod shutdown;
mod siege;
mod sink;
mod suites;
mod tls;
