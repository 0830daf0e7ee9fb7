//! The program: the one TLS provider of the process, then the command.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().expect("nothing installed a provider before main");
    runbookd::cli::run(runbookd::cli::Cli::parse())
}
