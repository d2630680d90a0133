//! The files that Kubewarden reads beside the module: they parse as Kubewarden's own types and agree with each other and
//! with the code.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::common::repository;
use k8s_openapi::api::core::v1::Pod;
use kubewarden_policy_sdk::crd::policies::cluster_admission_policy::ClusterAdmissionPolicy;
use kubewarden_policy_sdk::crd::policies::common::FailurePolicy;
use mesa_injector::settings::Settings;
use rstest::rstest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn yaml(file: &str) -> Value {
    let text = std::fs::read_to_string(repository(file)).unwrap();
    serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn policy(file: &str) -> ClusterAdmissionPolicy {
    // By way of the type's own deserializer, which refuses unknown fields.
    serde_json::from_value(yaml(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn policy_yaml_selects_launcher_pods_being_created() {
    let spec = policy("policy.yaml").spec.unwrap();
    assert!(spec.mutating);
    assert_eq!(spec.failure_policy, Some(FailurePolicy::Ignore));
    let rules = spec.rules.unwrap();
    assert_eq!(rules.len(), 1);
    let list = |values: &Option<Vec<String>>| values.clone().unwrap();
    assert_eq!(list(&rules[0].api_groups), [""]);
    assert_eq!(list(&rules[0].api_versions), ["v1"]);
    assert_eq!(list(&rules[0].resources), ["pods"]);
    assert_eq!(list(&rules[0].operations), ["CREATE"]);

    let labels = spec.object_selector.unwrap().match_labels.unwrap();
    let labels: Vec<(String, String)> = labels.into_iter().collect();
    assert_eq!(labels, Settings::default().matches.labels);

    let namespaces = spec.namespace_selector.unwrap();
    assert_eq!(namespaces.match_labels, None, "the controller drops them");
    let expressions = namespaces.match_expressions.unwrap();
    assert_eq!(expressions.len(), 1);
    assert_eq!(expressions[0].key, "kubernetes.io/metadata.name");
    assert_eq!(expressions[0].operator, "In");
    assert_eq!(list(&expressions[0].values), ["kubevirt"]);
    Settings::from_json(&spec.settings.0.to_string()).unwrap();
}

/// Who asks for a display gets it or a reason; nobody else's pod is even sent.
#[test]
fn the_displays_policy_is_for_vms_with_its_label_and_fails_closed() {
    let spec = policy("examples/display/policy.yaml").spec.unwrap();
    assert!(spec.mutating);
    assert_eq!(spec.failure_policy, Some(FailurePolicy::Fail));
    assert_eq!(spec.namespace_selector, None);
    let settings = Settings::from_json(&spec.settings.0.to_string()).unwrap();
    let labels = spec.object_selector.unwrap().match_labels.unwrap();
    let labels: Vec<(String, String)> = labels.into_iter().collect();
    assert_eq!(labels, settings.matches.labels);
    let vmi = yaml("examples/display/vmi.yaml");
    let on_vmi = vmi["metadata"]["labels"].as_object().unwrap();
    for (key, value) in on_vmi {
        let label = (key.clone(), value.as_str().unwrap().to_owned());
        assert!(labels.contains(&label), "{key}");
    }
    // The other label is KubeVirt's own.
    assert_eq!(on_vmi.len() + 1, labels.len());

    let plugin = yaml("examples/display/plugin.yaml");
    let name = plugin["metadata"]["name"].as_str().unwrap();
    let socket = &plugin["spec"]["domainHooks"][0]["sidecar"]["socketPath"];
    assert_eq!(
        *socket,
        format!("/var/run/kubevirt-plugin/{name}/hook.sock")
    );
    let condition = plugin["spec"]["condition"].as_str().unwrap();
    for (key, value) in on_vmi {
        assert!(
            condition.contains(&format!("vmi.Labels[\"{key}\"] == {value}")),
            "{condition}"
        );
    }
}

#[test]
fn policy_yaml_has_the_default_settings() {
    let settings = policy("policy.yaml").spec.unwrap().settings.0;
    assert_eq!(
        Settings::from_json(&settings.to_string()),
        Ok(Settings::default())
    );
}

#[test]
fn policy_yaml_says_why_failures_are_ignored() {
    let text = std::fs::read_to_string(repository("policy.yaml")).unwrap();
    let (before, _) = text.split_once("  failurePolicy: Ignore\n").unwrap();
    assert!(before.lines().last().unwrap().trim_start().starts_with('#'));
}

/// Checks a value against an OpenAPI schema as far as a custom resource definition goes: types, required, unknown fields.
fn check(schema: &Value, value: &Value, place: &str) {
    let kind = schema["type"].as_str().unwrap_or("any");
    let fits = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        _ => true,
    };
    assert!(fits, "{place}: {value} is no {kind}");
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(
            allowed.contains(value),
            "{place}: {value} is none of {allowed:?}"
        );
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(required.as_str().unwrap()).is_some(),
            "{place}: {required} is missing"
        );
    }
    for (key, member) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{key}");
        let schema = schema["properties"]
            .get(key)
            .or(schema.get("additionalProperties"));
        let is_metadata = place == ".metadata" || place.starts_with(".metadata.");
        match schema {
            Some(schema) => check(schema, member, &place),
            None => assert!(is_metadata, "{place}: no such field"),
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{place}[{index}]"));
    }
}

#[rstest]
fn a_policy_fits_the_custom_resource_definition(
    #[files("policy.yaml")]
    #[files("examples/*/*.yaml")]
    #[exclude("display/(vmi|plugin)")]
    file: PathBuf,
) {
    let file = file.to_str().unwrap();
    let spec = policy(file).spec.unwrap();
    Settings::from_json(&spec.settings.0.to_string())
        .unwrap_or_else(|problems| panic!("{file}: {problems}"));
    let definition = "../shared/crds/clusteradmissionpolicies.yaml";
    if !repository(definition).is_file() {
        println!("skipped: no {definition} beside this repository");
        return;
    }
    let definition = yaml(definition);
    let versions = definition["spec"]["versions"].as_array().unwrap();
    let v1 = versions
        .iter()
        .find(|version| version["name"] == "v1")
        .unwrap();
    check(&v1["schema"]["openAPIV3Schema"], &yaml(file), "");
}

/// What Kubewarden reads of metadata.yml. It ignores what it does not know, so that a misspelling would go unnoticed.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    rules: Vec<Value>,
    mutating: bool,
    context_aware_resources: Vec<Value>,
    execution_mode: String,
    policy_type: String,
    background_audit: bool,
    annotations: BTreeMap<String, String>,
}

