//! What the tests share.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use mesa_node::domain::{Changed, Outcome, Wanted, with_display};

/// The program as it is compiled with the tests, or the one that MESA_NODE names.
pub(crate) fn program() -> Command {
    let built = || env!("CARGO_BIN_EXE_mesa-node").into();
    Command::new(std::env::var_os("MESA_NODE").unwrap_or_else(built))
}

pub(crate) const RENDER_NODE: &str = "/dev/null";
pub(crate) const MODULE_DIR: &str = "/usr/lib64/qemu-modules";

pub(crate) fn wanted(always: bool) -> Wanted {
    let module_dir = Some(MODULE_DIR.to_owned());
    Wanted::new(RENDER_NODE.to_owned(), module_dir, always).unwrap()
}

pub(crate) fn always(xml: &str) -> Outcome {
    with_display(xml.as_bytes(), &wanted(true)).unwrap()
}

pub(crate) fn changed(xml: &str) -> Changed {
    match always(xml) {
        Outcome::Changed(changed) => changed,
        Outcome::Unchanged(reason) => panic!("unchanged: {reason}\n{xml}"),
    }
}

/// The domain as it is after a call.
pub(crate) fn after(outcome: Outcome, before: &[u8]) -> Vec<u8> {
    match outcome {
        Outcome::Changed(changed) => changed.xml,
        Outcome::Unchanged(_) => before.to_owned(),
    }
}

pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A domain of KubeVirt's, as long as it is asked for.
pub(crate) fn long_domain(bytes: usize) -> String {
    let domain =
        std::fs::read_to_string(data().join("always/kubevirt-1.9-first-call.xml")).unwrap();
    let (head, tail) = domain.split_once("\t\t<video>").unwrap();
    let disk = "\t\t<disk type=\"file\" device=\"disk\"><source file=\"/a &amp; b\"></source><target dev=\"sda\"></target></disk>\n";
    let disks = disk.repeat((bytes.saturating_sub(domain.len())).div_ceil(disk.len()));
    format!("{head}{disks}\t\t<video>{tail}")
}

/// Says what a test has measured, or why it is left out; not by a macro, whose output the test runner keeps to itself.
pub(crate) fn say(what: &str) {
    io::stderr()
        .write_all(format!("{what}\n").as_bytes())
        .unwrap();
}
