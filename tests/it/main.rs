//! All integration tests in one binary: what it starts is the real program, on free ports, with real sockets.

mod cli;
mod golden;
