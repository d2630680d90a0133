//! The loader's search rules and libglvnd's, on roots made for each case.

use mesa_injector::settings::Settings;
use mesa_scan::commands::check::check;
use mesa_scan::container::Cause;
use mesa_scan::gl::Layout;
use mesa_scan::gl::Role;
use mesa_scan::loader::Arch;
use rstest::rstest;
use serde_json::json;

use crate::elf::{library, program};
use crate::fixture::{
    cache, complaint, glibc, image, item, libdir, names, node, notes, reasons, scan_of, sources,
    vendor,
};

#[rstest]
fn both_layouts_of_every_architecture_are_understood(
    #[values(Arch::X86_64, Arch::Aarch64, Arch::S390x)] arch: Arch,
    #[values(true, false)] node_multiarch: bool,
    #[values(true, false)] image_multiarch: bool,
) {
    let node = node(arch, node_multiarch);
    let scan = scan_of(&node, &image(arch, image_multiarch, 36), Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    assert_eq!(scan.node.arch, arch);
    let path = |name: &str| {
        let item = item(&scan, name);
        item.container_path.clone()
    };
    let of_image = libdir(arch, image_multiarch);
    let of_node = libdir(arch, node_multiarch);
    assert_eq!(path("libEGL.so.1"), format!("{of_image}/libEGL.so.1"));
    assert_eq!(path("libdrm.so.2"), format!("{of_image}/libdrm.so.2"));
    assert_eq!(
        path("swrast_dri.so"),
        format!("{of_node}/dri/swrast_dri.so")
    );
    assert_eq!(path("dri_gbm.so"), format!("{of_node}/gbm/dri_gbm.so"));
    assert_eq!(
        path("50_mesa.json"),
        "/usr/share/glvnd/egl_vendor.d/50_mesa.json"
    );
}

#[test]
fn what_the_image_has_and_all_of_glibc_is_left_out() {
    let node = node(Arch::X86_64, true);
    let image = image(Arch::X86_64, true, 36);
    image.library(
        "/usr/lib/x86_64-linux-gnu/libdrm.so.2",
        &library("libdrm.so.2"),
    );
    let scan = scan_of(&node, &image, Layout::Files).unwrap();
    assert!(scan.findings.loads(), "{}", reasons(&scan));
    assert!(!names(&scan).contains(&"libdrm.so.2"));
    assert!(!names(&scan).contains(&"libc.so.6"));
    assert!(scan.files.present.contains_key("libdrm.so.2"));
    assert!(scan.files.present.contains_key("libc.so.6"));
}

#[test]
fn a_version_that_the_image_lacks_is_named_with_what_it_has() {
    let scan = scan_of(
        &node(Arch::X86_64, true),
        &image(Arch::X86_64, false, 33),
        Layout::Files,
    )
    .unwrap();
    let text = reasons(&scan);
    assert!(
        text.contains("libgallium-1.2.3.so needs GLIBC_2.34 of libc.so.6, the image has 2.33"),
        "{text}"
    );
    assert!(
        scan.findings
            .fatal()
            .all(|reason| reason.cause == Cause::VersionMissing)
    );
}

#[test]
fn an_older_library_of_the_image_is_a_reason_too() {
    let node = node(Arch::X86_64, true);
    node.library(
        "/usr/lib/x86_64-linux-gnu/libgallium-1.2.3.so",
        &library("libgallium-1.2.3.so").requires("libstdc++.so.6", "GLIBCXX_3.4.30"),
    );
    let stdcxx = library("libstdc++.so.6")
        .defines("GLIBCXX_3.4.9")
        .defines("GLIBCXX_3.4.29");
    node.library("/usr/lib/x86_64-linux-gnu/libstdc++.so.6", &stdcxx);
    let image = image(Arch::X86_64, true, 36);
    image.library("/usr/lib/x86_64-linux-gnu/libstdc++.so.6", &stdcxx);
    let scan = scan_of(&node, &image, Layout::Files).unwrap();
    assert_eq!(
        reasons(&scan).split(": ").next().unwrap(),
        "libgallium-1.2.3.so needs GLIBCXX_3.4.30 of libstdc++.so.6, the image has 3.4.29"
    );
}

#[rstest]
#[case::runpath(library("libEGL_mesa.so.0").runpath("$ORIGIN/private").needs("libhidden.so.1"))]
#[case::braces(library("libEGL_mesa.so.0").runpath("relative:${ORIGIN}/private").needs("libhidden.so.1"))]
#[case::rpath(library("libEGL_mesa.so.0").rpath("/usr/$LIB/private").needs("libhidden.so.1"))]
#[case::inherited_rpath(library("libEGL_mesa.so.0").rpath("$ORIGIN/private").needs("libbetween.so.1"))]
fn search_paths_of_libraries_are_followed(#[case] vendor: crate::elf::Library) {
    let node = node(Arch::X86_64, true);
    let libdir = "/usr/lib/x86_64-linux-gnu";
    node.library(&format!("{libdir}/libEGL_mesa.so.0"), &vendor);
    node.library(
        &format!("{libdir}/libbetween.so.1"),
        &library("libbetween.so.1").needs("libhidden.so.1"),
    );
    node.library(
        &format!("{libdir}/private/libhidden.so.1"),
        &library("libhidden.so.1"),
    );
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    let hidden = item(&scan, "libhidden.so.1");
    assert_eq!(
        hidden.node_path.as_str(),
        format!("{libdir}/private/libhidden.so.1")
    );
    assert_eq!(hidden.container_path, format!("{libdir}/libhidden.so.1"));
}

#[test]
fn a_runpath_is_not_inherited() {
    let node = node(Arch::X86_64, true);
    let libdir = "/usr/lib/x86_64-linux-gnu";
    let vendor = library("libEGL_mesa.so.0")
        .runpath("$ORIGIN/private")
        .needs("libbetween.so.1");
    node.library(&format!("{libdir}/libEGL_mesa.so.0"), &vendor);
    node.library(
        &format!("{libdir}/libbetween.so.1"),
        &library("libbetween.so.1").needs("libhidden.so.1"),
    );
    node.library(
        &format!("{libdir}/private/libhidden.so.1"),
        &library("libhidden.so.1"),
    );
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert!(
        reasons(&scan).contains("libbetween.so.1 needs libhidden.so.1"),
        "{}",
        reasons(&scan)
    );
}

#[test]
fn ld_so_conf_and_its_includes_are_searched_before_the_defaults() {
    let node = node(Arch::X86_64, true);
    node.file(
        "/etc/ld.so.conf",
        "# comment\ninclude ld.so.conf.d/*.conf\n",
    )
    .file("/etc/ld.so.conf.d/mesa.conf", "/opt/mesa/lib # here\n")
    .file("/etc/ld.so.conf.d/ignored", "/nowhere\n")
    .library("/opt/mesa/lib/libdrm.so.2", &library("libdrm.so.2"));
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    let drm = item(&scan, "libdrm.so.2");
    assert_eq!(drm.node_path.as_str(), "/opt/mesa/lib/libdrm.so.2");
}

/// An include is relative to the file that it is in, and its patterns are a shell's.
#[rstest]
#[case("include mesa/*.conf\n")]
#[case("include mesa/mes?.conf\n")]
#[case("include m[a-f]sa/mesa.[c]onf\n")]
#[case("include m*/*.conf\n")]
#[case("include /etc/*/mesa/mesa.conf\n")]
fn includes_are_relative_to_their_file(#[case] line: &str) {
    let node = node(Arch::X86_64, true);
    node.file("/etc/ld.so.conf", "include ld.so.conf.d/*.conf\n")
        .file("/etc/ld.so.conf.d/all.conf", line)
        .file("/etc/ld.so.conf.d/mesa/mesa.conf", "/opt/mesa\n")
        .file("/etc/ld.so.conf.d/mesa/.hidden.conf", "/opt/hidden\n")
        .library("/opt/hidden/libdrm.so.2", &library("libdrm.so.2"))
        .library("/opt/mesa/libdrm.so.2", &library("libdrm.so.2"));
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert_eq!(
        item(&scan, "libdrm.so.2").node_path.as_str(),
        "/opt/mesa/libdrm.so.2"
    );
}

/// Where the image's loader finds libdrm, or not; the node's is mounted unless it does.
#[rstest]
#[case::without_a_cache(None, false)]
#[case::listed(Some(cache(&[("libdrm.so.2", "/opt/own/libdrm.so.2"), ("a", "/b")])), true)]
#[case::not_listed(Some(cache(&[("libdrm.so.1", "/opt/own/libdrm.so.2")])), false)]
#[case::stale(Some(cache(&[("libdrm.so.2", "/opt/gone/libdrm.so.2")])), false)]
#[case::behind_an_older_table(Some(behind_an_older_table()), true)]
#[case::for_another_machine(Some(for_another_machine()), false)]
#[case::damaged(Some(b"glibc-ld.so.cache1.1 and no more".to_vec()), false)]
#[case::of_another_program(Some(b"#!/bin/sh".to_vec()), false)]
fn the_loader_goes_by_its_cache(#[case] bytes: Option<Vec<u8>>, #[case] is_found: bool) {
    let image = image(Arch::X86_64, true, 36);
    image.library("/opt/own/libdrm.so.2", &library("libdrm.so.2"));
    // What `ldconfig` would read is no matter.
    image.file("/etc/ld.so.conf", "/opt/own\n");
    bytes.inspect(|bytes| {
        image.file("/etc/ld.so.cache", bytes);
    });
    let node = node(Arch::X86_64, true);
    let scan = scan_of(&node, &image, Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    assert_eq!(!names(&scan).contains(&"libdrm.so.2"), is_found);
    if !is_found {
        let unmounted = json!({"hostPaths": []});
        let settings = Settings::from_json(&unmounted.to_string()).unwrap();
        let sources = sources(node.path(), image.path()).unwrap();
        let found = check(&sources, &Default::default(), &settings).unwrap();
        assert!(!found.loads());
    }
}

/// As `ldconfig` before glibc 2.32 wrote it, for programs that are gone.
fn behind_an_older_table() -> Vec<u8> {
    let mut bytes = b"ld.so-1.7.0\0\x01\0\0\0".to_vec();
    bytes.extend([0; 12]);
    bytes.extend([0; 4]);
    bytes.extend(cache(&[("libdrm.so.2", "/opt/own/libdrm.so.2")]));
    bytes
}

fn for_another_machine() -> Vec<u8> {
    let mut bytes = cache(&[("libdrm.so.2", "/opt/own/libdrm.so.2")]);
    bytes[48..52].copy_from_slice(&0x0a03_u32.to_le_bytes());
    bytes
}

#[test]
fn a_cache_is_read_wherever_it_ends() {
    let image = image(Arch::X86_64, true, 36);
    let node = node(Arch::X86_64, true);
    let whole = cache(&[("libdrm.so.2", "/opt/own/libdrm.so.2")]);
    for length in 0..whole.len() {
        image.file("/etc/ld.so.cache", &whole[..length]);
        scan_of(&node, &image, Layout::Files).unwrap();
    }
}

/// What the image has, and its cache lists, comes before what is mounted for newer processors.
#[test]
fn what_the_cache_lists_is_not_covered_by_a_mount() {
    let node = node(Arch::X86_64, true);
    let image = image(Arch::X86_64, true, 36);
    let own = "/usr/lib/x86_64-linux-gnu/libexpat.so.1";
    image.library(own, &library("libexpat.so.1"));
    image.file("/etc/ld.so.cache", cache(&[("libexpat.so.1", own)]));
    node.library("/opt/more/libexpat.so.1", &library("libexpat.so.1"));
    let mut settings =
        serde_json::to_value(scan_of(&node, &image, Layout::Files).unwrap().plan.mounts).unwrap();
    settings.as_array_mut().unwrap().push(json!({
        "name": "more", "path": "/opt/more", "type": "Directory",
        "mountPath": "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2",
    }));
    let settings = Settings::from_json(&json!({"hostPaths": settings}).to_string()).unwrap();
    let sources = sources(node.path(), image.path()).unwrap();
    let found = check(&sources, &Default::default(), &settings).unwrap();
    let reasons: Vec<String> = found.fatal().map(ToString::to_string).collect();
    assert_eq!(reasons, Vec::<String>::new());
}

#[test]
fn an_include_that_leads_to_itself_ends_in_an_error() {
    let node = node(Arch::X86_64, true);
    node.file("/etc/ld.so.conf", "include /etc/ld.so.conf\n");
    let error = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files)
        .err()
        .unwrap();
    assert!(complaint(&error).contains("in a circle"), "{error:?}");
}

#[test]
fn an_endless_ld_so_conf_is_an_error() {
    let node = node(Arch::X86_64, true);
    let directories: Vec<String> = (0..2000).map(|number| format!("/d{number}")).collect();
    node.file("/etc/ld.so.conf", directories.join("\n"));
    let error = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files)
        .err()
        .unwrap();
    assert!(
        complaint(&error).contains("more than 1000 directories"),
        "{error:?}"
    );
}

