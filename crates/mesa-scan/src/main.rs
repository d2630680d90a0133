//! `mesa-scan`: what of a node's Mesa must be mounted into a virt-launcher container, and will it load there?

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use mesa_scan::cli::{CheckArgs, CheckOutput, Cli, Command, Output, ScanArgs, StageArgs};
use mesa_scan::output::{self, NodeSelector};
use mesa_scan::scan::{Scan, Sources};
use mesa_scan::verdict::Verdict;
use mesa_scan::{check, scan, stage};

/// Any failure: its message is all that is left to do with it.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Scan(args) => run_scan(&args),
        Command::Stage(args) => run_stage(&args),
        Command::Check(args) => run_check(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) if is_closed_pipe(error.as_ref()) => ExitCode::from(2),
        Err(error) => {
            complain(format_args!("error: {error}"));
            ExitCode::from(2)
        }
    }
}

fn run_scan(args: &ScanArgs) -> Result<bool, Failure> {
    let sources = Sources::open(&args.sources.root, args.sources.image.as_deref())?;
    let base = format!("{}/current", args.staged_at.trim_end_matches('/'));
    let scan = scan::scan(&sources, args.layout, &base)?;
    if args.output == Output::Table {
        output::table(&mut anstream::stdout(), &scan)?;
    } else {
        io::stdout().write_all(for_machines(args, &scan)?.as_bytes())?;
        explain(&scan.verdict);
    }
    Ok(scan.verdict.loads())
}

fn for_machines(args: &ScanArgs, scan: &Scan) -> Result<String, Failure> {
    Ok(match args.output {
        Output::Settings => output::settings(&scan.plan, &NodeSelector::new())?,
        Output::Policy => output::policy(scan, &args.module)?,
        Output::Cdi => output::cdi(scan)?,
        Output::Manifest | Output::Table => output::manifest(scan)?,
    })
}

fn run_stage(args: &StageArgs) -> Result<bool, Failure> {
    let staged = stage::stage(args)?;
    explain(&staged.verdict);
    for line in &staged.done {
        complain(format_args!("{line}"));
    }
    io::stdout().write_all(staged.settings.as_bytes())?;
    Ok(staged.verdict.loads())
}

fn run_check(args: &CheckArgs) -> Result<bool, Failure> {
    let settings = check::read_settings(&args.settings)?;
    let sources = Sources::open(&args.root, Some(&args.image))?;
    let verdict = check::check(&sources, &settings)?;
    match args.output {
        CheckOutput::Table => output::verdict(&mut anstream::stdout(), &verdict)?,
        CheckOutput::Json => {
            let mut out = io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &verdict)?;
            writeln!(out)?;
        }
    }
    Ok(verdict.loads())
}

/// Says on standard error what the output on standard output has no place for.
fn explain(verdict: &Verdict) {
    for reason in &verdict.reasons {
        complain(format_args!("GL will not load: {reason}"));
    }
    for note in &verdict.notes {
        complain(format_args!("note: {note}"));
    }
}

fn complain(text: std::fmt::Arguments<'_>) {
    for line in text.to_string().lines() {
        // Where standard error is closed nobody is left to tell.
        let _ = writeln!(io::stderr(), "mesa-scan: {}", manifests::printable(line));
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
