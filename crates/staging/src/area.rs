//! The directory that holds the generations, locked while it is changed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, FlockOperation, RenameFlags, StatVfsMountFlags};

use super::generation::{Generation, make_directory, sync_directory};
use super::in_use::{User, in_use};
use super::manifest::is_id;
use super::selinux::Context;
use super::{Progress, StagingError};

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
    lock: File,
}

/// What became of generations that are not current.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The ids of those that are gone.
    pub removed: Vec<String>,
    /// Those that stay, each with a process that has it mounted.
    pub mounted: Vec<(String, User)>,
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
            lock,
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
        progress: Progress<'_>,
    ) -> Result<bool, StagingError> {
        let place = self.generations.join(generation.id());
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
        let flipped = self.flip(generation.id())?;
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

    /// The id of the generation that new containers get.
    #[must_use]
    pub fn current(&self) -> Option<String> {
        current(&self.directory)
    }

    /// Removes all but `keep` of the generations that are neither current nor mounted anywhere.
    ///
    /// # Errors
    /// Where it cannot be told which are mounted, or one cannot be removed.
    pub fn prune(&self, keep: usize, proc: &Path) -> Result<Pruned, StagingError> {
        let current = self.current();
        let mut old: Vec<(SystemTime, String)> = Vec::new();
        for (name, path) in self.names(&self.generations)? {
            let is_ours = is_id(&name) || name.starts_with(DAMAGED);
            if Some(&name) != current.as_ref() && is_ours && path.is_dir() {
                let metadata = fs::metadata(&path).map_err(StagingError::io(&path))?;
                old.push((metadata.modified().map_err(StagingError::io(&path))?, name));
            }
        }
        old.sort();
        let mut ids: Vec<String> = old.into_iter().map(|(_, id)| id).collect();
        let used = in_use(proc, &ids)?;
        ids.retain(|id| !used.contains_key(id));
        ids.truncate(ids.len().saturating_sub(keep));
        for id in &ids {
            let path = self.generations.join(id);
            let old = self.generations.join(OLD);
            fs::rename(&path, &old).map_err(StagingError::io(&path))?;
            fs::remove_dir_all(&old).map_err(StagingError::io(&old))?;
        }
        Ok(Pruned {
            removed: ids,
            mounted: used.into_iter().collect(),
        })
    }

    /// Takes everything away that no container has mounted: first `current`, so that no container begins with what goes; in
    /// the end, where nothing stays, the directory itself.
    ///
    /// # Errors
    /// Where it cannot be told which generations are mounted, or something cannot be removed.
    pub fn remove(self, proc: &Path) -> Result<Pruned, StagingError> {
        // Where that cannot be told, all stays as it is.
        in_use(proc, &[])?;
        let current = self.directory.join(CURRENT);
        match fs::remove_file(&current) {
            Ok(()) => sync_directory(&self.directory)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StagingError::io(&current)(error)),
        }
        let pruned = self.prune(0, proc)?;
        if pruned.mounted.is_empty() {
            let lock = self.directory.join(LOCK);
            fs::remove_dir(&self.generations).map_err(StagingError::io(&self.generations))?;
            fs::remove_file(&lock).map_err(StagingError::io(&lock))?;
            fs::remove_dir(&self.directory).map_err(StagingError::io(&self.directory))?;
        }
        Ok(pruned)
    }

    /// Says that somebody looks after this directory, in a way that is there after a restart.
    ///
    /// # Errors
    /// Where the file system is read-only.
    pub fn touch(&self) -> Result<(), StagingError> {
        let now = SystemTime::now();
        let touched = self.lock.set_modified(now);
        touched.map_err(StagingError::io(&self.directory.join(LOCK)))
    }

    /// When somebody last said so.
    ///
    /// # Errors
    /// Where the lock cannot be read.
    pub fn touched(&self) -> Result<SystemTime, StagingError> {
        let metadata = self.lock.metadata();
        let modified = metadata.and_then(|metadata| metadata.modified());
        modified.map_err(StagingError::io(&self.directory.join(LOCK)))
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

/// The id of the generation that new containers get of a staging directory, whoever changes it meanwhile.
#[must_use]
pub fn current(directory: &Path) -> Option<String> {
    let target = fs::read_link(directory.join(CURRENT)).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
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
        // Whoever removed the directory meanwhile has locked a file that is gone.
        Ok(()) if is_at(&file, &path) => Ok(file),
        Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(StagingError::Locked(directory.display().to_string()))
        }
        Err(error) => Err(StagingError::io(&path)(error.into())),
    }
}

/// Whether the file that is open still has its name.
fn is_at(file: &File, path: &Path) -> bool {
    let there = fs::metadata(path).map(|there| (there.dev(), there.ino()));
    let open = file.metadata().map(|open| (open.dev(), open.ino()));
    there.is_ok_and(|there| open.is_ok_and(|open| open == there))
}