#[test]
fn a_library_of_another_machine_is_passed_over_and_named() {
    let node = node(Arch::X86_64, true);
    let libdir = "/usr/lib/x86_64-linux-gnu";
    node.file("/etc/ld.so.conf", "/opt/arm\n");
    node.library(
        "/opt/arm/libdrm.so.2",
        &library("libdrm.so.2").arch(Arch::Aarch64),
    );
    let clean = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert_eq!(reasons(&clean), "");

    std::fs::remove_file(node.at(&format!("{libdir}/libdrm.so.2"))).unwrap();
    let broken = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    let text = reasons(&broken);
    assert!(
        text.contains("/opt/arm/libdrm.so.2 is a library of aarch64"),
        "{text}"
    );
}

#[test]
fn a_32_bit_library_is_passed_over() {
    let node = node(Arch::X86_64, true);
    node.file("/etc/ld.so.conf", "/opt/lib32\n");
    let mut bytes = library("libdrm.so.2").bytes();
    bytes[4] = 1;
    node.file("/opt/lib32/libdrm.so.2", bytes);
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
}

/// An emulator brings the C library of another architecture.
#[rstest]
#[case::its_own_program(Some(Arch::Aarch64), Arch::Aarch64)]
#[case::its_own_program_is_the_first(Some(Arch::X86_64), Arch::X86_64)]
#[case::no_program(None, Arch::X86_64)]
fn a_system_with_two_c_libraries_is_of_its_programs_architecture(
    #[case] shell: Option<Arch>,
    #[case] expected: Arch,
) {
    let node = node(Arch::Aarch64, true);
    glibc(&node, Arch::X86_64, true, 36);
    if let Some(arch) = shell {
        node.file("/usr/bin/dash", program(arch, Some("/lib/ld.so")));
        node.link("/usr/bin/sh", "dash").link("/bin", "usr/bin");
    }
    let sources = sources(node.path(), image(expected, true, 36).path()).unwrap();
    assert_eq!(sources.node().unwrap().arch, expected);
}

