//! A file capability makes the loader ignore the environment (AT_SECURE). The staged layout does not need it.
//!
//! KubeVirt's containers forbid privilege escalation and yet add NET_BIND_SERVICE: the kernel then withholds what the file
//! would give, but the file's effective bit alone sets AT_SECURE. So the pod is realised as it is, no_new_privs and all.

use std::fs;
use std::process::Command;

use display_tests::qmp::Qemu;
use serde_json::json;

use crate::machine::run;
use crate::stand::Stand;

const SECURE: u64 = 23;
const AWAY: &str = "/opt/mesa";

/// QEMU gets a file capability, as virt-launcher-monitor and Stream 9's qemu-kvm have one.
fn give_capability(stand: &Stand) {
    let binary = stand.image.path().join("usr/bin/qemu-system-x86_64");
    // A file of its own first: the root's other copies share this one.
    let own = binary.with_extension("own");
    fs::copy(&binary, &own).unwrap();
    fs::rename(&own, &binary).unwrap();
    run(Command::new("setcap")
        .arg("cap_net_bind_service=+ep")
        .arg(binary))
    .unwrap();
}

/// What the kernel told QEMU's loader.
fn is_secure(qemu: &Qemu) -> bool {
    let auxiliary = fs::read(format!("/proc/{}/auxv", qemu.pid())).unwrap();
    let words: Vec<u64> = auxiliary
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
        .collect();
    words.chunks_exact(2).any(|pair| pair == [SECURE, 1])
}

#[test]
fn the_staged_layout_loads_under_at_secure() {
    let Some(stand) = Stand::of_trixie() else {
        return;
    };
    let settings = stand.stage();
    let pod = stand.admit(&settings);
    assert!(!is_secure(&pod.qemu().unwrap()));
    give_capability(&stand);
    let qemu = pod.qemu().unwrap();
    assert!(is_secure(&qemu));
    pod.assert_paints();
}

#[test]
fn ld_library_path_does_not_reach_qemu_under_at_secure() {
    let Some(stand) = Stand::of_trixie() else {
        return;
    };
    let stand = stand.with_variables(&[("LD_LIBRARY_PATH", AWAY)]);
    let mut settings = stand.stage();
    for mount in settings["hostPaths"].as_array_mut().unwrap() {
        if mount["name"] == "mesa-lib" {
            mount["mountPath"] = json!(AWAY);
        }
    }
    let pod = stand.admit(&settings);
    assert!(!is_secure(&pod.qemu().unwrap()));
    give_capability(&stand);
    let said = pod.qemu_fails();
    assert!(
        said.contains("libgbm.so.1: cannot open shared object file"),
        "{said}"
    );
}
