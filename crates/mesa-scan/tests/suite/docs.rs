//! The commands of the documentation and of `--help` are commands that the program takes.

use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};
use mesa_scan::cli::Cli;

/// How a user calls the command: from the sources, or installed.
const CALLS: [&str; 2] = ["cargo run --release -p mesa-scan -- ", "mesa-scan "];

/// The commands in a text, without what the shell makes of their output.
fn commands(text: &str) -> Vec<&str> {
    let commands = text.lines().map(str::trim).filter_map(|line| {
        let arguments = CALLS.iter().find_map(|call| line.strip_prefix(call))?;
        arguments.split(['>', '|']).next()
    });
    commands.collect()
}

fn assert_taken(arguments: &str) {
    let words = ["mesa-scan"]
        .into_iter()
        .chain(arguments.split_whitespace());
    if let Err(error) = Cli::try_parse_from(words) {
        panic!("mesa-scan {arguments}: {error}");
    }
}

#[test]
fn every_command_of_the_documentation_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let files = docs
        .map(|file| file.unwrap().path())
        .chain([root.join("README.md")]);
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for command in text.split("```console\n").skip(1) {
            for command in commands(command.split("```").next().unwrap()) {
                assert_taken(command);
                seen += 1;
            }
        }
    }
    assert!(seen >= 4, "the commands are gone");
}

#[test]
fn every_example_of_the_help_is_taken() {
    let help = Cli::command().render_long_help().to_string();
    let examples = commands(&help);
    assert!(examples.len() >= 5, "the examples are gone");
    examples.into_iter().for_each(assert_taken);
}
