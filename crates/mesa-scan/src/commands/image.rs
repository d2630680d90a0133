//! `mesa-scan image`: a flat OCI image of all that a launcher lacks, and the settings or the policy that mount it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use manifests::console::Failure;
use mesa_injector::hook::PROGRAM;
use sha2::{Digest, Sha256};
use staging::{FLAT_MANIFEST, Manifest, hex};

use super::progress;
use super::scan::{self, ScanError};
use super::sources::Sources;
use crate::gl::{Addition, Layout, Originals};
use crate::loader::{Program, ProgramError};
use crate::oci::{self, File, Image, OciError, Reference, short_name};
use crate::output::{Imaged, Made};
use crate::tree::TreeError;

/// What to make.
#[derive(Debug, Clone)]
pub struct Options {
    /// The archive or directory that is written.
    pub to: PathBuf,
    /// What the image is called; of several the tags differ.
    pub reference: Reference,
    /// The references of the launchers, in their order; what an archive itself says where there are none.
    pub launchers: Vec<String>,
    /// The hook's program, which lies in the image too.
    pub program: Option<PathBuf>,
    /// Whether each launcher's reference must be known: QEMU loads modules of its own build only, and during an upgrade of
    /// KubeVirt there are two launchers.
    pub for_policy: bool,
    /// Whether the image installs itself on nodes, by the program that it holds.
    pub installs_itself: bool,
    /// Whether even what will not load is made.
    pub force: bool,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Source or launcher.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// One of the source's files.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The image.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The hook's program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Nothing in the image could install it.
    #[error("an image without mesa-node cannot install itself on a node")]
    NoProgram,
    /// A policy for nobody knows which launcher.
    #[error(
        "which pods have the launcher {0} is not known: it does not say its reference, and QEMU loads modules of its own \
         build only"
    )]
    NoReference(String),
    /// Not as many references as launchers.
    #[error("{references} references for {launchers} launchers")]
    References {
        /// How many there are.
        references: usize,
        /// How many are needed.
        launchers: usize,
    },
}

impl Failure for ImageError {
    fn fix(&self) -> Option<String> {
        match self {
            ImageError::Scan(error) => error.fix(),
            ImageError::Tree(error) => error.fix(),
            ImageError::Oci(error) => error.fix(),
            ImageError::Program(error) => error.fix(),
            ImageError::NoProgram => {
                Some("give mesa-node as `make mesa-node` builds it".to_owned())
            }
            ImageError::NoReference(_) => {
                Some("give the reference that pods have of it".to_owned())
            }
            ImageError::References { .. } => {
                Some("give one for each launcher, in the same order".to_owned())
            }
        }
    }
}

/// Makes one image for each launcher, and writes them to one layout, once all of them are made. Nothing is written where
/// one will not load.
///
/// # Errors
/// Where something cannot be read or written.
pub fn image(all: &[Sources], options: &Options) -> Result<Vec<Imaged>, ImageError> {
    if !matches!(options.launchers.len(), 0 | 1) && options.launchers.len() != all.len() {
        return Err(ImageError::References {
            references: options.launchers.len(),
            launchers: all.len(),
        });
    }
    if options.installs_itself && options.program.is_none() {
        return Err(ImageError::NoProgram);
    }
    let mut imaged = Vec::new();
    for (number, sources) in all.iter().enumerate() {
        let given = options.launchers.get(number).cloned();
        let launcher = given.or_else(|| own_reference(sources));
        if options.for_policy && launcher.is_none() {
            let path = sources.image_names().map(|(path, _)| path.to_owned());
            return Err(ImageError::NoReference(path.unwrap_or_default()));
        }
        imaged.push(Imaged {
            name: name(sources, launcher.as_deref(), number),
            launcher,
            scan: scan::scan(sources, Layout::Flat, "/")?,
            made: None,
        });
    }
    tell_apart(&mut imaged);
    if !options.force && imaged.iter().any(|imaged| !imaged.scan.findings.loads()) {
        return Ok(imaged);
    }
    let several = imaged.len() > 1;
    let mut images = Vec::new();
    for (sources, imaged) in all.iter().zip(&mut imaged) {
        let reference = match several {
            true => options.reference.with_tag_suffix(&imaged.name),
            false => options.reference.clone(),
        };
        let image = make(sources, imaged, reference, options)?;
        imaged.made = Some(Made {
            has_hook: options.program.is_some(),
            reference: image.reference.clone(),
            digest: image.digest.clone(),
            size: image.size(),
        });
        images.push(image);
    }
    oci::write(&images, &options.to)?;
    Ok(imaged)
}

