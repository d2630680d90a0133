//! A stock launcher has QEMU and nothing of GL: neither Mesa nor QEMU's own modules for it. Both come from a source that has
//! them, in each of the three ways to deliver them.

use std::fs;
use std::path::Path;

use display_tests::qmp::Qemu;
use rstest::rstest;
use serde_json::{Value, json};

use crate::machine::source as source_of;
use crate::stand::{Stand, assert_said};

/// QEMU's own directory for modules.
const MODULES: &str = "usr/lib/x86_64-linux-gnu/qemu";

#[derive(Debug, Clone, Copy)]
enum Delivery {
    Files,
    Staged,
    Flat,
}

/// The stand with one delivery of a source's files, and the settings for it.
fn deliver(stand: Stand, delivery: Delivery) -> (Stand, Value) {
    match delivery {
        Delivery::Files => {
            let settings = stand.files();
            (stand, settings)
        }
        Delivery::Staged => {
            let settings = stand.stage();
            let stand = stand.with_module_directory(&settings);
            (stand, settings)
        }
        Delivery::Flat => {
            let settings = stand.image("flat", &["--no-hook"]);
            let stand = stand.with_flat_image(&settings, "flat");
            (stand.with_module_directory(&settings), settings)
        }
    }
}

/// What the process has mapped.
fn maps(qemu: &Qemu) -> String {
    fs::read_to_string(format!("/proc/{}/maps", qemu.pid())).unwrap()
}

/// The directories from which files of a name are mapped.
fn directories(maps: &str, name: &str) -> Vec<String> {
    let paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let paths = paths.filter(|path| path.ends_with(name));
    let mut directories: Vec<String> = paths
        .map(|path| {
            // As the machine sees it.
            let (_, path) = path.split_once("/layers/root").unwrap();
            Path::new(path).parent().unwrap().display().to_string()
        })
        .collect();
    directories.dedup();
    directories
}

#[rstest]
fn a_stock_launcher_has_its_gl_display(
    #[values("bookworm", "trixie")] suite: &str,
    #[values(Delivery::Files, Delivery::Staged, Delivery::Flat)] delivery: Delivery,
) {
    let Some(stand) = Stand::of_stock(suite, suite) else {
        return;
    };
    let (stand, settings) = deliver(stand, delivery);
    assert_eq!(stand.check(&settings), []);
    let pod = stand.admit(&settings);
    let qemu = pod.qemu().unwrap();
    pod.assert_paints();

    let maps = maps(&qemu);
    let own = format!("/{MODULES}");
    let own = own.as_str();
    let libraries = "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2";
    let brought = match delivery {
        Delivery::Files => own,
        Delivery::Staged | Delivery::Flat => libraries,
    };
    for module in [
        "/ui-opengl.so",
        "/ui-egl-headless.so",
        "/hw-display-virtio-vga-gl.so",
    ] {
        assert_eq!(directories(&maps, module), [brought], "{module}");
    }
    // QEMU's other modules are still its own, in its own directory.
    assert_eq!(directories(&maps, "/hw-display-virtio-vga.so"), [own]);
}

/// What two archives give is what their roots give, to the byte.
#[test]
fn archives_of_both_make_the_same_image() {
    let Some(mut stand) = Stand::of_stock("trixie", "trixie") else {
        return;
    };
    let of_roots = stand.image("of-roots", &["--no-hook"]);
    stand.scan_archives();
    let of_archives = stand.image("of-archives", &["--no-hook"]);
    assert_eq!(of_roots, of_archives);
}

#[test]
fn a_stock_launcher_alone_has_no_gl_display() {
    let Some(stand) = Stand::of_stock("trixie", "trixie") else {
        return;
    };
    let nothing = json!({"hostPaths": []});
    assert_said(&stand, &nothing, "library-missing", "libEGL.so.1");
    let said = stand.not_admitted().qemu_fails();
    assert!(
        said.contains("Display 'egl-headless' is not available"),
        "{said}"
    );
}

