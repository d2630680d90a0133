//! What people with bad intentions, or bad disks, may put into a root: an error each time, no panic and no hang.

use std::fs;
use std::io::Cursor;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mesa_scan::gl::Layout;
use mesa_scan::loader::Arch;
use mesa_scan::loader::{Elf, ElfError};
use proptest::prelude::*;
use rstest::rstest;

use crate::elf::library;
use crate::fixture::{complaint, image, item, node, notes, reasons, scan_of};

const LIBDIR: &str = "/usr/lib/x86_64-linux-gnu";

/// As in a chroot, and for a runtime: there is nothing above the root.
#[test]
fn a_link_that_leads_above_the_root_stays_inside() {
    let node = node(Arch::X86_64, true);
    let drm = format!("{LIBDIR}/libdrm.so.2");
    fs::rename(node.at(&drm), node.at("/opt")).unwrap();
    node.link(&drm, "../../../../../../../opt");
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    assert_eq!(item(&scan, "libdrm.so.2").real_path.as_str(), "/opt");

    fs::remove_file(node.at(&drm)).unwrap();
    node.link(&drm, "../../../../../../../etc/passwd");
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert!(reasons(&scan).contains("libdrm.so.2"), "{}", reasons(&scan));
}

#[test]
fn a_link_that_leads_to_itself_is_a_missing_library_and_that_is_said() {
    let node = node(Arch::X86_64, true);
    fs::remove_file(node.at(&format!("{LIBDIR}/libdrm.so.2"))).unwrap();
    node.link(&format!("{LIBDIR}/libdrm.so.2"), "libdrm.so.2");
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    let text = reasons(&scan);
    assert!(
        text.contains("libdrm.so.2 is a link that leads to itself"),
        "{text}"
    );
}

#[test]
fn an_absolute_link_stays_inside_the_root() {
    let node = node(Arch::X86_64, true);
    fs::rename(node.at(&format!("{LIBDIR}/libdrm.so.2")), node.at("/opt")).unwrap();
    node.link(&format!("{LIBDIR}/libdrm.so.2"), "/opt");
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert_eq!(reasons(&scan), "");
    let drm = item(&scan, "libdrm.so.2");
    assert_eq!(drm.real_path.as_str(), "/opt");
}

#[test]
fn a_chain_of_as_many_links_as_linux_follows_is_followed() {
    let node = node(Arch::X86_64, true);
    for (number, good) in [(40, true), (41, false)] {
        let directory = format!("/chain{number}");
        node.library(&format!("{directory}/0"), &library("libdrm.so.2"));
        for link in 1..=number {
            node.link(&format!("{directory}/{link}"), &format!("{}", link - 1));
        }
        let tree = mesa_scan::tree::Directory::open(node.path()).unwrap();
        let tree: &dyn mesa_scan::tree::Tree = &tree;
        let found = tree.lookup(&format!("{directory}/{number}")).unwrap();
        assert_eq!(found.found().is_some(), good);
    }
}

#[rstest]
fn a_pipe_is_never_opened(
    #[values("libEGL_mesa.so.0", "dri/swrast_dri.so", "libc.so.6")] name: &str,
) {
    let node = node(Arch::X86_64, true);
    let path = node.at(&format!("{LIBDIR}/{name}"));
    fs::remove_file(&path).unwrap();
    let status = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    match scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files) {
        Ok(scan) => assert!(
            reasons(&scan).contains("not a regular file"),
            "{}",
            reasons(&scan)
        ),
        Err(error) => assert!(complaint(&error).contains("no libc.so.6"), "{error:?}"),
    }
}

#[test]
fn a_truncated_library_is_a_reason_wherever_it_ends() {
    let node = node(Arch::X86_64, true);
    let image = image(Arch::X86_64, true, 36);
    let path = node.at(&format!("{LIBDIR}/libgallium-1.2.3.so"));
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let scan = scan_of(&node, &image, Layout::Files).unwrap();
        assert!(
            reasons(&scan).contains("libgallium-1.2.3.so"),
            "{length} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn names_of_any_bytes_do_no_harm() {
    use std::os::unix::ffi::OsStrExt;
    let node = node(Arch::X86_64, true);
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe_dri.so");
    fs::write(node.at(&format!("{LIBDIR}/dri")).join(odd), "x").unwrap();
    let mut odd = library("libEGL_mesa.so.0").bytes();
    let at = odd
        .windows(11)
        .position(|window| window == b"libEGL_mesa")
        .unwrap();
    odd[at] = 0xff;
    node.file(&format!("{LIBDIR}/libEGL_mesa.so.0"), odd);
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    assert!(reasons(&scan).contains("no name at"), "{}", reasons(&scan));
}

#[test]
fn names_do_not_steer_a_terminal_or_end_a_comment() {
    let node = node(Arch::X86_64, true);
    node.library(
        &format!("{LIBDIR}/dri/\x1b[2Jx\nspec: {{}}_dri.so"),
        &library("x").needs("libmissing\nkind: Secret\x1b.so"),
    );
    let scan = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files).unwrap();
    let said = format!("{}\n{}", reasons(&scan), notes(&scan));
    let mut table = Vec::new();
    mesa_scan::output::table(&mut table, &scan).unwrap();
    let table = String::from_utf8(table).unwrap();
    for text in [&said, &table] {
        assert!(text.contains("libmissing"), "{text}");
        assert!(
            !text
                .lines()
                .any(|line| line.starts_with("kind:") || line.starts_with("spec:")),
            "{text}"
        );
        assert!(
            !text.contains("\x1b[2J") && !text.contains("\x1b.so"),
            "{text}"
        );
    }
    // The policy's settings are asked before anything is written.
    if let Ok(policy) = mesa_scan::output::policy(&scan, "registry://registry.example/policy") {
        assert!(!policy.contains("\nkind: Secret"), "{policy}");
    }
}

