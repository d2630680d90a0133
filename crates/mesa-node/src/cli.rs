//! The command line. Nobody else knows a flag's name.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum};
use manifests::console::{self, Failure};
use staging::label::Held;
use staging::{DIRECTORY, Selinux, StagingError};

use crate::domain::{Wanted, WantedError};
use crate::node::Place;
use crate::node::install::{self, InstallError};
use crate::node::remove;
use crate::node::status::{self, LayoutStatus, Status};
use crate::server::{self, ServerError};
use crate::service::Hook;
use crate::stop;

/// How soon it is tried again to remove what stays.
const AGAIN: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  What the policy puts beside virt-launcher, for VMs with a vGPU:
    mesa-node hook --module-dir /usr/lib64/qemu-modules

  A GL display for every VM, on a GPU of the node:
    mesa-node hook --always --render-node /dev/dri/renderD128 --module-dir /usr/lib64/qemu-modules

  As the sidecar of a Plugin of KubeVirt 1.9, too:
    mesa-node hook --plugin-socket /var/run/kubevirt-plugin/mesa-injector/hook.sock

Exit status: 0 it was told to end (SIGTERM); 1 it cannot listen; 2 wrong usage.";

const NODE_EXAMPLES: &str = "\
Examples, in an image that `mesa-scan image` has made:
  Copy the image's files to the node, and label it as long as they are whole:
    mesa-node install --to /var/lib/mesa-injector --label /etc/kubernetes/node-feature-discovery/features.d

  Is all of it whole, and does the label hold?
    mesa-node status --to /var/lib/mesa-injector --label /etc/kubernetes/node-feature-discovery/features.d

  Take it away, the label first:
    mesa-node remove --to /var/lib/mesa-injector --label /etc/kubernetes/node-feature-discovery/features.d

Exit status: 0 done, or sound; 1 something is not sound, or stays, and the reasons are said; 2 wrong usage, or something
cannot be read or written.";

/// What runs beside a VM and on a node, so that the VM gets a display with OpenGL
#[derive(Debug, Parser)]
#[command(name = "mesa-node", version, after_help = EXAMPLES)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer virt-launcher: give the domain of a VM the GL display that it needs
    ///
    /// A hook of KubeVirt's, in a container of its own beside virt-launcher. Domains with a device that has display='on' get
    /// <graphics type='egl-headless'>, all others stay as they are.
    #[command(after_help = EXAMPLES)]
    Hook(HookArgs),
    /// Copy this image's files to the node, and label it for as long as they are whole
    ///
    /// For clusters whose pods cannot mount an image: what `mesa-scan image --deliver node` prints mounts these files. Ends at
    /// SIGTERM, and leaves files and label.
    #[command(after_help = NODE_EXAMPLES)]
    Install(InstallArgs),
    /// Say what a node has, and whether it is sound
    #[command(after_help = NODE_EXAMPLES)]
    Status(StatusArgs),
    /// Take files and labels from a node, but for what containers still have mounted
    #[command(after_help = NODE_EXAMPLES)]
    Remove(RemoveArgs),
}

/// Where files and labels are.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// The directory of the files; only root may write to it
    #[arg(long = "to", visible_alias = "from", value_name = "DIR", default_value = DIRECTORY)]
    pub directory: PathBuf,
    /// Node Feature Discovery's file for the labels, or its directory features.d, where each layout gets a file
    #[arg(long, value_name = "FILE|DIR")]
    pub label: Option<PathBuf>,
}

impl PlaceArgs {
    fn place(&self) -> Place {
        Place {
            directory: self.directory.clone(),
            label: self.label.clone(),
        }
    }
}

/// Arguments of `install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Where to.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How long the labels hold unless they are renewed, which is done four times as often
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = expiry)]
    pub expiry: Duration,
    /// The root of the image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// The node's proc file system, which tells what containers have mounted
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub proc: PathBuf,
    /// Whether to label the files for SELinux: auto does it where the node enforces
    #[arg(long, default_value = "auto", value_parser = PossibleValuesParser::new(Selinux::NAMES).try_map(|name| name.parse::<Selinux>()))]
    pub selinux: Selinux,
    /// End once all is there: nobody renews the label then
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Look at one layout alone
    #[arg(long, value_name = "LAYOUT")]
    pub layout: Option<String>,
    /// Compare checksums, not only sizes
    #[arg(long)]
    pub checksums: bool,
    /// What to write
    #[arg(short, long, value_enum, default_value_t = StatusOutput::Table)]
    pub output: StatusOutput,
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// From where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Remove one layout alone
    #[arg(long, value_name = "LAYOUT")]
    pub layout: Option<String>,
    /// The node's proc file system, which tells what containers have mounted
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub proc: PathBuf,
    /// Try again until nothing stays, and then wait for SIGTERM, as the container of a DaemonSet has to
    #[arg(long)]
    pub stay: bool,
}

/// What `status` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusOutput {
    /// Sentences for people
    Table,
    /// All of it, for machines
    Json,
}

fn expiry(text: &str) -> Result<Duration, String> {
    let expiry = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match expiry < Duration::from_secs(1) {
        true => Err("a label holds a second at least".to_owned()),
        false => Ok(expiry),
    }
}