#[test]
fn metadata_has_the_keys_that_kubewarden_reads_and_no_other() {
    let metadata: Metadata = serde_json::from_value(yaml("metadata.yml")).unwrap();
    assert_eq!(metadata.rules.len(), 1);
    assert!(metadata.mutating && !metadata.background_audit);
    assert!(metadata.context_aware_resources.is_empty());
    assert_eq!(metadata.execution_mode, "kubewarden-wapc");
    assert_eq!(metadata.policy_type, "kubernetes");
    let expected = [
        "io.artifacthub.displayName",
        "io.artifacthub.keywords",
        "io.artifacthub.resources",
        "io.kubewarden.policy.author",
        "io.kubewarden.policy.category",
        "io.kubewarden.policy.description",
        "io.kubewarden.policy.license",
        "io.kubewarden.policy.ociUrl",
        "io.kubewarden.policy.severity",
        "io.kubewarden.policy.source",
        "io.kubewarden.policy.title",
        "io.kubewarden.policy.url",
        "io.kubewarden.policy.version",
    ];
    assert!(metadata.annotations.keys().eq(expected));
    for (key, value) in metadata.annotations {
        assert!(!value.is_empty(), "{key}");
    }
}

#[test]
fn metadata_and_policy_yaml_agree_with_each_other_and_with_the_package() {
    let (metadata, policy) = (yaml("metadata.yml"), yaml("policy.yaml"));
    assert_eq!(metadata["rules"], policy["spec"]["rules"]);
    assert_eq!(metadata["mutating"], policy["spec"]["mutating"]);
    assert_eq!(
        metadata["backgroundAudit"],
        policy["spec"]["backgroundAudit"]
    );

    let annotation = |name: &str| {
        let value = &metadata["annotations"][&format!("io.kubewarden.policy.{name}")];
        value.as_str().unwrap().to_owned()
    };
    assert_eq!(annotation("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(annotation("license"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(annotation("source"), env!("CARGO_PKG_REPOSITORY"));
    assert_eq!(annotation("author"), env!("CARGO_PKG_AUTHORS"));
    assert_eq!(annotation("title"), env!("CARGO_PKG_NAME"));
    let module = format!(
        "registry://{}:v{}",
        annotation("ociUrl"),
        annotation("version")
    );
    assert_eq!(policy["spec"]["module"], module);
}

/// What `kwctl scaffold artifacthub` makes of metadata.yml and questions-ui.yml; with another chart recommended, because
/// kwctl's own is deprecated.
#[test]
fn artifacthub_pkg_is_what_kwctl_makes_of_metadata_and_questions() {
    let metadata = yaml("metadata.yml");
    let annotations = &metadata["annotations"];
    let policy = |name: &str| {
        annotations[format!("io.kubewarden.policy.{name}")]
            .as_str()
            .unwrap()
    };
    let hub = |name: &str| {
        annotations[format!("io.artifacthub.{name}")]
            .as_str()
            .unwrap()
    };
    let (source, version) = (policy("source"), policy("version"));
    let image = format!("{}:v{version}", policy("ociUrl"));
    let install = format!(
        "The policy can be obtained using [kwctl](https://docs.kubewarden.io/howtos/install-kwctl):\n\
         ```console\nkwctl pull {image}\n```\n\
         Then, generate the policy manifest and tune it to your liking. For example:\n\
         ```console\nkwctl scaffold manifest -t ClusterAdmissionPolicy registry://{image}\n```\n"
    );
    let (name, mail) = policy("author")
        .trim_end_matches('>')
        .split_once(" <")
        .unwrap();
    let questions = std::fs::read_to_string(repository("questions-ui.yml")).unwrap();
    let mut package = yaml("artifacthub-pkg.yml");
    let created = package
        .as_object_mut()
        .unwrap()
        .remove("createdAt")
        .unwrap();
    assert!(created.as_str().unwrap().ends_with('Z'), "{created}");
    let rules = package["annotations"]["kubewarden/rules"].take();
    let rules: Value = serde_norway::from_str(rules.as_str().unwrap()).unwrap();
    assert_eq!(rules, metadata["rules"]);
    let expected = json!({
        "version": version,
        "name": policy("title"),
        "displayName": hub("displayName"),
        "description": policy("description"),
        "license": policy("license"),
        "homeURL": policy("url"),
        "containersImages": [{"name": "policy", "image": image}],
        "keywords": hub("keywords").split(", ").collect::<Vec<_>>(),
        "links": [
            {"name": "policy", "url": format!("{source}/releases/download/v{version}/policy.wasm")},
            {"name": "source", "url": source},
        ],
        "install": install,
        "maintainers": [{"name": name, "email": mail}],
        "provider": {"name": "kubewarden"},
        "recommendations": [{"url": "https://artifacthub.io/packages/helm/kubewarden/admission-controller"}],
        "annotations": {
            "kubewarden/mutation": metadata["mutating"].to_string(),
            "kubewarden/questions-ui": questions,
            "kubewarden/resources": hub("resources"),
            "kubewarden/rules": null,
        },
    });
    assert_eq!(package, expected);
    let repository = yaml("artifacthub-repo.yml");
    assert_eq!(repository, json!({"owners": expected["maintainers"]}));
}

/// Rancher's form: what it sends, filled in or left empty, is accepted.
#[test]
fn the_form_asks_for_settings_that_there_are() {
    let form = yaml("questions-ui.yml");
    let (mut filled, mut empty) = (json!({}), json!({}));
    for question in form["questions"].as_array().unwrap() {
        let variable = question["variable"].as_str().unwrap();
        let place = format!("/{}", variable.replace('.', "/"));
        let left_empty = match question["type"].as_str().unwrap() {
            _ if question["required"] == true => question["default"].clone(),
            "array[" => json!([]),
            "boolean" => question["default"].clone(),
            _ => json!(""),
        };
        for (settings, value) in [
            (&mut filled, &question["default"]),
            (&mut empty, &left_empty),
        ] {
            if let Some((parent, _)) = variable.split_once('.') {
                let parent = settings.as_object_mut().unwrap().entry(parent);
                parent.or_insert_with(|| json!({}));
            }
            let (parent, key) = place.rsplit_once('/').unwrap();
            settings.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        for option in question["options"].as_array().into_iter().flatten() {
            let settings = json!({variable: option});
            Settings::from_json(&settings.to_string()).unwrap();
        }
    }
    for settings in [filled, empty] {
        let read = Settings::from_json(&settings.to_string());
        assert_eq!(read, Ok(Settings::default()), "{settings}");
    }
}

/// A field that the type does not know would not come out again.
fn assert_no_unknown_fields<T: DeserializeOwned + Serialize>(file: &str) {
    let written = yaml(file);
    let read: T = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), written, "{file}");
}

#[test]
fn the_samples_have_no_unknown_fields() {
    for file in crate::common::files(repository("test_data/pods")) {
        assert_no_unknown_fields::<Pod>(file.to_str().unwrap());
    }
}

/// Every file that names the module, as `hack/release-version` finds them.
fn policies() -> Vec<PathBuf> {
    let examples = glob(repository("examples"), "yaml");
    let policies = examples.into_iter().filter(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        text.contains("kind: ClusterAdmissionPolicy")
    });
    let mut policies: Vec<PathBuf> = policies.collect();
    policies.push(repository("policy.yaml"));
    policies
}

