//! Reasons why a pod does not start or GL does not load in it: data, with a sentence and the mend.

use std::fmt;

/// The kinds of reasons, for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Nobody said which image.
    NoImage,
    /// Node and image are of different architectures.
    Architecture,
    /// The node's own files are not as they should be.
    NodeFault,
    /// A host path is not on the node.
    HostPathMissing,
    /// A host path is a link to nothing.
    HostPathDangling,
    /// A host path is not of the type that the settings say.
    HostPathType,
    /// A host path that QEMU's user may not read.
    HostPathUnreadable,
    /// A host path on a file system from which nothing is executed.
    HostPathNoexec,
    /// A volume that is not of this node.
    NotOnNode,
    /// The mounts are not for the container that runs QEMU.
    NotCompute,
    /// A mount point that the runtime cannot make.
    MountPoint,
    /// A mount hides something of the image.
    Covered,
    /// A mount brings a file of the glibc family.
    Glibc,
    /// A library that nothing provides.
    LibraryMissing,
    /// A symbol version that its provider does not define.
    VersionMissing,
    /// No vendor of libglvnd, or a vendor JSON that libglvnd does not understand.
    NoVendor,
    /// No driver of Mesa.
    NoDriver,
}

/// One reason why not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Reason {
    /// Its kind.
    pub cause: Cause,
    /// What is the matter, with the file.
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

impl Reason {
    /// A reason.
    pub fn new(cause: Cause, what: impl AsRef<str>, mend: impl AsRef<str>) -> Self {
        Reason {
            cause,
            what: manifests::printable(what.as_ref()),
            mend: manifests::printable(mend.as_ref()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.mend)
    }
}