/// The line breaks of YAML 1.1, which end a comment to kubectl, and what turns a line around on a terminal.
#[rstest]
fn a_library_of_the_image_smuggles_nothing_into_the_policy(
    #[values(
        '\n', '\r', '\u{85}', '\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{feff}'
    )]
    letter: char,
) {
    let smuggled = "libx.so|---|apiVersion: v1|kind: Secret|metadata: {name: smuggled}|---|# .so.1"
        .replace('|', &letter.to_string());
    let image = image(Arch::X86_64, true, 36);
    image.library(
        &format!("{LIBDIR}/libdrm.so.2"),
        &library("libdrm.so.2").needs(&smuggled),
    );
    let scan = scan_of(&node(Arch::X86_64, true), &image, Layout::Files).unwrap();
    assert!(
        reasons(&scan).contains("kind: Secret"),
        "{}",
        reasons(&scan)
    );

    let policy = mesa_scan::output::policy(&scan, "registry://registry.example/policy").unwrap();
    // As libyaml breaks lines, and so kubectl.
    let documents: Vec<serde_json::Value> = serde_norway::Deserializer::from_str(&policy)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect();
    assert_eq!(documents.len(), 1, "{policy}");
    assert_eq!(documents[0]["kind"], "ClusterAdmissionPolicy");
    let read = manifests::Source {
        name: "policy".to_owned(),
        text: policy.clone(),
    };
    assert_eq!(read.objects().unwrap(), documents, "{policy}");

    let mut table = Vec::new();
    mesa_scan::output::table(&mut table, &scan).unwrap();
    let table = String::from_utf8(table).unwrap();
    for text in [policy, table] {
        assert!(letter == '\n' || !text.contains(letter), "{text}");
    }
}

#[test]
fn libraries_that_need_thousands_of_others_are_refused_in_time() {
    let node = node(Arch::X86_64, true);
    let directories: Vec<String> = (0..400).map(|number| format!("/r{number}")).collect();
    for link in 0..10 {
        let name = format!("libchain{link}.so");
        let mut library = library(&name).rpath(&directories.join(":"));
        library = library.needs(&format!("libchain{}.so", link + 1));
        for number in 0..400 {
            library = library.needs(&format!("lib{link}-{number}.so"));
        }
        node.library(&format!("{LIBDIR}/{name}"), &library);
    }
    node.library(
        &format!("{LIBDIR}/libEGL_mesa.so.0"),
        &library("libEGL_mesa.so.0").needs("libchain0.so"),
    );
    let start = Instant::now();
    let error = scan_of(&node, &image(Arch::X86_64, true, 36), Layout::Files)
        .err()
        .unwrap();
    assert!(
        complaint(&error).contains("more than 2000 libraries"),
        "{error:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

/// A library whose version tables or headers claim more than there is.
#[rstest]
#[case::program_headers(56, &[0xff, 0xff])]
#[case::many_program_headers(56, &[0xfe, 0xff])]
#[case::header_offset(32, &[0xff; 8])]
#[case::dynamic_size(64 + 56 + 32, &[0xff; 8])]
#[case::dynamic_offset(64 + 56 + 8, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])]
fn huge_counts_are_refused(#[case] at: usize, #[case] bytes: &[u8]) {
    let mut file = library("libx.so")
        .requires("libc.so.6", "GLIBC_2.34")
        .bytes();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    assert!(matches!(
        Elf::read(Cursor::new(file)),
        Err(ElfError::Malformed(_))
    ));
}

#[test]
fn a_version_table_that_leads_through_itself_ends() {
    let mut library = library("libx.so");
    for number in 0..2000 {
        library = library.requires("libc.so.6", &format!("V_{number}"));
    }
    let mut file = library.bytes();
    // Each record is followed by the next one two bytes on, and has 65535 versions.
    let table = 64 + 2 * 56 + (2 + 4 + 1) * 16;
    for at in (table..table + 40_000).step_by(2) {
        file[at..at + 2].copy_from_slice(&[2, 0]);
    }
    let start = Instant::now();
    assert!(Elf::read(Cursor::new(file)).is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Real and made libraries to begin from: the test program itself is an ELF file of this machine.
fn seeds() -> &'static Vec<Vec<u8>> {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let made = |arch| {
            let library = library("libx.so.1")
                .arch(arch)
                .runpath("$ORIGIN")
                .needs("liby.so");
            library
                .requires("libc.so.6", "GLIBC_2.34")
                .defines("X_1")
                .defines("X_2")
                .bytes()
        };
        let mut seeds: Vec<Vec<u8>> = Arch::ALL.into_iter().map(made).collect();
        if let Some(root) = crate::debian::node("bookworm") {
            for name in ["libgbm.so.1", "libGLX.so.0", "libstdc++.so.6", "libc.so.6"] {
                seeds.push(fs::read(root.join(&LIBDIR[1..]).join(name)).unwrap());
            }
        }
        seeds
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes changed anywhere, but mostly where the loader looks: in the headers and what they point to.
    #[test]
    fn no_bytes_make_the_reader_panic_or_hang(
        seed in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.8), any::<u8>()), 1..24),
        length in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut file = seed.get(seeds()).clone();
        for (at, in_front, byte) in changes {
            let range = if in_front { file.len().min(2048) } else { file.len() };
            file[at.index(range)] = byte;
        }
        if let Some(length) = length {
            file.truncate(length.index(file.len()));
        }
        let start = Instant::now();
        let _ = Elf::read(Cursor::new(file));
        prop_assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn random_bytes_are_no_library(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Elf::read(Cursor::new(bytes)).is_err());
    }
}
