//! The log: one line of JSON for each call, with the keys that `KubeVirt`'s own lines have.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use manifests::printable;
use serde::{Deserialize, Serialize};

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is as it should be.
    Info,
    /// A VM may not get what it needs.
    Warning,
    /// A VM does not start.
    Error,
}

/// Which VM a line is about.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vm {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, which a VM of the same name has not.
    pub uid: String,
}

impl Vm {
    /// The VM that a VMI is, or none where it cannot be read.
    #[must_use]
    pub fn of(vmi: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Vmi {
            metadata: Vm,
        }
        let vmi: Vmi = serde_json::from_slice(vmi).unwrap_or_default();
        let Vm {
            namespace,
            name,
            uid,
        } = vmi.metadata;
        // What Kubernetes allows as a name has 253 characters; this is no place for anything else.
        let [namespace, name, uid] =
            [namespace, name, uid].map(|text| printable(&text).chars().take(253).collect());
        Vm {
            namespace,
            name,
            uid,
        }
    }
}

/// A line as it is written.
#[derive(Debug, Serialize)]
struct Line<'a> {
    component: &'static str,
    level: Level,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    vm: Option<&'a Vm>,
    msg: String,
}

/// Writes a line on standard error that is about the program itself.
pub fn say(level: Level, message: &str) {
    write(level, None, None, message);
}

/// Writes a line on standard error that is about a call for a VM.
pub fn call(level: Level, call: &str, vm: &Vm, message: &str) {
    write(level, Some(call), Some(vm), message);
}

fn write(level: Level, call: Option<&str>, vm: Option<&Vm>, message: &str) {
    let line = Line {
        component: "mesa-injector",
        level,
        timestamp: timestamp(SystemTime::now()),
        call,
        vm,
        msg: printable(message),
    };
    // Nothing in a line fails to be JSON, and where standard error is closed nobody is left to tell.
    let text = serde_json::to_string(&line).unwrap_or_default() + "\n";
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A time as RFC 3339 has it, in UTC.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The date of a day, counted from 1970. Years begin in March here, so that a leap day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}