/// Puts the modules of trixie's QEMU into a source of bookworm.
fn of_trixie(source: &Path) {
    let other = source_of("trixie");
    for module in ["ui-opengl.so", "ui-egl-headless.so"] {
        let path = Path::new(MODULES).join(module);
        let here = source.join(&path);
        fs::remove_file(&here).unwrap();
        fs::copy(other.path().join(&path), here).unwrap();
    }
}

/// The same modules, as if they were built once more.
fn with_another_stamp(source: &Path) {
    for module in ["ui-opengl.so", "ui-egl-headless.so"] {
        let path = source.join(MODULES).join(module);
        let mut bytes = fs::read(&path).unwrap();
        let mark = b"qemu_stamp_";
        let at = bytes.windows(mark.len()).position(|text| text == mark);
        let first = &mut bytes[at.unwrap() + mark.len()];
        *first = if *first == b'0' { b'1' } else { b'0' };
        fs::remove_file(&path).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[rstest]
#[case::of_trixie_in_bookworm(of_trixie, "ui-opengl.so: undefined symbol: qemu_dmabuf_get_fd")]
#[case::built_once_more(with_another_stamp, "Only modules from the same build can be loaded")]
fn modules_of_another_build_are_not_loaded_as_the_check_said(
    #[case] change: fn(&Path),
    #[case] says: &str,
) {
    let Some(stand) = Stand::of_stock("bookworm", "bookworm") else {
        return;
    };
    change(stand.node.path());
    let settings = stand.image("flat", &["--force", "--no-hook"]);
    let stand = stand.with_flat_image(&settings, "flat");
    let stand = stand.with_module_directory(&settings);
    assert_said(&stand, &settings, "qemu-build", "ui-opengl.so");
    let said = stand.admit(&settings).qemu_fails();
    assert!(said.contains(says), "{said}");
}

#[test]
fn ui_opengl_without_libepoxy_is_not_loaded_as_the_check_said() {
    let Some(stand) = Stand::of_stock("trixie", "trixie") else {
        return;
    };
    fs::remove_file(
        stand
            .node
            .path()
            .join("usr/lib/x86_64-linux-gnu/libepoxy.so.0"),
    )
    .unwrap();
    let settings = stand.image("flat", &["--force", "--no-hook"]);
    let stand = stand
        .with_flat_image(&settings, "flat")
        .with_module_directory(&settings);
    assert_said(&stand, &settings, "library-missing", "libepoxy.so.0");
    let said = stand.admit(&settings).qemu_fails();
    assert!(
        said.contains("libepoxy.so.0: cannot open shared object file"),
        "{said}"
    );
}

/// Trixie's image, in bookworm's launcher.
#[test]
fn an_image_for_another_launcher_is_refused_by_the_check_and_by_qemu() {
    let Some(other) = Stand::of_stock("trixie", "trixie") else {
        return;
    };
    let Some(stand) = Stand::of_stock("bookworm", "bookworm") else {
        return;
    };
    let settings = other.image("flat", &["--no-hook"]);
    let image = other.unpacked("flat");
    let stand = stand
        .with_volume(&settings, image)
        .with_module_directory(&settings);
    assert_said(&stand, &settings, "qemu-build", "ui-opengl.so");
    assert_said(&stand, &settings, "version-missing", "GLIBC_2.38");
    let said = stand.admit(&settings).qemu_fails();
    assert!(said.contains("version `GLIBC_2.38' not found"), "{said}");
}

/// containerd before 2.2 and CRI-O before 1.33 mount the whole image where a part of it was asked for.
#[test]
fn a_runtime_that_ignores_sub_paths_is_named_by_the_check() {
    let Some(stand) = Stand::of_trixie() else {
        return;
    };
    let (stand, settings) = stand.with_staged_image();
    let verdict = stand.verdict(&settings);
    assert_eq!(verdict["loads"], true, "{verdict}");
    assert!(
        verdict["findings"]
            .to_string()
            .contains("containerd before 2.2"),
        "{verdict}"
    );
    drop(stand.admit(&settings).qemu().unwrap());
    let said = stand.admit(&settings).with_sub_paths_ignored().qemu_fails();
    assert!(
        said.contains("libgbm.so.1: cannot open shared object file"),
        "{said}"
    );
}
