//! The commands of the documentation, run as they are written, at the root of the repository.

use std::{fs, path::Path};

use assert_cmd::Command;

/// How a user calls the command: from the sources, or installed.
const CALLS: [&str; 2] = ["cargo run --release -p mesa-preview -- ", "mesa-preview "];

/// The words of a line for the shell, with nothing more than single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in line.split('\'').enumerate() {
        let quoted = index % 2 == 1;
        for letter in part.chars() {
            match letter {
                ' ' if !quoted => words.push(String::new()),
                _ => words.last_mut().unwrap().push(letter),
            }
        }
    }
    words
}

#[test]
fn every_documented_command_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut seen = 0;
    for file in [
        "README.md",
        "policy.yaml",
        "docs/settings.md",
        "docs/performance.md",
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        for line in text.lines() {
            let line = line.trim_start_matches(['#', ' ']);
            let Some(arguments) = CALLS.iter().find_map(|call| line.strip_prefix(call)) else {
                continue;
            };
            if arguments.ends_with([',', ':', '.']) {
                continue; // A sentence about the command.
            }
            seen += 1;
            Command::cargo_bin("mesa-preview")
                .unwrap()
                .current_dir(&root)
                .args(words(arguments))
                .assert()
                .success();
        }
    }
    assert!(seen >= 3, "the commands are gone");
}
