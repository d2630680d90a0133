//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::layout::Layout;

/// Where `stage` puts generations unless told otherwise.
pub const STAGE_DIRECTORY: &str = "/var/lib/mesa-injector";

macro_rules! exit_status {
    () => {
        "Exit status: 0 GL will load; 1 it will not, the reasons are said; 2 wrong usage, or something cannot be read or \
         written."
    };
}

const EXIT_STATUS: &str = exit_status!();

const EXAMPLES: &str = concat!(
    "\
Examples:
  What does this node have to give a launcher image, and will it load?
    skopeo copy docker://REGISTRY/virt-launcher:TAG docker-archive:launcher.tar
    mesa-scan scan --image launcher.tar

  The policy with what must be mounted:
    mesa-scan scan --image launcher.tar --output policy > policy.yaml

  Copies that survive updates of the node, four or five mounts instead of fifty:
    mesa-scan stage --image launcher.tar --to /var/lib/mesa-injector > settings.json

  Will a pod with these settings start, and will GL load in it?
    mesa-scan check --image launcher.tar --settings policy.yaml

  The same for a node whose root is mounted elsewhere:
    mesa-scan scan --root /host --image launcher.tar

",
    exit_status!()
);

/// What of a node's Mesa must be mounted into a virt-launcher container, and will it load there?
///
/// Nothing of the node or the image is executed.
#[derive(Debug, Parser)]
#[command(name = "mesa-scan", version, after_long_help = EXAMPLES, after_help = EXIT_STATUS)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find what must be mounted, and whether it loads
    #[command(after_long_help = EXAMPLES, after_help = EXIT_STATUS)]
    Scan(ScanArgs),
    /// Copy what must be mounted into directories of its own, and print the settings for them
    #[command(after_long_help = EXAMPLES, after_help = EXIT_STATUS)]
    Stage(StageArgs),
    /// Check settings of the policy: will the pod start, and will GL load in it?
    #[command(after_long_help = EXAMPLES, after_help = EXIT_STATUS)]
    Check(CheckArgs),
}

/// The node and the image.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// The node's root directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// The virt-launcher image: an unpacked root, or an archive as docker save, podman save or skopeo copy write it
    #[arg(long, value_name = "DIR|ARCHIVE")]
    pub image: Option<PathBuf>,
}

/// Arguments of `scan`.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// What is scanned.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// How the files are to be mounted: one by one where they are, or as directories that `stage` makes
    #[arg(long, value_enum, default_value_t = Layout::Files)]
    pub layout: Layout,
    /// What to write
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The directory that `stage --to` fills on the nodes, for --layout staged
    #[arg(long, value_name = "DIR", default_value = STAGE_DIRECTORY)]
    pub staged_at: String,
    /// The policy module, for --output policy
    #[arg(long, value_name = "URL", default_value = crate::output::POLICY_MODULE)]
    pub module: String,
}

/// What `scan` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people
    Table,
    /// The policy's settings
    Settings,
    /// A ClusterAdmissionPolicy with these settings
    Policy,
    /// All that was found, as JSON
    Manifest,
    /// A specification for the Container Device Interface
    Cdi,
}

/// Arguments of `stage`.
#[derive(Debug, Args)]
pub struct StageArgs {
    /// What is staged.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// The directory for the generations; only root may write to it
    #[arg(long, value_name = "DIR", default_value = STAGE_DIRECTORY)]
    pub to: PathBuf,
    /// What that directory is called on the node, where that is neither its path here nor its path below --root
    #[arg(long, value_name = "DIR")]
    pub node_path: Option<String>,
    /// Keep so many generations besides the current one and those that running containers still have mounted
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Write labels for Node Feature Discovery to this file (of its features.d)
    #[arg(long, value_name = "FILE")]
    pub nfd: Option<PathBuf>,
    /// Stage even what will not load
    #[arg(long)]
    pub force: bool,
    /// Whether to label the files for SELinux: auto does it where the node enforces
    #[arg(long, value_enum, default_value_t = Selinux::Auto)]
    pub selinux: Selinux,
    /// The node's proc file system, which tells what containers have mounted
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub proc: PathBuf,
}

/// Whether the staged files get an SELinux label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Selinux {
    /// Where the kernel enforces SELinux
    Auto,
    /// In any case
    Always,
    /// Not at all
    Never,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Settings, or a ClusterAdmissionPolicy with settings, as JSON or YAML; - is standard input
    #[arg(long, value_name = "FILE")]
    pub settings: PathBuf,
    /// The node's root directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// The virt-launcher image: an unpacked root, or an archive as docker save, podman save or skopeo copy write it
    #[arg(long, value_name = "DIR|ARCHIVE")]
    pub image: PathBuf,
    /// What to write
    #[arg(short, long, value_enum, default_value_t = CheckOutput::Table)]
    pub output: CheckOutput,
}

/// What `check` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    /// Sentences for people
    Table,
    /// The reasons as JSON
    Json,
}
