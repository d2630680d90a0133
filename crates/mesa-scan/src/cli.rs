//! The command line: flags become plain options, and an error says which flag helps. Nobody else knows a flag's name.

use std::io;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use manifests::console::{self, Failure};

use crate::commands::check::{self, SettingsError};
use crate::commands::scan::{self, ScanError};
use crate::commands::stage::{self, StageError};
use crate::commands::{Root, SourceError, Sources, Which};
use crate::container::Findings;
use crate::gl::Layout;
use crate::output::{self, OutputError};
use crate::staging::Selinux;
use crate::tree::TreeError;
use crate::tree::image::Platform;

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

/// The node.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's root: a directory, or an archive as for --image
    #[arg(long, value_name = "DIR|ARCHIVE", default_value = "/")]
    pub root: PathBuf,
    /// The tag of the root's image, where its archive holds several
    #[arg(long, value_name = "TAG")]
    pub root_tag: Option<String>,
    /// The platform of the images, where an archive holds several: linux/amd64, or linux/amd64/v3
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// The tag of the launcher's image, where its archive holds several
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
}

impl NodeArgs {
    fn open(&self, image: Option<&PathBuf>) -> Result<Sources, SourceError> {
        let node = Root {
            path: self.root.clone(),
            tag: self.root_tag.clone(),
        };
        let image = image.map(|path| Root {
            path: path.clone(),
            tag: self.tag.clone(),
        });
        Sources::open(&node, image.as_ref(), self.platform.as_ref())
    }
}

/// The node and the image.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// The virt-launcher image: an unpacked root, or an image as docker save, podman save or skopeo copy write it, in a
    /// file or a directory
    #[arg(long, value_name = "DIR|ARCHIVE")]
    pub image: Option<PathBuf>,
}

impl SourceArgs {
    fn open(&self) -> Result<Sources, SourceError> {
        self.node.open(self.image.as_ref())
    }
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
    /// All that was found, for machines
    Json,
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
    /// What to write
    #[arg(short, long, value_enum, default_value_t = StageOutput::Settings)]
    pub output: StageOutput,
}

/// What `stage` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StageOutput {
    /// The policy's settings
    Settings,
    /// All that was found and done, the settings among it, for machines
    Json,
}

impl ValueEnum for Layout {
    fn value_variants<'a>() -> &'a [Self] {
        &[Layout::Files, Layout::Staged]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Layout::Files => PossibleValue::new("files")
                .help("One mount for each file, straight from where the node has it"),
            Layout::Staged => PossibleValue::new("staged")
                .help("A few directories with copies, made by `mesa-scan stage`"),
        })
    }
}

impl ValueEnum for Selinux {
    fn value_variants<'a>() -> &'a [Self] {
        &[Selinux::Auto, Selinux::Always, Selinux::Never]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Selinux::Auto => PossibleValue::new("auto").help("Where the kernel enforces SELinux"),
            Selinux::Always => PossibleValue::new("always").help("In any case"),
            Selinux::Never => PossibleValue::new("never").help("Not at all"),
        })
    }
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Settings, or a ClusterAdmissionPolicy with settings, as JSON or YAML; - is standard input
    #[arg(long, value_name = "FILE")]
    pub settings: PathBuf,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// The virt-launcher image: an unpacked root, or an image as docker save, podman save or skopeo copy write it, in a
    /// file or a directory
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
    /// All that was found, for machines
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Node or image.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The scan.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Staging.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The settings to check.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What was to be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Where it was to be written.
    #[error("cannot write to standard output")]
    Write(#[from] io::Error),
}

impl Failure for Error {
    /// The fix, with the flag for it.
    fn fix(&self) -> Option<String> {
        let fix = match self {
            Error::Source(error) => error.fix(),
            Error::Scan(error) | Error::Stage(StageError::Scan(error)) => error.fix(),
            Error::Stage(error) => error.fix(),
            Error::Settings(error) => error.fix(),
            Error::Output(error) => error.fix(),
            Error::Write(_) => None,
        }?;
        Some(match self.flags() {
            Some(flags) => format!("{fix}, with {flags}"),
            None => fix,
        })
    }
}

