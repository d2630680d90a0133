//! `mesa-scan stage`: copies of GL's files in a directory of generations, and the settings that mount the current one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::console::Failure;
use mesa_injector::hook::PROGRAM;
use staging::label::{self, Label};
use staging::{Area, Context, Generation, MANIFEST, Selinux, StagingError, human_size};

use super::progress;
use super::scan::{self, ScanError};
use super::sources::{SourceError, Sources};
use crate::container::{self, Findings};
use crate::gl::{Addition, Layout, Originals, Role, directory_of};
use crate::loader::{Program, ProgramError};
use crate::output::{self, OutputError, Scan, Staged};
use crate::tree::{Directory, TreeError, base_name};

/// What to stage where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory for the generations.
    pub to: PathBuf,
    /// What that directory is called on the node, where that is neither its path here nor its path below the root.
    pub node_path: Option<String>,
    /// The hook's program, which is staged beside the libraries.
    pub program: Option<PathBuf>,
    /// How many old generations stay.
    pub keep: Option<usize>,
    /// Where labels for Node Feature Discovery go.
    pub label: Option<PathBuf>,
    /// How long they hold; for ever without.
    pub expiry: Option<Duration>,
    /// Whether even what will not load is staged.
    pub force: bool,
    /// Whether the files are labelled for SELinux.
    pub selinux: Selinux,
    /// The node's proc file system.
    pub proc: PathBuf,
}

/// Why nothing was staged. The generation that was current still is, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The new generation is current.
    #[error("generation {generation} is current, but not all is done that was asked for")]
    After {
        /// Its id.
        generation: String,
        /// What failed.
        source: StagingError,
    },
    /// Node or image.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// One of the node's files.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The settings.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The directory.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The hook's program.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl Failure for StageError {
    fn fix(&self) -> Option<String> {
        match self {
            StageError::After { source, .. } => source.fix(),
            StageError::Scan(error) => error.fix(),
            StageError::Tree(error) => error.fix(),
            StageError::Output(error) => error.fix(),
            StageError::Staging(error) => error.fix(),
            StageError::Program(error) => error.fix(),
        }
    }
}

/// Stages GL's files of a node for an image, which `open` opens. `root` is the node's root as it was given.
///
/// # Errors
/// Where something cannot be read or written. The generation that was current then still is.
pub fn stage(
    open: impl FnOnce() -> Result<Sources, SourceError>,
    root: &Path,
    options: &Options,
) -> Result<Staged, StageError> {
    let sources = open().map_err(|error| StageError::from(ScanError::from(error)));
    let staged = sources.and_then(|sources| try_stage(&sources, root, options));
    // Whether what is current loads is not known then; what goes on elsewhere withdraws nothing.
    let is_failure = match &staged {
        Ok(_) | Err(StageError::After { .. } | StageError::Staging(StagingError::Locked(_))) => {
            false
        }
        Err(_) => true,
    };
    if let Some(file) = options
        .label
        .as_ref()
        .filter(|file| is_failure && file.exists())
    {
        label::write_not_ready(file)?;
    }
    staged
}

