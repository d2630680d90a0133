//! The command `mesa-preview`.

use std::process::ExitCode;

use clap::Parser as _;
use mesa_preview::cli::{self, Arguments};

fn main() -> ExitCode {
    cli::run(&Arguments::parse())
}
