//! Which generations running containers still have mounted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::StagingError;

/// What the kernel calls the first of all namespaces of processes.
const HOST: &str = "pid:[4026531836]";

/// A process that has a generation mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number on the node.
    pub pid: u32,
    /// What the kernel calls it.
    pub name: String,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// The generations, by id, that processes of `proc` see mounted, each with one that does.
///
/// A container's mount shows, in the fourth field of its mountinfo, which directory of the file system it is (proc(5)).
///
/// # Errors
/// Where that cannot be told for all processes: then nothing may be removed.
pub(super) fn in_use(proc: &Path, ids: &[String]) -> Result<BTreeMap<String, User>, StagingError> {
    if !is_the_nodes(proc) {
        let other = io::Error::other(
            "it shows the processes of one container alone, and not those that have generations mounted",
        );
        return Err(StagingError::Proc(proc.display().to_string(), other));
    }
    let mut used = BTreeMap::new();
    let mut sees_the_first = false;
    for entry in fs::read_dir(proc).map_err(StagingError::io(proc))? {
        let entry = entry.map_err(StagingError::io(proc))?;
        let Ok(pid): Result<u32, _> = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let path = entry.path().join("mountinfo");
        match fs::read_to_string(&path) {
            Ok(text) => {
                sees_the_first |= pid == 1;
                for id in ids.iter().filter(|id| mentions(&text, id)) {
                    used.entry(id.clone()).or_insert_with(|| User {
                        pid,
                        name: name(&entry.path()),
                    });
                }
            }
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(StagingError::io(&path)(error)),
        }
    }
    // Every node has that one: where it is not seen, others may not be either (hidepid, proc(5)).
    if !sees_the_first {
        let none = io::Error::new(
            io::ErrorKind::NotFound,
            "no process 1 there, so this does not show all processes of the node",
        );
        return Err(StagingError::Proc(proc.display().to_string(), none));
    }
    Ok(used)
}

/// Whether a proc file system shows the node's processes, as far as that can be told: those of the first namespace, or
/// those of a namespace around our own, for a node may be a container itself (kind).
fn is_the_nodes(proc: &Path) -> bool {
    let Ok(shown) = fs::read_link(proc.join("1/ns/pid")) else {
        // What does not say it is judged by the processes that it shows.
        return true;
    };
    let own = fs::read_link("/proc/self/ns/pid");
    let shows_us = || fs::read_link(proc.join("self")).is_ok();
    shown == Path::new(HOST) || (own.is_ok_and(|own| own != shown) && shows_us())
}

fn name(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    manifests::printable(name.trim_end())
}

fn mentions(mountinfo: &str, id: &str) -> bool {
    let inside = format!("/generations/{id}/");
    let roots = mountinfo.lines().filter_map(|line| line.split(' ').nth(3));
    // Escapes of spaces and the like are of no matter: ids have none.
    let mut roots = roots.map(|root| format!("{root}/"));
    roots.any(|root| root.contains(&inside))
}

/// A process that has gone, or is about to, has no mounts.
fn has_ended(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::SRCH | Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn a_mounted_generation_is_known_by_its_root() {
        let line =
            "36 35 98:0 /var/lib/mesa-injector/generations/abc/lib /usr/lib rw - ext4 /dev/sda1 rw";
        assert!(mentions(line, "abc"));
        assert!(!mentions(line, "ab"));
        assert!(!mentions(line, "lib"));
        let whole = "36 35 98:0 /generations/abc /mnt rw - ext4 /dev/sda1 rw";
        assert!(mentions(whole, "abc"));
    }
}
