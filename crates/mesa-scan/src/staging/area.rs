//! The directory that holds the generations, locked while it is changed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use indicatif::ProgressBar;
use rustix::fs::{CWD, FlockOperation, RenameFlags, StatVfsMountFlags};

use super::generation::{Generation, make_directory, sync_directory};
use super::selinux::Context;
use super::{StagingError, in_use};

/// The link to the generation that new containers get.
pub const CURRENT: &str = "current";
const GENERATIONS: &str = "generations";
const LOCK: &str = ".lock";
/// What is not, or no longer, a generation begins with a dot.
const NEW: &str = ".new";
const OLD: &str = ".old";
/// A generation that was damaged and that a container may still have mounted.
const DAMAGED: &str = ".damaged-";

/// The staging directory, which nobody else changes as long as this lives.
pub struct Area {
    directory: PathBuf,
    generations: PathBuf,
    _lock: File,
}

impl Area {
    /// Makes the directory where it is missing, makes sure that only we can write to it, locks it, and removes what an
    /// interrupted run left behind.
    ///
    /// # Errors
    /// Where it cannot be made, is not safe, or somebody else changes it.
    pub fn open(directory: &Path) -> Result<Self, StagingError> {
        fs::create_dir_all(directory.parent().unwrap_or(directory))
            .map_err(StagingError::io(directory))?;
        if !directory.exists() {
            make_directory(directory, None)?;
        }
        let directory = fs::canonicalize(directory).map_err(StagingError::io(directory))?;
        is_safe(&directory)?;
        let lock = lock(&directory)?;
        let generations = directory.join(GENERATIONS);
        if !generations.is_dir() {
            make_directory(&generations, None)?;
        }
        let area = Area {
            directory,
            generations,
            _lock: lock,
        };
        area.remove_leftovers()?;
        Ok(area)
    }

    /// Makes a generation the current one. Returns whether anything had to be done.
    ///
    /// # Errors
    /// Where it cannot be written. The generation that was current then still is.
    pub fn publish(
        &self,
        generation: &Generation<'_>,
        context: Option<&Context>,
        progress: &ProgressBar,
    ) -> Result<bool, StagingError> {
        let place = self.generations.join(&generation.id);
        let there = generation.is_at(&place);
        if there {
            generation.refresh(&place, context)?;
        } else {
            let new = self.generations.join(NEW);
            let written = generation.write(&new, context, progress);
            if let Err(error) = written {
                // What cannot be removed now will be by the next run.
                let _ = fs::remove_dir_all(&new);
                return Err(error);
            }
            self.put(&new, &place)?;
        }
        let flipped = self.flip(&generation.id)?;
        Ok(!there || flipped)
    }

    /// Renames `new` to `place`; a damaged generation that stands there is put aside in the same moment: containers that have it
    /// mounted keep it.
    fn put(&self, new: &Path, place: &Path) -> Result<(), StagingError> {
        let is_damaged = place.exists();
        let renamed = match is_damaged {
            true => rustix::fs::renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE)
                .map_err(io::Error::from),
            false => fs::rename(new, place),
        };
        renamed.map_err(StagingError::io(place))?;
        if is_damaged {
            let mut number = 1;
            let mut aside = self.generations.join(format!("{DAMAGED}{number}"));
            while aside.exists() {
                number += 1;
                aside = self.generations.join(format!("{DAMAGED}{number}"));
            }
            fs::rename(new, &aside).map_err(StagingError::io(&aside))?;
        }
        sync_directory(&self.generations)
    }

    fn flip(&self, id: &str) -> Result<bool, StagingError> {
        let current = self.directory.join(CURRENT);
        let target = Path::new(GENERATIONS).join(id);
        if fs::read_link(&current).is_ok_and(|old| old == target) {
            return Ok(false);
        }
        let new = self.directory.join(NEW);
        symlink(&target, &new).map_err(StagingError::io(&new))?;
        fs::rename(&new, &current).map_err(StagingError::io(&current))?;
        sync_directory(&self.directory)?;
        Ok(true)
    }

    /// Removes all but `keep` of the generations that are neither current nor mounted anywhere. Returns their ids.
    ///
    /// # Errors
    /// Where it cannot be told which are mounted, or one cannot be removed.
    pub fn prune(
        &self,
        keep: usize,
        current: &str,
        proc: &Path,
    ) -> Result<Vec<String>, StagingError> {
        let mut old: Vec<(SystemTime, String)> = Vec::new();
        for (name, path) in self.names(&self.generations)? {
            let is_ours = Generation::is_id(&name) || name.starts_with(DAMAGED);
            if name != current && is_ours && path.is_dir() {
                let metadata = fs::metadata(&path).map_err(StagingError::io(&path))?;
                old.push((metadata.modified().map_err(StagingError::io(&path))?, name));
            }
        }
        old.sort();
        let mut ids: Vec<String> = old.into_iter().map(|(_, id)| id).collect();
        let used = in_use::in_use(proc, &ids)?;
        ids.retain(|id| !used.contains(id));
        ids.truncate(ids.len().saturating_sub(keep));
        for id in &ids {
            let path = self.generations.join(id);
            let old = self.generations.join(OLD);
            fs::rename(&path, &old).map_err(StagingError::io(&path))?;
            fs::remove_dir_all(&old).map_err(StagingError::io(&old))?;
        }
        Ok(ids)
    }

    fn remove_leftovers(&self) -> Result<(), StagingError> {
        for directory in [&self.directory, &self.generations] {
            for (name, path) in self.names(directory)? {
                if name == NEW || name == OLD {
                    let is_tree = path.is_dir() && !path.is_symlink();
                    let removed = match is_tree {
                        true => fs::remove_dir_all(&path),
                        false => fs::remove_file(&path),
                    };
                    removed.map_err(StagingError::io(&path))?;
                }
            }
        }
        Ok(())
    }

    fn names(&self, directory: &Path) -> Result<Vec<(String, PathBuf)>, StagingError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(StagingError::io(directory))? {
            let entry = entry.map_err(StagingError::io(directory))?;
            names.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            ));
        }
        names.sort();
        Ok(names)
    }
}

/// Whoever can write here decides what runs in the containers.
fn is_safe(directory: &Path) -> Result<(), StagingError> {
    let us = rustix::process::geteuid();
    for (depth, place) in directory.ancestors().enumerate() {
        let metadata = fs::metadata(place).map_err(StagingError::io(place))?;
        let problem = |what: &str, fix| {
            Err(StagingError::Unsafe {
                path: place.display().to_string(),
                what: what.to_owned(),
                fix,
            })
        };
        let sticky = metadata.mode() & 0o1000 != 0 && depth > 0;
        if metadata.mode() & 0o022 != 0 && !sticky {
            return problem(
                "others may write there, and so decide what containers load",
                "chmod go-w it, or stage elsewhere",
            );
        }
        let is_ours = metadata.uid() == us.as_raw() || depth > 0 && metadata.uid() == 0;
        if !is_ours {
            return problem(
                "belongs to another user, who decides what containers load",
                "chown it, or stage in a directory of root's",
            );
        }
    }
    let file_system = rustix::fs::statvfs(directory)
        .map_err(|error| StagingError::io(directory)(error.into()))?;
    if file_system.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err(StagingError::Unsafe {
            path: directory.display().to_string(),
            what: "on a file system that is mounted noexec, from which no library loads".to_owned(),
            fix: "stage elsewhere",
        });
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, StagingError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(StagingError::io(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(StagingError::Locked(directory.display().to_string()))
        }
        Err(error) => Err(StagingError::io(&path)(error.into())),
    }
}
