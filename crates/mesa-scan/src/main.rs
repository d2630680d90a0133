//! `mesa-scan`: what of a node's Mesa must be mounted into a virt-launcher container, and will it load there?

use std::io;
use std::process::ExitCode;

use clap::Parser;
use manifests::console::{self, Failure};
use manifests::{WriteError, to_json};
use mesa_scan::check::SettingsError;
use mesa_scan::cli::{CheckArgs, CheckOutput, Cli, Command, Output, ScanArgs, StageArgs};
use mesa_scan::output::{self, NodeSelector, OutputError};
use mesa_scan::scan::{ScanError, Sources};
use mesa_scan::stage::StageError;
use mesa_scan::verdict::Verdict;
use mesa_scan::{check, scan, stage};

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("cannot write to standard output")]
    Write(#[from] io::Error),
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        OutputError::from(error).into()
    }
}

impl Failure for Error {
    fn fix(&self) -> Option<String> {
        match self {
            Error::Scan(error) => error.fix(),
            Error::Stage(error) => error.fix(),
            Error::Settings(error) => error.fix(),
            Error::Output(error) => error.fix(),
            Error::Write(_) => None,
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Scan(args) => run_scan(&args),
        Command::Stage(args) => run_stage(&args),
        Command::Check(args) => run_check(&args),
    };
    match done {
        Ok(verdict) if verdict.loads() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            console::error(&error);
            ExitCode::from(2)
        }
    }
}

fn run_scan(args: &ScanArgs) -> Result<Verdict, Error> {
    let sources = Sources::open(&args.sources.root, args.sources.image.as_deref())?;
    let base = format!("{}/current", args.staged_at.trim_end_matches('/'));
    let scan = scan::scan(&sources, args.layout, &base)?;
    let text = match args.output {
        Output::Table => {
            let mut table = Vec::new();
            output::table(&mut table, &scan)?;
            console::print(&table)?;
            return Ok(scan.verdict);
        }
        Output::Settings => output::settings(&scan.plan, &NodeSelector::new())?,
        Output::Policy => output::policy(&scan, &args.module)?,
        Output::Manifest => output::manifest(&scan)?,
        Output::Cdi => output::cdi(&scan)?,
    };
    console::print(text)?;
    explain(&scan.verdict);
    Ok(scan.verdict)
}

fn run_stage(args: &StageArgs) -> Result<Verdict, Error> {
    let staged = stage::stage(args)?;
    explain(&staged.verdict);
    for line in &staged.done {
        console::note(line);
    }
    console::print(&staged.settings)?;
    Ok(staged.verdict)
}

fn run_check(args: &CheckArgs) -> Result<Verdict, Error> {
    let settings = check::read_settings(&args.settings)?;
    let sources = Sources::open(&args.root, Some(&args.image))?;
    let verdict = check::check(&sources, &settings)?;
    match args.output {
        CheckOutput::Table => {
            let mut sentences = Vec::new();
            output::verdict(&mut sentences, &verdict)?;
            console::print(&sentences)?;
        }
        CheckOutput::Json => console::print(to_json(&verdict)?)?,
    }
    Ok(verdict)
}

/// Says on standard error what the output on standard output has no place for.
fn explain(verdict: &Verdict) {
    for reason in &verdict.reasons {
        console::say("GL will not load", &reason.to_string());
    }
    for note in &verdict.notes {
        console::note(note);
    }
}
