//! QEMU's GL display comes up with what the policy injects, and with nothing else.

use std::fs;

use display_tests::qmp::Qemu;
use rstest::rstest;
use serde_json::json;

use crate::machine::is_fit;
use crate::stand::{Admitted, Stand};

#[derive(Debug, Clone, Copy)]
enum Layout {
    Staged,
    Files,
}

#[rstest]
fn qemu_finds_opengl_with_what_the_policy_injects(
    #[values("bookworm", "trixie")] suite: &str,
    #[values(Layout::Staged, Layout::Files)] layout: Layout,
) {
    if !is_fit() {
        return;
    }
    let stand = Stand::of(suite, suite);
    let settings = match layout {
        Layout::Staged => stand.stage(),
        Layout::Files => stand.files(),
    };
    assert_eq!(stand.check(&settings), []);
    let pod = stand.admit(&settings);

    let mut qemu = pod.qemu().unwrap();
    let gpu = json!({"path": "/machine/peripheral/gpu", "property": "realized"});
    assert_eq!(qemu.execute("qom-get", &gpu).unwrap(), json!(true));
    assert_screendump(&pod, &mut qemu);
    assert_unprivileged(&qemu);
    assert_llvmpipe_is_mapped(&qemu);

    let said = pod.probe(&[]);
    assert!(said.contains("EGL: 1."), "{said}");
    assert!(said.contains("renderer: llvmpipe"), "{said}");
}

/// A picture of the size of a VGA text screen, as a portable pixmap.
fn assert_screendump(pod: &Admitted<'_>, qemu: &mut Qemu) {
    let file = json!({"filename": "/var/run/kubevirt-private/screen.ppm"});
    qemu.execute("screendump", &file).unwrap();
    let picture = fs::read(pod.private("screen.ppm")).unwrap();
    let head = String::from_utf8_lossy(&picture[..15]).into_owned();
    let numbers: Vec<usize> = head
        .split_whitespace()
        .skip(1)
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(head.starts_with("P6\n"), "{head}");
    assert_eq!(numbers[2], 255);
    assert_eq!(picture.len(), head.len() + 3 * numbers[0] * numbers[1]);
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

/// QEMU itself names no renderer: what it has mapped is mesa's software renderer.
fn assert_llvmpipe_is_mapped(qemu: &Qemu) {
    let maps = fs::read_to_string(format!("/proc/{}/maps", qemu.pid())).unwrap();
    let is_mapped = |name: &str| maps.lines().any(|line| line.contains(name));
    for name in ["/ui-egl-headless.so", "/libEGL_mesa.so.0", "/libLLVM"] {
        assert!(is_mapped(name), "{name} is not mapped");
    }
    assert!(is_mapped("/libgallium-") || is_mapped("/dri/"));
}
