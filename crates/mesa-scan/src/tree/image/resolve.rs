//! Which image of several, and its layers: decided as a container runtime decides it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::str::FromStr;

use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::TreeError;
use super::store::Store;
use super::window::Window;

/// The most bytes of a manifest (the OCI distribution specification allows registries 4 MiB).
const MAX_MANIFEST: u64 = 4 << 20;
/// How deep an index of indexes may go, and how many images may be in all of them.
const MAX_INDEXES: usize = 4;
const MAX_IMAGES: usize = 1000;

const INDEX: &str = "index.json";
const MANIFEST: &str = "manifest.json";
/// Annotations that name an image, by skopeo and containerd.
const NAMES: [&str; 2] = [
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
];
/// The annotation of BuildKit's attestations.
const ATTESTATION: &str = "vnd.docker.reference.type";
/// Tags by which cosign keeps what belongs to an image.
const COSIGN: [&str; 3] = [".sig", ".att", ".sbom"];

/// What an image must be, where there are several.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// For this platform.
    pub platform: Option<Platform>,
    /// Where nobody asks for a platform and there are several, for the one that suits this machine.
    pub machine: Option<Platform>,
    /// With which tag or name.
    pub tag: Option<String>,
}

/// For what an image is: `linux/amd64`, or `linux/amd64/v3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: Os,
    architecture: Arch,
    variant: Option<String>,
}

impl Platform {
    /// Linux on an architecture, as OCI calls it.
    #[must_use]
    pub fn linux(architecture: &str) -> Self {
        Platform::new(Os::Linux, Arch::from(architecture), None)
    }

    fn new(os: Os, architecture: Arch, variant: Option<&str>) -> Self {
        // The variants that everybody means who names none.
        let default = match architecture {
            Arch::Amd64 => "v1",
            Arch::ARM64 => "v8",
            _ => "",
        };
        let variant = variant.filter(|variant| !variant.is_empty() && *variant != default);
        Platform {
            os,
            architecture,
            variant: variant.map(str::to_owned),
        }
    }

    /// Few images name their variant themselves; an index that has them by variant does.
    fn with_variant_of(self, index: Option<Platform>) -> Self {
        match index {
            Some(index)
                if self.variant.is_none()
                    && index.os == self.os
                    && index.architecture == self.architecture =>
            {
                index
            }
            _ => self,
        }
    }

