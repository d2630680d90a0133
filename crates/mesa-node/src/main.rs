//! The command `mesa-node`.

use std::process::ExitCode;

use clap::Parser as _;
use manifests::console;
use mesa_node::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&error);
            ExitCode::FAILURE
        }
    }
}
