//! `mesa-scan stage`: copies of the set in a directory of their own, which an update of the node does not change.
//!
//! ```text
//! DIR/current -> generations/<content id>
//! DIR/generations/<content id>/{lib,dri,gbm,egl_vendor.d,drirc.d}/…, manifest.json
//! ```
//!
//! A generation is built under another name, made durable and then renamed; `current` is flipped last, by a rename too.
//! Whenever this is interrupted, `current` leads to a complete generation, the old or the new one. Containers that run
//! keep the generation that they were started with.

mod area;
mod generation;
mod nfd;
mod prune;
mod selinux;
mod version;

use std::io;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use manifests::console::Failure;

use crate::cli::StageArgs;
use crate::layout::Layout;
use crate::output::{self, NodeSelector, OutputError};
use crate::scan::{self, Scan, ScanError, Sources};
use crate::verdict::Verdict;
use area::Area;
use generation::Generation;

/// What was done.
#[derive(Debug)]
pub struct Staged {
    /// Whether GL will load with it.
    pub verdict: Verdict,
    /// The settings that go with it; empty where nothing was staged.
    pub settings: String,
    /// What happened, a line each.
    pub done: Vec<String>,
}

/// Why nothing was staged. The generation that was current still is.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Node or image.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The settings.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Somebody else is at it.
    #[error("{0}: another mesa-scan stages there")]
    Locked(String),
    /// Others could change what containers load.
    #[error("{path}: {what}")]
    Unsafe {
        /// The directory.
        path: String,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        fix: &'static str,
    },
    /// The disk is full.
    #[error("{path}: no space left on the device, the set has {needed}")]
    NoSpace {
        /// What was written.
        path: String,
        /// How much all of it needs.
        needed: String,
    },
    /// The system refused.
    #[error("cannot read or write {path}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// An update of the node at the same moment.
    #[error("{0}: changed while it was copied")]
    Changed(String),
}

impl Failure for StageError {
    fn fix(&self) -> Option<String> {
        let fix = match self {
            StageError::Scan(error) => return error.fix(),
            StageError::Output(error) => return error.fix(),
            StageError::Io { .. } => return None,
            StageError::Locked(_) => "wait until it is done",
            StageError::Unsafe { fix, .. } => fix,
            StageError::NoSpace { .. } => "free some, or stage elsewhere",
            StageError::Changed(_) => "run this again once the node's update is done",
        };
        Some(fix.to_owned())
    }
}

impl StageError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| StageError::Io { path, source }
    }

    /// Says of a full disk how much is needed.
    fn with_size(self, bytes: u64) -> Self {
        match self {
            StageError::Io { path, source }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                let needed = output::human_size(bytes);
                StageError::NoSpace { path, needed }
            }
            other => other,
        }
    }
}

/// Stages the set of a node for an image.
///
/// # Errors
/// Where something cannot be read or written. The generation that was current then still is.
pub fn stage(args: &StageArgs) -> Result<Staged, StageError> {
    let sources = Sources::open(&args.sources.root, args.sources.image.as_deref())?;
    let node_path = match &args.node_path {
        Some(path) => path.trim_end_matches('/').to_owned(),
        None => on_node(&args.to, &args.sources.root)?,
    };
    let scan = scan::scan(&sources, Layout::Staged, &format!("{node_path}/current"))?;
    if !scan.verdict.loads() && !args.force {
        return refuse(args, scan);
    }
    let selector = match args.nfd {
        Some(_) => nfd::selector(),
        None => NodeSelector::new(),
    };
    let settings = output::settings(&scan.plan, &selector)?;

    let size = scan.set.total_size();
    let mut done = Vec::new();
    let area = Area::open(&args.to).map_err(|error| error.with_size(size))?;
    let label = selinux::Label::choose(args.selinux);
    let progress = progress(size);
    let generation = Generation::read(&sources, &scan, &progress)?;
    let built = area
        .publish(&generation, label.as_ref(), &progress)
        .map_err(|error| error.with_size(size))?;
    progress.finish_and_clear();
    done.push(match built {
        true => format!("generation {} is current", generation.id),
        false => format!("generation {} is current already", generation.id),
    });
    done.extend(label.and_then(|label| label.advice(&args.to)));
    done.extend(not_root());
    if let Some(keep) = args.keep {
        for id in area.prune(keep, &generation.id, &args.proc)? {
            done.push(format!("generation {id} is removed"));
        }
    }
    if let Some(file) = &args.nfd {
        nfd::write(file, scan.verdict.loads(), &generation.manifest)?;
    }
    Ok(Staged {
        verdict: scan.verdict,
        settings,
        done,
    })
}

/// Nothing is staged that will not load: what is current may.
fn refuse(args: &StageArgs, scan: Scan) -> Result<Staged, StageError> {
    let mut done = vec!["nothing is staged; --force stages what will not load".to_owned()];
    if let Some(file) = &args.nfd
        && !args.to.join(area::CURRENT).exists()
    {
        nfd::write_not_ready(file)?;
        done.push(format!(
            "{} says that the node is not ready",
            file.display()
        ));
    }
    Ok(Staged {
        verdict: scan.verdict,
        settings: String::new(),
        done,
    })
}

/// What a directory is called on the node: below its root without the root.
fn on_node(path: &Path, root: &Path) -> Result<String, StageError> {
    let path = std::path::absolute(path).map_err(StageError::io(path))?;
    let root = std::path::absolute(root).map_err(StageError::io(root))?;
    let below = match path.strip_prefix(root) {
        Ok(below) => Path::new("/").join(below),
        Err(_) => path,
    };
    Ok(below.display().to_string())
}

/// Two passes over the bytes: reading what is there, copying it.
fn progress(size: u64) -> ProgressBar {
    let bar = ProgressBar::new(size.saturating_mul(2));
    let style = ProgressStyle::with_template("{msg:8} {bar:40} {bytes}/{total_bytes} {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
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
