//! What machines read: one object for each command, all with the version of this format.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{OutputError, Scan, Staged, System};
use crate::container::Findings;
use crate::gl::{HostPath, Item, Layout};
use crate::loader::glibc;

/// The version of these objects. What is added later does not change it.
const VERSION: u32 = 1;

/// What all commands say.
#[derive(Serialize)]
struct Report<'a, T> {
    version: u32,
    loads: bool,
    findings: &'a Findings,
    #[serde(flatten)]
    more: T,
}

fn report<T: Serialize>(findings: &Findings, more: T) -> Result<String, OutputError> {
    Ok(manifests::to_json(&Report {
        version: VERSION,
        loads: findings.loads(),
        findings,
        more,
    })?)
}

/// A scan as JSON.
///
/// # Errors
/// Where a part cannot be written as JSON.
pub fn scan(scan: &Scan) -> Result<String, OutputError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Scanned<'a> {
        node: &'a System,
        image: &'a Option<System>,
        minimal_glibc: Option<glibc::Version>,
        files: usize,
        bytes: u64,
        layout: Layout,
        mounts: &'a [HostPath],
        items: &'a [Item],
        /// What the image has: name and path.
        present: &'a BTreeMap<String, String>,
    }
    report(
        &scan.findings,
        Scanned {
            node: &scan.node,
            image: &scan.image,
            minimal_glibc: scan.files.minimal_glibc(),
            files: scan.files.file_count(),
            bytes: scan.files.total_size(),
            layout: scan.plan.layout,
            mounts: &scan.plan.mounts,
            items: &scan.files.items,
            present: &scan.files.present,
        },
    )
}

/// A check as JSON.
///
/// # Errors
/// Where a part cannot be written as JSON.
pub fn check(findings: &Findings) -> Result<String, OutputError> {
    #[derive(Serialize)]
    struct Nothing {}
    report(findings, Nothing {})
}

/// What was staged as JSON, the settings among it.
///
/// # Errors
/// Where a part cannot be written as JSON.
pub fn stage(staged: &Staged) -> Result<String, OutputError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Done<'a> {
        generation: &'a Option<String>,
        settings: Option<serde_json::Value>,
        done: &'a [String],
    }
    report(
        &staged.findings,
        Done {
            generation: &staged.generation,
            settings: match staged.settings.as_str() {
                "" => None,
                settings => Some(serde_json::from_str(settings)?),
            },
            done: &staged.done,
        },
    )
}
