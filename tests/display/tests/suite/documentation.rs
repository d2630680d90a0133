//! The commands of docs/display.md, run as they stand.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::machine::{built, repository, run};
use crate::stand::Stand;

#[test]
fn the_commands_of_the_documentation_run() {
    let Some(mut stand) = Stand::of_stock("trixie", "trixie") else {
        return;
    };
    stand.scan_archives();
    let here = stand.state.path();
    for (archive, name) in [("node.tar", "mesa.tar"), ("image.tar", "launcher.tar")] {
        symlink(archive, here.join(name)).unwrap();
    }
    for (variable, path) in [
        ("MESA_SCAN", "target/debug/mesa-scan"),
        ("MESA_NODE", "target/mesa-node"),
    ] {
        // A program finds another beside itself, not beside a link to it.
        let name = path.rsplit('/').next().unwrap();
        fs::copy(built(variable, path), here.join(name)).unwrap();
    }
    for (variable, path) in [
        ("MESA_PREVIEW", "target/debug/mesa-preview"),
        ("POLICY_WASM", "policy.wasm"),
        ("SAMPLES", "test_data"),
    ] {
        let name = path.rsplit('/').next().unwrap();
        let target = fs::canonicalize(built(variable, path)).unwrap();
        symlink(target, here.join(name)).unwrap();
    }

    let text = fs::read_to_string(repository("docs/display.md")).unwrap();
    let blocks = text.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    let mut ran = 0;
    // `make` is what runs this test, and there is no cluster for kubectl.
    for line in lines.filter(|line| line.starts_with("mesa-")) {
        let line = line.replace("/host", stand.node.path().to_str().unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-ec", &format!("./{line}")]).current_dir(here);
        run(&mut shell).unwrap_or_else(|said| panic!("{line}: {said}"));
        ran += 1;
    }
    assert_eq!(ran, 4);
    let pod = fs::read_to_string(here.join("pod.yaml")).unwrap();
    for part in [
        "name: mesa-injector-hook",
        "reference: registry.example/mesa:1@sha256:",
    ] {
        assert!(pod.contains(part), "{part}: {pod}");
    }
}
