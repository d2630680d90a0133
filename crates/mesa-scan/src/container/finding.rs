//! What is found out of a container: why GL will not load in it, and what else there is to know.

use std::fmt;

/// The kinds of findings, for machines.
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
    /// A part of an image volume that is not there, or that some runtimes do not know.
    SubPath,
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
    /// A vendor JSON that libglvnd passes over while it has another.
    VendorPassedOver,
    /// NVIDIA's driver, which is left out.
    Nvidia,
    /// A vendor JSON whose library is found by accident only.
    RelativeVendor,
    /// No driver of Mesa.
    NoDriver,
    /// Some of the node's drivers are left out.
    DriversLeftOut,
    /// QEMU's own part of a GL display is missing.
    QemuModule,
    /// A module of another build of QEMU.
    QemuBuild,
    /// The program of the hook is missing, or cannot be run.
    Hook,
    /// The next update of the node's Mesa breaks the mounts.
    FixedList,
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The pod does not start, or GL does not load in it.
    Fatal,
    /// Good to know.
    Note,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// What it means.
    pub severity: Severity,
    /// Its kind.
    pub cause: Cause,
    /// What is the matter, with the file.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Finding {
    /// Why GL will not load.
    pub fn fatal(cause: Cause, what: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Finding::new(Severity::Fatal, cause, what.as_ref(), fix.as_ref())
    }

    /// What else there is to know.
    pub fn note(cause: Cause, what: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Finding::new(Severity::Note, cause, what.as_ref(), fix.as_ref())
    }

    /// Names of files may hold anything, and findings are written to terminals and into comments.
    fn new(severity: Severity, cause: Cause, what: &str, fix: &str) -> Self {
        Finding {
            severity,
            cause,
            what: manifests::printable(what),
            fix: manifests::printable(fix),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.fix)
    }
}

/// All that was found, in the order in which it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Whether GL will load.
    #[must_use]
    pub fn loads(&self) -> bool {
        self.fatal().next().is_none()
    }

    /// Why GL will not load.
    pub fn fatal(&self) -> impl Iterator<Item = &Finding> {
        self.of(Severity::Fatal)
    }

    /// What else there is to know.
    pub fn notes(&self) -> impl Iterator<Item = &Finding> {
        self.of(Severity::Note)
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.0
            .iter()
            .filter(move |finding| finding.severity == severity)
    }
}

impl FromIterator<Finding> for Findings {
    /// Sorted, and each once, so that the same things read the same however they were found.
    fn from_iter<I: IntoIterator<Item = Finding>>(findings: I) -> Self {
        let mut findings: Vec<Finding> = findings.into_iter().collect();
        findings.sort();
        findings.dedup();
        Findings(findings)
    }
}