#[test]
fn an_image_of_another_architecture_is_the_one_reason() {
    let scan = scan_of(
        &node(Arch::X86_64, true),
        &image(Arch::Aarch64, true, 36),
        Layout::Files,
    )
    .unwrap();
    assert!(
        reasons(&scan).starts_with("the node is x86_64, the image aarch64"),
        "{}",
        reasons(&scan)
    );
    assert!(
        scan.findings
            .fatal()
            .all(|finding| finding.cause == Cause::Architecture)
    );
}

#[rstest]
#[case::bare(
    "libEGL_other.so.0",
    "/usr/lib/x86_64-linux-gnu/libEGL_other.so.0",
    Role::Library
)]
#[case::absolute(
    "/opt/other/libEGL_other.so.0",
    "/opt/other/libEGL_other.so.0",
    Role::LibraryAtPath
)]
#[case::relative(
    "../lib/libEGL_other.so.0",
    "/usr/share/glvnd/lib/libEGL_other.so.0",
    Role::LibraryAtPath
)]
fn a_vendor_may_name_its_library_in_three_ways(
    #[case] written: &str,
    #[case] path: &str,
    #[case] role: Role,
) {
    let node = node(Arch::X86_64, true);
    vendor(&node, "60_other.json", written);
    node.library(path, &library("libEGL_other.so.0"));
    for layout in [Layout::Files, Layout::Staged] {
        let scan = scan_of(&node, &image(Arch::X86_64, true, 36), layout).unwrap();
        assert_eq!(reasons(&scan), "");
        let item = item(&scan, "libEGL_other.so.0");
        assert_eq!((item.role, item.container_path.as_str()), (role, path));
    }
}

