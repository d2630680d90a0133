//! The command line.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anstream::{AutoStream, ColorChoice};
use clap::{Args, Parser, ValueEnum};
use json_patch::{Patch, PatchError};
use manifests::{SourceError, WriteError, console::Failure as _};
use serde::Serialize;
use serde_json::Value;

use crate::{
    definition::Definition,
    engine::{LoadError, Policy},
    input::{self, Input, InputError, Source},
    report,
    response::AdmissionResponse,
    server::{PolicyFailure, Server, StartError},
};

const EXAMPLES: &str = "\
Examples:
  mesa-preview vm.yaml                                      what the policy changes, for people
  mesa-preview --policy-yaml policy.yaml vm.yaml            with the settings of a ClusterAdmissionPolicy
  mesa-preview --settings-json '{\"containers\":[\"*\"]}' vm.yaml
  kubectl get pods -A -l kubevirt.io=virt-launcher -o yaml | mesa-preview -
  mesa-preview --output yaml vm.yaml | kubectl create -f -  the pod as the policy leaves it
  mesa-preview --output response request.json | jq .allowed

A POD is a Pod manifest (YAML or JSON, several documents or a List too), an AdmissionRequest, an AdmissionReview, or
- for standard input. A Pod is taken to be created by virt-controller, in its own namespace or else in kubevirt.

Exit status:
  0  every pod was shown; with --output diff and response also when the policy rejects it, as in kwctl
  1  an input is bad, the settings are refused, or the policy fails; with --output patch and yaml also when it
     rejects a pod
  2  wrong usage";

/// Show what the policy does to a pod, without a cluster
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Arguments {
    /// The policy's Wasm module
    #[arg(long, value_name = "FILE", default_value = "policy.wasm")]
    policy: PathBuf,
    #[command(flatten)]
    definition: DefinitionArguments,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Diff)]
    output: Output,
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,
    /// What to preview
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
struct DefinitionArguments {
    /// The policy's settings, YAML or JSON [default: {}]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The policy's settings
    #[arg(long, value_name = "JSON")]
    settings_json: Option<String>,
    /// A ClusterAdmissionPolicy or AdmissionPolicy: its settings, mode, mutating and message are honoured
    #[arg(long, value_name = "FILE")]
    policy_yaml: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// The verdict and the change, for people
    Diff,
    /// The JSON patch, one line per pod
    Patch,
    /// The pod as the policy leaves it
    Yaml,
    /// The admission response, one line per pod, as `kwctl run` prints it
    Response,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// What stands between the command line and an answer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Definition(#[from] SourceError),
    #[error("{}: {error}", file.display())]
    Load { file: PathBuf, error: LoadError },
    #[error("{}: {error}", file.display())]
    Start { file: PathBuf, error: StartError },
    #[error("{error}{}", settings_mend(file.as_deref()))]
    Settings {
        file: Option<String>,
        error: StartError,
    },
    #[error("{}: fails on {pod}: {failure}; build it anew with `make policy.wasm`, or report it", file.display())]
    Failure {
        file: PathBuf,
        pod: Source,
        failure: PolicyFailure,
    },
    #[error("{pod}: {reason}")]
    Rejected { pod: Source, reason: String },
    #[error("{pod}: the policy's patch does not apply: {error}; report it")]
    Patch { pod: Source, error: PatchError },
    #[error("cannot write the preview: {0}")]
    Write(#[from] io::Error),
    #[error(transparent)]
    Yaml(#[from] WriteError),
}

/// Previews every pod, and tells what went wrong on standard error.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let errors = match arguments.preview() {
        Ok(errors) => errors,
        Err(error) => vec![error],
    };
    for error in &errors {
        eprintln!("Error: {}", one_line(&with_causes(error)));
    }
    if errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Arguments {
    /// Returns what went wrong with single pods, which does not keep the others from being shown.
    fn preview(&self) -> Result<Vec<Error>, Error> {
        let inputs = input::read(&self.pods)?;
        let definition = self.definition.read()?;
        let policy = Policy::load(&self.policy).map_err(|error| Error::Load {
            file: self.policy.clone(),
            error,
        })?;
        let server = Server::start(&policy, &definition)
            .map_err(|error| self.start_error(&definition, error))?;
        let mut out = self.color.stdout();
        let mut errors = Vec::new();
        for input in &inputs {
            match self.show(&server, &definition, input) {
                Ok(text) => out.write_all(text.as_bytes())?,
                Err(error) => errors.push(error),
            }
        }
        Ok(errors)
    }

    fn show(
        &self,
        server: &Server<'_>,
        definition: &Definition,
        input: &Input,
    ) -> Result<String, Error> {
        let ask = || {
            server
                .ask(&input.request)
                .map_err(|failure| Error::Failure {
                    file: self.policy.clone(),
                    pod: input.source.clone(),
                    failure,
                })
        };
        Ok(match self.output {
            Output::Diff => report::render(input, &ask()?, definition.mode),
            Output::Patch => json_line(&accepted(input, ask()?)?)?,
            Output::Yaml => {
                let object = patched(input, &accepted(input, ask()?)?)?;
                format!("---\n{}", manifests::to_yaml(&object)?)
            }
            Output::Response => json_line(&server.answer(&input.request))?,
        })
    }

    fn start_error(&self, definition: &Definition, error: StartError) -> Error {
        match error {
            StartError::Settings(_) => Error::Settings {
                file: definition.file.clone(),
                error,
            },
            StartError::Module(_) => Error::Start {
                file: self.policy.clone(),
                error,
            },
        }
    }
}

impl DefinitionArguments {
    fn read(&self) -> Result<Definition, SourceError> {
        match self {
            Self {
                settings: Some(file),
                ..
            } => Definition::from_settings_file(file),
            Self {
                settings_json: Some(json),
                ..
            } => Definition::from_settings_json(json),
            Self {
                policy_yaml: Some(file),
                ..
            } => Definition::from_policy_file(file),
            _ => Ok(Definition::default()),
        }
    }
}

impl Color {
    fn stdout(self) -> AutoStream<io::Stdout> {
        let stdout = io::stdout();
        let choice = match self {
            Self::Auto => AutoStream::choice(&stdout),
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        };
        AutoStream::new(stdout, choice)
    }
}

fn json_line(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// The patch of an accepted pod, empty when the pod stays as it is.
fn accepted(input: &Input, response: AdmissionResponse) -> Result<Patch, Error> {
    if response.allowed {
        return Ok(response.patch.unwrap_or_default());
    }
    Err(Error::Rejected {
        pod: input.source.clone(),
        reason: response.reason(),
    })
}

/// The object as the API server stores it.
fn patched(input: &Input, patch: &Patch) -> Result<Value, Error> {
    let mut object = input.request.object.clone().unwrap_or_default();
    json_patch::patch(&mut object, patch).map_err(|error| Error::Patch {
        pod: input.source.clone(),
        error,
    })?;
    Ok(object)
}

fn settings_mend(file: Option<&str>) -> String {
    file.map(|file| format!(" ({file}: mend it there; docs/settings.md lists every setting)"))
        .unwrap_or_default()
}

/// An error, what caused it, and the fix where it is not in the text.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    match error {
        Error::Input(InputError::Source(error)) | Error::Definition(error) => error.fix(),
        _ => None,
    }
    .into_iter()
    .fold(text, |text, fix| format!("{text}; {fix}"))
}

/// Some of what others report, such as a trap's backtrace, comes in several lines.
fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}