fn glob(directory: PathBuf, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in crate::common::files(directory) {
        if file.is_dir() {
            found.extend(glob(file, extension));
        } else if file.extension().is_some_and(|it| it == extension) {
            found.push(file);
        }
    }
    found
}

#[test]
fn one_version_stands_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let files = policies();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let line = text.lines().find(|line| line.starts_with("  module: "));
        let tag = line.unwrap().rsplit_once(':').unwrap().1;
        assert_eq!(tag, format!("v{version}"), "{}", file.display());
    }
    let changes = std::fs::read_to_string(repository("CHANGELOG.md")).unwrap();
    let mut headings = changes.lines().filter_map(|line| line.strip_prefix("## "));
    let newest = headings.find(|heading| heading.starts_with(char::is_numeric));
    if let Some(newest) = newest {
        assert_eq!(newest.split(' ').next(), Some(version));
    }
}

/// In a copy of what it changes.
#[test]
fn a_release_changes_the_version_everywhere() {
    let copy = std::env::temp_dir().join(format!("mesa-injector-release-{}", std::process::id()));
    let root = repository("").canonicalize().unwrap();
    let golden = repository("crates/mesa-scan/tests/golden/policy.yaml");
    let names = [
        "Cargo.toml",
        "Cargo.lock",
        "metadata.yml",
        "artifacthub-pkg.yml",
        "CHANGELOG.md",
        "hack/release-version",
    ];
    let files: Vec<PathBuf> = policies()
        .into_iter()
        .chain([golden])
        .chain(names.map(repository))
        .collect();
    let copied: Vec<PathBuf> = files
        .iter()
        .map(|file| {
            let to = copy.join(file.canonicalize().unwrap().strip_prefix(&root).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(file, &to).unwrap();
            to
        })
        .collect();
    let set = |version: &str| {
        let mut set = std::process::Command::new(copy.join("hack/release-version"));
        set.arg(version).output().unwrap().status.code()
    };
    for wrong in [
        "",
        "v1.2.3",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.2.3 ",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert_eq!(set(wrong), Some(2), "{wrong}");
    }
    let texts = || -> Vec<String> {
        copied
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect()
    };
    let before = texts();
    assert_eq!(set("98.7.6-rc.1"), Some(0));
    for ((file, before), after) in copied.iter().zip(&before).zip(texts()) {
        let is_script = file.ends_with("hack/release-version");
        assert_eq!(*before == after, is_script, "{}", file.display());
        let old = format!("mesa-injector:v{}", env!("CARGO_PKG_VERSION"));
        assert!(!after.contains(&old), "{}", file.display());
    }
    // And back: but for the day and the changes nothing is lost.
    assert_eq!(set(env!("CARGO_PKG_VERSION")), Some(0));
    for ((file, before), after) in copied.iter().zip(&before).zip(texts()) {
        let has_a_day = file.ends_with("artifacthub-pkg.yml") || file.ends_with("CHANGELOG.md");
        assert!(*before == after || has_a_day, "{}", file.display());
    }
    std::fs::remove_dir_all(copy).unwrap();
}