fn make(
    sources: &Sources,
    imaged: &Imaged,
    reference: Reference,
    options: &Options,
) -> Result<Image, ImageError> {
    let node = sources.node().map_err(ScanError::from)?;
    let program = options.program.as_ref();
    let program = program.map(|file| Program::open(file, node.arch));
    let program = program.transpose()?;
    let addition = program.as_ref().map(|program| Addition {
        path: PROGRAM.to_owned(),
        program,
    });
    // Two passes over the bytes: reading what is there, packing it.
    let bar = progress(imaged.scan.files.total_size().saturating_mul(2));
    bar.set_message("reading");
    let Originals { manifest, files } = Originals::read(
        node.tree(),
        &imaged.scan.plan.files,
        addition.as_ref(),
        (node.arch, imaged.scan.files.minimal_glibc()),
        &|bytes| bar.inc(bytes),
    )?;
    let manifest = Manifest {
        layout: Some(imaged.scan.layout()),
        ..manifest
    };
    let text = manifest.text();
    let files = manifest.files.iter().zip(files.into_values());
    let files = files.map(|(file, original)| File {
        name: file.path.clone(),
        size: file.size,
        sha256: file.sha256.clone(),
        is_program: file.executable,
        open: Box::new(move || original.open()),
    });
    let list = File {
        name: FLAT_MANIFEST.to_owned(),
        size: text.len() as u64,
        sha256: hex(&Sha256::digest(&text)),
        is_program: false,
        open: Box::new(|| Ok(Box::new(text.as_slice()) as Box<dyn Read>)),
    };
    bar.set_message("packing");
    let files = files.chain([list]).collect();
    let layer = oci::pack(files, beside(&options.to), &bar)?;
    bar.finish_and_clear();
    let annotations = annotations(imaged, manifest.mesa);
    Ok(Image::of(layer, node.arch, reference, &annotations)?)
}

/// What the image says of itself: no time and no place, which would make another digest of the same files.
fn annotations(imaged: &Imaged, mesa: Option<String>) -> BTreeMap<String, String> {
    let files = &imaged.scan.files;
    let qemu = files.qemu.as_ref().and_then(|qemu| qemu.build());
    let glibc = files.minimal_glibc();
    let entries = [
        (
            "org.opencontainers.image.title",
            Some("Mesa for virt-launcher".to_owned()),
        ),
        (
            "org.opencontainers.image.description",
            Some("What QEMU's OpenGL display needs and a virt-launcher image lacks".to_owned()),
        ),
        (
            "org.opencontainers.image.source",
            Some(env!("CARGO_PKG_REPOSITORY").to_owned()),
        ),
        ("org.opencontainers.image.version", mesa.clone()),
        ("io.mesa-injector.mesa", mesa),
        (
            "io.mesa-injector.minimal-glibc",
            glibc.map(|version| version.to_string()),
        ),
        ("io.mesa-injector.qemu", qemu.map(ToString::to_string)),
        (
            "io.mesa-injector.qemu-stamp",
            qemu.map(|build| build.stamp.clone()),
        ),
        ("io.mesa-injector.launcher", imaged.launcher.clone()),
    ];
    let entries = entries.into_iter();
    entries
        .filter_map(|(key, value)| Some((key.to_owned(), manifests::printable(&value?))))
        .collect()
}

/// The reference under which a launcher was saved. A bare tag is none.
fn own_reference(sources: &Sources) -> Option<String> {
    let (_, names) = sources.image_names()?;
    names.into_iter().find(|name| name.contains(['/', ':']))
}

/// What tells a launcher from others.
fn name(sources: &Sources, launcher: Option<&str>, number: usize) -> String {
    let given = sources.image_names().map(|(path, _)| path.to_owned());
    let name = launcher.map(short_name);
    let name = name.or_else(|| given.as_deref().map(short_name));
    match name {
        Some(name) if !name.is_empty() => name,
        _ => format!("launcher-{}", number + 1),
    }
}

/// Of several with one name the later ones get a number.
fn tell_apart(imaged: &mut [Imaged]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for imaged in imaged {
        let times = seen.entry(imaged.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            imaged.name = format!("{}-{times}", imaged.name);
        }
    }
}

/// Where temporary files go: on the file system of what is written.
fn beside(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
