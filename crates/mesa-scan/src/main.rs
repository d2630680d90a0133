//! `mesa-scan`: what of a node's Mesa must be mounted into a virt-launcher container, and will it load there?
//!
//! The exit status of every command is 0 where GL will load, 1 where it will not (the reasons are said), and 2 where the
//! usage is wrong or something cannot be read or written.

use std::process::ExitCode;

use clap::Parser;
use manifests::console;
use mesa_scan::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            console::error(&error);
            ExitCode::from(2)
        }
    }
}
