//! The policy's settings, parsed back before anybody sees them.

use std::collections::BTreeMap;

use mesa_injector::settings::Settings;
use serde::Serialize;

use staging::{CURRENT, label};

use super::OutputError;
use super::{Imaged, Made};
use crate::gl::{FLAT_VOLUME, Mount, Plan};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    host_paths: &'a [Mount],
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    matches: Option<Matches<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    node_selector: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<Display<'a>>,
}

#[derive(Serialize)]
struct Matches<'a> {
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<[&'a str; 1]>,
}

#[derive(Serialize)]
struct Display<'a> {
    volume: &'a str,
}

/// The settings for a plan as JSON, which is YAML too, with the labels that a node must have.
///
/// # Errors
/// Where the policy would not accept them.
pub fn settings(
    plan: &Plan,
    node_selector: &BTreeMap<String, String>,
) -> Result<String, OutputError> {
    let written = Written {
        host_paths: &plan.mounts,
        matches: None,
        node_selector,
        display: None,
    };
    let text = manifests::to_json(&written)?;
    Settings::from_json(&text).map_err(OutputError::Refused)?;
    Ok(text)
}

/// The settings for a generation with the hook's program, which lies beside the libraries. The hook costs each pod a
/// container, so only VMs that ask for a display get it.
///
/// # Errors
/// Where the policy would not accept them.
pub fn staged_settings(
    plan: &Plan,
    node_selector: &BTreeMap<String, String>,
) -> Result<String, OutputError> {
    let Some(libraries) = plan.library_mount() else {
        return settings(plan, node_selector);
    };
    let written = Written {
        host_paths: &plan.mounts,
        matches: Some(Matches {
            labels: labels(),
            images: None,
        }),
        node_selector,
        display: Some(Display {
            volume: &libraries.name,
        }),
    };
    let text = manifests::to_json(&written)?;
    Settings::from_json(&text).map_err(OutputError::Refused)?;
    Ok(text)
}

/// How the files of a flat image come into pods.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// As an image volume.
    Volume(ImageVolume),
    /// From the node, where the image has installed itself.
    Node {
        /// The directory that `mesa-node install` fills.
        directory: String,
    },
}

/// How the image volume is to be pulled.
#[derive(Debug, Clone, Default)]
pub struct ImageVolume {
    /// By its tag, from the node's own store where it was loaded by hand; else by its digest.
    pub by_tag: bool,
    /// Secrets in the VM's namespace that a registry asks for.
    pub pull_secrets: Vec<String>,
}

/// The label of a VM that wants a display, which KubeVirt copies to its pod.
const OPT_IN: (&str, &str) = ("mesa-injector.io/inject", "enabled");

/// The labels of the pods that get the image.
pub(super) fn labels() -> BTreeMap<String, String> {
    let labels = [("kubevirt.io", "virt-launcher"), OPT_IN];
    let labels = labels.into_iter();
    labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The settings that mount a flat image into the launcher that it was made for, and into no other. Who asks for a display
/// gets one or a reason: a conflict rejects the pod.
///
/// # Errors
/// Where the policy would not accept them.
pub fn image_settings(
    imaged: &Imaged,
    made: &Made,
    delivery: &Delivery,
) -> Result<String, OutputError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Image<'a> {
        name: &'a str,
        reference: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pull_policy: Option<&'a str>,
        mounts: Vec<MountPath<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct MountPath<'a> {
        mount_path: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        images: Vec<Image<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        host_paths: Vec<Mount>,
        #[serde(rename = "match")]
        matches: Matches<'a>,
        architecture: &'a str,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        node_selector: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<Display<'a>>,
        on_conflict: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        image_pull_secrets: &'a [String],
    }
    let mounts = imaged.scan.plan.mounts.iter();
    let mut written = Written {
        images: Vec::new(),
        host_paths: Vec::new(),
        matches: Matches {
            labels: labels(),
            images: imaged.launcher.as_deref().map(|launcher| [launcher]),
        },
        architecture: imaged.scan.node.arch.oci_name(),
        node_selector: BTreeMap::new(),
        // Of the node's directories the first is that of the libraries, with the program in it.
        display: made.has_hook.then_some(Display {
            volume: FLAT_VOLUME,
        }),
        on_conflict: "reject",
        image_pull_secrets: &[],
    };
    match delivery {
        Delivery::Volume(volume) => {
            written.images.push(Image {
                name: FLAT_VOLUME,
                reference: match volume.by_tag {
                    true => made.reference.to_string(),
                    false => made.reference.pinned(&made.digest),
                },
                pull_policy: volume.by_tag.then_some("IfNotPresent"),
                mounts: mounts
                    .map(|mount| MountPath {
                        mount_path: &mount.mount_path,
                    })
                    .collect(),
            });
            written.image_pull_secrets = &volume.pull_secrets;
        }
        Delivery::Node { directory } => {
            let layout = imaged.scan.layout();
            let path = format!("{}/{layout}/{CURRENT}", directory.trim_end_matches('/'));
            let host_paths = mounts.enumerate().map(|(number, mount)| Mount {
                name: match number {
                    0 => FLAT_VOLUME.to_owned(),
                    number => format!("{FLAT_VOLUME}-{}", number + 1),
                },
                path: path.clone(),
                ..mount.clone()
            });
            written.host_paths = host_paths.collect();
            written.node_selector = label::selector_of_image(&layout);
        }
    }
    let text = manifests::to_json(&written)?;
    Settings::from_json(&text).map_err(OutputError::Refused)?;
    Ok(text)
}
