//! The command line. Nobody else knows a flag's name.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use manifests::console::Failure;

use crate::domain::{Wanted, WantedError};
use crate::server::{self, ServerError};
use crate::service::Hook;

const EXAMPLES: &str = "\
Examples:
  What the policy puts beside virt-launcher, for VMs with a vGPU:
    mesa-node hook --module-dir /usr/lib64/qemu-modules

  A GL display for every VM, on a GPU of the node:
    mesa-node hook --always --render-node /dev/dri/renderD128 --module-dir /usr/lib64/qemu-modules

  As the sidecar of a Plugin of KubeVirt 1.9, too:
    mesa-node hook --plugin-socket /var/run/kubevirt-plugin/mesa-injector/hook.sock

Exit status: 0 it was told to end (SIGTERM); 1 it cannot listen; 2 wrong usage.";

/// What runs beside a VM, so that it gets a display with OpenGL
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
}

impl Failure for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::Wanted { .. } => {
                Some("name the absolute path of a file in virt-launcher's container".to_owned())
            }
            Error::Server(error) => error.fix(),
        }
    }
}

/// Runs a command.
///
/// # Errors
/// What it fails with.
pub fn run(cli: &Cli) -> Result<(), Error> {
    match &cli.command {
        Command::Hook(args) => hook(args),
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
