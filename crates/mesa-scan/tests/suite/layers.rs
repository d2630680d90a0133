//! The layers of the crate: each module uses only those below it, and only the top one knows flags.

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down, as in `src/lib.rs` and docs/design.md.
const LAYERS: [&str; 9] = [
    "main",
    "cli",
    "commands",
    "output",
    "oci",
    "container",
    "gl",
    "loader",
    "tree",
];

/// All source files, each with its layer, its depth below `src` and its lines without comments.
fn sources() -> Vec<(PathBuf, String, usize, Vec<String>)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut directories = vec![src.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let below = path.strip_prefix(&src).unwrap().with_extension("");
            let depth = below.components().count();
            let layer = below.iter().next().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| line.split("//").next().unwrap());
            let lines = lines.map(str::to_owned).collect();
            if layer != "lib" {
                sources.push((path, layer, depth, lines));
            }
        }
    }
    assert!(sources.len() > 30);
    sources
}

fn rank(layer: &str) -> usize {
    let mut layers = LAYERS.into_iter().enumerate();
    let found = layers.find(|(_, name)| *name == layer);
    found
        .unwrap_or_else(|| panic!("{layer} is in no layer: name it in LAYERS"))
        .0
}

/// The modules of the crate that a line names: `crate::gl::{…}`, `mesa_scan::cli`.
fn named(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for root in ["crate::", "mesa_scan::"] {
        for rest in line.split(root).skip(1) {
            let names = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap(),
                None => rest,
            };
            for name in names.split(',') {
                let end = name
                    .trim()
                    .find(|letter: char| !letter.is_alphanumeric() && letter != '_');
                let name = name.trim();
                named.push(name[..end.unwrap_or(name.len())].to_owned());
            }
            if !rest.starts_with('{') {
                named.truncate(named.len() + 1 - names.split(',').count());
            }
        }
    }
    named
}

#[test]
fn imports_go_down_only() {
    for (path, layer, depth, lines) in sources() {
        for (number, line) in lines.iter().enumerate() {
            for used in named(line) {
                assert!(
                    rank(&used) >= rank(&layer),
                    "{}:{}: {layer} uses {used}, which is above it",
                    path.display(),
                    number + 1
                );
            }
            let climbs = line.matches("super::").count();
            let in_tests = line.starts_with("    ");
            assert!(
                climbs < depth || in_tests,
                "{}:{}: leaves {layer} by super",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn an_import_upwards_is_seen() {
    assert_eq!(named("use crate::gl::{Item, Role};"), ["gl"]);
    assert_eq!(named("use crate::{cli, tree::Tree};"), ["cli", "tree"]);
    assert_eq!(
        named("    crate::output::table(crate::cli::run())"),
        ["output", "cli"]
    );
    assert!(rank("cli") < rank("tree"));
}

#[test]
fn only_the_command_line_knows_flags_and_trees_know_no_libraries() {
    for (path, layer, _, lines) in sources() {
        let shown = path.display();
        for line in &lines {
            if !["main", "cli"].contains(&layer.as_str()) {
                assert!(!line.contains("clap"), "{shown}: {line}");
                for flag in [
                    "--root",
                    "--image",
                    "--layout",
                    "--tag",
                    "--platform",
                    "--force",
                    "--proc",
                    "--to",
                    "--nfd",
                    "--settings",
                    "--output",
                ] {
                    assert!(!line.contains(flag), "{shown}: {line}");
                }
            }
            if layer == "tree" {
                let line = line.to_lowercase().replace("self", "");
                assert!(
                    !line.contains("elf") && !line.contains("loader"),
                    "{shown}: {line}"
                );
            }
        }
    }
}
