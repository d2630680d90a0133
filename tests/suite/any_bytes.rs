//! No input, of whatever bytes, keeps the policy from answering.
use crate::common::{launcher_pod, request};
use kubewarden_policy_sdk::response::ValidationResponse;
use kubewarden_policy_sdk::settings::SettingsValidationResponse;
use mesa_injector::json::{Node, Shape};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

/// Reads an answer as the policy server does, with the SDK's own type.
fn answer(payload: &[u8]) -> ValidationResponse {
    let answer = mesa_injector::validate(payload);
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn settings_answer(payload: &[u8]) -> SettingsValidationResponse {
    let answer = mesa_injector::validate_settings(payload);
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[rstest]
#[case::nothing(b"")]
#[case::no_text(b"\xff\xfe")]
#[case::no_json(b"{\"request\":")]
#[case::two_values(b"{} {}")]
#[case::a_number(b"1e400")]
#[case::a_list(b"[]")]
#[case::no_request(b"{}")]
#[case::request_null(b"{\"request\":null,\"settings\":{}}")]
#[case::request_is_a_list(b"{\"request\":[],\"settings\":{}}")]
#[case::half_a_surrogate_in_a_key(br#"{"request":{"\ud800":1}}"#)]
#[case::control_character(b"{\"request\":{\"object\":\"\x01\"}}")]
#[case::trailing_comma(b"{\"request\":{},}")]
fn a_payload_that_is_no_request_is_accepted_with_a_warning(#[case] payload: &[u8]) {
    let answer = answer(payload);
    assert!(answer.accepted && answer.mutated_object.is_none());
    assert_eq!(
        answer.audit_annotations.unwrap()["skip-reason"],
        "malformed-request"
    );
    assert_eq!(answer.warnings.unwrap().len(), 1);
}

#[test]
fn a_payload_that_nests_without_end_is_answered() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = open.repeat(200_000);
        assert!(answer(deep.as_bytes()).accepted);
        let deep = format!("{deep}1{}", close.repeat(200_000));
        assert!(answer(deep.as_bytes()).accepted);
        let _ = settings_answer(deep.as_bytes());
    }
}

#[test]
fn an_opened_text_may_nest_as_deep_as_serde_json_lets_it() {
    for depth in 120..135 {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let taken = Node::parse(&text, &Shape::Tree).is_ok();
            assert_eq!(taken, serde_takes(&text), "{depth} levels");
            assert!(Node::parse(&text, &Shape::Value).is_ok(), "{depth} levels");
        }
    }
}

#[test]
fn a_node_knows_where_it_stands() {
    let text = " { \"a\" : [ 1 , {\"b\":\"c,:\"} , [] ] , \"\\u0061b\" : { } }\n";
    let node = Node::parse(text, &Shape::Tree).unwrap();
    let mut nodes = vec![&node];
    while let Some(node) = nodes.pop() {
        assert_eq!(&text[node.start..node.end()], node.text);
        serde_json::from_str::<Value>(node.text).unwrap();
        nodes.extend(node.items().into_iter().flatten());
        nodes.extend(node.members().into_iter().flatten().map(|(_, node)| node));
    }
}

#[test]
fn settings_that_no_policy_server_lets_through_inject_nothing() {
    for settings in [json!({"hostPath": []}), json!([]), json!("{}"), json!(1)] {
        let payload = json!({"request": request(&launcher_pod()), "settings": settings});
        let answer = answer(payload.to_string().as_bytes());
        assert!(answer.accepted && answer.mutated_object.is_none());
        assert_eq!(
            answer.audit_annotations.unwrap()["skip-reason"],
            "invalid-settings"
        );
        assert!(!settings_answer(settings.to_string().as_bytes()).valid);
    }
}

#[test]
fn settings_that_are_absent_are_the_defaults() {
    for payload in [
        json!({"request": request(&launcher_pod())}),
        json!({"request": request(&launcher_pod()), "settings": null}),
        json!({"request": request(&launcher_pod()), "settings": {}}),
    ] {
        assert!(
            answer(payload.to_string().as_bytes())
                .mutated_object
                .is_some()
        );
    }
}

#[rstest]
#[case::nothing(b"")]
#[case::no_text(b"\xff")]
#[case::no_json(b"hostPaths:")]
#[case::a_list(b"[]")]
#[case::a_string(b"\"{}\"")]
fn settings_of_any_bytes_are_refused_with_a_message(#[case] payload: &[u8]) {
    let answer = settings_answer(payload);
    assert!(!answer.valid);
    assert!(answer.message.unwrap().starts_with("settings: "));
}

#[test]
fn the_protocol_version_is_the_one_of_the_sdk() {
    let expected = kubewarden_policy_sdk::protocol_version_guest(&[]).unwrap();
    assert_eq!(mesa_injector::protocol_version().into_bytes(), expected);
}

