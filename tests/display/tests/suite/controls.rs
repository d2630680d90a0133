//! Where something is missing QEMU says so, and `mesa-scan check` said the same before.

use std::os::unix::fs::symlink;

use rstest::rstest;
use serde_json::{Value, json};

use crate::machine::is_fit;
use crate::stand::Stand;

/// The check named this cause, of this file.
fn assert_said(stand: &Stand, settings: &Value, cause: &str, file: &str) {
    let reasons = stand.check(settings);
    let said = |(of, what): &(String, String)| of == cause && what.contains(file);
    assert!(reasons.iter().any(said), "{cause} {file}: {reasons:#?}");
}

#[test]
fn before_the_policy_qemu_has_no_opengl() {
    if !is_fit() {
        return;
    }
    let stand = Stand::of("trixie", "trixie");
    assert_said(
        &stand,
        &json!({"hostPaths": []}),
        "library-missing",
        "libgbm.so.1",
    );
    let said = stand.not_admitted().qemu_fails();
    assert!(
        said.contains("libgbm.so.1: cannot open shared object file"),
        "{said}"
    );
}

#[test]
fn the_incumbents_six_paths_are_not_on_a_debian_node_and_the_pod_does_not_start() {
    if !is_fit() {
        return;
    }
    let stand = Stand::of("trixie", "trixie");
    let path = "/usr/lib64/dri";
    assert_said(&stand, &json!({}), "host-path-missing", path);
    let said = stand.admit(&json!({})).qemu_fails();
    assert!(
        said.contains("hostPath type check failed: /usr/lib64/"),
        "{said}"
    );
    assert!(said.contains("does not exist"), "{said}");
}

/// On a Debian node the incumbent needs a script that links the libraries into /usr/lib64.
#[test]
fn the_incumbents_six_paths_are_not_enough_where_the_node_has_them() {
    if !is_fit() {
        return;
    }
    let stand = Stand::of("trixie", "trixie");
    let lib64 = stand.node.path().join("usr/lib64");
    for name in [
        "libGL.so.1",
        "libEGL.so.1",
        "libGLESv2.so.2",
        "libGLX.so.0",
        "dri",
    ] {
        symlink(
            format!("/usr/lib/x86_64-linux-gnu/{name}"),
            lib64.join(name),
        )
        .unwrap();
    }
    assert_said(&stand, &json!({}), "library-missing", "libgbm.so.1");
    let said = stand.admit(&json!({})).qemu_fails();
    assert!(
        said.contains("libgbm.so.1: cannot open shared object file"),
        "{said}"
    );
}

#[test]
fn with_one_library_less_the_driver_does_not_open() {
    if !is_fit() {
        return;
    }
    let stand = Stand::of("trixie", "trixie");
    let mut settings = stand.files();
    let files = settings["hostPaths"].as_array_mut().unwrap();
    let at = files
        .iter()
        .position(|file| name(file).starts_with("libLLVM"));
    let removed = name(&files.remove(at.unwrap())).to_owned();
    assert_said(&stand, &settings, "library-missing", &removed);
    let pod = stand.admit(&settings);
    let cause = format!("{removed}: cannot open shared object file");
    let said = pod.qemu_fails();
    assert!(
        said.contains(&cause) && said.contains("gbm_create_device failed"),
        "{said}"
    );
    // The loader says so too, of the driver opened by its path.
    let said = pod.probe(&["/usr/lib/x86_64-linux-gnu/gbm/dri_gbm.so"]);
    assert!(
        said.contains(&cause) && said.contains("failed: gbm_create_device"),
        "{said}"
    );
}

/// No file needs either of them; libepoxy does.
#[test]
fn with_neither_libgl_nor_libopengl_libepoxy_ends_qemu() {
    if !is_fit() {
        return;
    }
    let stand = Stand::of("trixie", "trixie");
    let mut settings = stand.files();
    let files = settings["hostPaths"].as_array_mut().unwrap();
    files.retain(|file| !["libGL.so.1", "libOpenGL.so.0"].contains(&name(file)));
    assert_said(&stand, &settings, "library-missing", "libOpenGL.so.0");
    let said = stand.admit(&settings).qemu_fails();
    assert!(
        said.contains("Couldn't open libGL.so.1 or libOpenGL.so.0"),
        "{said}"
    );
}

/// One file at a time: where QEMU then has no picture, the check said so of that file.
#[rstest]
fn whichever_file_is_left_out_the_check_knows_whether_qemu_paints(
    #[values("bookworm", "trixie")] suite: &str,
) {
    if !is_fit() {
        return;
    }
    let stand = Stand::of(suite, suite);
    let settings = stand.files();
    let files = settings["hostPaths"].as_array().unwrap();
    let [mut refused, mut failed] = [0, 0];
    for (at, file) in files.iter().enumerate() {
        let mut rest = files.clone();
        rest.remove(at);
        let settings = json!({"hostPaths": rest});
        let verdict = stand.verdict(&settings);
        refused += usize::from(verdict["reasons"] != json!([]));
        let pod = stand.admit(&settings);
        let painted = pod.qemu().map(|_qemu| pod.paint([1.0; 3], 64).is_ok());
        if !painted.unwrap_or(false) {
            failed += 1;
            let path = file["mountPath"].as_str().unwrap();
            let (directory, name) = path.rsplit_once('/').unwrap();
            // The only file of its directory is missed as that.
            let named = match directory.rsplit('/').next().unwrap() {
                "gbm" | "egl_vendor.d" => directory,
                _ => name,
            };
            assert!(verdict.to_string().contains(named), "{path}: {verdict}");
        }
    }
    println!(
        "{suite}: of {} files the check refused {refused}, QEMU failed without {failed}",
        files.len()
    );
    assert!(failed > files.len() / 2, "{failed} of {}", files.len());
}

/// The file's name in the container.
fn name(file: &Value) -> &str {
    let path = file["mountPath"].as_str().unwrap();
    path.rsplit('/').next().unwrap()
}

#[test]
fn a_node_newer_than_the_image_does_not_fit() {
    if !is_fit() {
        return;
    }
    let stand = Stand::of("trixie", "bookworm");
    let settings = stand.files();
    assert_said(&stand, &settings, "version-missing", "GLIBC_2.38");
    let pod = stand.admit(&settings);
    let said = pod.qemu_fails();
    assert!(said.contains("version `GLIBC_2.38' not found"), "{said}");
}

#[test]
fn nothing_is_staged_for_an_image_that_is_too_old() {
    if !is_fit() {
        return;
    }
    let stand = Stand::of("trixie", "bookworm");
    let said = stand.try_stage().unwrap_err();
    assert!(
        said.contains("nothing is staged") && said.contains("GLIBC_2.38"),
        "{said}"
    );
    let area = stand.node.path().join("var/lib/mesa-injector");
    assert!(!area.exists());
}
