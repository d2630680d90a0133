//! The dynamic loader's search rules (ld.so(8)), over a tree instead of a running system.
//!
//! `LD_LIBRARY_PATH` has no part in it: the processes that matter run with a file capability, where the loader ignores
//! it. `ld.so.conf` has none either: `ldconfig` reads it, and the loader what `ldconfig` wrote.

use std::rc::Rc;

use super::arch::Arch;
use super::cache::Cache;
use super::conf;
use super::elf::{Elf, ElfError};
use super::glibc;
use super::libc;
use crate::tree::{Entry, Lookup, RealPath, Tree, TreeError};
use manifests::console::Failure;

/// The most directories that a library and those above it bring: real ones bring a handful.
const MAX_PATHS: usize = 256;

/// The loader of one tree.
pub struct Loader<'a> {
    tree: &'a dyn Tree,
    /// The architecture of the tree's C library.
    pub arch: Arch,
    /// The tree's glibc.
    pub glibc: Option<glibc::Version>,
    /// The directory where the C library lives, which is searched by default.
    pub libdir: RealPath,
    /// What `ldconfig` recorded.
    cache: Rc<Cache>,
    /// What it would read.
    configured: Vec<String>,
    /// Whether what it would find is found without it.
    is_lenient: bool,
    defaults: Vec<String>,
}

/// A library that was found.
#[derive(Debug, Clone)]
pub struct Library {
    /// The directory and name by which it was found; the name may be a link.
    pub path: RealPath,
    /// The file itself.
    pub entry: Entry,
    /// What it says of itself.
    pub elf: Elf,
}

/// What a search ends with.
#[derive(Debug, Clone)]
pub enum Search {
    /// The library that the loader would take.
    Found(Box<Library>),
    /// None; the files that have the name but are passed over, each with the reason.
    Absent(Vec<String>),
    /// The loader finds a file and stops at it.
    Broken {
        /// The file.
        path: RealPath,
        /// What is wrong with it.
        what: String,
    },
}

/// The search paths that a library brings for what it needs.
#[derive(Debug, Default)]
pub struct Paths {
    /// Its own `DT_RPATH` and those of the libraries that loaded it, or its `DT_RUNPATH`.
    directories: Vec<String>,
    /// What the libraries below inherit.
    inherited: Vec<String>,
}

/// Why a tree has no loader.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// Nothing to find libraries with.
    #[error(
        "no libc.so.6 of x86_64, aarch64 or s390x in any library directory: not a glibc system, or not all of it"
    )]
    NoLibc,
    /// A system whose libraries are in no library directory.
    #[error(
        "{system} keeps its libraries in {store} and has no library directory: such systems are not supported"
    )]
    NoLibraryDirectory {
        /// Its name.
        system: &'static str,
        /// Where its packages are.
        store: &'static str,
    },
    /// A system with another C library.
    #[error(
        "{loader} is the loader of musl: only systems with glibc are supported, as every virt-launcher image has it"
    )]
    Musl {
        /// What was found.
        loader: RealPath,
    },
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Failure for LoaderError {
    fn fix(&self) -> Option<String> {
        match self {
            LoaderError::NoLibc => None,
            LoaderError::NoLibraryDirectory { .. } | LoaderError::Musl { .. } => Some(
                "take Mesa from an image of Debian, Fedora or CentOS Stream instead of from this root"
                    .to_owned(),
            ),
            LoaderError::Tree(error) => error.fix(),
        }
    }
}

impl<'a> Loader<'a> {
    /// The loader of `tree`: its architecture, layout and configuration.
    ///
    /// # Errors
    /// Where there is no glibc or `ld.so.conf` cannot be read.
    pub fn of(tree: &'a dyn Tree) -> Result<Self, LoaderError> {
        let (libdirs, libc) = libc::find(tree)?;
        let glibc = glibc::Version::of_library(&libc.elf);
        Ok(Loader {
            tree,
            arch: libc.elf.arch,
            glibc,
            libdir: libc.path.parent(),
            cache: Rc::new(Cache::of(tree, libc.elf.arch)?.unwrap_or_default()),
            configured: conf::directories(tree)?,
            is_lenient: false,
            defaults: libdirs.searched(libc.elf.arch, glibc),
        })
    }

    /// The same for a tree whose libraries are taken elsewhere: those in the directories of `ld.so.conf` are found too where
    /// no `ldconfig` ran, as in many images.
    #[must_use]
    pub fn of_source(self) -> Self {
        Loader {
            is_lenient: true,
            ..self
        }
    }

