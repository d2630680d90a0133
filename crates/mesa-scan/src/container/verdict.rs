//! Whether GL will load in a container, and if not, why not.
//!
//! Decided as the loader decides it: every library that is needed must be found, and every symbol version that one needs
//! of another must be defined there (`_dl_check_map_versions` in glibc). Nothing is run.

use std::collections::BTreeMap;

use super::Container;
use super::finding::{Cause, Finding};
use crate::gl::qemu::{self, DISPLAY_MODULES, EPOXY, Qemu};
use crate::gl::vendor::{PassedOver, VENDOR_DIRECTORY, Vendor};
use crate::gl::{Absent, Closure, EntryPoints};
use crate::loader::elf::Requirement;
use crate::loader::{Elf, Library, Loader, Paths, Search, glibc};
use crate::tree::{FileId, RealPath, TreeError, base_name};

/// A container that runs, on paper.
pub(super) struct Running<'a> {
    container: &'a Container<'a>,
    /// The image's loader over all that the container sees.
    loader: Loader<'a>,
}

impl<'a> Running<'a> {
    /// A container with its loader.
    pub(super) fn new(container: &'a Container<'a>) -> Self {
        Running {
            container,
            loader: container.launcher.over(&container.overlay),
        }
    }

    /// Loads everything that QEMU's GL display loads.
    ///
    /// # Errors
    /// Where node or image cannot be read.
    pub(super) fn judge(&self) -> Result<Vec<Finding>, TreeError> {
        let mut entries = EntryPoints::of(self.loader.tree(), &self.container.drivers)?;
        entries.pass_over(|vendor| self.lacks(vendor))?;
        let qemu = Qemu::of(&self.loader)?;
        let modules = self.modules(&qemu)?;
        let mut names = entries.names(&self.loader)?;
        let of_display = modules
            .iter()
            .filter(|module| qemu::is_of_display(module.name()));
        names.extend(of_display.map(ToString::to_string));
        let closure = Closure::follow(&self.loader, names, |_| Ok(false))?;

        let mut found = self.missing_entries(&closure, &entries)?;
        found.extend(self.drivers(&entries)?);
        for (name, absent) in &closure.absent {
            found.push(self.missing(name, absent)?);
        }
        // A driver that goes by ten names is one file with one finding.
        let files: BTreeMap<(bool, FileId), &Library> = closure
            .libraries
            .values()
            .rev()
            .map(|library| ((self.is_mounted(library), library.entry.node.id), library))
            .collect();
        for library in files.values() {
            found.extend(self.missing_versions(library, &closure));
        }
        found.extend(self.missing_modules(&modules)?);
        found.extend(self.incomplete_modules(&modules)?);
        found.extend(self.other_builds(&qemu, &modules)?);
        found.extend(relative_vendors(&entries));
        Ok(found)
    }

    /// The modules that QEMU would load: of one name the first that it finds.
    fn modules(&self, qemu: &Qemu) -> Result<Vec<RealPath>, TreeError> {
        let mut modules = match self.container.module_directory {
            Some(directory) => qemu::modules_in(self.loader.tree(), directory)?,
            None => Vec::new(),
        };
        for own in &qemu.modules {
            if modules.iter().all(|module| module.name() != own.name()) {
                modules.push(own.clone());
            }
        }
        Ok(modules)
    }

    /// Whoever asks for a GL display needs them; to others it is good to know.
    fn missing_modules(&self, modules: &[RealPath]) -> Result<Vec<Finding>, TreeError> {
        let finding = match self.container.module_directory {
            Some(_) => |what: String, fix: &str| Finding::fatal(Cause::QemuModule, what, fix),
            None => |what: String, fix: &str| Finding::note(Cause::QemuModule, what, fix),
        };
        let missing: Vec<&str> = DISPLAY_MODULES
            .into_iter()
            .filter(|name| modules.iter().all(|module| module.name() != *name))
            .collect();
        let mut found = Vec::new();
        if !missing.is_empty() {
            found.push(finding(
                format!(
                    "the image has no {}, and no mount brings one: QEMU there has no GL display",
                    missing.join(" and no ")
                ),
                "take them from a source that has them of the image's exact QEMU build (packages qemu-kvm-ui-opengl and \
                 qemu-kvm-ui-egl-headless, or qemu-system-modules-opengl)",
            ));
            if !matches!(
                self.loader.find(EPOXY, &Paths::default())?,
                Search::Found(_)
            ) {
                found.push(finding(
                    format!("the image has no {EPOXY}, which QEMU's GL modules need"),
                    "take it from a source that has it",
                ));
            }
        }
        Ok(found)
    }

