//! The policies in `examples/policies`: what each does to a sample pod stands beside it. `BLESS=1 cargo test` rewrites that.

use std::{
    fs,
    path::{Path, PathBuf},
};

use assert_cmd::Command;
use rstest::rstest;

#[rstest]
fn an_example_does_what_stands_beside_it(
    #[files("../../examples/policies/*.yaml")] policy: PathBuf,
) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut preview = Command::cargo_bin("mesa-preview").unwrap();
    preview.current_dir(&root).arg("--policy-yaml").arg(&policy);
    let shown = preview
        .arg("test_data/pods/vgpu-vm.yaml")
        .assert()
        .success();
    let shown = String::from_utf8_lossy(&shown.get_output().stdout).into_owned();
    let golden = policy.with_extension("txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, &shown).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        expected == shown,
        "{} expects\n{expected}\nand it is\n{shown}\n(BLESS=1 cargo test -p mesa-preview rewrites it)",
        golden.display()
    );
}