/// Old Mesa loads the drivers of dri/, and which of them a GPU needs is not known here; new Mesa loads those of gbm/.
#[rstest]
#[case::old_mesa(false, "dri of the node has drivers that the container has not")]
#[case::new_mesa(true, "")]
fn drivers_that_are_left_out_are_a_note(
    #[case] has_gbm: bool,
    #[case] note: &str,
    #[values(false, true)] is_linked: bool,
) {
    let node = node(Arch::X86_64, true);
    let libdir = libdir(Arch::X86_64, true);
    let driver = library("radeonsi_dri.so").needs("libgallium-1.2.3.so");
    node.library(&format!("{libdir}/dri/radeonsi_dri.so"), &driver);
    if is_linked {
        node.directory("/opt");
        let dri = format!("{libdir}/dri");
        std::fs::rename(node.at(&dri), node.at("/opt/dri")).unwrap();
        node.link(&dri, "/opt/dri");
    }
    if !has_gbm {
        std::fs::remove_dir_all(node.at(&format!("{libdir}/gbm"))).unwrap();
    }
    let image = image(Arch::X86_64, true, 36);
    let scan = scan_of(&node, &image, Layout::Files).unwrap();
    let sources = sources(node.path(), image.path()).unwrap();
    let notes_without = |left_out: &str| {
        let mounts = scan.plan.mounts.iter();
        let mounts: Vec<_> = mounts
            .filter(|mount| !mount.path.ends_with(left_out))
            .collect();
        let settings = json!({"hostPaths": mounts}).to_string();
        let verdict = check(
            &sources,
            &Default::default(),
            &Settings::from_json(&settings).unwrap(),
        )
        .unwrap();
        assert!(verdict.loads(), "{verdict:?}");
        verdict
            .notes()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let said = notes_without("no such file");
    assert!(!said.contains("of the node has"), "{said}");
    let said = notes_without("radeonsi_dri.so");
    assert_eq!(said.contains("radeonsi_dri.so"), !has_gbm, "{said}");
    assert!(said.contains(note), "{said}");
}

#[test]
fn a_relative_vendor_alone_is_none_and_beside_another_a_note() {
    let node = node(Arch::X86_64, true);
    vendor(&node, "60_other.json", "../lib/libEGL_other.so.0");
    node.library(
        "/usr/share/glvnd/lib/libEGL_other.so.0",
        &library("libEGL_other.so.0"),
    );
    let image = image(Arch::X86_64, true, 36);
    let both = scan_of(&node, &image, Layout::Files).unwrap();
    assert_eq!(reasons(&both), "");
    assert!(both.findings.notes().any(|note| {
        note.to_string()
            .contains("60_other.json: library_path is relative")
    }));
    std::fs::remove_file(node.at("/usr/share/glvnd/egl_vendor.d/50_mesa.json")).unwrap();
    let alone = scan_of(&node, &image, Layout::Files).unwrap();
    assert!(
        reasons(&alone).contains("no vendor JSON with a library that libEGL finds"),
        "{}",
        reasons(&alone)
    );
}

#[test]
fn two_libraries_of_one_name_at_different_paths_are_both_staged() {
    let node = node(Arch::X86_64, true);
    for vendor_name in ["a", "b"] {
        let path = format!("/opt/{vendor_name}/libEGL_other.so.0");
        vendor(&node, &format!("60_{vendor_name}.json"), &path);
        node.library(&format!("/real{path}"), &library("libEGL_other.so.0"));
    }
    // What a vendor file says is what will be opened, whatever link that is on the node.
    node.link("/opt", "real/opt");
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Staged).unwrap();
    assert_eq!(reasons(&scan), "");
    let single = scan
        .plan
        .mounts
        .iter()
        .filter(|mount| mount.path.contains("/paths/"));
    let single: Vec<_> = single
        .map(|mount| (mount.path.as_str(), mount.mount_path.as_str()))
        .collect();
    let base = "/var/lib/mesa-injector/current/paths";
    assert_eq!(
        single,
        [
            (
                format!("{base}/mesa-libegl-other").as_str(),
                "/opt/a/libEGL_other.so.0"
            ),
            (
                format!("{base}/mesa-libegl-other-2").as_str(),
                "/opt/b/libEGL_other.so.0"
            ),
        ]
    );
}

