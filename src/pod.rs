//! The pod as it is written: JSON that is read where we must look, and can be extended and not otherwise changed.
//!
//! A typed pod would drop the fields that its version of the API does not know, and what is missing in the answer is
//! removed from the pod. So [`Pod`] reads only what is asked for, and an [`Edit`] inserts into the pod's own text.

mod edit;
mod read;

pub use edit::Edit;
pub use read::{Container, Malformed, Mount, Pod, SHAPE, Volume};

/// The keys of a pod that we know, each spelled once.
pub(crate) mod key {
    pub(crate) const ANNOTATIONS: &str = "annotations";
    pub(crate) const ARGS: &str = "args";
    pub(crate) const COMMAND: &str = "command";
    pub(crate) const CONTAINERS: &str = "containers";
    pub(crate) const EMPTY_DIR: &str = "emptyDir";
    pub(crate) const HOST_PATH: &str = "hostPath";
    pub(crate) const IMAGE: &str = "image";
    pub(crate) const IMAGE_PULL_POLICY: &str = "imagePullPolicy";
    pub(crate) const IMAGE_PULL_SECRETS: &str = "imagePullSecrets";
    pub(crate) const INIT_CONTAINERS: &str = "initContainers";
    pub(crate) const KIND: &str = "kind";
    pub(crate) const LABELS: &str = "labels";
    pub(crate) const LIMITS: &str = "limits";
    pub(crate) const METADATA: &str = "metadata";
    pub(crate) const MOUNT_PATH: &str = "mountPath";
    pub(crate) const NAME: &str = "name";
    pub(crate) const NODE_SELECTOR: &str = "nodeSelector";
    pub(crate) const OWNER_REFERENCES: &str = "ownerReferences";
    pub(crate) const PATH: &str = "path";
    pub(crate) const PULL_POLICY: &str = "pullPolicy";
    pub(crate) const READ_ONLY: &str = "readOnly";
    pub(crate) const REFERENCE: &str = "reference";
    pub(crate) const REQUESTS: &str = "requests";
    pub(crate) const RESOURCES: &str = "resources";
    pub(crate) const SPEC: &str = "spec";
    pub(crate) const SUB_PATH: &str = "subPath";
    pub(crate) const SUB_PATH_EXPR: &str = "subPathExpr";
    pub(crate) const TYPE: &str = "type";
    pub(crate) const VOLUMES: &str = "volumes";
    pub(crate) const VOLUME_MOUNTS: &str = "volumeMounts";
}