    /// How well an image for `self` suits who wants `wanted`: less is better, `None` does not run. A processor of a
    /// variant runs what is made for older ones.
    fn distance(&self, wanted: &Platform) -> Option<u32> {
        if self.os != wanted.os || self.architecture != wanted.architecture {
            return None;
        }
        let number = |variant: &Option<String>| -> Option<u32> {
            match variant {
                None => Some(0),
                Some(variant) => variant.strip_prefix('v')?.parse().ok(),
            }
        };
        if self.variant == wanted.variant {
            return Some(0);
        }
        number(&wanted.variant)?.checked_sub(number(&self.variant)?)
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match *parts {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => ("", "", None),
        };
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        if os.is_empty() || architecture.is_empty() || variant == Some("") {
            return Err("write linux/amd64, or linux/amd64/v3".to_owned());
        }
        Ok(Platform::new(
            Os::from(os),
            Arch::from(architecture),
            variant,
        ))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// An entry of the `manifest.json` that `docker save` writes, which no specification has.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    #[serde(default)]
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image that may be meant.
struct Candidate {
    /// Two with the same are one.
    digest: String,
    tags: Vec<String>,
    /// By its own configuration, or else by the index; unknown where neither says it.
    platform: Option<Platform>,
    layers: Layers,
}

enum Layers {
    /// Parts of these names.
    Named(Vec<String>),
    /// What the manifest in this part lists.
    Manifest(String),
    /// The index has it, but the archive does not.
    Missing,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.tags.is_empty() {
            write!(f, "{} ", self.tags.join(", "))?;
        }
        if let Some(platform) = &self.platform {
            write!(f, "{platform} ")?;
        }
        // As docker and podman shorten it.
        let short = self.digest.char_indices().nth("sha256:".len() + 12);
        let digest = short.and_then(|(end, _)| self.digest.get(..end));
        f.write_str(digest.unwrap_or(&self.digest))
    }
}

/// The image that is meant.
pub(super) struct Resolved {
    /// The names under which it was saved.
    pub(super) references: Vec<String>,
    /// Its layers, lowest first, each with its name for people.
    pub(super) layers: Vec<(String, Window)>,
}

/// Finds the image that is meant.
pub(super) fn image(store: &Store, choice: &Choice) -> Result<Resolved, TreeError> {
    let candidates = if store.has(INDEX) {
        let mut found = Candidates::default();
        found.index(store, INDEX, &[], 0)?;
        found.all
    } else if store.has(MANIFEST) {
        docker(store)?
    } else if let Some(root) = store.as_root() {
        return Ok(Resolved {
            references: Vec::new(),
            layers: vec![(store.shown(), root)],
        });
    } else {
        return Err(TreeError::invalid(
            store.shown(),
            "has no index.json and no manifest.json: not an image as docker, podman or skopeo save it",
        ));
    };
    let image = choose(store, candidates, choice)?;
    let names = match image.layers {
        Layers::Named(names) => names,
        Layers::Manifest(part) => {
            let manifest: ImageManifest = json(store, &part)?;
            let layers = manifest.layers().iter();
            layers.map(|layer| blob(store, layer)).collect()
        }
        Layers::Missing => {
            return Err(TreeError::invalid(
                store.shown(),
                format_args!("has no manifest {}", image.digest),
            )
            .with_fix("save the image again"));
        }
    };
    let layers = names.into_iter();
    let layers = layers.map(|name| Ok((store.show(&name), store.part(&name)?)));
    Ok(Resolved {
        references: image.tags,
        layers: layers.collect::<Result<_, TreeError>>()?,
    })
}

/// The one image that is meant.
fn choose(
    store: &Store,
    candidates: Vec<Candidate>,
    choice: &Choice,
) -> Result<Candidate, TreeError> {
    let undecided = |what: String, candidates: &[Candidate]| TreeError::Choice {
        path: store.shown(),
        what,
        candidates: candidates.iter().map(ToString::to_string).collect(),
    };
    if candidates.is_empty() {
        return Err(
            TreeError::invalid(store.shown(), "holds no image").with_fix("save the image again")
        );
    }
    let mut left = candidates;
    // An index names images that were not saved with it.
    let is_there = |image: &Candidate| !matches!(image.layers, Layers::Missing);
    if left.iter().any(is_there) {
        left.retain(is_there);
    }
    if let Some(tag) = &choice.tag {
        let (named, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|image| image.is_named(tag));
        if named.is_empty() {
            return Err(undecided(format!("holds no image {tag}"), &others));
        }
        left = named;
    }
    let machine = choice.machine.as_ref().filter(|_| left.len() > 1);
    if let Some(wanted) = choice.platform.as_ref().or(machine) {
        let distance = |image: &Candidate| match &image.platform {
            Some(platform) => platform.distance(wanted),
            None => Some(u32::MAX),
        };
        let nearest = left.iter().filter_map(distance).min();
        let same_machine = |image: &Candidate| match &image.platform {
            Some(platform) => {
                platform.os == wanted.os && platform.architecture == wanted.architecture
            }
            None => true,
        };
        let (near, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|image| match nearest {
            Some(_) => distance(image) == nearest,
            // Made for a newer variant than anybody asked for, but nobody asked for one.
            None => wanted.variant.is_none() && same_machine(image),
        });
        if near.is_empty() {
            return Err(undecided(format!("holds no image for {wanted}"), &others));
        }
        left = near;
    }
    match (left.pop(), left.is_empty()) {
        (Some(image), true) => Ok(image),
        (last, _) => {
            left.extend(last);
            let what = format!("holds {} images where one is looked at", left.len());
            Err(undecided(what, &left))
        }
    }
}

impl Candidate {
    /// Whether a tag, or a name with or without its registry, is this image's.
    fn is_named(&self, wanted: &str) -> bool {
        self.tags.iter().any(|name| {
            let before = name.strip_suffix(wanted);
            before.is_some_and(|before| before.is_empty() || before.ends_with([':', '/']))
        })
    }
}

/// All images that an index leads to.
#[derive(Default)]
struct Candidates {
    all: Vec<Candidate>,
    by_digest: BTreeMap<String, usize>,
    seen: usize,
}

impl Candidates {
    fn index(
        &mut self,
        store: &Store,
        name: &str,
        tags: &[String],
        depth: usize,
    ) -> Result<(), TreeError> {
        if depth == MAX_INDEXES {
            return Err(TreeError::invalid(
                store.show(name),
                format_args!("more than {MAX_INDEXES} indexes lead to each other"),
            )
            .with_fix("save the image again"));
        }
        let index: ImageIndex = json(store, name)?;
        for descriptor in index.manifests() {
            self.seen += 1;
            if self.seen > MAX_IMAGES {
                return Err(TreeError::invalid(
                    store.show(name),
                    format_args!("leads to more than {MAX_IMAGES} images"),
                )
                .with_fix("save one image"));
            }
            let annotation = |key: &str| descriptor.annotations().as_ref()?.get(key).cloned();
            let mut tags = tags.to_vec();
            tags.extend(NAMES.into_iter().filter_map(annotation));
            let of_cosign = |tag: &String| COSIGN.iter().any(|suffix| tag.ends_with(suffix));
            if annotation(ATTESTATION).is_some()
                || descriptor.artifact_type().is_some()
                || tags.iter().any(of_cosign)
            {
                continue;
            }
            let part = manifest_name(store, descriptor);
            match descriptor.media_type() {
                MediaType::ImageIndex => self.index(store, &part, &tags, depth + 1)?,
                MediaType::Other(other) if other.contains("manifest.list") => {
                    self.index(store, &part, &tags, depth + 1)?;
                }
                MediaType::ImageManifest => self.manifest(store, descriptor, part, tags)?,
                MediaType::Other(other) if other.contains("docker.distribution.manifest") => {
                    self.manifest(store, descriptor, part, tags)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn manifest(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
        part: String,
        tags: Vec<String>,
    ) -> Result<(), TreeError> {
        let digest = descriptor.digest().to_string();
        if let Some(known) = self.by_digest.get(&digest) {
            if let Some(image) = self.all.get_mut(*known) {
                image.tags.extend(tags);
                image.tags.sort();
                image.tags.dedup();
            }
            return Ok(());
        }
        let of_index = descriptor.platform().as_ref();
        let of_index = of_index.map(|platform| {
            let variant = platform.variant().as_deref();
            Platform::new(
                platform.os().clone(),
                platform.architecture().clone(),
                variant,
            )
        });
        let candidate = match store.has(&part) {
            true => {
                let manifest: ImageManifest = json(store, &part)?;
                if !is_configuration(manifest.config().media_type()) {
                    return Ok(());
                }
                Candidate {
                    digest: digest.clone(),
                    tags,
                    platform: match configured(store, &blob(store, manifest.config())) {
                        Some(own) => Some(own.with_variant_of(of_index)),
                        None => of_index,
                    },
                    layers: Layers::Manifest(part),
                }
            }
            false => Candidate {
                digest: digest.clone(),
                tags,
                platform: of_index,
                layers: Layers::Missing,
            },
        };
        // What belongs to an image and runs nowhere.
        if let Some(platform) = &candidate.platform
            && platform.to_string() == "unknown/unknown"
        {
            return Ok(());
        }
        self.by_digest.insert(digest, self.all.len());
        self.all.push(candidate);
        Ok(())
    }
}

/// What `manifest.json` says: the images of `docker save`, or the one of skopeo's `dir:`.
fn docker(store: &Store) -> Result<Vec<Candidate>, TreeError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Docker(Vec<DockerImage>),
        Other(serde_json::Map<String, serde_json::Value>),
    }
    let images = match json(store, MANIFEST)? {
        Written::Docker(images) => images,
        Written::Other(manifest) if manifest.contains_key("manifests") => {
            let mut found = Candidates::default();
            found.index(store, MANIFEST, &[], 0)?;
            return Ok(found.all);
        }
        Written::Other(_) => {
            let manifest: ImageManifest = json(store, MANIFEST)?;
            return Ok(vec![Candidate {
                digest: manifest.config().digest().to_string(),
                tags: Vec::new(),
                platform: configured(store, &blob(store, manifest.config())),
                layers: Layers::Manifest(MANIFEST.to_owned()),
            }]);
        }
    };
    let mut candidates: Vec<Candidate> = Vec::new();
    for image in images {
        let tags = image.repo_tags.unwrap_or_default();
        // An archive names an image once for each time that it was asked for.
        let same = candidates.iter_mut().find(|known| {
            known.digest == image.config
                && matches!(&known.layers, Layers::Named(layers) if *layers == image.layers)
        });
        match same {
            Some(known) => known.tags.extend(tags),
            None => candidates.push(Candidate {
                platform: configured(store, &image.config),
                digest: image.config,
                tags,
                layers: Layers::Named(image.layers),
            }),
        }
    }
    Ok(candidates)
}

/// The platform that an image's own configuration names.
fn configured(store: &Store, name: &str) -> Option<Platform> {
    // The three keys are those of a platform in an index.
    let platform: oci_spec::image::Platform = json(store, name).ok()?;
    let variant = platform.variant().as_deref();
    Some(Platform::new(
        platform.os().clone(),
        platform.architecture().clone(),
        variant,
    ))
}

fn is_configuration(kind: &MediaType) -> bool {
    match kind {
        MediaType::ImageConfig => true,
        MediaType::Other(other) => other.contains("docker.container.image"),
        _ => false,
    }
}

/// The name of a blob in OCI layout, or in skopeo's `dir:`. What a digest may hold is checked when it is read.
fn blob(store: &Store, descriptor: &Descriptor) -> String {
    let digest = descriptor.digest();
    let name = format!("blobs/{}/{}", digest.algorithm(), digest.digest());
    match store.has(&name) {
        true => name,
        false if store.has(digest.digest()) => digest.digest().to_owned(),
        false => name,
    }
}

fn manifest_name(store: &Store, descriptor: &Descriptor) -> String {
    let in_directory = format!("{}.manifest.json", descriptor.digest().digest());
    match store.has(&in_directory) {
        true => in_directory,
        false => blob(store, descriptor),
    }
}

fn json<T: DeserializeOwned>(store: &Store, name: &str) -> Result<T, TreeError> {
    let mut bytes = Vec::new();
    let shown = store.show(name);
    let part = store.part(name)?;
    part.take(MAX_MANIFEST + 1)
        .read_to_end(&mut bytes)
        .map_err(TreeError::io(&shown))?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(TreeError::invalid(shown, "larger than a manifest can be"));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        TreeError::invalid(shown, format_args!("not what an image has there: {error}"))
    })
}
