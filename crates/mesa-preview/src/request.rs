//! The admission request, as the policy server hands it to a policy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::input::Overrides;

/// Who creates virt-launcher pods.
const VIRT_CONTROLLER: &str = "system:serviceaccount:kubevirt:kubevirt-controller";

/// Where KubeVirt is installed by default; a pod without a namespace is taken to be there.
const DEFAULT_NAMESPACE: &str = "kubevirt";

/// `admission.k8s.io/v1` `AdmissionRequest`. As in the policy server, what is null is left out, and what is
/// unknown is dropped.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionRequest {
    /// Names the request; the response repeats it.
    pub uid: String,
    /// The object's kind.
    pub kind: GroupVersionKind,
    /// The resource that is requested.
    pub resource: GroupVersionResource,
    /// Such as `status`; absent for the resource itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_resource: Option<String>,
    /// The kind of the original request, before the API server converted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_kind: Option<GroupVersionKind>,
    /// The resource of the original request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_resource: Option<GroupVersionResource>,
    /// The sub-resource of the original request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_sub_resource: Option<String>,
    /// The object's name; absent when the API server is to generate it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The object's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// Who asks.
    pub user_info: UserInfo,
    /// The object; absent for `DELETE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Value>,
    /// The object as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_object: Option<Value>,
    /// Whether nothing will be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Such as a `CreateOptions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
}

/// A kind with its API group and version.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `Pod`.
    pub kind: String,
}

/// A resource with its API group and version.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct GroupVersionResource {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `pods`.
    pub resource: String,
}

/// `authentication.k8s.io/v1` `UserInfo`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct UserInfo {
    /// What the authenticator added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<BTreeMap<String, Vec<String>>>,
    /// The groups that the user belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Tells users of one name over time apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

impl AdmissionRequest {
    /// The request by which virt-controller creates `pod`, the `number`th of its kind.
    #[must_use]
    pub fn to_create(pod: Value, number: usize) -> Self {
        let metadata = |key| {
            let text = pod.pointer("/metadata")?.get(key)?.as_str()?;
            Some(text.to_owned()).filter(|text| !text.is_empty())
        };
        Self {
            uid: format!("00000000-0000-4000-8000-{number:012x}"),
            kind: GroupVersionKind::pod(),
            resource: GroupVersionResource::pods(),
            sub_resource: None,
            request_kind: Some(GroupVersionKind::pod()),
            request_resource: Some(GroupVersionResource::pods()),
            request_sub_resource: None,
            name: metadata("name"),
            namespace: metadata("namespace").or_else(|| Some(DEFAULT_NAMESPACE.to_owned())),
            operation: "CREATE".to_owned(),
            user_info: UserInfo::of(VIRT_CONTROLLER),
            old_object: None,
            dry_run: Some(false),
            options: Some(json!({"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"})),
            object: Some(pod),
        }
    }

    /// The same request by another user, in another namespace or of another operation.
    #[must_use]
    pub fn with(mut self, overrides: &Overrides) -> Self {
        if let Some(user) = &overrides.user {
            self.user_info = UserInfo::of(user);
        }
        if let Some(namespace) = &overrides.namespace {
            self.namespace = Some(namespace.clone());
        }
        if let Some(operation) = &overrides.operation {
            operation.clone_into(&mut self.operation);
            match operation.as_str() {
                "CREATE" => {}
                "DELETE" => self.old_object = self.object.take(),
                _ => self.old_object.clone_from(&self.object),
            }
        }
        self
    }
}

impl GroupVersionKind {
    fn pod() -> Self {
        Self {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Pod".to_owned(),
        }
    }
}

impl GroupVersionResource {
    fn pods() -> Self {
        Self {
            group: String::new(),
            version: "v1".to_owned(),
            resource: "pods".to_owned(),
        }
    }
}

impl UserInfo {
    /// A user; a service account is in the groups that the API server puts it in.
    fn of(name: &str) -> Self {
        let mut groups = vec!["system:authenticated".to_owned()];
        let account = name.strip_prefix("system:serviceaccount:");
        if let Some((namespace, _)) = account.and_then(|account| account.split_once(':')) {
            let accounts = "system:serviceaccounts";
            groups.splice(
                0..0,
                [accounts.to_owned(), format!("{accounts}:{namespace}")],
            );
        }
        Self {
            groups: Some(groups),
            username: Some(name.to_owned()),
            ..Self::default()
        }
    }
}