    /// The same loader in a tree that has more in it: what `ldconfig` recorded stays as it was, so that only the
    /// default directories gain anything.
    #[must_use]
    pub fn over<'b>(&self, tree: &'b dyn Tree) -> Loader<'b>
    where
        'a: 'b,
    {
        Loader {
            tree,
            arch: self.arch,
            glibc: self.glibc,
            libdir: self.libdir.clone(),
            cache: Rc::clone(&self.cache),
            configured: self.configured.clone(),
            is_lenient: self.is_lenient,
            defaults: self.defaults.clone(),
        }
    }

    /// The tree that is searched.
    #[must_use]
    pub fn tree(&self) -> &'a dyn Tree {
        self.tree
    }

    /// Finds a library by the name that a `DT_NEEDED`, a `dlopen` or a vendor JSON says. A name with a slash is a path.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn find(&self, name: &str, paths: &Paths) -> Result<Search, TreeError> {
        if name.contains('/') {
            return Ok(match self.at(self.tree, name)? {
                Some(search) => search,
                None => Search::Absent(Vec::new()),
            });
        }
        let mut passed = Vec::new();
        let in_directory = |directory: &String| format!("{directory}/{name}");
        let brought = paths
            .directories
            .iter()
            .flat_map(|path| self.with_hwcaps(path));
        let configured = self.configured.iter().filter(|_| self.is_lenient);
        let places = (brought.map(|directory| in_directory(&directory)))
            .chain(self.cache.paths(name).iter().cloned())
            .chain(configured.map(in_directory))
            .chain(self.defaults.iter().map(in_directory));
        for path in places {
            match self.at(self.tree, &path)? {
                None => {}
                Some(Search::Absent(why)) => passed.extend(why),
                Some(search) => return Ok(search),
            }
        }
        // The loader is there before it searches for anything.
        if self.arch.loader().rsplit('/').next() == Some(name)
            && let Some(search) = self.at(self.tree, self.arch.loader())?
        {
            return Ok(search);
        }
        passed.sort();
        passed.dedup();
        Ok(Search::Absent(passed))
    }

    /// A library that `ldconfig` would add, and the loader does not find.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn not_in_cache(&self, name: &str) -> Result<Option<RealPath>, TreeError> {
        for directory in &self.configured {
            if let Some(Search::Found(library)) =
                self.at(self.tree, &format!("{directory}/{name}"))?
            {
                return Ok(Some(library.path));
            }
        }
        Ok(None)
    }

    /// A directory behind what of it is for newer processors.
    fn with_hwcaps(&self, directory: &str) -> impl Iterator<Item = String> {
        let hwcaps = self
            .arch
            .hwcaps()
            .filter(|_| self.glibc >= Some(glibc::FIRST_WITH_HWCAPS));
        let newer = hwcaps.map(|hwcaps| format!("{directory}/glibc-hwcaps/{hwcaps}"));
        newer.into_iter().chain([directory.to_owned()])
    }

    /// A loader that knows no directory yet, to look at single files.
    pub(super) fn probe(tree: &'a dyn Tree, arch: Arch) -> Self {
        Loader {
            tree,
            arch,
            glibc: None,
            libdir: RealPath::root(),
            cache: Rc::default(),
            configured: Vec::new(),
            is_lenient: false,
            defaults: Vec::new(),
        }
    }

    /// The library at one path, with links followed: `None` where nothing is.
    pub(super) fn at(&self, tree: &dyn Tree, path: &str) -> Result<Option<Search>, TreeError> {
        let entry = match tree.lookup(path)? {
            Lookup::Found(entry) => entry,
            Lookup::Loop { link } => {
                let why = format!("{link} is a link that leads to itself");
                return Ok(Some(Search::Absent(vec![why])));
            }
            Lookup::Missing | Lookup::Dangling { .. } => return Ok(None),
        };
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let named = match tree.lookup(directory)? {
            Lookup::Found(directory) => directory.path.join(name),
            _ => entry.path.clone(),
        };
        if entry.file_size().is_none() {
            return Ok(Some(Search::Broken {
                path: named,
                what: "not a regular file".to_owned(),
            }));
        }
        Ok(Some(match Elf::in_tree(tree, &entry.path) {
            Ok(elf) if elf.arch == self.arch => Search::Found(Box::new(Library {
                path: named,
                entry,
                elf,
            })),
            Ok(elf) => Search::Absent(vec![format!("{named} is a library of {}", elf.arch)]),
            Err(ElfError::Foreign(what)) => Search::Absent(vec![format!("{named} is {what}")]),
            Err(ElfError::Malformed(what)) => Search::Broken { path: named, what },
            Err(ElfError::Tree(error)) => return Err(error),
        }))
    }

    /// The search paths of a library that was loaded by one with the paths `above`.
    #[must_use]
    pub fn paths_of(&self, library: &Library, above: &Paths) -> Rc<Paths> {
        let expand = |list: &Option<String>| self.expand(list.as_deref(), &library.path.parent());
        Rc::new(match &library.elf.runpath {
            Some(_) => Paths {
                directories: expand(&library.elf.runpath),
                inherited: above.inherited.clone(),
            },
            None => {
                let mut directories = expand(&library.elf.rpath);
                directories.extend(above.inherited.iter().cloned());
                directories.truncate(MAX_PATHS);
                Paths {
                    inherited: directories.clone(),
                    directories,
                }
            }
        })
    }

    /// A colon-separated list with the loader's variables replaced. Relative entries depend on the directory that a
    /// process happens to be in: nothing is found by them.
    fn expand(&self, list: Option<&str>, origin: &RealPath) -> Vec<String> {
        let lib = match self.libdir.name() {
            name if name == self.arch.multiarch() => format!("lib/{name}"),
            name => name.to_owned(),
        };
        let replace = |text: &str, name: &str, value: &str| {
            text.replace(&format!("${{{name}}}"), value)
                .replace(&format!("${name}"), value)
        };
        list.unwrap_or_default()
            .split(':')
            .map(|entry| replace(entry, "ORIGIN", origin.as_str()))
            .map(|entry| replace(&entry, "LIB", &lib))
            .map(|entry| replace(&entry, "PLATFORM", self.arch.name()))
            .filter(|entry| entry.starts_with('/'))
            .collect()
    }
}
