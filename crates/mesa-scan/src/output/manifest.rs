//! Everything that a scan found.

use std::collections::BTreeMap;

use serde::Serialize;

use super::OutputError;
use crate::glibc;
use crate::layout::{Layout, Mount};
use crate::reason::Reason;
use crate::scan::{Scan, System};
use crate::set::Item;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    loads: bool,
    reasons: &'a [Reason],
    notes: &'a [String],
    node: &'a System,
    image: &'a Option<System>,
    minimal_glibc: Option<glibc::Version>,
    files: usize,
    bytes: u64,
    layout: Layout,
    mounts: &'a [Mount],
    items: &'a [Item],
    /// What the image has: name and path.
    present: &'a BTreeMap<String, String>,
}

/// A scan as JSON.
///
/// # Errors
/// None that a scan can cause.
pub fn manifest(scan: &Scan) -> Result<String, OutputError> {
    let manifest = Manifest {
        loads: scan.verdict.loads(),
        reasons: &scan.verdict.reasons,
        notes: &scan.verdict.notes,
        node: &scan.node,
        image: &scan.image,
        minimal_glibc: scan.set.minimal_glibc(),
        files: scan.set.file_count(),
        bytes: scan.set.total_size(),
        layout: scan.plan.layout,
        mounts: &scan.plan.mounts,
        items: &scan.set.items,
        present: &scan.set.present,
    };
    Ok(manifests::to_json(&manifest)?)
}
