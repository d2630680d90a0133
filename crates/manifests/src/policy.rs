//! A Kubewarden policy as a resource of Kubernetes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::text::printable;
use crate::yaml::WriteError;

/// The API group of Kubewarden's policies, with the slash before the version.
const API_GROUP: &str = "policies.kubewarden.io/";

/// The policy module of this version.
pub const POLICY_MODULE: &str = concat!(
    "registry://ghcr.io/mesa-injector/policies/mesa-injector:v",
    env!("CARGO_PKG_VERSION")
);

/// A `ClusterAdmissionPolicy` or `AdmissionPolicy`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Kubewarden's group and a version.
    pub api_version: String,
    /// Which of the two.
    pub kind: Kind,
    /// What it is called.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Spec,
}

/// The kinds of resources that hold one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Kind {
    /// For objects in any namespace.
    ClusterAdmissionPolicy,
    /// For objects in the policy's own namespace.
    AdmissionPolicy,
}

/// The part of an object's metadata that tells policies apart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Metadata {
    /// The policy's name.
    pub name: String,
    /// Of an `AdmissionPolicy` that was read from a cluster; a manifest may leave it to `kubectl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// `spec` of a policy: the fields of Kubewarden's resource definitions. Another field is an error, as it is to `kwctl`
/// and to `kubectl`'s strict validation: a selector whose name is mistyped would select everything.
///
/// Fields that the API server demands have defaults all the same. What they leave open is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The PolicyServer that runs the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_server: Option<String>,
    /// Where the Wasm module is.
    #[serde(default)]
    pub module: String,
    /// Whether the policy decides, or only says what it would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whether the policy may change objects.
    #[serde(default)]
    pub mutating: bool,
    /// Put in place of the policy's own message, when it rejects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What becomes of a request that the policy server does not answer: `Fail` or `Ignore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<String>,
    /// Whether the audit scanner asks the policy about objects that are there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background_audit: Option<bool>,
    /// Whether the API server waits for side effects: `None` or `NoneOnDryRun`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_effects: Option<String>,
    /// How long the API server waits for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// How long the policy server lets the policy run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_eval_seconds: Option<u32>,
    /// The requests that are sent to the policy: those that one of these wants.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Whether rules also want requests of another version of their resources: `Exact` or `Equivalent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_policy: Option<String>,
    /// Expressions in CEL that must all be true of a request.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub match_conditions: Vec<MatchCondition>,
    /// The labels that an object must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<LabelSelector>,
    /// The labels that the namespace of an object must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Whether objects in Kubewarden's own namespace are sent too. Where this is not so, its controller drops the
    /// `matchLabels` of the namespace selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_inside_admission_controller_namespace: Option<bool>,
    /// The resources that the policy may look up, as they were read.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub context_aware_resources: Vec<Value>,
    /// Given to the policy with each request.
    #[serde(default, deserialize_with = "null_is_default")]
    pub settings: Map<String, Value>,
}

/// `spec.mode` of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The policy's answer counts.
    #[default]
    Protect,
    /// Every request is accepted and no patch is made; warnings and audit annotations get through.
    Monitor,
}

/// Which requests are wanted. Each list may hold `*`, for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// API groups; the empty one is that of pods.
    #[serde(default, serialize_with = "quoted_in_one_line")]
    pub api_groups: Vec<String>,
    /// Versions of the API.
    #[serde(default, serialize_with = "quoted_in_one_line")]
    pub api_versions: Vec<String>,
    /// Resources and, behind a slash, their subresources.
    #[serde(default, serialize_with = "quoted_in_one_line")]
    pub resources: Vec<String>,
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
    #[serde(default, serialize_with = "quoted_in_one_line")]
    pub operations: Vec<String>,
    /// `Cluster`, `Namespaced`, or `*` for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// An expression in CEL that must be true of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MatchCondition {
    /// For messages.
    pub name: String,
    /// The expression.
    pub expression: String,
}

/// Which labels are wanted. All that is said must hold; where nothing is said, everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on single labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSelectorRequirement {
    /// The label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// What `In` and `NotIn` compare with.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "in_one_line"
    )]
    pub values: Vec<String>,
}

