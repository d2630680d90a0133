//! The command `mesa-node`.

use std::process::ExitCode;

use clap::Parser as _;
use manifests::console;
use mesa_node::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            console::error(&error);
            error.exit_code()
        }
    }
}
