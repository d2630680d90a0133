//! What a container will see, and whether GL loads in it: the one judgement, for `scan` and `check` alike.

mod finding;
mod hidden;
mod kubelet;
mod verdict;

pub use finding::{Cause, Finding, Findings, Severity};

use mesa_injector::settings::HostPathType;

use self::kubelet::Kubelet;
use self::verdict::Running;
use crate::gl::{GlFiles, entry_points};
use crate::loader::Loader;
use crate::tree::{MountError, Overlay, RealPath, Tree, TreeError};

/// A volume's mount: what of which tree, and where.
pub struct Mount<'a> {
    /// The node, or what a delivery will put on it.
    pub tree: &'a dyn Tree,
    /// In that tree.
    pub path: String,
    /// What the kubelet must find there.
    pub kind: HostPathType,
    /// In the container.
    pub mount_path: String,
}

/// The image with mounts, as a runtime starts it.
pub struct Container<'a> {
    source: &'a Loader<'a>,
    launcher: &'a Loader<'a>,
    overlay: Overlay<'a>,
    /// The source's directory that holds `dri/` and `gbm/`: compiled into its Mesa.
    drivers: RealPath,
    /// Where QEMU is told to look for modules before its own directory, by a domain that asks for a GL display.
    module_directory: Option<&'a str>,
}

impl<'a> Container<'a> {
    /// Starts a container of `launcher` with what `mounts` bring, Mesa's files being those of `source`. What keeps the
    /// pod from starting, and what a mount hides, is found here.
    ///
    /// # Errors
    /// Where source or launcher cannot be read.
    pub fn start(
        source: &'a Loader<'a>,
        launcher: &'a Loader<'a>,
        mut mounts: Vec<Mount<'a>>,
    ) -> Result<(Self, Vec<Finding>), TreeError> {
        let mut container = Container {
            source,
            launcher,
            overlay: Overlay::new(launcher.tree()),
            drivers: entry_points::driver_directory(source)?,
            module_directory: None,
        };
        let drivers = container.drivers.clone();
        let mut kubelet = Kubelet {
            node: source,
            drivers: &drivers,
            findings: Vec::new(),
        };
        let mut found = Vec::new();
        let mut places = Vec::new();
        // As runtimes do, so that what is mounted below another mount comes after it.
        mounts.sort_by(|a, b| a.mount_path.cmp(&b.mount_path));
        for mount in mounts {
            let Some(path) = kubelet.host_path(mount.tree, &mount.path, mount.kind)? else {
                continue;
            };
            match container.overlay.mount(mount.tree, path, &mount.mount_path) {
                Ok(place) => places.push(place),
                Err(MountError::Tree(error)) => return Err(error),
                Err(error) => found.push(Finding::fatal(
                    Cause::MountPoint,
                    error.to_string(),
                    "mount at another path",
                )),
            }
        }
        found.append(&mut kubelet.findings);
        let loader = launcher.over(&container.overlay);
        for place in &places {
            found.extend(hidden::findings(
                launcher,
                &loader,
                &container.overlay,
                place,
            )?);
        }
        Ok((container, found))
    }

    /// Loads everything that QEMU's GL display loads, on paper.
    ///
    /// # Errors
    /// Where source or launcher cannot be read.
    pub fn load(&self) -> Result<Vec<Finding>, TreeError> {
        Running::new(self).judge()
    }
}

/// Starts a container, and loads in it what QEMU's GL display loads. A domain with a GL display tells QEMU to look for
/// modules in `module_directory` first; of one that asks for none, modules that are missing are but a note.
///
/// # Errors
/// Where source or launcher cannot be read.
pub fn judge<'a>(
    source: &'a Loader<'a>,
    launcher: &'a Loader<'a>,
    mounts: Vec<Mount<'a>>,
    module_directory: Option<&'a str>,
) -> Result<Vec<Finding>, TreeError> {
    if launcher.arch != source.arch {
        return Ok(vec![Finding::fatal(
            Cause::Architecture,
            format!("the node is {}, the image {}", source.arch, launcher.arch),
            "give the image of the node's architecture",
        )]);
    }
    let (mut container, mut found) = Container::start(source, launcher, mounts)?;
    container.module_directory = module_directory;
    found.extend(container.load()?);
    Ok(found)
}

/// What is wrong with a source's own files.
#[must_use]
pub fn faults(files: &GlFiles) -> Vec<Finding> {
    let passed_over = files.passed_over.iter();
    let passed_over = passed_over.map(|file| verdict::passed_over(file, files.has_vendor));
    let mut found: Vec<Finding> = passed_over.collect();
    found.extend(nvidia(files));
    for (name, absent) in &files.absent {
        let by = absent.needed_by.as_deref();
        let by = by.unwrap_or("an entry of the node");
        let why = match absent.instead.is_empty() {
            true => "the node does not have it".to_owned(),
            false => absent.instead.join("; "),
        };
        found.push(Finding::fatal(
            Cause::NodeFault,
            format!("{by} needs {name}: {why}"),
            "install its package on the node",
        ));
    }
    found.extend(files.irregular.iter().map(|path| {
        Finding::fatal(
            Cause::NodeFault,
            format!("{path} of the node is not a regular file"),
            "reinstall its package, or remove it",
        )
    }));
    found
}

fn nvidia(files: &GlFiles) -> Option<Finding> {
    let first = files.nvidia.first()?;
    Some(Finding::note(
        Cause::Nvidia,
        format!(
            "NVIDIA's driver of the node ({first}) is left out: much of it is opened by names that only it knows, and all of \
             it must be of the kernel module's version"
        ),
        "let NVIDIA's container toolkit bring it where it is needed",
    ))
}
