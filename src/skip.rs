//! Why a pod is left without mounts: one table, which the audit log, the warnings and the pod's status read.

use crate::pod::Malformed;

/// Why a pod is left without mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkipReason {
    /// The value of audit annotation `skip-reason`, which is never renamed.
    pub id: &'static str,
    /// What is said of it, without what is particular to the pod.
    pub sentence: &'static str,
    /// Whether the client is warned and the pod's status says so: the user most likely wanted the mounts.
    pub warns: bool,
}

#[allow(missing_docs, reason = "each says itself what it is")]
#[rustfmt::skip]
impl SkipReason {
    pub const MALFORMED_REQUEST: Self = Self::warned("malformed-request", "the request cannot be read");
    pub const INVALID_SETTINGS: Self = Self::warned("invalid-settings", "the policy's settings are invalid");
    pub const MALFORMED_POD: Self = Self::warned("malformed-pod", "the pod cannot be read");
    pub const OTHER_CREATOR: Self = Self::silent("other-creator", "the pod's creator is not in match.creators");
    pub const OTHER_OWNER: Self = Self::silent("other-owner", "the pod's owner is not in match.owners");
    pub const OTHER_ARCHITECTURE: Self = Self::silent("other-architecture", "the pod asks for nodes of another architecture");
    pub const OTHER_IMAGE: Self = Self::silent("other-image", "no container has an image of match.images");
    pub const NO_RESOURCE: Self = Self::silent("no-resource", "no container asks for a resource of match.resources");
    pub const OPTED_OUT: Self = Self::silent("opted-out", "annotation mesa-injector.io/inject is disabled");
    pub const NOT_OPTED_IN: Self = Self::silent("not-opted-in", "annotation mesa-injector.io/inject is not enabled");
    pub const UNKNOWN_ANNOTATION: Self = Self::warned("unknown-annotation", "annotation mesa-injector.io/inject is neither enabled nor disabled");
    pub const PROVISIONING: Self = Self::silent("provisioning-pod", "the pod only provisions a volume");
    pub const NO_CONTAINER: Self = Self::warned("no-container", "the pod has no container of the settings");
    pub const NO_HOOK_FLAG: Self = Self::warned("no-hook-sidecars", "no container has virt-launcher's flag --hook-sidecars");
    pub const CONFLICT: Self = Self::warned("conflict", "conflict");

    /// Every reason, in the order in which they are looked for.
    pub const ALL: [Self; 15] = [
        Self::MALFORMED_REQUEST, Self::INVALID_SETTINGS, Self::MALFORMED_POD, Self::OTHER_CREATOR, Self::OTHER_OWNER,
        Self::OTHER_ARCHITECTURE, Self::OTHER_IMAGE, Self::NO_RESOURCE, Self::OPTED_OUT, Self::NOT_OPTED_IN,
        Self::UNKNOWN_ANNOTATION, Self::PROVISIONING, Self::NO_CONTAINER, Self::NO_HOOK_FLAG, Self::CONFLICT,
    ];

    const fn warned(id: &'static str, sentence: &'static str) -> Self {
        SkipReason { id, sentence, warns: true }
    }

    const fn silent(id: &'static str, sentence: &'static str) -> Self {
        SkipReason { id, sentence, warns: false }
    }
}

/// A pod that is left without mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: SkipReason,
    /// What is particular to this pod; may be empty.
    pub details: Vec<String>,
}

impl Skip {
    /// A skip with one detail.
    #[must_use]
    pub fn with(reason: SkipReason, detail: String) -> Self {
        Skip {
            reason,
            details: vec![detail],
        }
    }
}

impl From<SkipReason> for Skip {
    fn from(reason: SkipReason) -> Self {
        Skip {
            reason,
            details: Vec::new(),
        }
    }
}

impl From<Malformed> for Skip {
    fn from(malformed: Malformed) -> Self {
        Skip::with(SkipReason::MALFORMED_POD, malformed.0)
    }
}
