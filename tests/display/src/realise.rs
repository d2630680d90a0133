//! A container of a launcher pod out of two directories, a node's root and an image's, as kubelet and runtime make it.
//!
//! The image is the lower layer of an overlay in a mount namespace of its own. Every mount's source is found on the node with
//! links followed inside its root, checked as the kubelet checks it, and bound where the pod says, read-only where it says so.
//! An image volume is a directory that stands for the image. The process then becomes the pod's user, gives up its
//! capabilities, and becomes the command.

use std::collections::BTreeMap;
use std::ffi::CString;
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

use crate::pod::{Container, HostPath, HostPathType, Identity, Mount, Source};

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
    /// An image that nothing stands for.
    #[error("image volume {0}: no directory stands for it; give --image-volume {0}=DIR")]
    NoImage(String),
    /// A capability that this tool does not know.
    #[error("capability {0} is none; write it as capabilities(7) does, without CAP_")]
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
    /// What stands for the images of image volumes, by their references.
    pub image_volumes: BTreeMap<String, PathBuf>,
    /// What a device plugin gives to the container.
    pub devices: Vec<PathBuf>,
    /// Whether the runtime mounts image volumes noexec, as Kubernetes' design asked until 2025.
    pub noexec: bool,
    /// Whether the runtime mounts all of an image where a part of it is asked for (containerd before 2.2, CRI-O before
    /// 1.33).
    pub ignore_sub_paths: bool,
}

/// Becomes a command in the container, its own where none is given. Returns only where that fails.
#[must_use]
pub fn become_container(container: &Container, ground: &Ground, command: &[String]) -> StartError {
    let command = match command {
        [] => &container.command,
        command => command,
    };
    let Some((program, arguments)) = command.split_first() else {
        return system("the command")(io::Error::other("none given"));
    };
    if let Err(error) = enter(container, ground) {
        return error;
    }
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&container.env)
        .exec();
    system(program)(error)
}

fn enter(container: &Container, ground: &Ground) -> Result<(), StartError> {
    // First of all: a descriptor from another mount namespace cannot be bound in this one.
    own_mount_namespace()?;
    let node = open_directory(&ground.node)?;
    let sources = container.mounts.iter();
    let sources: Vec<OwnedFd> = sources
        .map(|mount| match &mount.source {
            Source::Host(host) => checked(&node, host),
            Source::Image {
                reference,
                sub_path,
            } => {
                let part = sub_path.as_deref().filter(|_| !ground.ignore_sub_paths);
                image_volume(&ground.image_volumes, reference, part)
            }
            Source::Own(name) => own_volume(&ground.state, name, &container.identity),
        })
        .collect::<Result<_, _>>()?;
    let root = overlay(ground)?;
    devices(&root, &ground.devices)?;
    for (mount, source) in container.mounts.iter().zip(&sources) {
        bind(&root, &mount.path, source, flags(mount, ground.noexec))?;
    }
    if container.is_read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(path_of(&root), flags, "")
            .map_err(system("a read-only root"))?;
    }
    rustix::process::fchdir(&root).map_err(system("the container's root"))?;
    rustix::process::chroot(".").map_err(system("chroot"))?;
    drop_privileges(&container.identity)
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
    use HostPathType::{
        BlockDevice, CharDevice, Directory, DirectoryOrCreate, File, FileOrCreate, Socket,
        Unchecked,
    };
    let fails = |what| StartError::TypeCheck {
        path: host.path.clone(),
        what,
    };
    let (wanted, otherwise) = match host.kind {
        DirectoryOrCreate | Directory => (FileType::Directory, "is not a directory"),
        FileOrCreate | File => (FileType::RegularFile, "is not a file"),
        Socket => (FileType::Socket, "is not a socket"),
        CharDevice => (FileType::CharacterDevice, "is not a character device"),
        BlockDevice => (FileType::BlockDevice, "is not a block device"),
        // Of what is not there the runtime makes a directory.
        Unchecked => return mount_point(node, &host.path, FileType::Directory),
    };
    if matches!(host.kind, DirectoryOrCreate | FileOrCreate) {
        mount_point(node, &host.path, wanted)?;
    }
    let found = inside(node, &host.path).map_err(|error| match error {
        Errno::NOENT => fails("does not exist"),
        error => system(host.path.clone())(error),
    })?;
    if kind_of(&found)? == wanted {
        Ok(found)
    } else {
        Err(fails(otherwise))
    }
}

fn image_volume(
    images: &BTreeMap<String, PathBuf>,
    reference: &str,
    sub_path: Option<&str>,
) -> Result<OwnedFd, StartError> {
    let image = images.get(reference);
    let image = image.ok_or_else(|| StartError::NoImage(reference.to_owned()))?;
    let root = open_directory(image)?;
    match sub_path {
        None => Ok(root),
        Some(part) => {
            inside(&root, part).map_err(system(format!("image volume {reference}: {part}")))
        }
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
    // By descriptors, for a path may have a colon or a comma.
    let lower = open_directory(&ground.image)?;
    let (upper, work) = (open_directory(&upper)?, open_directory(&work)?);
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        path_of(&lower),
        path_of(&upper),
        path_of(&work)
    );
    let options = CString::new(options).map_err(system("the options of the overlay"))?;
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

/// What every container has: `/proc`, a read-only `/sys`, and a `/dev` with nothing of the machine but what it was given.
fn devices(root: &OwnedFd, given: &[PathBuf]) -> Result<(), StartError> {
    for (path, flags) in [("/proc", MountFlags::empty()), ("/sys", MountFlags::RDONLY)] {
        bind(root, path, &open_directory(Path::new(path))?, flags)?;
    }
    let dev = mount_point(root, "/dev", FileType::Directory)?;
    mount_tmpfs(Path::new(&path_of(&dev)))?;
    let all =
        ["full", "null", "random", "urandom", "zero"].map(|name| Path::new("/dev").join(name));
    for device in all.iter().chain(given) {
        let name = device.display().to_string();
        let at = mount_point(root, &name, FileType::RegularFile)?;
        rustix::mount::mount_bind(device, path_of(&at)).map_err(system(name))?;
    }
    Ok(())
}

fn flags(mount: &Mount, noexec: bool) -> MountFlags {
    match mount.source {
        Source::Image { .. } if noexec => MountFlags::RDONLY | MountFlags::NOEXEC,
        Source::Image { .. } => MountFlags::RDONLY,
        _ if mount.read_only => MountFlags::RDONLY,
        _ => MountFlags::empty(),
    }
}

/// Binds a source to a path of the container. Its flags take a second step: the kernel ignores them in the first.
fn bind(root: &OwnedFd, path: &str, source: &OwnedFd, flags: MountFlags) -> Result<(), StartError> {
    let failed = || system(format!("mount {path}"));
    let at = mount_point(root, path, kind_of(source)?)?;
    rustix::mount::mount_bind_recursive(path_of(source), path_of(&at)).map_err(failed())?;
    if !flags.is_empty() {
        let mounted = inside(root, path).map_err(failed())?;
        let flags = MountFlags::BIND | flags;
        rustix::mount::mount_remount(path_of(&mounted), flags, "").map_err(failed())?;
    }
    Ok(())
}

/// Finds a path below a root, and makes what is missing of it.
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
    let groups = identity
        .fs_group
        .iter()
        .chain(&identity.supplemental_groups);
    let groups: Vec<Gid> = groups.copied().map(Gid::from_raw).collect();
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
