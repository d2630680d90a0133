//! A compute container out of two directories, a node's root and an image's, as kubelet and runtime make it.
//!
//! The image is the lower layer of an overlay in a mount namespace of its own. Every mount's source is found on the node with
//! links followed inside its root, checked as the kubelet checks it, and bound where the pod says, read-only where it says so.
//! The process then becomes the pod's user, gives up its capabilities, and becomes the command.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use crate::pod::{Compute, HostPath, HostPathType, Identity, Mount, Source};

/// Why a container does not start. Said as the kubelet or the runtime says it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kubelet retries for ever.
    #[error("hostPath type check failed: {path} {what}")]
    TypeCheck {
        /// On the node.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A capability that this tool does not know.
    #[error(
        "capability {0} is not one of rustix's names; write it as capabilities(7) does, without CAP_"
    )]
    Capability(String),
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What it said.
        source: io::Error,
    },
}

fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> StartError {
    let what = what.into();
    move |error| StartError::System {
        what,
        source: error.into(),
    }
}

/// Where a container is made from.
#[derive(Debug)]
pub struct Ground {
    /// The node's root directory.
    pub node: PathBuf,
    /// The image's root directory; nothing is written to it.
    pub image: PathBuf,
    /// A directory for the pod's own volumes, a directory each below `volumes`.
    pub state: PathBuf,
}

/// Becomes a command in the container. Returns only where that fails.
#[must_use]
pub fn become_container(compute: &Compute, ground: &Ground, command: &[String]) -> StartError {
    let Some((program, arguments)) = command.split_first() else {
        return system("the command")(io::Error::other("none given"));
    };
    if let Err(error) = enter(compute, ground) {
        return error;
    }
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&compute.env)
        .exec();
    system(program)(error)
}

fn enter(compute: &Compute, ground: &Ground) -> Result<(), StartError> {
    // First of all: a descriptor from another mount namespace cannot be bound in this one.
    own_mount_namespace()?;
    let node = open_directory(&ground.node)?;
    let sources = compute.mounts.iter();
    let sources: Vec<OwnedFd> = sources
        .map(|mount| match &mount.source {
            Source::Host(host) => checked(&node, host),
            Source::Own(name) => own_volume(&ground.state, name, &compute.identity),
        })
        .collect::<Result<_, _>>()?;
    let root = overlay(ground)?;
    devices(&root)?;
    for (mount, source) in compute.mounts.iter().zip(&sources) {
        bind(&root, mount, source)?;
    }
    rustix::process::fchdir(&root).map_err(system("the container's root"))?;
    rustix::process::chroot(".").map_err(system("chroot"))?;
    drop_privileges(&compute.identity)
}

fn open_directory(path: &Path) -> Result<OwnedFd, StartError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(system(path.display().to_string()))
}

/// Opens a path below a root as if that were `/`: the kernel itself follows the links.
fn inside(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
}

/// A path that leads to an open file, for the calls that take no descriptor.
fn path_of(file: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

fn kind_of(file: &OwnedFd) -> Result<FileType, StartError> {
    let stat = rustix::fs::fstat(file).map_err(system("stat"))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn checked(node: &OwnedFd, host: &HostPath) -> Result<OwnedFd, StartError> {
    let fails = |what| StartError::TypeCheck {
        path: host.path.clone(),
        what,
    };
    let found = inside(node, &host.path).map_err(|error| match error {
        Errno::NOENT => fails("does not exist"),
        error => system(host.path.clone())(error),
    })?;
    match (host.kind, kind_of(&found)?) {
        (HostPathType::File, kind) if kind != FileType::RegularFile => Err(fails("is not a file")),
        (HostPathType::Directory, kind) if kind != FileType::Directory => {
            Err(fails("is not a directory"))
        }
        _ => Ok(found),
    }
}

fn own_volume(state: &Path, name: &str, identity: &Identity) -> Result<OwnedFd, StartError> {
    let path = state.join("volumes").join(name);
    fs::create_dir_all(&path).map_err(system(path.display().to_string()))?;
    let owner = Uid::from_raw(identity.user);
    let group = Gid::from_raw(identity.fs_group.unwrap_or(identity.group));
    rustix::fs::chown(&path, Some(owner), Some(group)).map_err(system("chown"))?;
    open_directory(&path)
}

/// The image's root with a layer above it that lives as long as the mount namespace.
fn overlay(ground: &Ground) -> Result<OwnedFd, StartError> {
    let layers = ground.state.join("layers");
    fs::create_dir_all(&layers).map_err(system(layers.display().to_string()))?;
    mount_tmpfs(&layers)?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| layers.join(name));
    for directory in [&upper, &work, &root] {
        fs::create_dir(directory).map_err(system(directory.display().to_string()))?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        ground.image.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).map_err(system("the image's path"))?;
    let flags = MountFlags::empty();
    rustix::mount::mount("overlay", &root, "overlay", flags, Some(options.as_c_str()))
        .map_err(system("overlay of the image's root"))?;
    open_directory(&root)
}

fn own_mount_namespace() -> Result<(), StartError> {
    #[expect(
        deprecated,
        reason = "for the sake of UnshareFlags::FILES only, which is not used"
    )]
    rustix::thread::unshare(UnshareFlags::NEWNS).map_err(system("a mount namespace"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(system("private mounts"))
}

fn mount_tmpfs(path: &Path) -> Result<(), StartError> {
    let flags = MountFlags::empty();
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, None)
        .map_err(system(path.display().to_string()))
}

