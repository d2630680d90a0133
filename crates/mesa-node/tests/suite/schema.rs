//! libvirt's own schema accepts what is written, wherever it accepts what was there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesa_node::domain::with_display;

use crate::common::{after, data, say, wanted};

#[test]
fn libvirts_schema_accepts_what_is_written() {
    let Some(root) = unpacked() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    for kind in ["before", "behind"] {
        fs::create_dir(directory.path().join(kind)).unwrap();
    }
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    for case in ["always", "when-needed"]
        .map(|it| data().join(it))
        .iter()
        .flat_map(|it| files(it))
    {
        let xml = fs::read_to_string(&case).unwrap();
        // Of KubeVirt's own: libvirt takes them, but its schema does not know them.
        let empty = [
            "<bios></bios>",
            "<baseBoard></baseBoard>",
            "<chassis></chassis>",
        ];
        let xml = empty.iter().fold(xml, |xml, empty| xml.replace(empty, ""));
        let xml = xml.as_bytes();
        let always = case.parent().unwrap().ends_with("always");
        let written = after(with_display(xml, &wanted(always)).unwrap(), xml);
        let copy = |kind: &str| directory.path().join(kind).join(case.file_name().unwrap());
        fs::write(copy("before"), xml).unwrap();
        fs::write(copy("behind"), written).unwrap();
        before.push(copy("before"));
        behind.push(copy("behind"));
    }
    let accepted = validate(&root, &before);
    let still = validate(&root, &behind);
    let mut number = 0;
    for ((case, before), (_, behind)) in before.iter().zip(&accepted).zip(behind.iter().zip(&still))
    {
        assert!(!before || *behind, "{}", case.display());
        number += usize::from(*before);
    }
    let kubevirt = before.iter().zip(&accepted).filter(|(case, _)| {
        case.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("kubevirt")
    });
    for (case, accepted) in kubevirt {
        assert!(accepted, "libvirt's schema refuses {}", case.display());
    }
    say(&format!(
        "libvirt's schema: {number} of {} domains, and what becomes of them",
        before.len()
    ));
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|file| file.extension().is_some_and(|it| it == "xml"))
        .collect()
}

/// Which of the files the schema accepts.
fn validate(root: &Path, files: &[PathBuf]) -> Vec<bool> {
    let output = Command::new(root.join("lib64/ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(root.join("usr/lib/x86_64-linux-gnu"))
        .arg(root.join("usr/bin/xmllint"))
        .args(["--noout", "--relaxng"])
        .arg(root.join("usr/share/libvirt/schemas/domain.rng"))
        .args(files)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let verdict = |file: &PathBuf| {
        let accepted = said.contains(&format!("{} validates\n", file.display()));
        let refused = said.contains(&format!("{} fails to validate\n", file.display()));
        assert!(accepted != refused, "{}: {said}", file.display());
        accepted
    };
    files.iter().map(verdict).collect()
}

/// Debian's schema of libvirt and a validator; where this machine has no packages, one line says so. In CI that is a
/// failure.
fn unpacked() -> Option<PathBuf> {
    let hack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let root = target.join("debian-roots/libvirt-schema");
    let output = Command::new(hack.join("debian-root"))
        .arg("trixie")
        .arg(&root)
        .args(["libxml2-utils", "+libvirt-common"])
        .output()
        .unwrap();
    if output.status.success() {
        return Some(root);
    }
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI leaves nothing out: {reason}"
    );
    say(&format!(
        "left out: libvirt's schema: {}",
        reason.lines().last().unwrap_or_default()
    ));
    None
}
