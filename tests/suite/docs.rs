//! The documentation says what the code does: every YAML block is read, every command is known, every table is whole.

use std::collections::BTreeSet;

use crate::common::{files, read_json, repository};
use mesa_injector::settings::Settings;
use mesa_injector::skip::SkipReason;
use serde_json::{Value, json};

fn read(file: &str) -> String {
    std::fs::read_to_string(repository(file)).unwrap()
}

/// What is not in `docs`.
const TOP_LEVEL: [&str; 3] = ["CONTRIBUTING.md", "README.md", "SECURITY.md"];

/// These and everything in `docs`, by name.
fn documents() -> Vec<(String, String)> {
    let docs = files(repository("docs")).into_iter();
    let docs = docs.filter(|file| file.extension().is_some_and(|extension| extension == "md"));
    docs.chain(TOP_LEVEL.map(repository))
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            (file.file_name().unwrap().to_str().unwrap().to_owned(), text)
        })
        .collect()
}

/// The fenced blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    let starts = text.match_indices(&fence).map(|(at, _)| at + fence.len());
    starts
        .map(|start| text[start..].split("```").next().unwrap())
        .collect()
}

/// The rows of the tables whose header begins with a cell.
fn rows<'t>(text: &'t str, first_cell: &str) -> Vec<Vec<&'t str>> {
    let cells = |line: &'t str| -> Vec<&'t str> {
        line.trim_matches('|').split(" | ").map(str::trim).collect()
    };
    let mut rows = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('|') && cells(line)[0] == first_cell {
            let body = lines
                .by_ref()
                .skip(1)
                .take_while(|line| line.starts_with('|'));
            rows.extend(body.map(cells));
        }
    }
    rows
}

