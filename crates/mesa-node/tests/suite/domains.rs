//! The domains in `tests/data`: what becomes of each stands beside it. `BLESS=1 cargo test` rewrites that.
//!
//! The directory says for whom the display is wanted: for all VMs, or for those that need it. What is in `refused` is no
//! domain.

use std::fs;
use std::path::{Path, PathBuf};

use mesa_node::domain::{Outcome, with_display};
use rstest::rstest;

use crate::common::{after, data, wanted};

#[rstest]
fn a_domain_becomes_what_is_expected(#[files("tests/data/*/*.xml")] case: PathBuf) {
    let xml = fs::read(&case).unwrap();
    let always = !case.parent().unwrap().ends_with("when-needed");
    let said = match with_display(&xml, &wanted(always)) {
        Err(error) => format!("error: {error}\n"),
        Ok(Outcome::Unchanged(reason)) => format!("unchanged: {reason}\n"),
        Ok(Outcome::Changed(changed)) => {
            let summary = format!("{changed}\n\n");
            summary + std::str::from_utf8(&changed.xml).unwrap()
        }
    };
    let refused = case.parent().unwrap().ends_with("refused");
    assert_eq!(said.starts_with("error:"), refused, "{said}");
    assert_golden(&case.with_extension("txt"), &said);
}

#[rstest]
fn twice_is_once(#[files("tests/data/[aw]*/*.xml")] case: PathBuf) {
    let xml = fs::read(&case).unwrap();
    let always = !case.parent().unwrap().ends_with("when-needed");
    let once = after(with_display(&xml, &wanted(always)).unwrap(), &xml);
    let twice = with_display(&once, &wanted(always)).unwrap();
    assert!(matches!(twice, Outcome::Unchanged(_)), "{twice}");
}

#[test]
fn every_expectation_has_a_domain() {
    for directory in fs::read_dir(data()).unwrap() {
        for file in fs::read_dir(directory.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            assert!(file.with_extension("xml").exists(), "{}", file.display());
        }
    }
}

fn assert_golden(file: &Path, said: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(file, said).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert!(
        expected == said,
        "{} expects\n{expected}\nand it is\n{said}\n(BLESS=1 cargo test -p mesa-node rewrites it)",
        file.display()
    );
}
