//! The command line.

use std::{io, path::PathBuf, process::ExitCode};

use anstream::ColorChoice;
use clap::{Args, Parser, ValueEnum};
use json_patch::{Patch, PatchError};
use manifests::{
    SourceError, WriteError,
    console::{self, Failure},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    definition::Definition,
    engine::{LoadError, Policy},
    input::{self, Input, InputError, Overrides, Source},
    report,
    response::AdmissionResponse,
    server::{PolicyFailure, Server, StartError},
    webhook::{self, Labels},
};

const EXAMPLES: &str = "\
Examples:
  mesa-preview vm.yaml                                      what the policy changes, for people
  mesa-preview --policy-yaml policy.yaml vm.yaml            as the API server and a ClusterAdmissionPolicy would have it
  mesa-preview --settings-json '{\"containers\":[\"*\"]}' vm.yaml
  kubectl get pods -A -l kubevirt.io=virt-launcher -o yaml | mesa-preview -
  mesa-preview -o yaml vm.yaml | kubectl create -f -        the pod as the policy leaves it
  mesa-preview -o response -r request.json -s settings.yaml as kwctl run has it

A POD is a Pod manifest (YAML or JSON, several documents or a List too), an AdmissionRequest, an AdmissionReview, or
- for standard input. A Pod is taken to be created by virt-controller, in its own namespace or else in kubevirt.

Exit status:
  0  every pod was shown, also when the policy rejects it, as in kwctl
  1  an input cannot be read, the settings are refused, or the policy fails
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
    /// Labels of the pods' namespace besides its name, for the namespaceSelector of --policy-yaml
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label, requires = "policy_yaml")]
    namespace_labels: Vec<(String, String)>,
    /// Who creates the pods of manifests [default: KubeVirt's controller]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Where the pods of manifests are created [default: their own namespace, or kubevirt]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// What is done to the pods of manifests [default: CREATE]
    #[arg(long, value_name = "OPERATION", value_parser = ["CREATE", "UPDATE", "DELETE", "CONNECT"])]
    operation: Option<String>,
    /// What to print
    #[arg(long, short, value_enum, default_value_t = Output::Diff)]
    output: Output,
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,
    /// An AdmissionRequest or AdmissionReview to preview, as in kwctl run
    #[arg(long, short, value_name = "FILE")]
    request_path: Vec<String>,
    /// What to preview
    #[arg(required_unless_present = "request_path", value_name = "POD")]
    pods: Vec<String>,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
struct DefinitionArguments {
    /// The policy's settings, YAML or JSON, or a policy that has them [default: {}]
    #[arg(long, short, value_name = "FILE", alias = "settings")]
    settings_path: Option<PathBuf>,
    /// The policy's settings
    #[arg(long, value_name = "JSON")]
    settings_json: Option<String>,
    /// A ClusterAdmissionPolicy or AdmissionPolicy: its settings, mode, mutating and message, and the rules and selectors by
    /// which the API server sends a request or not
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
    /// The same as JSON
    Json,
    /// The admission response, one line per pod, as `kwctl run` prints it
    Response,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What stands between the command line and an answer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Definition(#[from] SourceError),
    #[error("cannot load {}", file.display())]
    Load {
        file: PathBuf,
        #[source]
        error: LoadError,
    },
    #[error("cannot start {}", file.display())]
    Start {
        file: PathBuf,
        #[source]
        error: StartError,
    },
    #[error("{error}")]
    Settings {
        file: Option<String>,
        error: StartError,
    },
    #[error("{} fails on {pod}", file.display())]
    Failure {
        file: PathBuf,
        pod: Source,
        #[source]
        failure: PolicyFailure,
    },
    #[error("{pod}: the policy's patch does not apply")]
    Patch {
        pod: Source,
        #[source]
        error: PatchError,
    },
    #[error("cannot write the preview")]
    Print(#[from] io::Error),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Failure for Error {
    fn fix(&self) -> Option<String> {
        let fix = match self {
            Self::Input(error) => return error.fix(),
            Self::Definition(error) => return error.fix(),
            Self::Settings { file, .. } => {
                let place = file
                    .as_ref()
                    .map(|file| format!("correct them in {file}; "));
                let docs = "docs/settings.md has every setting";
                return Some(place.unwrap_or_default() + docs);
            }
            Self::Load { .. } | Self::Start { .. } => {
                "build it with `make policy.wasm`, or name another file with --policy"
            }
            Self::Failure { .. } => "build it again with `make policy.wasm`, or report it",
            Self::Patch { .. } => "report it",
            Self::Print(_) | Self::Write(_) => return None,
        };
        Some(fix.to_owned())
    }
}

/// Previews every pod, and tells what went wrong on standard error.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    arguments.color.choice().write_global();
    let errors = match arguments.preview() {
        Ok(errors) => errors,
        Err(error) => vec![error],
    };
    for error in &errors {
        console::error(error);
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
        let overrides = Overrides {
            user: self.user.clone(),
            namespace: self.namespace.clone(),
            operation: self.operation.clone(),
        };
        let files: Vec<String> = self
            .request_path
            .iter()
            .chain(&self.pods)
            .cloned()
            .collect();
        let found = input::read(&files, &overrides)?;
        let definition = self.definition.read()?;
        let policy = Policy::load(&self.policy).map_err(|error| Error::Load {
            file: self.policy.clone(),
            error,
        })?;
        let server = Server::start(&policy, &definition)
            .map_err(|error| self.start_error(&definition, error))?;
        let notes = definition.policy.iter().flat_map(webhook::notes);
        found
            .notes
            .into_iter()
            .chain(notes)
            .for_each(|it| console::note(&it));
        let mut errors = Vec::new();
        for input in &found.inputs {
            match self.show(&server, &definition, input) {
                Ok(text) => console::print(text)?,
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
        let labels: Labels = self.namespace_labels.iter().cloned().collect();
        let webhook = definition.policy.as_ref();
        let not_sent =
            webhook.and_then(|policy| webhook::not_sent(policy, &input.request, &labels));
        // What the policy server would answer if it were asked is another question.
        if let (Output::Response, None) = (self.output, &not_sent) {
            return Ok(json_line(&server.answer(&input.request))?);
        }
        let response = match &not_sent {
            Some(_) => AdmissionResponse::untouched(&input.request.uid),
            None => server
                .ask(&input.request)
                .map_err(|failure| Error::Failure {
                    file: self.policy.clone(),
                    pod: input.source.clone(),
                    failure,
                })?,
        };
        if let Output::Diff = self.output {
            return Ok(report::render(
                input,
                &response,
                definition,
                not_sent.as_deref(),
            ));
        }
        if let Some(reason) = not_sent {
            console::note(&format!("{}: not sent: {reason}", input.source));
        }
        if let Output::Response = self.output {
            return Ok(json_line(&response)?);
        }
        if !response.allowed {
            // There is no such pod, and so nothing to go on with.
            console::note(&format!("{}: {}", input.source, response.reason()));
            return Ok(String::new());
        }
        let patch = response.patch.unwrap_or_default();
        Ok(match self.output {
            Output::Yaml => format!("---\n{}", manifests::to_yaml(&patched(input, &patch)?)?),
            Output::Json => manifests::to_json(&patched(input, &patch)?)?,
            _ => json_line(&patch)?,
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
                settings_path: Some(file),
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
    fn choice(self) -> ColorChoice {
        match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        }
    }
}

fn json_line(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
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