impl Policy {
    /// This project's policy as it is deployed, for VMs in the namespace `kubevirt`.
    #[must_use]
    pub fn new(module: &str, settings: Map<String, Value>) -> Self {
        let list = |item: &str| vec![item.to_owned()];
        Self {
            api_version: format!("{API_GROUP}v1"),
            kind: Kind::ClusterAdmissionPolicy,
            metadata: Metadata {
                name: "mesa-injector".to_owned(),
                namespace: None,
            },
            spec: Spec {
                module: module.to_owned(),
                mutating: true,
                // A VM without OpenGL is better than no VM when the policy server is away.
                failure_policy: Some("Ignore".to_owned()),
                // The audit scanner would report every launcher pod that is older than the policy.
                background_audit: Some(false),
                rules: vec![Rule {
                    api_groups: list(""),
                    api_versions: list("v1"),
                    resources: list("pods"),
                    operations: list("CREATE"),
                    scope: None,
                }],
                object_selector: Some(LabelSelector {
                    match_labels: BTreeMap::from([(
                        "kubevirt.io".to_owned(),
                        "virt-launcher".to_owned(),
                    )]),
                    ..LabelSelector::default()
                }),
                // Not matchLabels, which the Kubewarden controller drops.
                namespace_selector: Some(LabelSelector {
                    match_expressions: vec![LabelSelectorRequirement {
                        key: "kubernetes.io/metadata.name".to_owned(),
                        operator: "In".to_owned(),
                        values: list("kubevirt"),
                    }],
                    ..LabelSelector::default()
                }),
                settings,
                ..Spec::default()
            },
        }
    }

    /// The policy for pods that have certain labels, one of which their VM has asked for it with: in all namespaces, and a
    /// pod that cannot be looked at is not started, because its VM would lack what it asked for.
    #[must_use]
    pub fn for_labels(
        name: &str,
        module: &str,
        labels: BTreeMap<String, String>,
        settings: Map<String, Value>,
    ) -> Self {
        let mut policy = Self::new(module, settings);
        policy.metadata.name = name.to_owned();
        policy.spec.failure_policy = Some("Fail".to_owned());
        policy.spec.namespace_selector = None;
        policy.spec.object_selector = Some(LabelSelector {
            match_labels: labels,
            ..LabelSelector::default()
        });
        policy
    }

    /// The resource as a YAML document below a comment of these lines.
    ///
    /// ```
    /// use manifests::{POLICY_MODULE, Policy};
    ///
    /// let policy = Policy::new(POLICY_MODULE, serde_json::Map::new());
    /// let yaml = policy.to_yaml(&["Add the namespaces of your VMs.".to_owned()])?;
    /// assert!(yaml.starts_with("# Add the namespaces of your VMs.\napiVersion: policies.kubewarden.io/v1\n"));
    /// # Ok::<(), manifests::WriteError>(())
    /// ```
    ///
    /// # Errors
    /// Where a value cannot be written as YAML.
    pub fn to_yaml(&self, comments: &[String]) -> Result<String, WriteError> {
        let mut yaml = String::new();
        for comment in comments {
            yaml.push_str(&format!("# {}\n", printable(comment)));
        }
        let options = serde_saphyr::ser_options! {
            compact_list_indent: false,
            prefer_block_scalars: false,
        };
        serde_saphyr::to_fmt_writer_with_options(&mut yaml, self, options)?;
        Ok(yaml)
    }
}

/// Whether an object is a policy, by its group and kind.
pub(crate) fn is_policy(object: &Value) -> bool {
    let is = |key, matches: &dyn Fn(&str) -> bool| {
        object.get(key).and_then(Value::as_str).is_some_and(matches)
    };
    is("apiVersion", &|version| version.starts_with(API_GROUP))
        && is("kind", &|kind| Kind::deserialize(Value::from(kind)).is_ok())
}

/// What `kubectl` prints of a field without a value.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// As these lists are written everywhere, because of the `""` and `"*"` among them.
fn quoted_in_one_line<S: Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let quoted: Vec<_> = list.iter().map(serde_saphyr::DoubleQuoted).collect();
    serde_saphyr::FlowSeq(quoted).serialize(serializer)
}

fn in_one_line<S: Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serde_saphyr::FlowSeq(list).serialize(serializer)
}
