//! Whether GL will load in a container, and if not, why not.
//!
//! Decided as the loader decides it: every library that is needed must be found, and every symbol version that one needs
//! of another must be defined there (`_dl_check_map_versions` in glibc). Nothing is run.

use std::collections::BTreeMap;

use crate::closure::{Absent, Closure};
use crate::elf::{Elf, Requirement};
use crate::entries::{Entries, VENDOR_DIRECTORY, Vendor};
use crate::glibc;
use crate::ldso::{Library, Loader, Paths, Search};
use crate::qemu::Qemu;
use crate::reason::{Cause, Reason};
use crate::tree::{FileId, Overlay, RealPath, TreeError};

/// The answer.
#[derive(Debug, Default, serde::Serialize)]
pub struct Verdict {
    /// Why GL will not load; it will where there is none.
    pub reasons: Vec<Reason>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether GL will load.
    #[must_use]
    pub fn loads(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Sorts the reasons, so that the same findings read the same, and each once.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.reasons.sort();
        self.reasons.dedup();
        self.notes = self
            .notes
            .iter()
            .map(|note| manifests::printable(note))
            .collect();
        self
    }
}

/// A container that is about to be: the image with mounts, and the node that these are of.
pub struct Container<'a> {
    /// The image's loader over all that the container sees.
    pub loader: Loader<'a>,
    /// What the container sees.
    pub overlay: &'a Overlay<'a>,
    /// The node.
    pub node: &'a Loader<'a>,
    /// The node's directory that holds `dri/` and `gbm/`.
    pub drivers: &'a RealPath,
}

impl Container<'_> {
    /// Loads everything that QEMU's GL display loads, on paper.
    ///
    /// # Errors
    /// Where node or image cannot be read.
    pub fn judge(&self) -> Result<Verdict, TreeError> {
        let entries = Entries::of(self.loader.tree(), self.drivers)?;
        let qemu = Qemu::of(&self.loader)?;
        let mut names = entries.names(&self.loader)?;
        names.extend(qemu.modules.iter().map(ToString::to_string));
        let closure = Closure::follow(&self.loader, names, |_| Ok(false))?;

        let drivers = self.drivers(&entries)?;
        let mut reasons = self.missing_entries(&closure, &entries)?;
        reasons.extend(drivers.reasons);
        for (name, absent) in &closure.absent {
            reasons.push(self.missing(name, absent)?);
        }
        // A driver that goes by ten names is one file with one reason.
        let files: BTreeMap<(bool, FileId), &Library> = closure
            .libraries
            .values()
            .rev()
            .map(|library| ((self.is_mounted(library), library.entry.node.id), library))
            .collect();
        for library in files.values() {
            reasons.extend(self.missing_versions(library, &closure));
        }
        let mut notes = qemu.absent;
        notes.extend(drivers.notes);
        notes.extend(entries.vendors.iter().filter_map(Vendor::note));
        Ok(Verdict { reasons, notes })
    }

    fn is_mounted(&self, library: &Library) -> bool {
        self.overlay.mount_of(&library.entry.path).is_some()
    }

    /// What must be there although no `DT_NEEDED` says so.
    fn missing_entries(
        &self,
        closure: &Closure,
        entries: &Entries,
    ) -> Result<Vec<Reason>, TreeError> {
        let mut reasons = entries.bad_vendors.clone();
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
                reasons.push(missing(name)?);
            }
        }
        // libepoxy ends the process where it finds neither.
        if !known("libGL.so.1") && !known("libOpenGL.so.0") {
            reasons.push(missing("libOpenGL.so.0")?);
        }
        if entries.vendors.iter().all(|vendor| vendor.is_relative) {
            reasons.push(Reason::new(
                Cause::NoVendor,
                format!("{VENDOR_DIRECTORY} of the container has no vendor JSON with a library that libEGL finds"),
                "mount the node's there, with a soname or an absolute path in it",
            ));
        }
        Ok(reasons)
    }

    /// Mesa that has a GBM backend of its own loads that one; older Mesa loads DRI drivers.
    fn drivers(&self, entries: &Entries) -> Result<Verdict, TreeError> {
        let node = Entries::of(self.node.tree(), self.drivers)?;
        let drivers = self.drivers;
        let (directory, of_node, there) = match node.gbm.is_empty() {
            false => ("gbm", node.gbm, &entries.gbm),
            true => ("dri", node.dri, &entries.dri),
        };
        let mut said = Verdict::default();
        if of_node.is_empty() {
            said.reasons.push(Reason::new(
                Cause::NodeFault,
                format!("the node has no driver in {drivers}/dri or {drivers}/gbm"),
                "install Mesa's drivers on the node (mesa-dri-drivers, libgl1-mesa-dri)",
            ));
        } else if there.is_empty() {
            said.reasons.push(Reason::new(
                Cause::NoDriver,
                format!(
                    "{drivers}/{directory} is not in the container, and the node's Mesa looks nowhere else for its drivers"
                ),
                "mount the node's there",
            ));
        } else {
            // By their names: the node's directory may be a link to another.
            let is_there = |name: &str| there.iter().any(|path| path.name() == name);
            let names = of_node.iter().map(RealPath::name);
            let left_out: Vec<&str> = names.filter(|name| !is_there(name)).collect();
            if !left_out.is_empty() {
                said.notes.push(format!(
                    "{drivers}/{directory} of the node has drivers that the container has not, and what they drive does not \
                     render (kms_swrast and swrast: all that has no GPU): {}",
                    left_out.join(", ")
                ));
            }
        }
        Ok(said)
    }

    fn missing(&self, name: &str, absent: &Absent) -> Result<Reason, TreeError> {
        let by = match &absent.needed_by {
            Some(path) => path.rsplit('/').next().unwrap_or(path),
            None => "GL",
        };
        let instead = match absent.instead.is_empty() {
            true => String::new(),
            false => format!(" ({})", absent.instead.join("; ")),
        };
        let mend = match self.node.find(name, &Paths::default())? {
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
        Ok(Reason::new(
            Cause::LibraryMissing,
            format!("{by} needs {name}, which neither the image nor a mount provides{instead}"),
            mend,
        ))
    }

    /// Of each series only the newest version: whoever defines that defines the others.
    fn missing_versions(&self, library: &Library, closure: &Closure) -> Vec<Reason> {
        let mut newest: BTreeMap<(&str, &str), (Vec<u32>, &Requirement, &Library)> =
            BTreeMap::new();
        for required in &library.elf.requires {
            // What is absent was said already; a provider without any versions satisfies all, as old libraries do.
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
    ) -> Reason {
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
        let mend = match of_image {
            true => {
                "use an image as new as the node's Mesa, or a node whose Mesa is as old as the image"
            }
            false => "mount the files of one node, all of the same release",
        };
        let by = library.path.name();
        Reason::new(
            Cause::VersionMissing,
            format!("{by} needs {version} of {soname}, {has}"),
            mend,
        )
    }
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
