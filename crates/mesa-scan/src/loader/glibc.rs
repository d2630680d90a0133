//! The C library: the one part that must stay the image's own, and whose version decides most verdicts.

use std::collections::BTreeSet;
use std::fmt;

pub use mesa_injector::settings::is_glibc_name as is_family;

use super::elf::Elf;

/// A version of glibc: 2.38 is `(2, 38)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

/// The first version that searches `glibc-hwcaps` directories (its release notes).
pub const FIRST_WITH_HWCAPS: Version = Version(2, 33);

impl Version {
    /// The version in a symbol version, as in `GLIBC_2.38` and `GLIBC_2.3.4`.
    #[must_use]
    pub fn of_symbol(version: &str) -> Option<Self> {
        // Compact relocations: whoever has them asks for the first glibc that reads them.
        if version == "GLIBC_ABI_DT_RELR" {
            return Some(Version(2, 36));
        }
        let mut numbers = version.strip_prefix("GLIBC_")?.split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Version(major, minor))
    }

    /// The newest version whose symbols `libc` defines: a lower bound, for a release need not add any.
    #[must_use]
    pub fn of_library(libc: &Elf) -> Option<Self> {
        Self::newest(&libc.defines)
    }

    fn newest(versions: &BTreeSet<String>) -> Option<Self> {
        versions
            .iter()
            .filter_map(|version| Version::of_symbol(version))
            .max()
    }

    /// The oldest glibc with which all of `libraries` can load: the newest of the versions that they need.
    #[must_use]
    pub fn needed_by<'a>(libraries: impl Iterator<Item = &'a Elf>) -> Option<Self> {
        libraries
            .flat_map(|library| &library.requires)
            .filter(|requirement| is_family(&requirement.library))
            .filter_map(|requirement| Version::of_symbol(&requirement.version))
            .max()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl serde::Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text| Version::of_symbol(text).unwrap();
        assert!(version("GLIBC_2.4") < version("GLIBC_2.34"));
        assert_eq!(version("GLIBC_2.3.4"), Version(2, 3));
        assert_eq!(Version::of_symbol("GLIBC_PRIVATE"), None);
        assert_eq!(version("GLIBC_ABI_DT_RELR"), Version(2, 36));
    }
}
