//! The log: one line of JSON for each call, with the keys that `KubeVirt`'s own lines have.

use std::io::Write as _;
use std::time::SystemTime;

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
        timestamp: humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
        call,
        vm,
        msg: printable(message),
    };
    // Nothing in a line fails to be JSON, and where standard error is closed nobody is left to tell.
    let text = serde_json::to_string(&line).unwrap_or_default() + "\n";
    let _ = std::io::stderr().write_all(text.as_bytes());
}
