//! The programs, and a machine of their own for them.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

/// The variable that names the directory of the programs.
pub const VARIABLE: &str = "HOSTS";
/// Where the process has its namespaces: the directory that it works in.
const INSIDE: &str = "CLUSTER_TESTS_INSIDE";
/// The programs that a cluster takes.
const PROGRAMS: [&str; 8] = [
    "containerd",
    "containerd-shim-runc-v2",
    "etcd",
    "hyper",
    "kubectl",
    "kwctl",
    "policy-server",
    "runc",
];
/// Who knows names.
const NAMES: &str = "/etc/resolv.conf";
/// The node's address in its namespace.
pub const ADDRESS: &str = "10.88.0.1";

/// A directory of programs.
#[derive(Debug, Clone)]
pub struct Hosts(PathBuf);

impl Hosts {
    /// The directory that `HOSTS` names.
    ///
    /// # Errors
    /// Why no cluster can be started here.
    pub fn find() -> Result<Self, String> {
        let directory = env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let directory = directory.ok_or(
            "there are no programs: HOSTS names a directory with kube-apiserver, kubelet and the like; see tests/cluster",
        )?;
        let hosts = Hosts(PathBuf::from(directory));
        if let Some(missing) = PROGRAMS.iter().find(|name| !hosts.path(name).is_file()) {
            return Err(format!("{} has no {missing}", hosts.0.display()));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("a kubelet runs as root only: run 'make e2e-cluster' as root".to_owned());
        }
        Ok(hosts)
    }

    /// One of them.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// All of them, for PATH.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }
}

/// Runs this program once more, with namespaces of its own of mounts, processes and the network: nothing that runs or is
/// mounted there outlives it, and no port is in another's way. The directory that it works in goes afterwards, when nothing
/// is mounted in it any more.
///
/// # Errors
/// Why there is no such namespace.
pub fn run_inside() -> io::Result<ExitStatus> {
    let directory = tempfile::Builder::new().prefix("cluster-").tempdir()?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--net", "--fork", "--kill-child"]);
    unshare.arg("--mount-proc").arg(env::current_exe()?);
    unshare.args(env::args_os().skip(1));
    unshare.env(INSIDE, directory.path()).status()
}

/// The directory to work in, where this process has its namespaces.
#[must_use]
pub fn inside() -> Option<PathBuf> {
    env::var_os(INSIDE).map(PathBuf::from)
}

/// Makes of the new namespaces a machine with a network, whose files are below a directory.
///
/// # Errors
/// What is not possible.
pub fn set_up(directory: &Path) -> io::Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    // No name is known here, and whoever asks is told at once.
    if Path::new(NAMES).is_file() {
        let names = directory.join("resolv.conf");
        fs::write(&names, "nameserver 127.0.0.1\n")?;
        mount_bind(&names, NAMES)?;
    }
    // The sockets of the machine's own runtime are not for us.
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None)?;
    // The kubelet makes mounts that its containers must see.
    mount_change(
        "/",
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )?;
    for arguments in [
        "link set lo up",
        "link add uplink type veth peer name downlink",
        &format!("addr add {ADDRESS}/24 dev uplink"),
        "link set uplink up",
        "link set downlink up",
        "route add default via 10.88.0.254",
    ] {
        let status = Command::new("ip").args(arguments.split(' ')).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("ip {arguments}: {status}")));
        }
    }
    Ok(())
}
