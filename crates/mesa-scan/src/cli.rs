//! The command line: flags become plain options, and an error says which flag helps. Nobody else knows a flag's name.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum};
use manifests::console::{self, Failure};
use mesa_injector::hook::PROGRAM;

use crate::commands::check::{self, SettingsError};
use crate::commands::image::{self, ImageError};
use crate::commands::scan::{self, ScanError};
use crate::commands::stage::{self, StageError};
use crate::commands::{Root, SourceError, Sources, Which};
use crate::container::Findings;
use crate::gl::{Layout, LayoutError};
use crate::loader::Program;
use crate::oci::{OciError, Reference};
use crate::output::{self, Delivery, ImageVolume, OutputError};
use crate::tree::TreeError;
use crate::tree::image::Platform;
use staging::{DIRECTORY, Selinux};

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

  All that a launcher lacks as one image for its pods, and the settings (-o policy: the policy) that mount it:
    mesa-scan image --root mesa.tar --image launcher.tar --reference r.example/mesa:1 --to flat.tar
    skopeo copy oci-archive:flat.tar docker://r.example/mesa:1

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
    /// Make an image of all that a launcher lacks, and print the settings or the policy that mount it
    #[command(after_long_help = EXAMPLES, after_help = EXIT_STATUS)]
    Image(ImageArgs),
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

/// A source and the launchers.
#[derive(Debug, Args)]
pub struct LaunchersArgs {
    /// Where Mesa and QEMU's modules come from: a node's root or an image, as a directory or an archive as for --image
    #[arg(long, value_name = "DIR|ARCHIVE", default_value = "/")]
    pub root: PathBuf,
    /// The tag of the root's image, where its archive holds several
    #[arg(long, value_name = "TAG")]
    pub root_tag: Option<String>,
    /// The platform of the images, where an archive holds several: linux/amd64, or linux/amd64/v3
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// A virt-launcher image: an unpacked root, or an image as docker save, podman save or skopeo copy write it, in a
    /// file or a directory; once for each launcher
    #[arg(long, value_name = "DIR|ARCHIVE")]
    pub image: Vec<PathBuf>,
    /// The tag of the launcher's image, where its archive holds several; once, or once for each --image
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
}

impl LaunchersArgs {
    fn open(&self) -> Result<Vec<Sources>, Error> {
        if self.tag.len() > 1 && self.tag.len() != self.image.len() {
            return Err(Error::Tags {
                tags: self.tag.len(),
                images: self.image.len(),
            });
        }
        let node = Root {
            path: self.root.clone(),
            tag: self.root_tag.clone(),
        };
        let images = self.image.iter().enumerate().map(|(number, path)| Root {
            path: path.clone(),
            tag: match self.tag.as_slice() {
                [tag] => Some(tag.clone()),
                tags => tags.get(number).cloned(),
            },
        });
        let images: Vec<Root> = images.collect();
        Ok(Sources::open_all(&node, &images, self.platform.as_ref())?)
    }
}

/// Arguments of `scan`.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// What is scanned.
    #[command(flatten)]
    pub sources: LaunchersArgs,
    /// How the files are to be mounted: one by one where they are, or as directories that `stage` makes
    #[arg(long, value_enum, default_value_t = Layout::Files)]
    pub layout: Layout,
    /// What to write
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The directory that `stage --to` fills on the nodes, for --layout staged
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
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

/// The hook that gives the VM's domain its display.
#[derive(Debug, Args)]
pub struct HookArgs {
    /// The static program of the hook, which goes with the files; mesa-node beside mesa-scan where there is one
    #[arg(long, value_name = "FILE")]
    pub node_program: Option<PathBuf>,
    /// Leave the hook out, for VMs whose domain gets its display in another way
    #[arg(long, conflicts_with = "node_program")]
    pub no_hook: bool,
}

impl HookArgs {
    fn program(&self) -> Option<PathBuf> {
        if self.no_hook {
            return None;
        }
        let given = self.node_program.clone();
        let program = given.or_else(|| {
            let beside = std::env::current_exe().ok()?.with_file_name(PROGRAM);
            Program::is_static(&beside).then_some(beside)
        });
        if program.is_none() {
            console::note(
                "no static mesa-node beside mesa-scan, so the hook is left out and the VM's domain must get its display in \
                 another way; --node-program names one",
            );
        }
        program
    }
}

