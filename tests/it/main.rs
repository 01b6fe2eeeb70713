//! All integration tests in one binary: what it starts is the real program, on free ports, with real sockets.

#![allow(unreachable_pub, reason = "one crate that nobody else uses")]
#![allow(clippy::disallowed_methods, clippy::string_slice, reason = "tests cut and read texts they know")]

mod client;
mod golden;
mod harness;
mod limits;
mod refusals;
mod sink;
