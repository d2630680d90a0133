//! The architectures that KubeVirt runs on, and what glibc calls them.

use std::fmt;

/// An architecture: always 64 bits wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// AMD and Intel.
    #[serde(rename = "x86_64")]
    X86_64,
    /// Arm.
    Aarch64,
    /// IBM Z, the one that is big-endian.
    S390x,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 3] = [Arch::X86_64, Arch::Aarch64, Arch::S390x];

    /// What OCI calls the architecture of this machine.
    #[must_use]
    pub fn this_machine() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }

    /// The name that the kernel and `$PLATFORM` use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::S390x => "s390x",
        }
    }

    /// The name in an OCI image.
    #[must_use]
    pub fn oci_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
            Arch::S390x => "s390x",
        }
    }

    /// Debian's directory below `/usr/lib`.
    #[must_use]
    pub fn multiarch(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-linux-gnu",
            Arch::Aarch64 => "aarch64-linux-gnu",
            Arch::S390x => "s390x-linux-gnu",
        }
    }

    /// The loader's own path, which programs name; on some systems no library directory has it.
    #[must_use]
    pub fn loader(self) -> &'static str {
        match self {
            Arch::X86_64 => "/lib64/ld-linux-x86-64.so.2",
            Arch::Aarch64 => "/lib/ld-linux-aarch64.so.1",
            Arch::S390x => "/lib/ld64.so.1",
        }
    }

    /// The first subdirectory of `glibc-hwcaps` that any machine which runs such an image searches
    /// (glibc, `sysdeps/*/dl-hwcaps-subdirs.c`); none where glibc has none.
    #[must_use]
    pub fn hwcaps(self) -> Option<&'static str> {
        match self {
            Arch::X86_64 => Some("x86-64-v2"),
            Arch::Aarch64 => None,
            Arch::S390x => Some("z13"),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
