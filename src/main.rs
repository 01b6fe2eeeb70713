//! The program: arguments in, an exit code out.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use hookwarden::cli::Cli;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
