//! `/etc/ld.so.conf`: the directories that `ldconfig` reads, over a tree.

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
        for path in self.tree.children(directory)? {
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
