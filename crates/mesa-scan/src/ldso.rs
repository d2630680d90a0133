//! The dynamic loader's search rules (ld.so(8)), over a tree instead of a running system.
//!
//! `LD_LIBRARY_PATH` has no part in it: the processes that matter run with a file capability, where the loader ignores
//! it. `ld.so.cache` has none either: `ldconfig` makes it of the files that are read here.

use std::rc::Rc;

use crate::arch::Arch;
use crate::elf::{Elf, ElfError};
use crate::glibc;
use crate::tree::{Entry, Lookup, RealPath, Tree, TreeError};
use manifests::console::Failure;

/// The most bytes of an `ld.so.conf`.
const MAX_CONF_SIZE: u64 = 1024 * 1024;
/// How many files `include` may name in all, and how many directories they may.
const MAX_CONF: usize = 1000;
/// How deep `include` may go.
const MAX_CONF_DEPTH: usize = 16;

/// The most directories that a library and those above it bring: real ones bring a handful.
const MAX_PATHS: usize = 256;

/// The loader of one tree.
pub struct Loader<'a> {
    tree: &'a dyn Tree,
    /// The tree of which `ldconfig` made the cache.
    cached: &'a dyn Tree,
    /// The architecture of the tree's C library.
    pub arch: Arch,
    /// The tree's glibc.
    pub glibc: Option<glibc::Version>,
    /// The directory where the C library lives, which is searched by default.
    pub libdir: RealPath,
    configured: Vec<String>,
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
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Failure for LoaderError {
    fn fix(&self) -> Option<String> {
        match self {
            LoaderError::NoLibc => None,
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
        let (directory, libc) = home_of_libc(tree)?;
        let glibc = glibc::Version::of_library(&libc.elf);
        Ok(Loader {
            tree,
            cached: tree,
            arch: libc.elf.arch,
            glibc,
            libdir: libc.path.parent(),
            configured: Configuration::read(tree)?,
            defaults: default_directories(directory, libc.elf.arch, glibc),
        })
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
            cached: self.cached,
            arch: self.arch,
            glibc: self.glibc,
            libdir: self.libdir.clone(),
            configured: self.configured.clone(),
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
        let brought = paths.directories.iter().map(|path| (self.tree, path));
        let configured = self.configured.iter().map(|path| (self.cached, path));
        let default = self.defaults.iter().map(|path| (self.tree, path));
        for (tree, directory) in brought.chain(configured).chain(default) {
            match self.at(tree, &format!("{directory}/{name}"))? {
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

    /// The library at one path, with links followed: `None` where nothing is.
    fn at(&self, tree: &dyn Tree, path: &str) -> Result<Option<Search>, TreeError> {
        let Lookup::Found(entry) = tree.lookup(path)? else {
            return Ok(None);
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
        Ok(Some(match tree.elf(&entry.path) {
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

/// How a distribution lays out its libraries.
#[derive(Clone, Copy)]
enum Layout {
    /// Debian: `/usr/lib/x86_64-linux-gnu`.
    Multiarch,
    /// Fedora and its kin: `/usr/lib64`.
    Lib64,
    /// Arch: `/usr/lib`.
    Plain,
}

impl Layout {
    fn directories(self, arch: Arch) -> Vec<String> {
        let name = arch.multiarch();
        match self {
            Layout::Multiarch => vec![
                format!("/lib/{name}"),
                format!("/usr/lib/{name}"),
                "/lib".to_owned(),
                "/usr/lib".to_owned(),
            ],
            Layout::Lib64 => vec!["/lib64".to_owned(), "/usr/lib64".to_owned()],
            Layout::Plain => vec!["/lib".to_owned(), "/usr/lib".to_owned()],
        }
    }
}

/// The C library tells architecture and layout: glibc searches by default where it is installed itself.
fn home_of_libc(tree: &dyn Tree) -> Result<(Layout, Library), LoaderError> {
    for layout in [Layout::Multiarch, Layout::Lib64, Layout::Plain] {
        for arch in Arch::ALL {
            let own = if matches!(layout, Layout::Multiarch) {
                2
            } else {
                usize::MAX
            };
            for directory in layout.directories(arch).into_iter().take(own) {
                let probe = Loader {
                    tree,
                    cached: tree,
                    arch,
                    glibc: None,
                    libdir: RealPath::root(),
                    configured: Vec::new(),
                    defaults: Vec::new(),
                };
                if let Some(Search::Found(libc)) =
                    probe.at(tree, &format!("{directory}/libc.so.6"))?
                {
                    return Ok((layout, *libc));
                }
            }
        }
    }
    Err(LoaderError::NoLibc)
}

fn default_directories(layout: Layout, arch: Arch, glibc: Option<glibc::Version>) -> Vec<String> {
    let hwcaps = arch
        .hwcaps()
        .filter(|_| glibc >= Some(glibc::FIRST_WITH_HWCAPS));
    let mut all = Vec::new();
    for directory in layout.directories(arch) {
        all.extend(hwcaps.map(|hwcaps| format!("{directory}/glibc-hwcaps/{hwcaps}")));
        all.push(directory);
    }
    all
}

/// `/etc/ld.so.conf` and what it includes.
struct Configuration<'a> {
    tree: &'a dyn Tree,
    directories: Vec<String>,
    files: usize,
    depth: usize,
}

impl<'a> Configuration<'a> {
    fn read(tree: &'a dyn Tree) -> Result<Vec<String>, TreeError> {
        let mut configuration = Configuration {
            tree,
            directories: Vec::new(),
            files: 0,
            depth: 0,
        };
        configuration.file("/etc/ld.so.conf")?;
        Ok(configuration.directories)
    }

    fn file(&mut self, path: &str) -> Result<(), TreeError> {
        let Lookup::Found(entry) = self.tree.lookup(path)? else {
            return Ok(());
        };
        self.files += 1;
        if self.files > MAX_CONF || self.depth > MAX_CONF_DEPTH {
            return Err(TreeError::invalid(
                path,
                "too many files include each other, most likely in a circle",
            )
            .with_fix("remove the include"));
        }
        if entry.file_size().is_none() {
            return Err(TreeError::invalid(path, "not a regular file"));
        }
        let text = self.tree.read_text(&entry.path, MAX_CONF_SIZE)?;
        self.depth += 1;
        for line in text.lines() {
            self.line(line)?;
        }
        self.depth -= 1;
        if self.directories.len() > MAX_CONF {
            return Err(TreeError::invalid(
                path,
                format_args!("more than {MAX_CONF} directories, which no system searches"),
            )
            .with_fix("remove some"));
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), TreeError> {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("include") => words.try_for_each(|pattern| self.include(pattern)),
            // `hwcap` is of a scheme that glibc has dropped.
            None | Some("hwcap") => Ok(()),
            Some(_) => {
                let separators = |c: char| c.is_whitespace() || matches!(c, ':' | ',');
                let directories = line.split(separators).filter(|part| part.starts_with('/'));
                // Old files write `directory=type`.
                let bare = |part: &str| part.split('=').next().unwrap_or_default().to_owned();
                self.directories.extend(directories.map(bare));
                Ok(())
            }
        }
    }

    /// A pattern is relative to `/etc`, and its last part may hold `*`.
    fn include(&mut self, pattern: &str) -> Result<(), TreeError> {
        let pattern = match pattern.strip_prefix('/') {
            Some(_) => pattern.to_owned(),
            None => format!("/etc/{pattern}"),
        };
        let Some((directory, name)) = pattern.rsplit_once('/') else {
            return Ok(());
        };
        if !name.contains('*') {
            return self.file(&pattern);
        }
        for path in self.tree.entries(directory)? {
            if !path.name().starts_with('.') && matches_glob(name, path.name()) {
                self.file(path.as_str())?;
            }
        }
        Ok(())
    }
}

/// Whether `name` is of the form `pattern`, in which each `*` stands for any text.
fn matches_glob(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        match name.split_once(part) {
            Some((_, rest)) => name = rest,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::matches_glob;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("*.conf", "x86_64.conf", true),
            ("*.conf", "x86_64.conf.bak", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches_glob(pattern, name), expected, "{pattern} {name}");
        }
    }
}
