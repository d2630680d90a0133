//! Roots of Debian's packages: nodes with Mesa, and images like a launcher's, without.
//!
//! They are unpacked once, by `hack/debian-root`, into the target directory.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a launcher image has that GL needs too; libffi's package is named after its version.
const LAUNCHER: [&str; 10] = [
    "bash",
    "coreutils",
    "libelf1",
    "libexpat1",
    "liblzma5",
    "libncurses6",
    "libstdc++6",
    "libxml2",
    "libzstd1",
    "zlib1g",
];
const NODE: [&str; 10] = [
    "libc-bin",
    "libegl-mesa0",
    "libegl1",
    "libgbm1",
    "libgl1",
    "libgl1-mesa-dri",
    "libgles2",
    "libglx-mesa0",
    "libglx0",
    "libopengl0",
];

/// The root of a node with Mesa.
pub(crate) fn node(suite: &str) -> Option<PathBuf> {
    unpack(suite, &format!("node-{suite}"), &NODE)
}

/// The root of an image without GL.
pub(crate) fn launcher(suite: &str) -> Option<PathBuf> {
    let libffi = if suite == "bullseye" {
        "libffi7"
    } else {
        "libffi8"
    };
    let mut packages = LAUNCHER.to_vec();
    packages.push(libffi);
    unpack(suite, &format!("launcher-{suite}"), &packages)
}

/// The root of an image without GL but with QEMU's modules for it, as they are: without QEMU.
pub(crate) fn launcher_with_modules() -> Option<PathBuf> {
    let mut packages = LAUNCHER.to_vec();
    packages.extend([
        "libffi8",
        "libpixman-1-0",
        "+qemu-system-modules-opengl",
        "+libepoxy0",
    ]);
    unpack("trixie", "launcher-trixie-modules", &packages)
}

/// Where this machine has no packages, the reason is printed and the caller skips; in CI that is a failure.
fn unpack(suite: &str, name: &str, packages: &[&str]) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/debian-root");
    let root = target().join("debian-roots").join(name);
    let output = Command::new(script)
        .arg(suite)
        .arg(&root)
        .args(packages)
        .output()
        .unwrap();
    if output.status.success() {
        return Some(root);
    }
    skip(&format!(
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    ));
    None
}

/// Says why a test is skipped. In CI nothing is skipped.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI skips nothing: {reason}"
    );
    // Not by a macro, whose output the test runner keeps to itself.
    let line = format!("skipped: {reason}\n");
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The target directory.
pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// A copy of a root whose files are hard links, for a test that adds something to it.
pub(crate) struct Copy(PathBuf);

impl Copy {
    pub(crate) fn of(root: &Path, name: &str) -> Self {
        let copy = target()
            .join("debian-roots")
            .join(format!("copy-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&copy);
        let status = Command::new("cp")
            .arg("-al")
            .arg(root)
            .arg(&copy)
            .status()
            .unwrap();
        assert!(status.success());
        Copy(copy)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a file of another root at a path, as a mount would show it: links of the root are followed.
    pub(crate) fn place(&self, file: &Path, at: &str) {
        let directory = self
            .0
            .join(Path::new(at).parent().unwrap().strip_prefix("/").unwrap());
        fs::create_dir_all(&directory).unwrap();
        let to = directory.join(Path::new(at).file_name().unwrap());
        assert!(!to.exists(), "{at} would be covered");
        fs::hard_link(file, to).unwrap();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
