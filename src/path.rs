//! Paths as the kubelet and the container runtime read them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// An absolute path without `.`, `..`, extra slashes or a slash at its end; links are not looked at.
///
/// ```
/// use mesa_injector::path::CleanPath;
///
/// assert_eq!(CleanPath::new("usr/lib64/../lib64//dri/").as_str(), "/usr/lib64/dri");
/// assert!(CleanPath::new("/usr/lib64/dri").is_below("/usr"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CleanPath<'a>(Cow<'a, str>);

impl<'a> CleanPath<'a> {
    /// Reads a path as the kubelet does: a relative one begins at the root, and `..` does not lead above it.
    #[must_use]
    pub fn new(path: impl Into<Cow<'a, str>>) -> Self {
        let path = path.into();
        if is_clean(&path) {
            CleanPath(path)
        } else {
            CleanPath(Cow::Owned(cleaned(&path)))
        }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the path is somewhere below a directory, which must be clean too, and not the directory itself.
    #[must_use]
    pub fn is_below(&self, directory: &str) -> bool {
        let rest = self.strip_prefix(directory.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
    }

    /// The name behind the last slash; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.rsplit('/').next().unwrap_or_default()
    }
}

impl Deref for CleanPath<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CleanPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<&str> for CleanPath<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

fn is_clean(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next() == Some("") && (path == "/" || parts.all(|part| !matches!(part, "" | "." | "..")))
}

fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
