//! QEMU's GL display comes up with what the policy injects, and with nothing else.

use std::fs;

use display_tests::qmp::Qemu;
use rstest::rstest;
use serde_json::{Value, json};

use crate::machine::{repository, skipped};
use crate::stand::Stand;

#[derive(Debug, Clone, Copy)]
enum Layout {
    Staged,
    Files,
}

#[rstest]
#[case::with_old_mesa("bookworm", "bookworm")]
#[case::with_new_mesa("trixie", "trixie")]
#[case::on_a_node_older_than_the_image("bookworm", "trixie")]
fn qemu_finds_opengl_with_what_the_policy_injects(
    #[case] node: &str,
    #[case] image: &str,
    #[values(Layout::Staged, Layout::Files)] layout: Layout,
) {
    let Some(stand) = Stand::of(node, image) else {
        return;
    };
    let settings = match layout {
        Layout::Staged => stand.stage(),
        Layout::Files => stand.files(),
    };
    assert_eq!(stand.check(&settings), []);
    let pod = stand.admit(&settings);

    let mut qemu = pod.qemu().unwrap();
    let gpu = json!({"path": "/machine/peripheral/gpu", "property": "realized"});
    assert_eq!(qemu.execute("qom-get", &gpu).unwrap(), json!(true));
    assert_unprivileged(&qemu);
    assert_llvmpipe_is_mapped(&qemu);
    pod.assert_paints();

    let said = pod.probe(&[]);
    assert!(said.contains("EGL: 1."), "{said}");
    assert!(said.contains("renderer: llvmpipe"), "{said}");
}

/// The real pods, where they are at hand: other mounts than the sample's, volumes of all kinds, and one of them runs as root.
#[test]
fn qemu_finds_opengl_in_every_pod_that_kubevirt_renders() {
    let pods = rendered_pods();
    if pods.is_empty() {
        skipped("there is no ../shared/pods beside this repository");
    }
    let Some(mut stand) = Stand::of_trixie() else {
        return;
    };
    let settings = stand.stage();
    for (name, pod) in pods {
        println!("{name}");
        stand = stand.with_pod(pod);
        let pod = stand.admit(&settings);
        let _qemu = pod.qemu().unwrap();
        pod.assert_paints();
    }
}

/// The launcher pods of KubeVirt's own code that run QEMU on this architecture.
fn rendered_pods() -> Vec<(String, Value)> {
    let files = fs::read_dir(repository("../shared/pods"))
        .into_iter()
        .flatten();
    let pods = files.map(|file| {
        let path = file.unwrap().path();
        let pod: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), pod)
    });
    pods.filter(|(name, pod)| {
        let runs_qemu = !name.starts_with("not-a-launcher") && !name.contains("provisioning");
        runs_qemu && pod["spec"]["nodeSelector"]["kubernetes.io/arch"] == "amd64"
    })
    .collect()
}

/// No file of the node: an image volume has what `stage` copied.
#[test]
fn qemu_finds_opengl_in_image_volumes_too_unless_they_are_noexec() {
    let Some(stand) = Stand::of_trixie() else {
        return;
    };
    let (stand, settings) = stand.with_staged_image();

    let pod = stand.admit(&settings);
    let qemu = pod.qemu().unwrap();
    pod.assert_paints();
    drop(qemu);
    let said = pod.with_noexec_images().qemu_fails();
    assert!(
        said.contains("libgbm.so.1: failed to map segment from shared object"),
        "{said}"
    );
}

/// QEMU is the pod's user, without capabilities, with no environment but the pod's.
fn assert_unprivileged(qemu: &Qemu) {
    let status = fs::read_to_string(format!("/proc/{}/status", qemu.pid())).unwrap();
    let value = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line[key.len()..].split_whitespace().next().unwrap()
    };
    assert_eq!(value("Uid:"), "107");
    assert_eq!(value("Gid:"), "107");
    assert_eq!(value("NoNewPrivs:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    // NET_BIND_SERVICE, which the pod adds.
    assert_eq!(value("CapBnd:"), "0000000000000400");
    let environment = fs::read(format!("/proc/{}/environ", qemu.pid())).unwrap();
    assert_eq!(String::from_utf8_lossy(&environment), "");
}

/// What QEMU has mapped is the launcher's display and mesa's software renderer.
fn assert_llvmpipe_is_mapped(qemu: &Qemu) {
    let maps = fs::read_to_string(format!("/proc/{}/maps", qemu.pid())).unwrap();
    let is_mapped = |name: &str| maps.lines().any(|line| line.contains(name));
    for name in ["/ui-egl-headless.so", "/libEGL_mesa.so.0", "/libLLVM"] {
        assert!(is_mapped(name), "{name} is not mapped");
    }
    assert!(is_mapped("/libgallium-") || is_mapped("/dri/"));
}
