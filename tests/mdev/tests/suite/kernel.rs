//! Debian's kernel, with the sample drivers that Debian leaves out, and a file system for its memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{repository, run, unpack};

/// The kernel; what compiles a module for it, with the kernel's source; what makes the file system.
const PACKAGES: &str = "linux-image-amd64 linux-headers-amd64 +linux-source-6.12 -initramfs-tools -linux-base \
    bash coreutils dash findutils gawk gcc grep kmod libc6-dev make sed tar xz-utils +busybox-static";

/// What a VM boots.
pub(crate) struct Kernel {
    root: PathBuf,
    version: String,
}

impl Kernel {
    /// Fetched and built once for each version of the kernel.
    pub(crate) fn new() -> Self {
        let root = unpack("trixie", "mdev-kernel", &[PACKAGES]);
        let mut versions = fs::read_dir(root.join("usr/lib/modules")).unwrap();
        let version = versions.next().unwrap().unwrap().file_name();
        let version = version.into_string().unwrap();
        let kernel = Kernel { root, version };
        if !kernel.modules().exists() {
            fs::copy(
                repository("tests/mdev/tests/suite/modules.sh"),
                kernel.root.join("modules.sh"),
            )
            .unwrap();
            let _ = fs::remove_dir_all(kernel.root.join("modules"));
            let mut build = Command::new("chroot");
            build
                .arg(&kernel.root)
                .args(["/usr/bin/bash", "/modules.sh", &kernel.version]);
            run(&mut build).unwrap_or_else(|error| panic!("{error}"));
            fs::rename(kernel.root.join("modules"), kernel.modules()).unwrap();
        }
        kernel
    }

    fn modules(&self) -> PathBuf {
        self.root.join(format!("modules-{}", self.version))
    }

    /// The kernel itself.
    pub(crate) fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.version))
    }

    /// Writes what its memory holds at first: the modules, and a program with its libraries.
    pub(crate) fn write_initramfs(&self, init: &Path, to: &Path) {
        let tree = to.with_extension("tree");
        fs::create_dir_all(tree.join("modules")).unwrap();
        run(Command::new("cp")
            .arg("-T")
            .arg("-r")
            .arg(self.modules())
            .arg(tree.join("modules")))
        .unwrap();
        fs::copy(init, tree.join("init")).unwrap();
        let libraries = run(Command::new("ldd").arg(init)).unwrap();
        for library in libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            let copy = tree.join(library.trim_start_matches('/'));
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(library, copy).unwrap();
        }
        let mut archive = Command::new("sh");
        archive.args(["-c", "find . | \"$0\" cpio -o -H newc"]);
        archive
            .arg(self.root.join("usr/bin/busybox"))
            .current_dir(&tree);
        archive.stdout(fs::File::create(to).unwrap());
        assert!(archive.status().unwrap().success());
    }
}