/// Where the library directory is lib64, the loader of these two is in /lib.
#[rstest]
fn the_loader_itself_is_always_there(#[values(Arch::Aarch64, Arch::S390x)] arch: Arch) {
    let node = node(arch, false);
    let name = arch.loader().rsplit('/').next().unwrap();
    let drm = library("libdrm.so.2")
        .arch(arch)
        .requires(name, "GLIBC_2.17");
    node.library("/usr/lib64/libdrm.so.2", &drm);
    let image = image(arch, false, 36);
    image.library(
        arch.loader(),
        &library(name).arch(arch).defines("GLIBC_2.17"),
    );
    let scan = scan_of(&node, &image, Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
}

/// What libglvnd passes over is no matter where it has another vendor, and a reason where it has none.
#[rstest]
#[case::not_json("{", "not a vendor file")]
#[case::list("[]", "not a vendor file")]
#[case::nothing("", "empty")]
#[case::no_icd(r#"{"file_format_version": "1.0.0"}"#, "no ICD.library_path")]
#[case::no_version(
    r#"{"ICD": {"library_path": "libEGL_mesa.so.0"}}"#,
    "no file_format_version"
)]
#[case::version(
    r#"{"file_format_version": "1.1.0", "ICD": {"library_path": "x"}}"#,
    "is not 1.0"
)]
#[case::number(
    r#"{"file_format_version": "1.0.0", "ICD": {"library_path": 7}}"#,
    "no ICD.library_path"
)]
#[case::no_library(
    r#"{"file_format_version": "1", "ICD": {"library_path": ""}}"#,
    "library_path is empty"
)]
#[case::library_missing(
    r#"{"file_format_version": "1", "ICD": {"library_path": "libEGL_gone.so.0"}}"#,
    "libEGL_gone.so.0 is not there"
)]
#[case::deep(&"[".repeat(60_000), "not a vendor file")]
#[case::huge(&" ".repeat(70_000), "larger than 65536 bytes")]
fn a_vendor_file_that_libglvnd_passes_over_is_a_note(#[case] json: &str, #[case] expected: &str) {
    let node = node(Arch::X86_64, true);
    node.file("/usr/share/glvnd/egl_vendor.d/10_bad.json", json);
    let image = image(Arch::X86_64, true, 36);
    for layout in [Layout::Files, Layout::Staged] {
        let scan = scan_of(&node, &image, layout).unwrap();
        assert_eq!(reasons(&scan), "");
        let text = notes(&scan);
        assert!(
            text.contains("10_bad.json") && text.contains(expected),
            "{text}"
        );
        assert!(!names(&scan).contains(&"10_bad.json"));
    }
    std::fs::remove_file(node.at("/usr/share/glvnd/egl_vendor.d/50_mesa.json")).unwrap();
    let scan = scan_of(&node, &image, Layout::Files).unwrap();
    assert!(!scan.findings.loads());
}