/// What every container has: `/proc`, `/sys` and a `/dev` with nothing of the machine.
fn devices(root: &OwnedFd) -> Result<(), StartError> {
    for path in ["/proc", "/sys"] {
        let at = mount_point(root, path, FileType::Directory)?;
        rustix::mount::mount_bind_recursive(path, path_of(&at)).map_err(system(path))?;
    }
    let dev = mount_point(root, "/dev", FileType::Directory)?;
    mount_tmpfs(Path::new(&path_of(&dev)))?;
    for name in ["full", "null", "random", "urandom", "zero"] {
        let device = format!("/dev/{name}");
        let at = mount_point(root, &device, FileType::RegularFile)?;
        rustix::mount::mount_bind(&device, path_of(&at)).map_err(system(&device))?;
    }
    Ok(())
}

/// Binds a mount, and makes it read-only in a second step: the kernel takes no flags in the first.
fn bind(root: &OwnedFd, mount: &Mount, source: &OwnedFd) -> Result<(), StartError> {
    let failed = || system(format!("mount {}", mount.path));
    let at = mount_point(root, &mount.path, kind_of(source)?)?;
    rustix::mount::mount_bind_recursive(path_of(source), path_of(&at)).map_err(failed())?;
    if mount.read_only {
        let mounted = inside(root, &mount.path).map_err(failed())?;
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(path_of(&mounted), flags, "").map_err(failed())?;
    }
    Ok(())
}

/// Finds a path in the container, and makes what is missing of it.
fn mount_point(root: &OwnedFd, path: &str, kind: FileType) -> Result<OwnedFd, StartError> {
    let failed = |path: &str| system(format!("mount point {path}"));
    let mut parent = inside(root, "/").map_err(failed("/"))?;
    let mut done = String::new();
    let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        done = format!("{done}/{name}");
        parent = match inside(root, &done) {
            Err(Errno::NOENT) => {
                let is_file = names.peek().is_none() && kind != FileType::Directory;
                make(&parent, name, is_file).map_err(failed(&done))?;
                inside(root, &done).map_err(failed(&done))?
            }
            found => found.map_err(failed(&done))?,
        };
    }
    Ok(parent)
}

fn make(parent: &OwnedFd, name: &str, is_file: bool) -> Result<(), Errno> {
    if !is_file {
        return rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755));
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

fn drop_privileges(identity: &Identity) -> Result<(), StartError> {
    let kept = identity.capabilities.iter().map(|name| {
        CapabilitySet::from_name(name).ok_or_else(|| StartError::Capability(name.clone()))
    });
    let kept = kept.collect::<Result<CapabilitySet, _>>()?;
    for capability in CapabilitySet::all().difference(kept) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A kernel that does not know it does not give it either.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(system("the bounding set")(error)),
        }
    }
    let groups: Vec<Gid> = identity.fs_group.into_iter().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups).map_err(system("setgroups"))?;
    rustix::thread::set_thread_gid(Gid::from_raw(identity.group)).map_err(system("setgid"))?;
    rustix::thread::set_thread_uid(Uid::from_raw(identity.user)).map_err(system("setuid"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).map_err(system("capabilities"))?;
    if identity.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(system("no_new_privs"))?;
    }
    // Nothing of it outlives a test that is stopped.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(system("prctl"))
}
