//! `mesa-scan scan`: GL's files of one node for one image, how they are mounted, and whether they load.

use manifests::console::Failure;

use super::sources::{SourceError, Sources};
use crate::container::{self, Cause, Finding};
use crate::gl::{GlFiles, Layout, LayoutError, Plan};
use crate::loader::Loader;
use crate::output::{Scan, System};
use crate::tree::{Selection, TreeError};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Node or image.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Something in them cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The layout is impossible.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Failure for ScanError {
    fn fix(&self) -> Option<String> {
        match self {
            ScanError::Source(error) => error.fix(),
            ScanError::Tree(error) => error.fix(),
            ScanError::Layout(LayoutError::SameName { .. }) => {
                Some("remove the one that is not Mesa's from the source".to_owned())
            }
            ScanError::Layout(_) => Some("mount the files one by one".to_owned()),
        }
    }
}

/// Scans. `base` is the directory of the current generation in the staged layout.
///
/// # Errors
/// Where node or image cannot be read, or the layout is impossible.
pub fn scan(sources: &Sources, layout: Layout, base: &str) -> Result<Scan, ScanError> {
    let node = sources.node()?;
    let image = sources.image()?;
    let files = GlFiles::work_out(&node, image.as_ref())?;
    let plan = match layout {
        Layout::Files => Plan::files(&files),
        Layout::Staged => Plan::staged(&files, image.as_ref().unwrap_or(&node), base)?,
        Layout::Flat => Plan::flat(&files, image.as_ref().unwrap_or(&node))?,
    };
    let mut found = container::faults(&files);
    found.extend(fixed_list(&plan, &files));
    match &image {
        None => found.push(no_image()),
        Some(image) => {
            let staged = staged(&node, &plan);
            let mounts = mounts(&node, &staged, &plan, base);
            found.extend(container::judge(
                &node,
                image,
                mounts,
                plan.module_directory(),
            )?);
        }
    }
    Ok(Scan {
        node: System::of(&node),
        image: image.as_ref().map(System::of),
        files,
        plan,
        findings: found.into_iter().collect(),
    })
}

/// The generation, or the flat image, that would be written.
fn staged<'a>(node: &Loader<'a>, plan: &Plan) -> Selection<'a> {
    let mut selection = Selection::of(node.tree());
    if plan.layout != Layout::Files {
        for file in &plan.files {
            selection.add(&file.staged, file.item.real_path.clone());
        }
    }
    selection
}

fn mounts<'a>(
    node: &Loader<'a>,
    staged: &'a Selection<'a>,
    plan: &Plan,
    base: &str,
) -> Vec<container::Mount<'a>> {
    let mounts = plan.mounts.iter();
    mounts
        .map(|mount| container::Mount {
            tree: match plan.layout {
                Layout::Files => node.tree(),
                Layout::Staged | Layout::Flat => staged,
            },
            path: match plan.layout {
                Layout::Files | Layout::Flat => mount.path.clone(),
                Layout::Staged => mount
                    .path
                    .strip_prefix(base)
                    .unwrap_or(&mount.path)
                    .to_owned(),
            },
            kind: mount.kind,
            mount_path: mount.mount_path.clone(),
        })
        .collect()
}

pub(super) fn no_image() -> Finding {
    Finding::fatal(
        Cause::NoImage,
        "whether GL loads is decided by the libraries of the image, and no image is given",
        "name the image; without it nothing is left out but glibc, and mounting over what an image has breaks it",
    )
}

/// What the user of a list of files must know.
fn fixed_list(plan: &Plan, files: &GlFiles) -> Option<Finding> {
    if plan.layout != Layout::Files {
        return None;
    }
    let versioned = |name: &&str| {
        name.split_once(".so")
            .is_some_and(|(stem, _)| stem.contains('.'))
    };
    let mut names = files.items.iter().map(|item| item.name.as_str());
    let example = match names.find(versioned) {
        Some(name) => format!(" ({name} carries the version in its name)"),
        None => String::new(),
    };
    Some(Finding::note(
        Cause::FixedList,
        format!("a list of files is right until the node's Mesa is updated{example}"),
        "scan again after each update, or stage the files",
    ))
}