#[test]
fn a_vendor_file_that_leads_nowhere_is_a_note() {
    let node = node(Arch::X86_64, true);
    node.link(
        "/usr/share/glvnd/egl_vendor.d/10_gone.json",
        "/opt/gone.json",
    );
    node.link("/usr/share/glvnd/egl_vendor.d/20_loop.json", "20_loop.json");
    node.directory("/usr/share/glvnd/egl_vendor.d/30_directory.json");
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    for name in ["10_gone.json", "20_loop.json", "30_directory.json"] {
        assert!(notes(&scan).contains(name), "{}", notes(&scan));
    }
}

/// libglvnd reads /etc first; in one directory it goes by name.
#[test]
fn the_order_of_vendors_is_kept_in_one_directory() {
    let node = node(Arch::X86_64, true);
    let of = |name: &str| {
        format!(r#"{{"file_format_version": "1", "ICD": {{"library_path": "{name}"}}}}"#)
    };
    node.file(
        "/etc/glvnd/egl_vendor.d/50_mesa.json",
        of("libEGL_mesa.so.0"),
    );
    vendor(&node, "10_other.json", "libEGL_other.so.0");
    node.library(
        "/usr/lib/x86_64-linux-gnu/libEGL_other.so.0",
        &library("libEGL_other.so.0"),
    );
    let image = image(Arch::X86_64, true, 36);
    let vendors = |layout| {
        let scan = scan_of(&node, &image, layout).unwrap();
        let files = scan
            .plan
            .files
            .iter()
            .filter(|file| file.item.role == Role::Vendor);
        let mut names: Vec<String> = files.map(|file| file.item.name.clone()).collect();
        names.sort();
        names
    };
    let in_order = ["00_50_mesa.json", "01_10_other.json", "02_50_mesa.json"];
    assert_eq!(vendors(Layout::Staged), in_order);
    assert_eq!(vendors(Layout::Flat), in_order);
    // Nobody is renamed without need.
    std::fs::remove_dir_all(node.at("/etc/glvnd")).unwrap();
    assert_eq!(vendors(Layout::Staged), ["10_other.json", "50_mesa.json"]);
}

/// A vendor whose library is there and does not load is passed over too, in the container that it does not load in.
#[test]
fn a_vendor_that_does_not_load_in_the_image_is_a_note() {
    let node = node(Arch::X86_64, true);
    vendor(&node, "10_new.json", "libEGL_new.so.0");
    node.library(
        "/usr/lib/x86_64-linux-gnu/libEGL_new.so.0",
        &library("libEGL_new.so.0").requires("libc.so.6", "GLIBC_2.36"),
    );
    let scan = scan_of(&node, &image(Arch::X86_64, true, 34), Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    let text = notes(&scan);
    assert!(
        text.contains("10_new.json: libEGL_new.so.0 needs GLIBC_2.36"),
        "{text}"
    );
}

#[test]
fn nvidias_driver_is_left_out_and_that_is_said() {
    let node = node(Arch::X86_64, true);
    let libdir = "/usr/lib/x86_64-linux-gnu";
    vendor(&node, "10_nvidia.json", "libEGL_nvidia.so.0");
    for name in ["libEGL_nvidia.so.0", "libGLX_nvidia.so.0"] {
        node.library(
            &format!("{libdir}/{name}"),
            &library(name).needs("libnvidia-glsi.so.535"),
        );
    }
    node.library(
        &format!("{libdir}/libnvidia-glsi.so.535"),
        &library("libnvidia-glsi.so.535"),
    );
    node.library(
        &format!("{libdir}/libnvidia-allocator.so.1"),
        &library("libnvidia-allocator.so.1"),
    );
    node.link(
        &format!("{libdir}/gbm/nvidia-drm_gbm.so"),
        "../libnvidia-allocator.so.1",
    );
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    assert!(notes(&scan).contains("NVIDIA's driver"), "{}", notes(&scan));
    assert!(
        names(&scan).iter().all(|name| !name.contains("nvidia")),
        "{:?}",
        names(&scan)
    );

    std::fs::remove_file(node.at("/usr/share/glvnd/egl_vendor.d/50_mesa.json")).unwrap();
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert!(
        reasons(&scan).contains("no vendor JSON"),
        "{}",
        reasons(&scan)
    );
}

/// Mesa opens a backend of GBM by its name, and an older one none at all.
#[test]
fn another_drivers_backend_of_gbm_is_none_of_mesas() {
    let node = node(Arch::X86_64, true);
    let libdir = "/usr/lib/x86_64-linux-gnu";
    std::fs::remove_file(node.at(&format!("{libdir}/gbm/dri_gbm.so"))).unwrap();
    node.library(
        &format!("{libdir}/gbm/other_gbm.so"),
        &library("other_gbm.so"),
    );
    let image = image(Arch::X86_64, true, 36);
    assert_eq!(reasons(&scan_of(&node, &image, Layout::Files).unwrap()), "");
    std::fs::remove_dir_all(node.at(&format!("{libdir}/dri"))).unwrap();
    let scan = scan_of(&node, &image, Layout::Files).unwrap();
    assert!(reasons(&scan).contains("no driver"), "{}", reasons(&scan));
}

#[rstest]
#[case::egl("libEGL.so.1", "GL needs libEGL.so.1")]
#[case::dispatch("libGLdispatch.so.0", "libEGL.so.1 needs libGLdispatch.so.0")]
#[case::gallium("libgallium-1.2.3.so", "libEGL_mesa.so.0 needs libgallium-1.2.3.so")]
#[case::drivers("gbm/dri_gbm.so", "")]
fn what_the_node_lacks_is_a_reason(#[case] removed: &str, #[case] expected: &str) {
    let node = node(Arch::X86_64, true);
    std::fs::remove_file(node.at(&format!("/usr/lib/x86_64-linux-gnu/{removed}"))).unwrap();
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert!(reasons(&scan).contains(expected), "{}", reasons(&scan));
    // Without a GBM backend this is an older Mesa, whose DRI drivers do.
    assert_eq!(scan.findings.loads(), expected.is_empty());
}

#[test]
fn a_node_without_drivers_is_told_so() {
    let node = node(Arch::X86_64, true);
    for directory in ["dri", "gbm"] {
        std::fs::remove_dir_all(node.at(&format!("/usr/lib/x86_64-linux-gnu/{directory}")))
            .unwrap();
    }
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert!(
        reasons(&scan).contains("the node has no driver"),
        "{}",
        reasons(&scan)
    );
}

#[rstest]
#[case::old_glibc(
    Arch::X86_64,
    32,
    "does not search glibc-hwcaps directories, which came with 2.33"
)]
#[case::aarch64(Arch::Aarch64, 36, "glibc has no glibc-hwcaps directory on aarch64")]
fn the_staged_layout_is_refused_where_no_loader_would_search_it(
    #[case] arch: Arch,
    #[case] glibc: u32,
    #[case] expected: &str,
) {
    let error = scan_of(&node(arch, true), &image(arch, true, glibc), Layout::Staged)
        .err()
        .unwrap();
    assert!(complaint(&error).contains(expected), "{error:?}");
}

