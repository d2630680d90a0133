//! `/etc/ld.so.conf`: the directories that `ldconfig` reads, over a tree.

use glob::{MatchOptions, Pattern};

use crate::tree::{Lookup, Tree, TreeError};

/// The most bytes of an `ld.so.conf`.
const MAX_CONF_SIZE: u64 = 1024 * 1024;
/// How many files `include` may name in all, and how many directories they may.
const MAX_CONF: usize = 1000;
/// How deep `include` may go.
const MAX_CONF_DEPTH: usize = 16;

/// The directories that `/etc/ld.so.conf` and what it includes name, in their order.
///
/// # Errors
/// Where a file cannot be read, or includes itself.
pub(super) fn directories(tree: &dyn Tree) -> Result<Vec<String>, TreeError> {
    let mut configuration = Configuration {
        tree,
        directories: Vec::new(),
        files: 0,
        depth: 0,
    };
    configuration.file("/etc/ld.so.conf")?;
    Ok(configuration.directories)
}

struct Configuration<'a> {
    tree: &'a dyn Tree,
    directories: Vec<String>,
    files: usize,
    depth: usize,
}

impl Configuration<'_> {
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
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for line in text.lines() {
            self.line(line, directory)?;
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

    /// `directory` is that of the file that the line is in.
    fn line(&mut self, line: &str, directory: &str) -> Result<(), TreeError> {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("include") => words.try_for_each(|pattern| self.include(pattern, directory)),
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

    /// A pattern is relative to the file that it is in, and each part of it may hold `*`, `?` and `[…]` (glob(7)).
    fn include(&mut self, pattern: &str, directory: &str) -> Result<(), TreeError> {
        let pattern = match pattern.strip_prefix('/') {
            Some(_) => pattern.to_owned(),
            None => format!("{directory}/{pattern}"),
        };
        let mut paths = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            paths = self.expand(paths, part)?;
            if paths.len() > MAX_CONF {
                break;
            }
        }
        paths.iter().try_for_each(|path| self.file(path))
    }

    /// The paths with one more part, which may be a pattern: as in a shell, it stands for no name that begins with a dot.
    fn expand(&self, paths: Vec<String>, part: &str) -> Result<Vec<String>, TreeError> {
        let pattern = match Pattern::new(part) {
            Ok(pattern) if part.contains(['*', '?', '[']) => pattern,
            _ => return Ok(paths.iter().map(|path| format!("{path}/{part}")).collect()),
        };
        let options = MatchOptions {
            require_literal_leading_dot: true,
            ..MatchOptions::new()
        };
        let mut found = Vec::new();
        for path in paths {
            for child in self.tree.children(&path)? {
                if pattern.matches_with(child.name(), options) {
                    found.push(format!("{path}/{}", child.name()));
                }
            }
        }
        Ok(found)
    }
}