/// Arguments of `stage`.
#[derive(Debug, Args)]
pub struct StageArgs {
    /// What is staged.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// The directory for the generations; only root may write to it
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    pub to: PathBuf,
    /// What that directory is called on the node, where that is neither its path here nor its path below --root
    #[arg(long, value_name = "DIR")]
    pub node_path: Option<String>,
    /// The hook.
    #[command(flatten)]
    pub hook: HookArgs,
    /// Keep so many generations besides the current one and those that running containers still have mounted
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Write labels for Node Feature Discovery to this file (of its features.d)
    #[arg(long, value_name = "FILE")]
    pub nfd: Option<PathBuf>,
    /// How long the labels hold unless they are written anew, as 1day or 12h; for ever without
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "nfd")]
    pub label_expiry: Option<Duration>,
    /// Stage even what will not load
    #[arg(long)]
    pub force: bool,
    /// Whether to label the files for SELinux: auto does it where the node enforces
    #[arg(long, default_value = "auto", value_parser = PossibleValuesParser::new(Selinux::NAMES).try_map(|name| name.parse::<Selinux>()))]
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

/// Arguments of `image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// What the image is made of and for.
    #[command(flatten)]
    pub sources: LaunchersArgs,
    /// What is written: an OCI archive where the name ends with .tar, else an OCI layout in a directory
    #[arg(long, value_name = "FILE.tar|DIR")]
    pub to: PathBuf,
    /// What the image is called in the registry; with several launchers each gets a tag of its own
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    pub reference: Reference,
    /// What pods call the launcher, where its archive does not say it; once for each --image
    #[arg(long, value_name = "REFERENCE")]
    pub launcher_reference: Vec<String>,
    /// How the image's files come into pods: as a volume of the pod, or from the node, where the image installs itself
    /// (deploy/node), for clusters without image volumes
    #[arg(long, value_enum, default_value_t = DeliverTo::Volume)]
    pub deliver: DeliverTo,
    /// The directory that `mesa-node install --to` fills on the nodes, for --deliver node
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    pub node_path: String,
    /// Mount the image by its tag, as it was loaded into the nodes by hand (kind load image-archive)
    #[arg(long)]
    pub by_tag: bool,
    /// The name of a secret for the registry, in the VMs' namespaces
    #[arg(long, value_name = "NAME")]
    pub pull_secret: Vec<String>,
    /// The hook.
    #[command(flatten)]
    pub hook: HookArgs,
    /// Make even what will not load
    #[arg(long)]
    pub force: bool,
    /// What to print
    #[arg(short, long, value_enum, default_value_t = ImageOutput::Settings)]
    pub output: ImageOutput,
    /// The policy module, for --output policy
    #[arg(long, value_name = "URL", default_value = crate::output::POLICY_MODULE)]
    pub module: String,
}

/// How an image's files come into pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeliverTo {
    /// An image volume, which the kubelet pulls
    #[value(name = "image")]
    Volume,
    /// Directories of the node, which the image has filled
    Node,
}

/// What `image` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageOutput {
    /// The policy's settings
    Settings,
    /// A ClusterAdmissionPolicy for the launcher, with these settings
    Policy,
    /// All that was found and made, the settings among it, for machines
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
            // What `image` makes has a name and a digest, which a scan does not know.
            Layout::Flat => return None,
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
    /// What the image volume of that name holds: an archive, an OCI layout, or a directory that stands for it
    #[arg(long, value_name = "NAME=DIR|ARCHIVE", value_parser = volume)]
    pub volume: Vec<(String, PathBuf)>,
    /// What to write
    #[arg(short, long, value_enum, default_value_t = CheckOutput::Table)]
    pub output: CheckOutput,
}

