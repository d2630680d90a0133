//! The response as a person wants to read it: the verdict, what is added where, and what is said.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

use anstyle::{AnsiColor, Style};
use json_patch::PatchOperation;
use manifests::printable;
use serde_json::{Value, json};

use crate::{
    definition::{Definition, Mode},
    input::Input,
    response::AdmissionResponse,
};

const ADDED: Style = AnsiColor::Green.on_default();
const CHANGED: Style = AnsiColor::Yellow.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const NOTE: Style = AnsiColor::Cyan.on_default();
const BOLD: Style = Style::new().bold();

/// The report on one request, in lines and coloured; a stream that is no terminal is to strip the colours.
///
/// `not_sent` is why the API server would not ask the policy.
#[must_use]
pub fn render(
    input: &Input,
    response: &AdmissionResponse,
    definition: &Definition,
    not_sent: Option<&str>,
) -> String {
    let object = input.request.object.as_ref().unwrap_or(&Value::Null);
    let (style, verdict) = match not_sent {
        Some(reason) => (NOTE, format!("not sent: {reason}")),
        None => verdict(response),
    };
    let (place, pod) = (input.source.to_string(), pod_name(input));
    let mut lines = vec![format!(
        "{BOLD}{}{BOLD:#}: {}: {style}{}{style:#}",
        printable(&place),
        printable(&pod),
        printable(&verdict)
    )];
    if definition.mode == Mode::Monitor {
        let note = "mode is monitor: the server drops what the policy would change or reject";
        lines.push(format!("  {NOTE}note{NOTE:#} {note}"));
    }
    for (section, changes) in changes(object, response) {
        lines.push(format!("  {}", printable(&section.to_string())));
        lines.extend(change_lines(&changes));
    }
    let warnings = response.warnings.iter().flatten();
    lines.extend(
        warnings.map(|warning| format!("  {CHANGED}warning{CHANGED:#} {}", printable(warning))),
    );
    let audit = response.audit_annotations.iter().flatten();
    lines.extend(audit.map(|(key, value)| {
        let (key, value) = (printable(key), printable(value));
        format!("  {NOTE}audit{NOTE:#} {key}: {value}")
    }));
    let says_nothing = response.audit_annotations.is_none() && response.warnings.is_none();
    if not_sent.is_none() && response.allowed && response.patch.is_none() && says_nothing {
        let why = why_unchanged(input, definition);
        lines.push(format!("  {NOTE}why{NOTE:#} {}", printable(&why)));
    }
    lines.join("\n") + "\n"
}

/// Why this project's policy says nothing of a pod, which it does in the first and the ninth row of docs/settings.md.
fn why_unchanged(input: &Input, definition: &Definition) -> String {
    let request = &input.request;
    let sub_resource = request.sub_resource.as_deref().unwrap_or_default();
    if request.operation != "CREATE" || !sub_resource.is_empty() || request.kind.kind != "Pod" {
        return "no pod is being created".to_owned();
    }
    let object = request.object.as_ref().unwrap_or(&Value::Null);
    let launcher = json!({"kubevirt.io": "virt-launcher"});
    let wanted = definition
        .settings
        .get("match")
        .and_then(|it| it.get("labels"));
    let wanted = wanted.filter(|it| it.is_object()).unwrap_or(&launcher);
    let has = |key: &str| object.get("metadata")?.get("labels")?.get(key);
    let other = wanted.as_object().into_iter().flatten();
    let mut other = other.filter(|(key, value)| has(key) != Some(value));
    match other.next() {
        Some((key, value)) => format!("the pod has no label {key}={}", plain(Some(value))),
        None => "everything is there already".to_owned(),
    }
}

fn verdict(response: &AdmissionResponse) -> (Style, String) {
    match (response.allowed, &response.patch) {
        (true, Some(_)) => (ADDED, "mutated".to_owned()),
        (true, None) => (Style::new(), "accepted, unchanged".to_owned()),
        (false, _) => (REMOVED, response.reason()),
    }
}