fn try_stage(sources: &Sources, root: &Path, options: &Options) -> Result<Staged, StageError> {
    let node_path = match &options.node_path {
        Some(path) => path.trim_end_matches('/').to_owned(),
        None => on_node(&options.to, root)?,
    };
    let scan = scan::scan(
        sources,
        Layout::Staged,
        &format!("{node_path}/{}", staging::CURRENT),
    )?;
    if !scan.findings.loads() && !options.force {
        return refuse(sources, options, scan);
    }
    let selector = match options.label {
        Some(_) => label::selector(&scan.layout()),
        None => BTreeMap::new(),
    };
    let node = sources.node().map_err(ScanError::from)?;
    let program = options.program.as_ref();
    let program = program.map(|file| Program::open(file, node.arch));
    let program = program.transpose()?;
    let settings = match program {
        Some(_) => output::staged_settings(&scan.plan, &selector)?,
        None => output::settings(&scan.plan, &selector)?,
    };

    let size = scan.files.total_size();
    let shown = human_size(size);
    let mut done = Vec::new();
    let area = Area::open(&options.to).map_err(|error| error.with_size(&shown))?;
    let selinux = Context::choose(options.selinux);
    // Two passes over the bytes: reading what is there, copying it.
    let progress = progress(size.saturating_mul(2));
    let more = |bytes| progress.inc(bytes);
    let addition = program.as_ref().map(|program| Addition {
        path: format!("{}/{PROGRAM}", directory_of(Role::Library)),
        program,
    });
    progress.set_message("reading");
    let originals = Originals::read(
        node.tree(),
        &scan.plan.files,
        addition.as_ref(),
        (node.arch, scan.files.minimal_glibc()),
        &more,
    )?;
    progress.set_message("copying");
    let generation = generation(originals);
    let built = area
        .publish(&generation, selinux.as_ref(), &more)
        .map_err(|error| error.with_size(&shown))?;
    progress.finish_and_clear();
    done.push(match built {
        true => format!("generation {} is current", generation.id()),
        false => format!("generation {} is current already", generation.id()),
    });
    done.extend(selinux.and_then(|context| context.advice(&options.to)));
    done.extend(not_root());
    let after = |source| StageError::After {
        generation: generation.id().to_owned(),
        source,
    };
    if let Some(file) = &options.label {
        let label = Label {
            ready: scan.findings.loads(),
            layout: scan.layout(),
            of_image: false,
            expiry: options.expiry,
        };
        label::write(file, &label, generation.manifest()).map_err(after)?;
    }
    if let Some(keep) = options.keep {
        let pruned = area.prune(keep, &options.proc);
        for id in pruned.map_err(after)?.removed {
            done.push(format!("generation {id} is removed"));
        }
    }
    Ok(Staged {
        findings: scan.findings,
        generation: Some(generation.id().to_owned()),
        settings,
        done,
    })
}

fn generation(originals: Originals<'_>) -> Generation<'_> {
    let files = originals.files.into_iter().map(|(name, original)| {
        let original = staging::Original {
            on_this_machine: original.tree.on_this_machine(&original.path),
            open: Box::new(move || original.open()),
        };
        (name, original)
    });
    Generation::new(originals.manifest, MANIFEST, files.collect())
}

/// Nothing is staged that will not load: what is current may.
fn refuse(sources: &Sources, options: &Options, scan: Scan) -> Result<Staged, StageError> {
    let mut done = vec!["nothing is staged: it would not load".to_owned()];
    if let Some(file) = &options.label
        && !current_loads(sources, options, &scan)?
    {
        label::write_not_ready(file)?;
        done.push(format!(
            "{} says that the node is not ready",
            file.display()
        ));
    }
    Ok(Staged {
        findings: scan.findings,
        generation: None,
        settings: String::new(),
        done,
    })
}

/// Whether the generation that is current loads in the image, although what would be staged now does not.
fn current_loads(sources: &Sources, options: &Options, scan: &Scan) -> Result<bool, StageError> {
    let current = options.to.join(staging::CURRENT);
    let node = sources.node().map_err(ScanError::from)?;
    let image = sources.image().map_err(ScanError::from)?;
    let (Some(image), true) = (image, current.is_dir()) else {
        return Ok(false);
    };
    let tree = Directory::open(&current).map_err(ScanError::from)?;
    let mounts = scan.plan.mounts.iter().map(|mount| container::Mount {
        tree: &tree,
        path: format!("/{}", base_name(&mount.path)),
        kind: mount.kind,
        mount_path: mount.mount_path.clone(),
    });
    let modules = scan.plan.module_directory();
    let found = container::judge(&node, &image, mounts.collect(), modules);
    let found: Findings = found.map_err(ScanError::from)?.into_iter().collect();
    Ok(found.loads())
}

/// What a directory is called on the node: below its root without the root.
fn on_node(path: &Path, root: &Path) -> Result<String, StageError> {
    let path = std::path::absolute(path).map_err(StagingError::io(path))?;
    let root = std::path::absolute(root).map_err(StagingError::io(root))?;
    let below = match path.strip_prefix(root) {
        Ok(below) => Path::new("/").join(below),
        Err(_) => path,
    };
    Ok(below.display().to_string())
}

fn not_root() -> Option<String> {
    let user = rustix::process::geteuid();
    (!user.is_root()).then(|| {
        format!(
            "the tree belongs to user {}, who can change what containers load; stage as root",
            user.as_raw()
        )
    })
}