#[test]
fn a_staged_directory_that_would_cover_one_of_the_image_is_a_reason() {
    let image = image(Arch::X86_64, true, 36);
    image.file("/usr/share/drirc.d/99-own.conf", "<driconf/>");
    let node = node(Arch::X86_64, true);
    let staged = scan_of(&node, &image, Layout::Staged).unwrap();
    assert!(
        reasons(&staged).contains("covers /usr/share/drirc.d of the image, with 99-own.conf"),
        "{}",
        reasons(&staged)
    );
    let files = scan_of(&node, &image, Layout::Files).unwrap();
    assert_eq!(reasons(&files), "");
}

#[test]
fn one_inode_under_many_names_is_counted_once() {
    let node = node(Arch::X86_64, true);
    let dri = node.at("/usr/lib/x86_64-linux-gnu/dri");
    std::fs::hard_link(dri.join("swrast_dri.so"), dri.join("zink_dri.so")).unwrap();
    std::os::unix::fs::symlink("swrast_dri.so", dri.join("iris_dri.so")).unwrap();
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    let sizes: u64 = scan.files.items.iter().map(|item| item.size).sum();
    let driver = std::fs::metadata(dri.join("swrast_dri.so")).unwrap().len();
    assert_eq!(scan.files.total_size(), sizes - 2 * driver);
    assert_eq!(scan.files.file_count(), scan.files.items.len() - 2);
}

#[test]
fn a_root_without_glibc_is_told_so() {
    let empty = crate::fixture::Root::new();
    let error = scan_of(&empty, &image(Arch::X86_64, true, 36), Layout::Files)
        .err()
        .unwrap();
    assert!(complaint(&error).contains("no libc.so.6"), "{error:?}");
    let empty = crate::fixture::Root::new();
    let error = scan_of(&node(Arch::X86_64, true), &empty, Layout::Files)
        .err()
        .unwrap();
    assert!(
        complaint(&error).contains("is not a virt-launcher image"),
        "{error:?}"
    );
    glibc(&empty, Arch::X86_64, false, 36);
    assert!(scan_of(&node(Arch::X86_64, true), &empty, Layout::Files).is_ok());
}