/// `namespace/name`, or `namespace/prefix*` where the API server will generate the name.
fn pod_name(input: &Input) -> String {
    let request = &input.request;
    let metadata = |key| request.object.as_ref()?.get("metadata")?.get(key)?.as_str();
    let name = match (
        metadata("name").or(request.name.as_deref()),
        metadata("generateName"),
    ) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, Some(prefix)) => format!("{prefix}*"),
        _ => format!("(a {} without a name)", request.kind.kind),
    };
    match &request.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    }
}

/// A part of the pod, in the order of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Volumes,
    Container(String),
    Other(String),
}

impl Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volumes => f.write_str("volumes"),
            Self::Container(name) => write!(f, "container {name}"),
            Self::Other(path) if path.is_empty() => f.write_str("top level"),
            Self::Other(path) => f.write_str(path),
        }
    }
}

/// One line of a section.
struct Change {
    kind: Kind,
    /// What is changed: a volume, a mount path, a key.
    subject: String,
    /// What it is now.
    detail: String,
}

#[derive(Clone, Copy)]
enum Kind {
    Added,
    Replaced,
    Removed,
}

impl Kind {
    fn sign(self) -> (Style, char) {
        match self {
            Self::Added => (ADDED, '+'),
            Self::Replaced => (CHANGED, '~'),
            Self::Removed => (REMOVED, '-'),
        }
    }
}

/// One line per change, with the details in one column.
fn change_lines(changes: &[Change]) -> impl Iterator<Item = String> {
    let width = changes
        .iter()
        .map(|change| change.subject.chars().count())
        .max()
        .unwrap_or(0);
    changes.iter().map(
        move |Change {
                  kind,
                  subject,
                  detail,
              }| {
            let (style, sign) = kind.sign();
            let text = printable(&format!("{subject:width$}  {detail}"));
            format!("    {style}{sign} {}{style:#}", text.trim_end())
        },
    )
}

fn changes(object: &Value, response: &AdmissionResponse) -> BTreeMap<Section, Vec<Change>> {
    let mut sections: BTreeMap<Section, Vec<Change>> = BTreeMap::new();
    // The places that an operation names are those after the operations before it.
    let mut object = object.clone();
    for operation in response.patch.iter().flat_map(|patch| &patch.0) {
        let before = object.clone();
        // A patch that does not apply is none of the report's business: it shows what the policy meant.
        let _ = json_patch::patch(&mut object, std::slice::from_ref(operation));
        // A container that is new has a name only then.
        let object = match operation {
            PatchOperation::Add(_) => &object,
            _ => &before,
        };
        for (section, change) in explain(object, operation) {
            sections.entry(section).or_default().push(change);
        }
    }
    sections
}

fn explain(object: &Value, operation: &PatchOperation) -> Vec<(Section, Change)> {
    let path: Vec<String> = operation
        .path()
        .tokens()
        .map(|token| token.decoded().into_owned())
        .collect();
    let old = operation.path().resolve(object).unwrap_or(&Value::Null);
    match operation {
        PatchOperation::Add(add) => explain_leaves(object, Kind::Added, path, &add.value),
        PatchOperation::Replace(replace) => {
            let (section, subject, new) = describe(object, &path, &replace.value);
            let (_, _, old) = describe(object, &path, old);
            let detail = format!("{old} -> {new}");
            let kind = Kind::Replaced;
            vec![(
                section,
                Change {
                    kind,
                    subject,
                    detail,
                },
            )]
        }
        // `diff` makes no other operations than these three.
        _ => explain_leaves(object, Kind::Removed, path, old),
    }
}

fn explain_leaves(
    object: &Value,
    kind: Kind,
    path: Vec<String>,
    value: &Value,
) -> Vec<(Section, Change)> {
    leaves(path, value)
        .into_iter()
        .map(|(path, value)| {
            let (section, subject, detail) = describe(object, &path, &value);
            (
                section,
                Change {
                    kind,
                    subject,
                    detail,
                },
            )
        })
        .collect()
}

