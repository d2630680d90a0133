//! The name of an image in a registry.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::Reference as Parsed;

/// Where an image is: `registry.example/mesa:el9`, without a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Without the tag.
    name: String,
    tag: Option<String>,
}

/// Why a text is no reference for an image that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not one at all.
    #[error("not the reference of an image: {0}; write REGISTRY/NAME:TAG")]
    Syntax(String),
    /// The digest comes out of the files.
    #[error("a digest is what comes out; write REGISTRY/NAME:TAG")]
    Digest,
    /// A name that every runtime would take for one of Docker's.
    #[error(
        "names no registry; write REGISTRY/NAME:TAG, or localhost/NAME:TAG for one that is loaded by hand"
    )]
    NoRegistry,
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let parsed = Parsed::from_str(text);
        let parsed = parsed.map_err(|error| ReferenceError::Syntax(error.to_string()))?;
        if parsed.digest().is_some() {
            return Err(ReferenceError::Digest);
        }
        let registry = text.split('/').next().unwrap_or_default();
        let is_registry = registry == "localhost" || registry.contains(['.', ':']);
        if !is_registry || !text.contains('/') {
            return Err(ReferenceError::NoRegistry);
        }
        // The parser makes up a tag where there is none.
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (text, None),
        };
        Ok(Reference {
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag())
    }
}

impl Reference {
    /// The tag; the one that is meant by who names none.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// The same for one of several images: the tag tells them apart.
    #[must_use]
    pub fn with_tag_suffix(&self, suffix: &str) -> Self {
        let tag = match &self.tag {
            Some(tag) => format!("{tag}-{suffix}"),
            None => suffix.to_owned(),
        };
        Reference {
            name: self.name.clone(),
            // The longest tag that a registry takes.
            tag: Some(tag.chars().take(128).collect()),
        }
    }

    /// The very image of that digest, wherever the tag points later.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}@{digest}", self.name),
            None => format!("{}@{digest}", self.name),
        }
    }
}

/// A name for people and for Kubernetes that tells which image a reference means: of
/// `quay.io/kubevirt/virt-launcher:v1.9.0` it is `virt-launcher-v1-9-0`, at most 40 characters.
#[must_use]
pub fn short_name(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    let text = match last.split_once('@') {
        // As docker and podman shorten a digest.
        Some((name, digest)) => {
            let hash = digest.rsplit(':').next().unwrap_or(digest);
            let name = name.split(':').next().unwrap_or(name);
            format!("{name}-{hash:.12}")
        }
        None => last.to_owned(),
    };
    let mut name = String::new();
    for letter in text.to_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' => name.push(letter),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    name.truncate(40);
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_images_that_are_to_be_made() {
        let reference = |text: &str| text.parse::<Reference>();
        for (text, shown, pinned) in [
            (
                "r.example/mesa:el9",
                "r.example/mesa:el9",
                "r.example/mesa:el9@sha256:1",
            ),
            (
                "r.example/a/mesa",
                "r.example/a/mesa:latest",
                "r.example/a/mesa@sha256:1",
            ),
            (
                "localhost:5000/mesa",
                "localhost:5000/mesa:latest",
                "localhost:5000/mesa@sha256:1",
            ),
            (
                "localhost/mesa:1",
                "localhost/mesa:1",
                "localhost/mesa:1@sha256:1",
            ),
        ] {
            let parsed = reference(text).unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(parsed.pinned("sha256:1"), pinned);
        }
        let digest = format!("r.example/mesa@sha256:{}", "0".repeat(64));
        assert_eq!(reference(&digest), Err(ReferenceError::Digest));
        for text in ["mesa", "mesa:1", "kubevirt/mesa:1"] {
            assert_eq!(reference(text), Err(ReferenceError::NoRegistry), "{text}");
        }
        for text in [
            "",
            "r.example/Mesa",
            "r.example/mesa:",
            "r.example/me sa",
            "docker://r.example/mesa",
        ] {
            assert!(
                matches!(reference(text), Err(ReferenceError::Syntax(_))),
                "{text}"
            );
        }
        let several = reference("r.example/mesa:1").unwrap();
        assert_eq!(
            several.with_tag_suffix("x").to_string(),
            "r.example/mesa:1-x"
        );
        let untagged = reference("r.example/mesa").unwrap();
        assert_eq!(
            untagged.with_tag_suffix("x").to_string(),
            "r.example/mesa:x"
        );
    }

    #[test]
    fn short_names_tell_launchers_apart() {
        for (reference, name) in [
            (
                "quay.io/kubevirt/virt-launcher:v1.9.0",
                "virt-launcher-v1-9-0",
            ),
            (
                "quay.io/kubevirt/virt-launcher@sha256:8f3b2c5d0e7a1946c3b8",
                "virt-launcher-8f3b2c5d0e7a",
            ),
            (
                "r.example:5000/virt-launcher:v1@sha256:8f3b2c5d0e7a1946",
                "virt-launcher-8f3b2c5d0e7a",
            ),
            ("/tmp/Launcher_el9.tar", "launcher-el9-tar"),
            ("__", ""),
        ] {
            assert_eq!(short_name(reference), name);
        }
        assert!(short_name(&"a.".repeat(100)).len() <= 40);
    }
}