fn volume(text: &str) -> Result<(String, PathBuf), &'static str> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        _ => Err("write NAME=DIR or NAME=ARCHIVE"),
    }
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
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Some launchers have a tag and some have none.
    #[error("{tags} tags for {images} images")]
    Tags {
        /// How many there are.
        tags: usize,
        /// How many are needed.
        images: usize,
    },
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
            Error::Scan(error)
            | Error::Stage(StageError::Scan(error))
            | Error::Image(ImageError::Scan(error)) => error.fix(),
            Error::Image(error) => error.fix(),
            Error::Tags { .. } => Some("give --tag once, or once for each --image".to_owned()),
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
            | Error::Stage(StageError::Scan(ScanError::Source(error)))
            | Error::Image(ImageError::Scan(ScanError::Source(error))) => error,
            Error::Scan(ScanError::Layout(LayoutError::SameName { .. }))
            | Error::Image(ImageError::Scan(ScanError::Layout(LayoutError::SameName { .. }))) => {
                return None;
            }
            Error::Image(ImageError::References { .. } | ImageError::NoReference(_)) => {
                return Some("--launcher-reference");
            }
            Error::Image(ImageError::Oci(OciError::Occupied(_))) => return Some("--to"),
            Error::Image(ImageError::Program(_) | ImageError::NoProgram)
            | Error::Stage(StageError::Program(_)) => {
                return Some("--node-program");
            }
            Error::Scan(ScanError::Layout(_)) => return Some("--layout files"),
            Error::Stage(StageError::Scan(ScanError::Layout(_)))
            | Error::Image(ImageError::Scan(ScanError::Layout(_))) => {
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
    match &cli.command {
        Command::Scan(args) => run_scan(args),
        Command::Stage(args) => Ok(run_stage(args)?.loads()),
        Command::Image(args) => run_image(args),
        Command::Check(args) => Ok(run_check(args)?.loads()),
    }
}

fn run_scan(args: &ScanArgs) -> Result<bool, Error> {
    let base = format!("{}/current", args.staged_at.trim_end_matches('/'));
    let mut loads = true;
    for (number, sources) in args.sources.open()?.iter().enumerate() {
        let scan = scan::scan(sources, args.layout, &base)?;
        loads &= scan.findings.loads();
        if args.sources.image.len() > 1 {
            separate(number, args.output, sources)?;
        }
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
    }
    Ok(loads)
}

/// Tells what is of which launcher, as each kind of output does: by headings, one JSON object after the other, or as
/// documents of YAML.
fn separate(number: usize, output: Output, sources: &Sources) -> io::Result<()> {
    let path = sources.image_names().map(|(path, _)| path);
    let path = manifests::printable(path.unwrap_or_default());
    match output {
        Output::Table if number > 0 => console::print(format!("\n=== {path}\n")),
        Output::Table => console::print(format!("=== {path}\n")),
        Output::Json => Ok(()),
        Output::Settings | Output::Policy => console::print(format!("---\n# {path}\n")),
    }
}

fn run_image(args: &ImageArgs) -> Result<bool, Error> {
    let sources = args.sources.open()?;
    let options = image::Options {
        to: args.to.clone(),
        reference: args.reference.clone(),
        launchers: args.launcher_reference.clone(),
        program: args.hook.program(),
        for_policy: args.output == ImageOutput::Policy,
        installs_itself: args.deliver == DeliverTo::Node,
        force: args.force,
    };
    let delivery = match args.deliver {
        DeliverTo::Volume => Delivery::Volume(ImageVolume {
            by_tag: args.by_tag,
            pull_secrets: args.pull_secret.clone(),
        }),
        DeliverTo::Node => Delivery::Node {
            directory: args.node_path.clone(),
        },
    };
    let all = image::image(&sources, &options)?;
    if args.output == ImageOutput::Json {
        console::print(output::image(&all, &delivery)?)?;
    } else {
        for (number, imaged) in all.iter().enumerate() {
            if all.len() > 1 {
                console::note(&format!("for {}:", imaged.name));
            }
            explain(&imaged.scan.findings);
            let Some(made) = &imaged.made else {
                console::note("no image is made; --force makes what will not load");
                continue;
            };
            let text = match args.output {
                ImageOutput::Policy => output::image_policy(imaged, made, &delivery, &args.module)?,
                _ => output::image_settings(imaged, made, &delivery)?,
            };
            if number > 0 {
                console::print("---\n")?;
            }
            console::print(text)?;
        }
    }
    Ok(all.iter().all(|imaged| imaged.scan.findings.loads()))
}

fn run_stage(args: &StageArgs) -> Result<Findings, Error> {
    let options = stage::Options {
        to: args.to.clone(),
        node_path: args.node_path.clone(),
        program: args.hook.program(),
        keep: args.keep,
        label: args.nfd.clone(),
        expiry: args.label_expiry,
        force: args.force,
        selinux: args.selinux,
        proc: args.proc.clone(),
    };
    let staged = stage::stage(|| args.sources.open(), &args.sources.node.root, &options)?;
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
    let volumes = args.volume.iter().map(|(name, path)| {
        let tree = check::open_volume(path).map_err(ScanError::from)?;
        Ok((name.clone(), tree))
    });
    let volumes = volumes.collect::<Result<_, ScanError>>()?;
    let findings = check::check(&sources, &volumes, &settings)?;
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
