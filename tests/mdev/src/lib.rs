//! What the test says to the virtual machine with the mediated devices, and what it hears from it.
//!
//! The test, on the host, writes a list of [`Case`]s to a directory that the machine sees. The machine's first and only
//! process (`src/bin/init.rs`) starts a launcher's container for each, with QEMU in it, takes the [`Step`]s, and writes
//! [`Report`]s back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the machine says first.
pub const BEGUN: &str = "init: begun";
/// The list of cases, in the directory that the machine reads.
pub const CASES: &str = "cases.json";
/// The list of reports, in the directory that it writes to.
pub const REPORTS: &str = "reports.json";
/// The roots of launchers, nodes and images, in the directory that the machine reads.
pub const ROOTS: &str = "roots";
/// The guest that drives the device, in the directory that the machine reads.
pub const GUEST: &str = "guest";
/// Where a launcher's pod has a volume of its own for sockets, and its name.
pub const PRIVATE: [&str; 2] = ["/var/run/kubevirt-private", "private"];
/// The mediated device in a case's command line; the machine gives each case its own.
pub const DEVICE: &str = "53764d0e-85a0-42b4-af5c-2046b460b1dc";

/// A VM that is started, or fails to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// The launcher's pod, as YAML.
    pub pod: String,
    /// The root of its image, below [`ROOTS`].
    pub launcher: String,
    /// The root of its node, below [`ROOTS`].
    pub node: String,
    /// What stands for the images of its image volumes, by their references, below [`ROOTS`].
    pub images: BTreeMap<String, String>,
    /// Who makes the device.
    pub driver: Driver,
    /// Whether the container gets the node's render node, as from a device plugin.
    pub has_render_node: bool,
    /// QEMU's command line, for a shell, as libvirt writes it.
    pub command: String,
    /// What is done once QEMU answers.
    pub steps: Vec<Step>,
}

/// A sample driver of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driver {
    /// Its screen is a dma-buf.
    Mbochs,
    /// Its screen is a region of memory.
    Mdpy,
}

impl Driver {
    /// The module, which is the driver's name in sysfs too.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Driver::Mbochs => "mbochs",
            Driver::Mdpy => "mdpy",
        }
    }

    /// The smallest of its devices.
    #[must_use]
    pub fn smallest(self) -> &'static str {
        match self {
            Driver::Mbochs => "mbochs-small",
            Driver::Mdpy => "mdpy-vga",
        }
    }
}

/// What is done with a running VM. Each leaves a value in the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Step {
    /// A command of QEMU's machine protocol: its answer.
    Execute(String, Value),
    /// Waits until the guest says a word: what it said from the last such step on.
    Hear(String),
    /// Gives the guest a byte.
    Send,
    /// The screen of a device: how many pixels it has of each of its commonest colours.
    Screen(String),
    /// What a VNC client sees: the same.
    Vnc,
    /// A VNC client presses keys at once, and releases them.
    Press(Vec<u32>),
    /// Waits until QEMU is gone.
    Gone,
}

/// What came of a case.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The case's name.
    pub name: String,
    /// A value for each step that was taken, up to the first that failed, which leaves an error's text.
    pub steps: Vec<Result<Value, String>>,
    /// How QEMU ended, if it did before it was made to.
    pub ended: Option<Ended>,
    /// What QEMU wrote to its standard error.
    pub said: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}
