//! Where the C library is, and so how a system lays out its libraries.

use super::arch::Arch;
use super::elf::Elf;
use super::glibc;
use super::search::{Library, Loader, LoaderError, Search};
use crate::tree::{Tree, TreeError};

/// How a distribution lays out its libraries.
#[derive(Clone, Copy)]
pub(super) enum Libdirs {
    /// Debian: `/usr/lib/x86_64-linux-gnu`.
    Multiarch,
    /// Fedora and its kin: `/usr/lib64`.
    Lib64,
    /// Arch: `/usr/lib`.
    Plain,
}

impl Libdirs {
    /// The directories that the loader searches by default, each behind what of it is for newer processors.
    pub(super) fn searched(self, arch: Arch, glibc: Option<glibc::Version>) -> Vec<String> {
        let hwcaps = arch
            .hwcaps()
            .filter(|_| glibc >= Some(glibc::FIRST_WITH_HWCAPS));
        let mut all = Vec::new();
        for directory in self.directories(arch) {
            all.extend(hwcaps.map(|hwcaps| format!("{directory}/glibc-hwcaps/{hwcaps}")));
            all.push(directory);
        }
        all
    }

    fn directories(self, arch: Arch) -> Vec<String> {
        let name = arch.multiarch();
        match self {
            Libdirs::Multiarch => vec![
                format!("/lib/{name}"),
                format!("/usr/lib/{name}"),
                "/lib".to_owned(),
                "/usr/lib".to_owned(),
            ],
            Libdirs::Lib64 => vec!["/lib64".to_owned(), "/usr/lib64".to_owned()],
            Libdirs::Plain => vec!["/lib".to_owned(), "/usr/lib".to_owned()],
        }
    }
}

/// Programs that every system has, which tell its architecture where it has C libraries for several.
const PROGRAMS: [&str; 3] = ["/bin/sh", "/usr/bin/env", "/sbin/ldconfig"];

/// The C library tells architecture and layout: glibc searches by default where it is installed itself. Of several the one
/// is the system's that its own programs are for; others serve emulators.
///
/// # Errors
/// Where there is none, or the tree cannot be read.
pub(super) fn find(tree: &dyn Tree) -> Result<(Libdirs, Library), LoaderError> {
    let mut found = Vec::new();
    for libdirs in [Libdirs::Multiarch, Libdirs::Lib64, Libdirs::Plain] {
        for arch in Arch::ALL {
            let own = if matches!(libdirs, Libdirs::Multiarch) {
                2
            } else {
                usize::MAX
            };
            for directory in libdirs.directories(arch).into_iter().take(own) {
                let probe = Loader::probe(tree, arch);
                if let Some(Search::Found(libc)) =
                    probe.at(tree, &format!("{directory}/libc.so.6"))?
                {
                    found.push((libdirs, *libc));
                    break;
                }
            }
        }
    }
    let first = found.first().map(|(_, libc)| libc.elf.arch);
    let is_one = found.iter().all(|(_, libc)| Some(libc.elf.arch) == first);
    let wanted = if is_one {
        first
    } else {
        arch_of_programs(tree)?.or(first)
    };
    let mut found = found.into_iter();
    match found.find(|(_, libc)| Some(libc.elf.arch) == wanted) {
        Some(found) => Ok(found),
        None => Err(without_libc(tree)?),
    }
}

fn arch_of_programs(tree: &dyn Tree) -> Result<Option<Arch>, TreeError> {
    for program in PROGRAMS {
        let Some(entry) = tree.lookup(program)?.found() else {
            continue;
        };
        if entry.file_size().is_some()
            && let Ok((arch, _)) = Elf::is_static(tree.open(&entry.path)?)
        {
            return Ok(Some(arch));
        }
    }
    Ok(None)
}

/// Why there may be none.
fn without_libc(tree: &dyn Tree) -> Result<LoaderError, TreeError> {
    for (system, store) in [("NixOS", "/nix/store"), ("Guix System", "/gnu/store")] {
        if tree
            .lookup(store)?
            .found()
            .is_some_and(|entry| entry.is_directory())
        {
            return Ok(LoaderError::NoLibraryDirectory { system, store });
        }
    }
    let libraries = tree.children("/lib")?;
    let mut musl = libraries
        .into_iter()
        .filter(|path| path.name().starts_with("ld-musl-"));
    Ok(match musl.next() {
        Some(loader) => LoaderError::Musl { loader },
        None => LoaderError::NoLibc,
    })
}