fn yaml(text: &str) -> Value {
    serde_norway::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

fn settings(settings: &Value) -> Settings {
    Settings::from_json(&settings.to_string()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The keys that the code knows where `wrong` has one that it does not.
fn keys_of_code(wrong: Value) -> BTreeSet<String> {
    let problems = Settings::from_json(&wrong.to_string()).unwrap_err();
    let known = problems
        .as_slice()
        .iter()
        .find_map(|problem| problem.split_once("the keys are "));
    known.unwrap().1.split(", ").map(str::to_owned).collect()
}

fn code(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

#[test]
fn every_yaml_block_is_valid_settings() {
    let mut seen = 0;
    for (name, text) in documents() {
        for block in blocks(&text, "yaml") {
            let value = yaml(block);
            if value.get("apiVersion").is_none() {
                let problems = Settings::from_json(&value.to_string()).err();
                assert_eq!(problems, None, "{name}:\n{block}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "the blocks are gone");
}

#[test]
fn the_documented_defaults_are_those_of_the_code() {
    let text = read("docs/settings.md");
    let defaults = yaml(blocks(&text, "yaml")[0]);
    assert_eq!(settings(&defaults), Settings::default());

    // Alone, too: no default hides behind another.
    for (key, value) in defaults.as_object().unwrap() {
        assert_eq!(settings(&json!({key: value})), Settings::default(), "{key}");
    }
}

#[test]
fn the_documented_keys_are_those_of_the_code() {
    let text = read("docs/settings.md");
    let nothing = json!({"zzzzzzzzzzzz": 0});

    let defaults = yaml(blocks(&text, "yaml")[0]);
    let documented: BTreeSet<String> = defaults.as_object().unwrap().keys().cloned().collect();
    assert_eq!(documented, keys_of_code(nothing.clone()));
    let headings: BTreeSet<String> = text
        .lines()
        .filter_map(|line| Some(line.strip_prefix("## `")?.trim_end_matches('`').to_owned()))
        .collect();
    assert_eq!(documented, headings, "every key has a section");

    let documented: BTreeSet<String> = rows(&text, "key").iter().map(|row| code(row[0])).collect();
    let inner = [
        json!({"hostPaths": [nothing]}),
        json!({"images": [nothing]}),
        json!({"images": [{"mounts": [nothing]}]}),
        json!({"match": nothing}),
        json!({"display": nothing}),
    ];
    let expected: BTreeSet<String> = inner.into_iter().flat_map(keys_of_code).collect();
    assert_eq!(documented, expected);
}

#[test]
fn the_table_of_settings_has_the_keys_and_the_defaults_of_the_code() {
    let text = read("docs/settings.md");
    let rows = rows(&text, "setting");
    let key = |row: &[&str]| row[0].split('`').nth(1).unwrap().to_owned();
    let documented: BTreeSet<String> = rows.iter().map(|row| key(row)).collect();
    assert_eq!(documented, keys_of_code(json!({"zzzzzzzzzzzz": 0})));
    for row in rows {
        if let Some(default) = row[3].strip_prefix('`') {
            let default = yaml(default.trim_end_matches('`'));
            assert_eq!(
                settings(&json!({key(&row): default})),
                Settings::default(),
                "{row:?}"
            );
        }
    }
}

#[test]
fn every_setting_has_an_example_away_from_its_default() {
    let text = read("docs/settings.md");
    let examples = &blocks(&text, "yaml")[1..];
    let shown: BTreeSet<String> = examples
        .iter()
        .map(|block| yaml(block))
        .filter(|value| settings(value) != Settings::default())
        .flat_map(|value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(shown, keys_of_code(json!({"zzzzzzzzzzzz": 0})));
}

#[test]
fn the_problems_shown_are_those_of_the_code() {
    let text = read("docs/settings.md");
    let shown = blocks(&text, "text")[0];
    let wrong = json!({
        "hostPaths": [
            {"path": "/a", "type": "File"}, {"path": "/b", "type": "File"}, {"path": "/c", "type": "File"},
            {"path": "/d", "type": "File", "mountPath": "/usr/lib64/../x"},
        ],
        "onConflict": "Reject",
    });
    let problems = Settings::from_json(&wrong.to_string()).unwrap_err();
    assert_eq!(problems.to_string(), shown.trim_end());
}

#[test]
fn the_table_of_skip_reasons_is_that_of_the_code() {
    let text = read("docs/settings.md");
    let documented: Vec<Vec<String>> = rows(&text, "`skip-reason`")
        .into_iter()
        .map(|row| row.into_iter().map(code).collect())
        .collect();
    let expected: Vec<Vec<String>> = SkipReason::ALL
        .iter()
        .map(|reason| {
            let warned = if reason.warns { "yes" } else { "no" };
            [reason.id, reason.sentence, warned]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn the_table_of_outcomes_has_the_ten_rows() {
    let text = read("docs/settings.md");
    let numbers: Vec<&str> = rows(&text, "#").iter().map(|row| row[0]).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
}

#[test]
fn readme_lists_what_is_injected_by_default() {
    let documented: Vec<Vec<String>> = rows(&read("README.md"), "volume")
        .into_iter()
        .map(|row| row.into_iter().map(str::to_owned).collect())
        .collect();
    let case = read_json(repository("test_data/row-10-default/expected.json"));
    let patch = case["patch"].as_array().unwrap();
    let volumes = patch.iter().filter(|operation| {
        operation["path"]
            .as_str()
            .unwrap()
            .starts_with("/spec/volumes/")
    });
    let expected: Vec<Vec<String>> = volumes
        .map(|operation| {
            let volume = &operation["value"];
            [
                &volume["name"],
                &volume["hostPath"]["path"],
                &volume["hostPath"]["type"],
            ]
            .map(|text| text.as_str().unwrap().to_owned())
            .to_vec()
        })
        .collect();
    assert_eq!(documented, expected);
}

/// What else runs each command: `make test` runs `make run`'s parts, and the commands of mesa-preview and mesa-scan are run by
/// their own tests of the documentation.
#[test]
fn every_command_is_one_that_a_test_knows() {
    let makefile = read("Makefile");
    let mut seen = 0;
    for (name, text) in documents() {
        for line in blocks(&text, "console")
            .iter()
            .flat_map(|block| block.lines())
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            let known = match words[..] {
                ["make", target, ref variables @ ..] => {
                    let is_used = |variable: &&str| {
                        let name = variable.split('=').next().unwrap();
                        makefile.contains(&format!("$({name})"))
                    };
                    makefile.contains(&format!("\n{target}:")) && variables.iter().all(is_used)
                }
                ["kubectl", "apply", "-f", file] => repository(file).is_file(),
                // Run by tests/cluster as they stand there.
                ["kubectl", ..] => name == "node.md",
                ["kwctl", "run", "-r", request, module] => {
                    repository(request).is_file() && makefile.contains(&format!("\n{module}:"))
                }
                [
                    "cargo",
                    "run",
                    "--release",
                    "-p",
                    "mesa-preview" | "mesa-scan",
                    "--",
                    ..,
                ] => true,
                ["mesa-preview" | "mesa-scan", ..] => true,
                _ => false,
            };
            assert!(known, "{name}: nothing tests this command: {line}");
            seen += 1;
        }
    }
    assert!(seen >= 6, "the commands are gone");
}

/// Whatever a document tells to make, `make help` tells too.
#[test]
fn make_help_has_every_documented_target() {
    let mut help = std::process::Command::new("make");
    help.arg("--directory")
        .arg(repository(""))
        .args(["--no-print-directory", "help"]);
    let help = String::from_utf8(help.output().unwrap().stdout).unwrap();
    let told: BTreeSet<&str> = help
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let mut seen = 0;
    for (name, text) in documents() {
        for part in text
            .split(['`', '\n'])
            .filter_map(|part| part.strip_prefix("make "))
        {
            let target = part.split([' ', '`']).next().unwrap();
            assert!(told.contains(target), "{name}: make {target}");
            seen += 1;
        }
    }
    assert!(seen > 10, "the commands are gone");
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for (name, text) in documents() {
        let is_top_level = TOP_LEVEL.contains(&name.as_str());
        let directory = if is_top_level { "" } else { "docs/" };
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().unwrap();
            let file = link.split('#').next().unwrap();
            let found = link.contains("://")
                || file.is_empty()
                || repository(&format!("{directory}{file}")).exists();
            assert!(found, "{name}: {link}");
        }
    }
}
