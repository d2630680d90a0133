//! Which generations running containers still have mounted.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::StagingError;

/// What the kernel calls the first of all namespaces of processes.
const HOST: &str = "pid:[4026531836]";

/// The generations, by id, that any process of `proc` sees mounted.
///
/// A container's mount shows, in the fourth field of its mountinfo, which directory of the file system it is (proc(5)).
///
/// # Errors
/// Where that cannot be told for all processes: then nothing may be removed.
pub(super) fn in_use(proc: &Path, ids: &[String]) -> Result<BTreeSet<String>, StagingError> {
    if let Ok(namespace) = fs::read_link(proc.join("1/ns/pid"))
        && namespace != Path::new(HOST)
    {
        let other = io::Error::other(
            "it shows the processes of one container alone, and not those that have generations mounted",
        );
        return Err(StagingError::Proc(proc.display().to_string(), other));
    }
    let mut used = BTreeSet::new();
    let mut processes = 0;
    for entry in fs::read_dir(proc).map_err(StagingError::io(proc))? {
        let entry = entry.map_err(StagingError::io(proc))?;
        let name = entry.file_name();
        if !name
            .to_string_lossy()
            .bytes()
            .all(|byte| byte.is_ascii_digit())
        {
            continue;
        }
        let path = entry.path().join("mountinfo");
        match fs::read_to_string(&path) {
            Ok(text) => {
                processes += 1;
                let of_text = ids.iter().filter(|id| mentions(&text, id));
                used.extend(of_text.cloned());
            }
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(StagingError::io(&path)(error)),
        }
    }
    if processes == 0 {
        let none = io::Error::new(
            io::ErrorKind::NotFound,
            "no process there, so this is not the node's proc file system",
        );
        return Err(StagingError::io(proc)(none));
    }
    Ok(used)
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