    /// Modules of GPUs that render with GL: a VM without such a GPU does not load them.
    fn incomplete_modules(&self, modules: &[RealPath]) -> Result<Vec<Finding>, TreeError> {
        let mut found = Vec::new();
        for module in modules
            .iter()
            .filter(|module| !qemu::is_of_display(module.name()))
        {
            let closure = Closure::follow(&self.loader, [module.to_string()], |_| Ok(false))?;
            if closure.absent.is_empty() {
                continue;
            }
            let missing: Vec<&str> = closure.absent.keys().map(|name| base_name(name)).collect();
            found.push(Finding::note(
                Cause::LibraryMissing,
                format!(
                    "{} needs {}, which is not there",
                    module.name(),
                    missing.join(", ")
                ),
                "add it where VMs have a virtio GPU that renders (accel3d)",
            ));
        }
        Ok(found)
    }

    /// QEMU refuses a module of another build, and then does not start.
    fn other_builds(
        &self,
        qemu: &Qemu,
        modules: &[RealPath],
    ) -> Result<Option<Finding>, TreeError> {
        let Some(own) = qemu.build() else {
            return Ok(None);
        };
        let tree = self.loader.tree();
        let mut others = Vec::new();
        let mut of = None;
        for module in modules {
            if let Some(build) = qemu::build_of_module(tree, module)?
                && build.stamp != own.stamp
            {
                others.push(module.name());
                of = Some(build);
            }
        }
        let Some(other) = of else {
            return Ok(None);
        };
        let source = Qemu::of(self.container.source)?;
        let named = match source.build() {
            Some(build) if build.stamp == other.stamp && build.version.is_some() => {
                Some(build.to_string())
            }
            _ => qemu::packaged_version(self.container.source.tree())?,
        };
        let builds = match (named, &own.version) {
            (Some(named), Some(own)) => format!("of {named}, QEMU in the image is {own}"),
            _ => format!(
                "of the build {}, QEMU in the image of {}",
                other.stamp, own.stamp
            ),
        };
        Ok(Some(Finding::fatal(
            Cause::QemuBuild,
            format!(
                "{} {} {builds}: QEMU loads modules of its own build only",
                others.join(", "),
                if others.len() == 1 { "is" } else { "are" }
            ),
            "take them from a source with the image's exact QEMU build",
        )))
    }

    /// What keeps libEGL from loading a vendor here.
    fn lacks(&self, vendor: &Vendor) -> Result<Option<String>, TreeError> {
        if let Some(why) = vendor.lacks(&self.loader)? {
            return Ok(Some(why));
        }
        let library = [vendor.library.clone()];
        let closure = Closure::follow(&self.loader, library, |_| Ok(false))?;
        let libraries = closure.libraries.values();
        let mut missing = libraries.flat_map(|library| self.missing_versions(library, &closure));
        Ok(missing.next().map(|finding| finding.what))
    }

    fn is_mounted(&self, library: &Library) -> bool {
        self.container
            .overlay
            .mount_of(&library.entry.path)
            .is_some()
    }

