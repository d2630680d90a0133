//! Runs a command in a container of a launcher pod, made out of a node's root and an image's root.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use display_tests::pod::{Container, PodError};
use display_tests::realise::{Ground, become_container};

/// The container did not start, as with `docker run`.
const NOT_STARTED: u8 = 125;

/// Run a command in a container of a pod that the policy returned. Needs root.
#[derive(Debug, Parser)]
struct Arguments {
    /// The pod, as mesa-preview --output yaml prints it
    #[arg(long, value_name = "FILE")]
    pod: PathBuf,
    /// Which container of the pod
    #[arg(long, value_name = "NAME", default_value = "compute")]
    container: String,
    /// The node's root directory
    #[arg(long, value_name = "DIR")]
    node: PathBuf,
    /// The image's root directory, to which nothing is written
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    /// Where the pod's own volumes are kept
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// A directory that stands for the image of image volumes
    #[arg(long, value_name = "REFERENCE=DIR", value_parser = image_volume)]
    image_volume: Vec<(String, PathBuf)>,
    /// Mount image volumes as a runtime does that lets nothing be executed from them
    #[arg(long)]
    noexec: bool,
    /// Mount all of an image where a part of it is asked for, as containerd before 2.2 does
    #[arg(long)]
    ignore_sub_paths: bool,
    /// The command, by its path in the container; the container's own without one
    #[arg(last = true)]
    command: Vec<String>,
}

fn image_volume(argument: &str) -> Result<(String, PathBuf), String> {
    match argument.rsplit_once('=') {
        Some((reference, directory)) => Ok((reference.to_owned(), directory.into())),
        None => Err("write REFERENCE=DIR".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let read = std::fs::read_to_string(&arguments.pod)
        .map_err(|error| format!("{}: {error}", arguments.pod.display()));
    let container = read.and_then(|pod| {
        let container = Container::of(&pod, &arguments.container);
        container.map_err(|error: PodError| error.to_string())
    });
    let ground = Ground {
        node: arguments.node,
        image: arguments.image,
        state: arguments.state,
        image_volumes: arguments.image_volume.into_iter().collect(),
        devices: Vec::new(),
        noexec: arguments.noexec,
        ignore_sub_paths: arguments.ignore_sub_paths,
    };
    let error = match container {
        Ok(container) => become_container(&container, &ground, &arguments.command).to_string(),
        Err(error) => error,
    };
    eprintln!("the container does not start: {error}");
    ExitCode::from(NOT_STARTED)
}
