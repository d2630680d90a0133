//! What is found on real nodes, what is written for them, and what is said of other people's lists.

use std::os::unix::fs::symlink;
use std::path::Path;

use mesa_injector::settings::Settings;
use mesa_scan::commands::check::check;
use mesa_scan::container::Cause;
use mesa_scan::container::Findings;
use mesa_scan::gl::Layout;
use mesa_scan::output;
use rstest::rstest;
use serde_json::{Value, json};

use crate::archives::{Form, Layer, Packing, write};
use crate::debian::{self, Copy};
use crate::fixture::{names, notes, reasons, scan_paths, sources};

fn check_json(node: &Path, image: &Path, settings: &Value) -> Findings {
    let settings = Settings::from_json(&settings.to_string()).unwrap();
    let sources = sources(node, image).unwrap();
    check(&sources, &Default::default(), &settings).unwrap()
}

fn text(verdict: &Findings) -> String {
    let reasons: Vec<String> = verdict.fatal().map(ToString::to_string).collect();
    reasons.join("\n")
}

fn of_cause(verdict: &Findings, cause: Cause) -> usize {
    verdict
        .fatal()
        .filter(|reason| reason.cause == cause)
        .count()
}

#[rstest]
#[case("bookworm", "libglapi.so.0", "2.36")]
#[case("trixie", "libgallium-25", "2.38")]
fn the_closure_of_a_node_is_what_its_mesa_is_made_of(
    #[case] suite: &str,
    #[case] own: &str,
    #[case] glibc: &str,
) {
    let (Some(node), Some(image)) = (debian::node(suite), debian::launcher(suite)) else {
        return;
    };
    let scan = scan_paths(&node, &image, Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    let names = names(&scan);
    for expected in [
        "libEGL.so.1",
        "libGLdispatch.so.0",
        "libGLX_mesa.so.0",
        "libgbm.so.1",
        "libdrm.so.2",
        "50_mesa.json",
        "swrast_dri.so",
    ] {
        assert!(names.contains(&expected), "{expected}");
    }
    assert!(names.iter().any(|name| name.starts_with(own)), "{own}");
    for of_image in [
        "libc.so.6",
        "libstdc++.so.6",
        "libz.so.1",
        "libexpat.so.1",
        "ld-linux-x86-64.so.2",
    ] {
        assert!(!names.contains(&of_image), "{of_image}");
        assert!(scan.files.present.contains_key(of_image), "{of_image}");
    }
    assert_eq!(scan.files.minimal_glibc().unwrap().to_string(), glibc);
    let libraries = scan.files.items.iter().filter_map(|item| item.elf.as_ref());
    assert!(libraries.clone().count() > 40);
    for elf in libraries {
        assert_eq!(elf.build_id.as_ref().unwrap().len(), 40, "{:?}", elf.soname);
    }
    assert!(
        scan.findings
            .notes()
            .any(|note| note.to_string().contains("or stage the files"))
    );
    assert!(
        scan.findings
            .notes()
            .any(|note| note.to_string().contains("ui-egl-headless.so"))
    );
}

#[rstest]
fn what_scan_writes_passes_the_check_and_the_policy(#[values("bookworm", "trixie")] suite: &str) {
    let (Some(node), Some(image)) = (debian::node(suite), debian::launcher(suite)) else {
        return;
    };
    let scan = scan_paths(&node, &image, Layout::Files).unwrap();
    let written = output::settings(&scan.plan, &std::collections::BTreeMap::new()).unwrap();
    let settings = Settings::from_json(&written).unwrap();
    assert_eq!(settings.volumes.len(), scan.files.items.len());
    let sources = sources(&node, &image).unwrap();
    let verdict = check(&sources, &Default::default(), &settings).unwrap();
    assert_eq!(text(&verdict), "");

    let policy = output::policy(&scan, output::POLICY_MODULE).unwrap();
    let policy: Value = serde_norway::from_str(&policy).unwrap();
    let shipped = include_str!("../../../../policy.yaml");
    let mut shipped: Value = serde_norway::from_str(shipped).unwrap();
    shipped["spec"]["settings"] = policy["spec"]["settings"].clone();
    // It need not say what is the default.
    shipped["spec"]["mode"] = json!("protect");
    assert_eq!(policy, shipped);
    assert_eq!(
        policy["spec"]["settings"],
        serde_json::from_str::<Value>(&written).unwrap()
    );
}

#[rstest]
fn an_archive_of_a_real_image_is_judged_as_its_directory(
    #[values((Form::Docker, Packing::Plain), (Form::OciArchive, Packing::Gzip), (Form::OciDirectory, Packing::Zstd))]
    kind: (Form, Packing),
) {
    let (Some(node), Some(image)) = (debian::node("trixie"), debian::launcher("bookworm")) else {
        return;
    };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let archive = write(
        directory.path(),
        kind.0,
        kind.1,
        vec![Layer::tree(&image).bytes()],
    );
    let from_archive = scan_paths(&node, &archive, Layout::Files).unwrap();
    let from_directory = scan_paths(&node, &image, Layout::Files).unwrap();
    assert_eq!(
        output::scan(&from_archive).unwrap(),
        output::scan(&from_directory).unwrap()
    );
}

#[test]
fn qemus_own_modules_are_found_where_the_image_has_them() {
    let (Some(node), Some(image)) = (debian::node("trixie"), debian::launcher_with_modules())
    else {
        return;
    };
    let scan = scan_paths(&node, &image, Layout::Staged).unwrap();
    assert_eq!(reasons(&scan), "");
    // This image has the module of the GPU that renders without what it needs; a display does without.
    assert_eq!(
        notes(&scan),
        "hw-display-virtio-gpu-gl.so needs libvirglrenderer.so.1, which is not there: add it where VMs have a virtio GPU that \
         renders (accel3d)"
    );
}

/// The default of the policy: what the incumbent's README promises.
#[test]
fn the_incumbents_six_paths_are_not_on_a_debian_node() {
    let (Some(node), Some(image)) = (debian::node("bookworm"), debian::launcher("bookworm")) else {
        return;
    };
    let verdict = check_json(&node, &image, &json!({}));
    let text = text(&verdict);
    assert_eq!(of_cause(&verdict, Cause::HostPathMissing), 5, "{text}");
    for expected in [
        "host path /usr/lib64/libGL.so.1 is not on the node, and the pod waits for it for ever: the node has /usr/lib/x86_64-linux-gnu/libGL.so.1, write that",
        "host path /usr/lib64/dri is not on the node, and the pod waits for it for ever: the node has /usr/lib/x86_64-linux-gnu/dri, write that",
        "GL needs libgbm.so.1, which neither the image nor a mount provides",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

/// The 27 paths of the incumbent's code.
const INCUMBENT: [&str; 25] = [
    "libGL.so.1",
    "libEGL.so.1",
    "libGLESv2.so.2",
    "libGLX.so.0",
    "libEGL_mesa.so.0",
    "libGLX_mesa.so.0",
    "libgbm.so.1",
    "libglapi.so.0",
    "libdrm.so.2",
    "libX11-xcb.so.1",
    "libxcb.so.1",
    "libxcb-dri2.so.0",
    "libxcb-dri3.so.0",
    "libxcb-present.so.0",
    "libxcb-sync.so.1",
    "libxcb-xfixes.so.0",
    "libxcb-randr.so.0",
    "libxcb-glx.so.0",
    "libxshmfence.so.1",
    "libwayland-client.so.0",
    "libwayland-server.so.0",
    "libXau.so.6",
    "libXdmcp.so.6",
    "libbsd.so.0",
    "libmd.so.0",
];

fn incumbent(directory: &str) -> Value {
    let files = INCUMBENT.iter().map(|name| {
        json!({"path": format!("/usr/lib64/{name}"), "type": "File", "mountPath": format!("{directory}/{name}")})
    });
    let directories = [
        json!({"path": "/usr/lib64/dri", "type": "Directory"}),
        json!({"path": "/usr/share/glvnd/egl_vendor.d", "type": "Directory"}),
    ];
    json!({"hostPaths": files.chain(directories).collect::<Vec<_>>()})
}

#[test]
fn the_incumbents_27_paths_are_not_on_a_debian_node() {
    let (Some(node), Some(image)) = (debian::node("bookworm"), debian::launcher("bookworm")) else {
        return;
    };
    let verdict = check_json(&node, &image, &incumbent("/usr/lib64"));
    // All but the vendor directory, which Debian has at the same path.
    assert_eq!(
        of_cause(&verdict, Cause::HostPathMissing),
        26,
        "{}",
        text(&verdict)
    );
}

/// The incumbent's script links most of them into `/usr/lib64` of the node. Even where they were mounted at a path that
/// the image's loader searches, the closure would not be complete.
#[test]
fn the_incumbents_27_paths_are_no_closure_once_its_script_has_linked_them() {
    let (Some(node), Some(image)) = (debian::node("bookworm"), debian::launcher("bookworm")) else {
        return;
    };
    let node = Copy::of(&node, "incumbent");
    // The script leaves out what glvnd itself provides, and the drivers.
    for name in INCUMBENT.iter().skip(4) {
        let link = node.path().join("usr/lib64").join(name);
        symlink(format!("/usr/lib/x86_64-linux-gnu/{name}"), link).unwrap();
    }
    let verdict = check_json(node.path(), &image, &incumbent("/usr/lib64"));
    let said = text(&verdict);
    // The four libraries of glvnd and the drivers have no link.
    assert_eq!(of_cause(&verdict, Cause::HostPathMissing), 5, "{said}");
    assert!(
        said.contains("GL needs libgbm.so.1"),
        "what is mounted at /usr/lib64 is not found by this image's loader: {said}"
    );

    for name in INCUMBENT.iter().take(4) {
        let link = node.path().join("usr/lib64").join(name);
        symlink(format!("/usr/lib/x86_64-linux-gnu/{name}"), link).unwrap();
    }
    let verdict = check_json(node.path(), &image, &incumbent("/usr/lib/x86_64-linux-gnu"));
    let said = text(&verdict);
    for expected in [
        "libEGL.so.1 needs libGLdispatch.so.0, which neither the image nor a mount provides",
        "libGLX.so.0 needs libX11.so.6",
        "dri is not in the container",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn a_mount_over_what_the_image_has_is_told() {
    let (Some(node), Some(image)) = (debian::node("bookworm"), debian::launcher("bookworm")) else {
        return;
    };
    let libdir = "/usr/lib/x86_64-linux-gnu";
    let file = |name: &str| json!({"path": format!("{libdir}/{name}"), "type": "File"});
    let verdict = check_json(
        &node,
        &image,
        &json!({"hostPaths": [file("libz.so.1"), file("libexpat.so.1")]}),
    );
    let said = text(&verdict);
    assert_eq!(of_cause(&verdict, Cause::Covered), 2, "{said}");
    assert!(
        said.contains("a mount covers /usr/lib/x86_64-linux-gnu/libz.so"),
        "{said}"
    );

    // A directory of the loader's in front of the image's own.
    let staged = Copy::of(&node, "shadow");
    let directory = staged.path().join("srv/lib");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::hard_link(
        node.join(format!("{}/libz.so.1.2.13", &libdir[1..])),
        directory.join("libz.so.1"),
    )
    .unwrap();
    std::fs::hard_link(
        node.join(format!("{}/libc.so.6", &libdir[1..])),
        directory.join("libc.so.6"),
    )
    .unwrap();
    let verdict = check_json(
        staged.path(),
        &image,
        &json!({"hostPaths": [{"path": "/srv/lib", "type": "Directory", "mountPath": format!("{libdir}/glibc-hwcaps/x86-64-v2")}]}),
    );
    let said = text(&verdict);
    // The loader's cache finds the image's zlib first, whatever is mounted: the C library is the offence.
    assert_eq!(of_cause(&verdict, Cause::Glibc), 1, "{said}");
    assert!(
        said.contains("brings libc.so.6 of the node's glibc"),
        "{said}"
    );
}
