//! Where something is missing QEMU says so, and `mesa-scan check` said the same before.

use rstest::rstest;
use serde_json::{Value, json};

use crate::stand::{Stand, assert_said};

#[test]
fn before_the_policy_qemu_has_no_opengl() {
    let Some(stand) = Stand::of_trixie() else {
        return;
    };
    let nothing = json!({"hostPaths": []});
    assert_said(&stand, &nothing, "library-missing", "libgbm.so.1");
    let said = stand.not_admitted().qemu_fails();
    let cause = "libgbm.so.1: cannot open shared object file";
    assert!(said.contains(cause), "{said}");
}

#[rstest]
#[case::the_incumbents_six_paths_on_a_debian_node(
    "trixie", incumbent,
    "host-path-missing", "/usr/lib64/dri",
    &["hostPath type check failed: /usr/lib64/", "does not exist"]
)]
#[case::the_incumbents_six_paths_where_its_script_has_linked_them(
    "trixie", linked_incumbent,
    "library-missing", "libgbm.so.1",
    &["libgbm.so.1: cannot open shared object file"]
)]
#[case::all_but_libllvm(
    "trixie", without_libllvm,
    "library-missing", "libLLVM.so.19.1",
    &["libLLVM.so.19.1: cannot open shared object file", "gbm_create_device failed"]
)]
#[case::all_but_libgl_and_libopengl(
    "trixie", without_libgl,
    "library-missing", "libOpenGL.so.0",
    &["Couldn't open libGL.so.1 or libOpenGL.so.0"]
)]
#[case::a_node_newer_than_the_image(
    "bookworm", Stand::files,
    "version-missing", "GLIBC_2.38",
    &["version `GLIBC_2.38' not found"]
)]
fn qemu_does_not_come_up_for_the_cause_that_the_check_gave(
    #[case] image: &str,
    #[case] settings: fn(&Stand) -> Value,
    #[case] cause: &str,
    #[case] file: &str,
    #[case] says: &[&str],
) {
    let Some(stand) = Stand::of("trixie", image) else {
        return;
    };
    let settings = settings(&stand);
    assert_said(&stand, &settings, cause, file);
    let said = stand.admit(&settings).qemu_fails();
    for part in says {
        assert!(said.contains(part), "{part}: {said}");
    }
}

fn incumbent(_: &Stand) -> Value {
    json!({})
}

fn linked_incumbent(stand: &Stand) -> Value {
    stand.link_the_six_paths();
    json!({})
}

fn without_libllvm(stand: &Stand) -> Value {
    without(stand, &["libLLVM.so.19.1"])
}

/// No file needs either of them; libepoxy does.
fn without_libgl(stand: &Stand) -> Value {
    without(stand, &["libGL.so.1", "libOpenGL.so.0"])
}

fn without(stand: &Stand, names: &[&str]) -> Value {
    let mut settings = stand.files();
    let files = settings["hostPaths"].as_array_mut().unwrap();
    let before = files.len();
    files.retain(|file| !names.contains(&name(file)));
    assert_eq!(files.len(), before - names.len(), "{names:?}");
    settings
}

/// Where Mesa's own message misleads, the loader's does not, of the driver opened by its path.
#[test]
fn the_driver_opened_by_its_path_names_the_library_that_it_lacks() {
    let Some(stand) = Stand::of_trixie() else {
        return;
    };
    let pod = stand.admit(&without_libllvm(&stand));
    let driver = "/usr/lib/x86_64-linux-gnu/gbm/dri_gbm.so";
    let said = pod.probe(&[driver]);
    let cause = "libLLVM.so.19.1: cannot open shared object file";
    let cause = format!("does not open: {driver}: {cause}");
    assert!(said.contains(&cause), "{said}");
    assert!(said.contains("failed: gbm_create_device"), "{said}");
}

/// One file at a time: where QEMU then has no picture, the check said so of that file.
#[rstest]
fn whichever_file_is_left_out_the_check_knows_whether_qemu_paints(
    #[values("bookworm", "trixie")] suite: &str,
) {
    let Some(stand) = Stand::of(suite, suite) else {
        return;
    };
    let settings = stand.files();
    let files = settings["hostPaths"].as_array().unwrap();
    let [mut refused, mut failed] = [0, 0];
    for (at, file) in files.iter().enumerate() {
        let mut rest = files.clone();
        rest.remove(at);
        let settings = json!({"hostPaths": rest});
        let verdict = stand.verdict(&settings);
        refused += usize::from(verdict["loads"] == false);
        let pod = stand.admit(&settings);
        let painted = pod.qemu().map(|_qemu| pod.paint().is_ok());
        if !painted.unwrap_or(false) {
            failed += 1;
            let path = file["mountPath"].as_str().unwrap();
            let (directory, name) = path.rsplit_once('/').unwrap();
            // The only file of its directory is missed as that.
            let named = match directory.rsplit('/').next().unwrap() {
                "gbm" | "egl_vendor.d" => directory,
                _ => name,
            };
            // One of several drivers is a note.
            assert!(
                verdict["findings"].to_string().contains(named),
                "{path}: {verdict}"
            );
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
fn nothing_is_staged_for_an_image_that_is_too_old() {
    let Some(stand) = Stand::of("trixie", "bookworm") else {
        return;
    };
    let said = stand.try_stage().unwrap_err();
    assert!(
        said.contains("nothing is staged") && said.contains("GLIBC_2.38"),
        "{said}"
    );
    let area = stand.node.path().join("var/lib/mesa-injector");
    assert!(!area.exists());
}
