//! How both commands speak to people: an error on standard error, what was asked for on standard output.
//!
//! An error says what failed, below it why, and at the end what to do about it:
//!
//! ```text
//! error: settings.yaml is neither JSON nor YAML
//!   caused by: unclosed bracket '[' at line 3, column 4
//! fix: correct it there
//! ```
//!
//! So `Display` of an error says one thing, [`source`](std::error::Error::source) is the cause that is printed below
//! it and [`Failure::fix`] is what to do. None of them repeats another.

use std::error::Error;
use std::io::{self, Write as _};
use std::iter;

use anstyle::{AnsiColor, Style};

use crate::text::printable;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const FIX: Style = AnsiColor::Green.on_default().bold();
const NOTE: Style = Style::new().bold();

/// An error that a command ends with.
pub trait Failure: Error {
    /// What to do about it, for those to whom that is not clear.
    fn fix(&self) -> Option<String>;
}

/// Prints an error with its causes and the fix on standard error.
pub fn error(failure: &dyn Failure) {
    let mut text = line(ERROR, "error", &failure.to_string());
    for cause in iter::successors(failure.source(), |error| (*error).source()) {
        text += "  ";
        text += &line(NOTE, "caused by", &cause.to_string());
    }
    if let Some(fix) = failure.fix() {
        text += &line(FIX, "fix", &fix);
    }
    write(&text);
}

/// Prints on standard error what standard output has no place for.
pub fn note(text: &str) {
    say("note", text);
}

/// Prints a text behind a label of its own on standard error.
pub fn say(label: &str, text: &str) {
    write(&line(NOTE, label, text));
}

/// Prints on standard output what was asked for; styles are left out where it is no terminal.
///
/// Whoever closes the pipe has read enough, so that is not an error.
///
/// # Errors
/// Where standard output cannot be written.
pub fn print(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A labelled text. Its further lines are indented, so that none of them passes for another label.
fn line(style: Style, label: &str, text: &str) -> String {
    let mut lines = text.lines().map(printable);
    let first = lines.next().unwrap_or_default();
    let mut line = format!("{style}{label}:{style:#} {first}\n");
    for further in lines {
        line += "    ";
        line += &further;
        line.push('\n');
    }
    line
}

fn write(text: &str) {
    // Where standard error is closed nobody is left to tell.
    let _ = anstream::stderr().write_all(text.as_bytes());
}
