//! What machines read: one object for each command, all with the version of this format.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Delivery, Imaged, OutputError, Scan, Staged, System};
use crate::container::Findings;
use crate::gl::{Item, Layout, Mount};
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
        mounts: &'a [Mount],
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

/// The images that were made as JSON, each with its launcher, its verdict and its settings.
///
/// # Errors
/// Where the policy would not accept settings.
pub fn image(all: &[Imaged], delivery: &Delivery) -> Result<String, OutputError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Images<'a> {
        version: u32,
        loads: bool,
        images: Vec<One<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct One<'a> {
        name: &'a str,
        launcher: &'a Option<String>,
        layout: String,
        loads: bool,
        findings: &'a Findings,
        files: usize,
        bytes: u64,
        mounts: &'a [Mount],
        #[serde(skip_serializing_if = "Option::is_none")]
        made: Option<Written<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written<'a> {
        reference: String,
        digest: &'a str,
        compressed: u64,
        settings: serde_json::Value,
    }
    let mut images = Vec::new();
    for imaged in all {
        let made = match &imaged.made {
            None => None,
            Some(made) => Some(Written {
                reference: made.reference.to_string(),
                digest: &made.digest,
                compressed: made.size,
                settings: serde_json::from_str(&super::image_settings(imaged, made, delivery)?)?,
            }),
        };
        images.push(One {
            name: &imaged.name,
            launcher: &imaged.launcher,
            layout: imaged.scan.layout(),
            loads: imaged.scan.findings.loads(),
            findings: &imaged.scan.findings,
            files: imaged.scan.files.file_count(),
            bytes: imaged.scan.files.total_size(),
            mounts: &imaged.scan.plan.mounts,
            made,
        });
    }
    Ok(manifests::to_json(&Images {
        version: VERSION,
        loads: images.iter().all(|image| image.loads),
        images,
    })?)
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