/// A list or map that comes or goes whole, item by item - but a volume and a mount are told as a whole.
fn leaves(path: Vec<String>, value: &Value) -> Vec<(Vec<String>, Value)> {
    let child = |key: String| path.iter().cloned().chain([key]).collect();
    match value {
        Value::Array(items)
            if !items.is_empty() && (is_volume_list(&path) || is_container_list(&path)) =>
        {
            let items = items.iter().enumerate();
            items
                .flat_map(|(index, item)| leaves(child(index.to_string()), item))
                .collect()
        }
        Value::Object(map) if !map.is_empty() && !is_volume(&path) => map
            .iter()
            .flat_map(|(key, value)| leaves(child(key.clone()), value))
            .collect(),
        _ => vec![(path, value.clone())],
    }
}

fn is_container_list(path: &[String]) -> bool {
    let lists = ["containers", "initContainers"];
    matches!(path, [spec, list] if spec == "spec" && lists.contains(&list.as_str()))
}

fn is_volume_list(path: &[String]) -> bool {
    match path {
        [spec, volumes] => spec == "spec" && volumes == "volumes",
        [spec, _, _, mounts] => spec == "spec" && mounts == "volumeMounts",
        _ => false,
    }
}

fn is_volume(path: &[String]) -> bool {
    path.split_last()
        .is_some_and(|(_, list)| is_volume_list(list))
}

/// The section, subject and detail of a change.
fn describe(object: &Value, path: &[String], value: &Value) -> (Section, String, String) {
    let container = container_name(object, path);
    match (container, path.split_last()) {
        (None, Some((_, list))) if is_volume_list(list) => {
            (Section::Volumes, name(value), volume_source(value))
        }
        (Some((container, [_, _])), Some((_, list))) if is_volume_list(list) => (
            Section::Container(container),
            format!("mount {}", plain(value.get("mountPath"))),
            mount(value),
        ),
        (Some((container, field)), _) => (
            Section::Container(container),
            field.join("."),
            plain(Some(value)),
        ),
        (None, Some((key, parent))) => (
            Section::Other(parent.join(".")),
            key.clone(),
            plain(Some(value)),
        ),
        (None, None) => (
            Section::Other(String::new()),
            "everything".to_owned(),
            plain(Some(value)),
        ),
    }
}

/// The container that a path leads into, and the path from there on.
fn container_name<'p>(object: &Value, path: &'p [String]) -> Option<(String, &'p [String])> {
    let [spec, list, index, field @ ..] = path else {
        return None;
    };
    let init = match list.as_str() {
        "containers" => "",
        "initContainers" => " (init)",
        _ => return None,
    };
    let container = object
        .get(spec)?
        .get(list)?
        .get(index.parse::<usize>().ok()?)?;
    let name = container.get("name")?.as_str()?;
    (!field.is_empty()).then(|| (format!("{name}{init}"), field))
}

fn name(value: &Value) -> String {
    plain(value.get("name"))
}

fn volume_source(volume: &Value) -> String {
    let sources = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "name");
    let sources = sources.map(|(key, source)| match key.as_str() {
        "hostPath" => format!("hostPath {}", with_remark(source, "path", "type")),
        "image" => format!("image {}", with_remark(source, "reference", "pullPolicy")),
        _ => format!("{key} {source}"),
    });
    sources.collect::<Vec<_>>().join(", ")
}

fn with_remark(source: &Value, main: &str, remark: &str) -> String {
    let main = plain(source.get(main));
    match source.get(remark) {
        Some(remark) => format!("{main} ({})", plain(Some(remark))),
        None => main,
    }
}

fn mount(mount: &Value) -> String {
    let sub_path = mount
        .get("subPath")
        .map(|path| format!(", sub-path {}", plain(Some(path))))
        .unwrap_or_default();
    let read_only = mount
        .get("readOnly")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let access = if read_only { "read-only" } else { "writable" };
    format!("from {}{sub_path}, {access}", name(mount))
}

/// A text without its quotes; any other value as JSON.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