    /// What must be there although no `DT_NEEDED` says so.
    fn missing_entries(
        &self,
        closure: &Closure,
        entries: &EntryPoints,
    ) -> Result<Vec<Finding>, TreeError> {
        let has_vendor = entries.vendors.iter().any(|vendor| !vendor.is_relative);
        let files = entries.passed_over.iter();
        let mut found: Vec<Finding> = files.map(|file| passed_over(file, has_vendor)).collect();
        let known =
            |name: &str| closure.libraries.contains_key(name) || closure.absent.contains_key(name);
        let missing = |name: &str| {
            let by_nobody = Absent {
                needed_by: None,
                instead: Vec::new(),
            };
            self.missing(name, &by_nobody)
        };
        for name in ["libEGL.so.1", "libgbm.so.1"] {
            if !known(name) {
                found.push(missing(name)?);
            }
        }
        // libepoxy ends the process where it finds neither.
        if !known("libGL.so.1") && !known("libOpenGL.so.0") {
            found.push(missing("libOpenGL.so.0")?);
        }
        if !has_vendor {
            found.push(Finding::fatal(
                Cause::NoVendor,
                format!("{VENDOR_DIRECTORY} of the container has no vendor JSON with a library that libEGL finds"),
                "mount the node's there, with a soname or an absolute path in it",
            ));
        }
        Ok(found)
    }

    /// Mesa that has a GBM backend of its own loads that one; older Mesa loads DRI drivers.
    fn drivers(&self, entries: &EntryPoints) -> Result<Option<Finding>, TreeError> {
        let node = EntryPoints::of(self.container.source.tree(), &self.container.drivers)?;
        let drivers = &self.container.drivers;
        let has_own_backend = node.mesa_gbm().next().is_some();
        let drivers_of = |entries: &EntryPoints| match has_own_backend {
            true => entries.mesa_gbm().cloned().collect(),
            false => entries.dri.clone(),
        };
        let directory = if has_own_backend { "gbm" } else { "dri" };
        let (of_node, there): (Vec<RealPath>, Vec<RealPath>) =
            (drivers_of(&node), drivers_of(entries));
        if of_node.is_empty() {
            return Ok(Some(Finding::fatal(
                Cause::NodeFault,
                format!("the node has no driver in {drivers}/dri or {drivers}/gbm"),
                "install Mesa's drivers on the node (mesa-dri-drivers, libgl1-mesa-dri)",
            )));
        }
        if there.is_empty() {
            return Ok(Some(Finding::fatal(
                Cause::NoDriver,
                format!(
                    "{drivers}/{directory} is not in the container, and the node's Mesa looks nowhere else for its drivers"
                ),
                "mount the node's there",
            )));
        }
        // By their names: the node's directory may be a link to another.
        let is_there = |name: &str| there.iter().any(|path| path.name() == name);
        let names = of_node.iter().map(RealPath::name);
        let left_out: Vec<&str> = names.filter(|name| !is_there(name)).collect();
        Ok((!left_out.is_empty()).then(|| {
            Finding::note(
                Cause::DriversLeftOut,
                format!(
                    "{drivers}/{directory} of the node has drivers that the container has not, and what they drive does not \
                     render (kms_swrast and swrast: all that has no GPU): {}",
                    left_out.join(", ")
                ),
                "mount these too where such a GPU is used",
            )
        }))
    }

    fn missing(&self, name: &str, absent: &Absent) -> Result<Finding, TreeError> {
        let by = match &absent.needed_by {
            Some(path) => base_name(path),
            None => "GL",
        };
        let unlisted = self.loader.not_in_cache(name)?.map(|path| {
            format!("{path} is in no ld.so.cache, which the loader goes by, not by ld.so.conf")
        });
        let why: Vec<String> = absent.instead.iter().cloned().chain(unlisted).collect();
        let instead = match why.is_empty() {
            true => String::new(),
            false => format!(" ({})", why.join("; ")),
        };
        let fix = match self.container.source.find(name, &Paths::default())? {
            _ if glibc::is_family(name) => "the image's own glibc must have it".to_owned(),
            Search::Found(library) if !name.contains('/') => format!(
                "mount the node's {} at {}/{name}",
                library.path, self.loader.libdir
            ),
            Search::Found(_) => "mount the node's at that path".to_owned(),
            Search::Absent(_) | Search::Broken { .. } => {
                "the node does not have it either; install its package on the node, then mount it"
                    .to_owned()
            }
        };
        Ok(Finding::fatal(
            Cause::LibraryMissing,
            format!("{by} needs {name}, which neither the image nor a mount provides{instead}"),
            fix,
        ))
    }