impl Error {
    fn flags(&self) -> Option<&'static str> {
        let source = match self {
            Error::Source(error)
            | Error::Scan(ScanError::Source(error))
            | Error::Stage(StageError::Scan(ScanError::Source(error))) => error,
            Error::Scan(ScanError::Layout(_)) => return Some("--layout files"),
            Error::Stage(StageError::Scan(ScanError::Layout(_))) => {
                return Some("scan --layout files");
            }
            _ => return None,
        };
        Some(match source {
            SourceError::Open {
                which,
                source: TreeError::Choice { .. },
                ..
            } => match which {
                Which::Node => "--root-tag or --platform",
                Which::Image => "--tag or --platform",
            },
            SourceError::Open { which, .. } | SourceError::NoLoader { which, .. } => match which {
                Which::Node => "--root",
                Which::Image => "--image",
            },
        })
    }
}

/// Runs a command. Returns whether GL will load.
///
/// # Errors
/// Where there is no answer.
pub fn run(cli: &Cli) -> Result<bool, Error> {
    let findings = match &cli.command {
        Command::Scan(args) => run_scan(args),
        Command::Stage(args) => run_stage(args),
        Command::Check(args) => run_check(args),
    }?;
    Ok(findings.loads())
}

fn run_scan(args: &ScanArgs) -> Result<Findings, Error> {
    let sources = args.sources.open()?;
    let base = format!("{}/current", args.staged_at.trim_end_matches('/'));
    let scan = scan::scan(&sources, args.layout, &base)?;
    match args.output {
        Output::Table => {
            let mut table = Vec::new();
            output::table(&mut table, &scan)?;
            console::print(&table)?;
        }
        Output::Json => console::print(output::scan(&scan)?)?,
        Output::Settings => {
            console::print(output::settings(&scan.plan, &Default::default())?)?;
            explain(&scan.findings);
        }
        Output::Policy => {
            console::print(output::policy(&scan, &args.module)?)?;
            explain(&scan.findings);
        }
    }
    Ok(scan.findings)
}

fn run_stage(args: &StageArgs) -> Result<Findings, Error> {
    let sources = args.sources.open()?;
    let options = stage::Options {
        to: args.to.clone(),
        node_path: args.node_path.clone(),
        keep: args.keep,
        label: args.nfd.clone(),
        force: args.force,
        selinux: args.selinux,
        proc: args.proc.clone(),
    };
    let staged = stage::stage(&sources, &args.sources.node.root, &options)?;
    match args.output {
        StageOutput::Json => console::print(output::stage(&staged)?)?,
        StageOutput::Settings => {
            explain(&staged.findings);
            for line in &staged.done {
                console::note(line);
            }
            if staged.generation.is_none() {
                console::note("--force stages what will not load");
            }
            console::print(&staged.settings)?;
        }
    }
    Ok(staged.findings)
}

fn run_check(args: &CheckArgs) -> Result<Findings, Error> {
    let settings = check::read_settings(&args.settings)?;
    let sources = args.node.open(Some(&args.image))?;
    let findings = check::check(&sources, &settings)?;
    match args.output {
        CheckOutput::Table => {
            let mut sentences = Vec::new();
            output::findings(&mut sentences, &findings)?;
            console::print(&sentences)?;
        }
        CheckOutput::Json => console::print(output::check(&findings)?)?,
    }
    Ok(findings)
}

/// Says on standard error what the output on standard output has no place for.
fn explain(findings: &Findings) {
    for reason in findings.fatal() {
        console::say("GL will not load", &reason.to_string());
    }
    for note in findings.notes() {
        console::note(&note.to_string());
    }
}