/// JSON with all that JSON has, as text: numbers and escapes are written in unusual ways too.
fn json_text() -> impl Strategy<Value = String> {
    let string = prop_oneof![
        r#"[a-z/\-]{0,8}"#,
        r#"([ -!#-\[\]-~é😀]|\\["\\/bfnrt]|\\u00[0-9a-fA-F]{2}|\\ud83d\\ude0[0-9]){0,6}"#,
    ]
    .prop_map(|text| format!("\"{text}\""));
    let number = r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,4})?([eE][+-]?[0-9])?";
    let leaf = prop_oneof![
        string.clone(),
        number,
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
    ];
    leaf.prop_recursive(5, 60, 6, move |value| {
        let space = r"[ \n\t\r]{0,2}";
        let member = (string.clone(), space, value.clone())
            .prop_map(|(key, space, value)| format!("{key}{space}:{space}{value}"));
        prop_oneof![
            (prop::collection::vec(value, 0..5), space)
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(","))),
            (prop::collection::vec(member, 0..5), space)
                .prop_map(|(members, space)| format!("{{{space}{}{space}}}", members.join(","))),
        ]
    })
}

/// Whether serde_json, which the policy server uses, takes the text too.
fn serde_takes(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
}

/// The value that a node stands for, put together from what was opened.
fn value(node: &Node<'_>) -> Value {
    if let Some(members) = node.members() {
        Value::Object(
            members
                .iter()
                .map(|(key, node)| (key.to_string(), value(node)))
                .collect(),
        )
    } else if let Some(items) = node.items() {
        items.iter().map(value).collect()
    } else if let Some(text) = node.as_str() {
        Value::String(text.into_owned())
    } else {
        serde_json::from_str(node.text).unwrap()
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(answer(&bytes).accepted);
        settings_answer(&bytes);
    }

    #[test]
    fn any_json_is_answered(request in json_text(), settings in json_text()) {
        let payload = format!("{{\"request\":{request},\"settings\":{settings}}}");
        prop_assert!(answer(payload.as_bytes()).accepted);
        settings_answer(settings.as_bytes());
    }

    #[test]
    fn any_json_in_the_place_of_a_part_of_the_pod_is_answered(
        part in json_text(),
        place in prop::sample::select(vec![
            "/metadata", "/metadata/labels", "/metadata/annotations", "/spec", "/spec/volumes",
            "/spec/containers", "/spec/containers/0", "/spec/containers/0/name",
            "/spec/containers/0/volumeMounts", "/spec/containers/0/resources", "/spec/nodeSelector",
            "/spec/initContainers", "/metadata/ownerReferences",
        ]),
    ) {
        let mut pod = json!({
            "metadata": {"labels": {"kubevirt.io": "virt-launcher"}, "annotations": {}, "ownerReferences": []},
            "spec": {
                "volumes": [], "nodeSelector": {}, "initContainers": [],
                "containers": [{"name": "compute", "volumeMounts": [], "resources": {}}],
            },
        });
        *pod.pointer_mut(place).unwrap() = json!("HERE");
        let settings = json!({
            "containers": ["*", "init"], "nodeSelector": {"a": "b"}, "resources": {"a.b/c": 1},
            "match": {"owners": ["A"], "resources": ["*"]},
        });
        for settings in [json!({}), settings] {
            let payload = json!({"request": request(&pod), "settings": settings}).to_string();
            prop_assert!(answer(payload.replace("\"HERE\"", &part).as_bytes()).accepted);
        }
    }

    #[test]
    fn a_text_is_read_as_serde_json_reads_it(text in json_text()) {
        let node = Node::parse(&text, &Shape::Tree);
        prop_assert_eq!(value(&node.unwrap()), serde_json::from_str::<Value>(&text).unwrap());
    }

    #[test]
    fn a_damaged_text_is_refused_where_serde_json_refuses_it(
        text in json_text(),
        at in any::<prop::sample::Index>(),
        damage in prop::sample::select(vec!["", "\"", "\\", ",", ":", "{", "]", "0", "-", "e", ".", "u", "nul", "\u{1}", " "]),
    ) {
        let mut damaged: Vec<char> = text.chars().collect();
        let at = at.index(damaged.len());
        damaged.splice(at..=at, damage.chars());
        let damaged: String = damaged.into_iter().collect();
        for shape in [Shape::Value, Shape::Tree] {
            let taken = Node::parse(&damaged, &shape).is_ok();
            if taken != serde_takes(&damaged) {
                let error = serde_json::from_str::<Value>(&damaged).unwrap_err().to_string();
                // What a closed value is not asked.
                let unasked = ["number out of range", "lone leading surrogate", "unexpected end of hex escape"];
                prop_assert!(taken && unasked.iter().any(|it| error.starts_with(it)), "{damaged}: {error}");
            }
        }
    }

    #[test]
    fn what_is_quoted_is_read_back(text in any::<String>()) {
        let quoted = mesa_injector::json::quoted(&text);
        prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text.clone());
        prop_assert_eq!(Node::parse(&quoted, &Shape::Value).unwrap().as_str().unwrap(), text);
    }
}