    /// Of each series only the newest version: whoever defines that defines the others.
    fn missing_versions(&self, library: &Library, closure: &Closure) -> Vec<Finding> {
        let mut newest: BTreeMap<(&str, &str), (Vec<u32>, &Requirement, &Library)> =
            BTreeMap::new();
        for required in &library.elf.requires {
            // What is missing was said already; a provider without any versions satisfies all, as old libraries do.
            let Some(provider) = closure.libraries.get(&required.library) else {
                continue;
            };
            let defines = &provider.elf.defines;
            if defines.is_empty() || defines.contains(&required.version) {
                continue;
            }
            let (series, number) = split_version(&required.version);
            let found = (numbers(number), required, provider);
            let known = newest
                .entry((&required.library, series))
                .or_insert(found.clone());
            if found.0 > known.0 {
                *known = found;
            }
        }
        newest
            .into_values()
            .map(|(_, required, provider)| self.version_reason(library, required, provider))
            .collect()
    }

    fn version_reason(
        &self,
        library: &Library,
        required: &Requirement,
        provider: &Library,
    ) -> Finding {
        let Requirement {
            library: soname,
            version,
        } = required;
        let of_image = !self.is_mounted(provider);
        let owner = if of_image { "image" } else { "mounted one" };
        let has = match newest_like(&provider.elf, version) {
            Some(newest) => format!("the {owner} has {newest}"),
            None => format!("the {owner} has none of that kind"),
        };
        let fix = match of_image {
            true => {
                "use an image as new as the node's Mesa, or a node whose Mesa is as old as the image"
            }
            false => "mount the files of one node, all of the same release",
        };
        let by = library.path.name();
        Finding::fatal(
            Cause::VersionMissing,
            format!("{by} needs {version} of {soname}, {has}"),
            fix,
        )
    }
}

/// A vendor JSON that libglvnd passes over: no matter where it has another.
pub(super) fn passed_over(file: &PassedOver, has_vendor: bool) -> Finding {
    let what = format!("{}: {}", file.json, file.why);
    let fix = "reinstall its package, or remove it";
    match has_vendor {
        true => {
            let what = format!("{what}: libglvnd passes over it");
            Finding::note(Cause::VendorPassedOver, what, fix)
        }
        false => Finding::fatal(Cause::NoVendor, what, fix),
    }
}

fn relative_vendors(entries: &EntryPoints) -> impl Iterator<Item = Finding> {
    let relative = entries.vendors.iter().filter(|vendor| vendor.is_relative);
    relative.map(|vendor| {
        Finding::note(
            Cause::RelativeVendor,
            format!(
                "{}: library_path is relative, which libEGL takes from the working directory of the process",
                vendor.json
            ),
            "write a soname or an absolute path",
        )
    })
}

/// The newest version of the series of `version` that a library defines, as `2.34` for `GLIBC_2.38`.
fn newest_like(provider: &Elf, version: &str) -> Option<String> {
    let (series, _) = split_version(version);
    provider
        .defines
        .iter()
        .map(|defined| split_version(defined))
        .filter(|(of, number)| *of == series && !numbers(number).is_empty())
        .max_by_key(|(_, number)| numbers(number))
        .map(|(_, number)| number.to_owned())
}

/// `GLIBC` and `2.38` of `GLIBC_2.38`.
fn split_version(version: &str) -> (&str, &str) {
    version.rsplit_once('_').unwrap_or((version, ""))
}

/// The numbers of `2.38`, so that 2.4 comes before 2.34; none where it is no such version.
fn numbers(version: &str) -> Vec<u32> {
    let numbers: Option<_> = version
        .split('.')
        .map(|number| number.parse().ok())
        .collect();
    numbers.unwrap_or_default()
}