/// Arguments of `hook`.
#[derive(Debug, Args)]
pub struct HookArgs {
    /// The socket that virt-launcher finds, in the directory that it looks into
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/kubevirt-hooks/mesa-injector.sock"
    )]
    pub socket: PathBuf,
    /// The render node that QEMU paints on; /dev/null paints with the processor
    #[arg(long, value_name = "FILE", default_value = "/dev/null")]
    pub render_node: String,
    /// Where virt-launcher's container has QEMU's GL modules; without it QEMU must have them in its own directory
    #[arg(long, value_name = "DIR")]
    pub module_dir: Option<String>,
    /// Give every VM the display, not only those with a device that has display='on'
    #[arg(long)]
    pub always: bool,
    /// The socket of a Plugin of KubeVirt's, besides
    #[arg(long, value_name = "FILE")]
    pub plugin_socket: Option<PathBuf>,
}

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is wanted cannot be written.
    #[error("no domain can have {flag}")]
    Wanted {
        /// The flags that it is asked for with.
        flag: &'static str,
        /// Why not.
        #[source]
        error: WantedError,
    },
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The files on the node.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The same.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// What a program needs of the system.
    #[error("cannot write, or wait")]
    Io(#[from] io::Error),
}

impl Error {
    /// The exit status that says so.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Error::Wanted { .. } | Error::Server(_) => ExitCode::FAILURE,
            Error::Install(_) | Error::Staging(_) | Error::Io(_) => ExitCode::from(2),
        }
    }
}

impl Failure for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::Wanted { .. } => {
                Some("name the absolute path of a file in virt-launcher's container".to_owned())
            }
            Error::Server(error) => error.fix(),
            Error::Install(error) => error.fix(),
            Error::Staging(error) => error.fix(),
            Error::Io(_) => None,
        }
    }
}

/// Runs a command. Returns whether all is as it should be.
///
/// # Errors
/// What it fails with.
pub fn run(cli: &Cli) -> Result<bool, Error> {
    match &cli.command {
        Command::Hook(args) => hook(args).map(|()| true),
        Command::Install(args) => install(args).map(|()| true),
        Command::Status(args) => status(args),
        Command::Remove(args) => remove(args),
    }
}

fn install(args: &InstallArgs) -> Result<(), Error> {
    let options = install::Options {
        root: args.root.clone(),
        place: args.place.place(),
        expiry: args.expiry,
        proc: args.proc.clone(),
        selinux: args.selinux,
        once: args.once,
    };
    Ok(install::install(&options)?)
}

fn status(args: &StatusArgs) -> Result<bool, Error> {
    let status = status::status(&args.place.place(), args.layout.as_deref(), args.checksums)?;
    console::print(match args.output {
        StatusOutput::Table => sentences(&status),
        StatusOutput::Json => serde_json::to_string_pretty(&status).unwrap_or_default() + "\n",
    })?;
    Ok(status.ready)
}

fn sentences(status: &Status) -> String {
    if status.layouts.is_empty() {
        return "there is nothing of an image\n".to_owned();
    }
    status.layouts.iter().map(sentence).collect()
}

fn sentence(status: &LayoutStatus) -> String {
    let layout = &status.layout;
    let Some(generation) = &status.generation else {
        return format!("{layout}: not current any more; containers may have it mounted\n");
    };
    let mesa = status.mesa.as_ref();
    let mesa = mesa.map_or(String::new(), |mesa| format!(", Mesa {mesa}"));
    let sound = match &status.problem {
        None => "whole".to_owned(),
        Some(problem) => format!("damaged ({problem})"),
    };
    let label = match status.label {
        None => "",
        Some(Held::Ready) => "; the label says that the node is ready",
        Some(Held::NotReady) => "; the label says that the node is not ready",
        Some(Held::Expired) => "; the label has expired: nobody renews it",
        Some(Held::Missing) => "; there is no label",
    };
    let text = format!("{layout}: generation {generation}{mesa} is {sound}{label}");
    manifests::printable(&text) + "\n"
}

fn remove(args: &RemoveArgs) -> Result<bool, Error> {
    let mut said = Vec::new();
    loop {
        let removed = remove::remove(&args.place.place(), args.layout.as_deref(), &args.proc)?;
        for line in &removed.gone {
            console::note(line);
        }
        for line in removed.stays.iter().filter(|line| !said.contains(*line)) {
            console::say("stays", line);
        }
        let is_done = removed.stays.is_empty();
        if !args.stay {
            return Ok(is_done);
        }
        said = removed.stays;
        if stop::wait((!is_done).then_some(AGAIN))? {
            return Ok(is_done);
        }
    }
}

fn hook(args: &HookArgs) -> Result<(), Error> {
    let wanted = Wanted::new(
        args.render_node.clone(),
        args.module_dir.clone(),
        args.always,
    )
    .map_err(|error| Error::Wanted {
        flag: "this --render-node or --module-dir",
        error,
    })?;
    let sockets: Vec<PathBuf> = [&args.socket]
        .into_iter()
        .chain(&args.plugin_socket)
        .cloned()
        .collect();
    server::serve(&Hook::new(wanted), &sockets)?;
    Ok(())
}
