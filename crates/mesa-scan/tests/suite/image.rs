//! `mesa-scan image`, as the program that it is: two trees in, a flat image and a policy for one launcher out.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mesa_injector::settings::Settings;
use mesa_scan::loader::Arch;
use rstest::rstest;
use serde_json::{Value, json};
use staging::{FLAT_MANIFEST, Manifest};

use crate::archives::{self, Layer};
use crate::elf::{library, program};
use crate::fixture::{Root, image, libdir, node, vendor};

/// The build of QEMU in the launcher of these tests.
const BUILD: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER_BUILD: &str = "fedcba9876543210fedcba9876543210fedcba98";
const EMULATOR: &str = "/usr/bin/qemu-system-x86_64";
const LAUNCHER: &str = "quay.example/kubevirt/virt-launcher:v1.9.0";
const REFERENCE: &str = "r.example/mesa:1";

/// QEMU of a build, which says where its modules are.
fn emulator(root: &Root, path: &str, build: &str, version: &str) {
    let directory = match path {
        "/usr/libexec/qemu-kvm" => "/usr/lib64/qemu-kvm",
        _ => "/usr/lib/x86_64-linux-gnu/qemu",
    };
    let text = format!("\0qemu_stamp_{build}\0QEMU emulator version {version}\n\0{directory}\0");
    root.file(path, text);
}

/// A module of a build of QEMU.
fn module(root: &Root, directory: &str, name: &str, build: &str) {
    let mut bytes = library(name).needs("libepoxy.so.0").bytes();
    bytes.extend(format!("\0qemu_stamp_{build}\0").as_bytes());
    root.file(&format!("{directory}/{name}"), bytes);
}

/// A source with Mesa, libepoxy and the display's modules of a build.
fn source(build: &str) -> Root {
    let root = node(Arch::X86_64, true);
    let libdir = libdir(Arch::X86_64, true);
    emulator(&root, EMULATOR, build, &format!("10.0 ({build:.4})"));
    for name in ["ui-opengl.so", "ui-egl-headless.so"] {
        module(&root, &format!("{libdir}/qemu"), name, build);
    }
    root.library(
        &format!("{libdir}/libepoxy.so.0"),
        &library("libepoxy.so.0"),
    );
    root
}

/// A stock launcher: QEMU, and nothing of GL.
fn launcher() -> Root {
    let root = image(Arch::X86_64, true, 36);
    emulator(&root, EMULATOR, BUILD, "10.0 (0123)");
    root
}

/// A directory for what is made.
struct Place(Root);

impl Place {
    fn new() -> Self {
        Place(Root::new())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.at(name)
    }
}

fn command(source: &Path, launcher: &Path, to: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    command.arg("image").arg("--root").arg(source);
    command.arg("--image").arg(launcher).arg("--to").arg(to);
    command.args(["--reference", REFERENCE]);
    command.env_remove("CLICOLOR_FORCE");
    command
}

fn run(command: &mut Command, status: i32) -> (String, String) {
    let Output {
        status: ended,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (stdout, stderr) = [stdout, stderr]
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .into();
    assert_eq!(ended.code(), Some(status), "{stdout}{stderr}");
    (stdout, stderr)
}

/// The files of an image, by name: their mode, and their bytes or what they are a link to.
fn files(layout: &Path) -> BTreeMap<String, (u32, Result<Vec<u8>, String>)> {
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        let (_, hash) = digest.split_once(':').unwrap();
        let bytes = fs::read(layout.join("blobs/sha256").join(hash)).unwrap();
        assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().unwrap());
        assert_eq!(archives::digest(&bytes), digest);
        bytes
    };
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
    let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
    assert_eq!(config["architecture"], "amd64");
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{manifest}");
    let tar = zstd::decode_all(&*blob(&layers[0])).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], archives::digest(&tar));
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(&*tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (0, 0));
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let holds = match entry.link_name().unwrap() {
            Some(link) => Err(link.to_str().unwrap().to_owned()),
            None => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                Ok(bytes)
            }
        };
        assert!(
            files
                .insert(name, (header.mode().unwrap(), holds))
                .is_none()
        );
    }
    files
}

fn settings(text: &str) -> Value {
    Settings::from_json(text).unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn all_that_a_launcher_lacks_is_in_the_root_of_one_image() {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    // The same bytes under another name are stored once.
    let driver = source.at("/usr/lib/x86_64-linux-gnu/dri/swrast_dri.so");
    fs::copy(&driver, driver.with_file_name("kms_swrast_dri.so")).unwrap();
    let to = place.at("flat");
    let (text, _) = run(&mut command(source.path(), launcher.path(), &to), 0);

    let files = files(&to);
    for name in [
        "ui-opengl.so",
        "ui-egl-headless.so",
        "libepoxy.so.0",
        "libEGL.so.1",
        "dri_gbm.so",
        "50_mesa.json",
    ] {
        assert!(files.contains_key(name), "{name}: {:?}", files.keys());
    }
    assert!(
        files.keys().all(|name| !name.contains('/')),
        "{:?}",
        files.keys()
    );
    assert!(!files.contains_key("libc.so.6"), "{:?}", files.keys());
    assert!(files.values().all(|(mode, _)| *mode == 0o644));
    assert_eq!(
        files["swrast_dri.so"].1,
        Err("kms_swrast_dri.so".to_owned())
    );
    assert_eq!(files["kms_swrast_dri.so"].1, Ok(fs::read(&driver).unwrap()));

    let settings = settings(&text);
    let volume = &settings["images"][0];
    let reference = volume["reference"].as_str().unwrap();
    assert!(
        reference.starts_with("r.example/mesa:1@sha256:"),
        "{reference}"
    );
    assert!(volume.get("pullPolicy").is_none());
    let mounts = volume["mounts"].as_array().unwrap();
    assert_eq!(
        mounts[0]["mountPath"],
        "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2"
    );
    assert!(mounts.iter().all(|mount| mount.get("subPath").is_none()));
    assert_eq!(settings["architecture"], "amd64");
    assert_eq!(settings["onConflict"], "reject");
    assert_eq!(
        settings["match"]["labels"]["mesa-injector.io/inject"],
        "enabled"
    );
}

#[test]
fn the_same_files_have_the_same_digest_on_every_machine() {
    let place = Place::new();
    let mut digests = Vec::new();
    for name in ["one.tar", "two.tar", "three"] {
        // Other inodes, other times, another directory, another umask.
        let (source, launcher) = (source(BUILD), launcher());
        let to = place.at(name);
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 077; exec \"$@\"", "sh"]);
        let command = command(source.path(), launcher.path(), &to);
        shell.arg(command.get_program()).args(command.get_args());
        digests.push(run(&mut shell, 0).0);
        let mode = fs::metadata(&to).unwrap().permissions().mode() & 0o777;
        assert!(to.is_dir() || mode == 0o644, "{mode:o}");
    }
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "{digests:?}"
    );
    let archives = ["one.tar", "two.tar"].map(|name| fs::read(place.at(name)).unwrap());
    assert_eq!(archives[0], archives[1]);
}

#[test]
fn the_hook_goes_with_the_files() {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    let node_program = place.at("program");
    fs::write(&node_program, program(Arch::X86_64, None)).unwrap();
    let to = place.at("flat");
    let mut make = command(source.path(), launcher.path(), &to);
    let (text, _) = run(make.arg("--node-program").arg(&node_program), 0);
    let files = files(&to);
    assert_eq!(files["mesa-node"], (0o755, Ok(program(Arch::X86_64, None))));
    assert_eq!(settings(&text)["display"]["volume"], "mesa");

    // What is written is what check accepts, and without the program it does not.
    let check = |volume: &Path, status: i32| {
        let file = place.at("settings.json");
        fs::write(&file, &text).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
        check.arg("check").arg("--settings").arg(file);
        check
            .arg("--root")
            .arg(source.path())
            .arg("--image")
            .arg(launcher.path());
        check
            .arg("--volume")
            .arg(format!("mesa={}", volume.display()));
        run(&mut check, status).0
    };
    check(&to, 0);
    let without = place.at("without");
    run(
        command(source.path(), launcher.path(), &without).arg("--no-hook"),
        0,
    );
    let said = check(&without, 1);
    assert!(said.contains("volume mesa has no mesa-node"), "{said}");
}

/// For clusters without image volumes: the same mounts from a directory of the node, and only where the image has put it.
#[test]
fn an_image_may_be_delivered_by_the_node() {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    let node_program = place.at("program");
    fs::write(&node_program, program(Arch::X86_64, None)).unwrap();
    let to = place.at("flat");
    let make = |arguments: &[&str], status: i32| {
        let mut make = command(source.path(), launcher.path(), &to);
        make.args(arguments);
        run(&mut make, status)
    };
    let with = ["--node-program", node_program.to_str().unwrap()];
    let (text, _) = make(&[&with[..], &["-o", "json"]].concat(), 0);
    let by_volume: Value = serde_json::from_str(&text).unwrap();
    let deliver = [
        "--deliver",
        "node",
        "--node-path",
        "/opt/mesa/",
        "-o",
        "json",
    ];
    let (text, _) = make(&[&with[..], &deliver].concat(), 0);
    let by_node: Value = serde_json::from_str(&text).unwrap();
    let [volume, node] = [&by_volume, &by_node].map(|all| &all["images"][0]);
    assert_eq!(volume["made"]["digest"], node["made"]["digest"]);

    // The image says itself which layout it is of, and what is in it.
    let layout = node["layout"].as_str().unwrap();
    let files = files(&to);
    let (_, manifest) = &files[FLAT_MANIFEST];
    let manifest = Manifest::parse(manifest.as_ref().unwrap()).unwrap();
    assert_eq!(manifest.layout.as_deref(), Some(layout));
    let listed: Vec<&str> = manifest
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    let packed: Vec<&str> = files.keys().map(String::as_str).collect();
    let packed: Vec<&str> = packed
        .into_iter()
        .filter(|name| *name != FLAT_MANIFEST)
        .collect();
    assert_eq!(listed, packed);

    let settings = &node["made"]["settings"];
    Settings::from_json(&settings.to_string()).unwrap();
    assert!(settings.get("images").is_none());
    let mount_paths = |list: &Value| -> Vec<Value> {
        let list = list.as_array().unwrap();
        list.iter()
            .map(|mount| mount["mountPath"].clone())
            .collect()
    };
    let host_paths = &settings["hostPaths"];
    let mounts = &volume["made"]["settings"]["images"][0]["mounts"];
    assert_eq!(mount_paths(host_paths), mount_paths(mounts));
    let path = format!("/opt/mesa/{layout}/current");
    for mount in host_paths.as_array().unwrap() {
        assert_eq!(
            (&mount["path"], &mount["type"]),
            (&json!(path), &json!("Directory"))
        );
    }
    assert_eq!(settings["display"]["volume"], host_paths[0]["name"]);
    let label = format!("feature.node.kubernetes.io/mesa-injector.layout.{layout}");
    assert_eq!(settings["nodeSelector"], json!({label: "true"}));

    let (_, error) = make(&["--deliver", "node", "--no-hook"], 2);
    assert!(error.contains("--node-program"), "{error}");
}

#[rstest]
#[case::needs_a_loader(
    program(Arch::X86_64, Some("/lib64/ld-linux-x86-64.so.2")),
    "is not static"
)]
#[case::a_library(library("libx.so").bytes(), "is not static")]
#[case::of_another_architecture(program(Arch::Aarch64, None), "is a program for aarch64")]
#[case::a_script(b"#!/bin/sh\necho this is no program of ours\n".to_vec(), "not an ELF file")]
#[case::empty(Vec::new(), "too short")]
fn a_program_that_would_not_run_is_refused(#[case] bytes: Vec<u8>, #[case] expected: &str) {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    let node_program = place.at("program");
    fs::write(&node_program, bytes).unwrap();
    let to = place.at("flat.tar");
    let mut make = command(source.path(), launcher.path(), &to);
    let (_, error) = run(make.arg("--node-program").arg(&node_program), 2);
    assert!(
        error.contains(expected) && error.contains("--node-program"),
        "{error}"
    );
    assert!(!to.exists());
    let mut stage = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    stage
        .arg("stage")
        .arg("--root")
        .arg(source.path())
        .arg("--image")
        .arg(launcher.path());
    stage
        .arg("--to")
        .arg(place.at("area"))
        .arg("--node-program")
        .arg(&node_program);
    let (_, error) = run(&mut stage, 2);
    assert!(error.contains(expected), "{error}");
}

#[test]
fn modules_of_another_build_make_no_image() {
    let (source, launcher, place) = (source(OTHER_BUILD), launcher(), Place::new());
    let to = place.at("flat.tar");
    let (_, error) = run(&mut command(source.path(), launcher.path(), &to), 1);
    assert!(
        error.contains("10.0 (fedc)") && error.contains("10.0 (0123)"),
        "{error}"
    );
    assert!(!to.exists());
    run(
        command(source.path(), launcher.path(), &to).arg("--force"),
        1,
    );
    assert!(to.exists());
}

#[test]
fn a_source_without_the_modules_or_libepoxy_is_said() {
    let (launcher, place) = (launcher(), Place::new());
    let bare = node(Arch::X86_64, true);
    let (_, error) = run(
        &mut command(bare.path(), launcher.path(), &place.at("x.tar")),
        1,
    );
    assert!(error.contains("ui-opengl.so"), "{error}");
    let source = source(BUILD);
    fs::remove_file(source.at("/usr/lib/x86_64-linux-gnu/libepoxy.so.0")).unwrap();
    let (_, error) = run(
        &mut command(source.path(), launcher.path(), &place.at("x.tar")),
        1,
    );
    assert!(error.contains("libepoxy.so.0"), "{error}");
}

#[test]
fn two_files_of_one_name_fit_no_flat_image() {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    source.library(
        "/opt/mesa/libEGL_mesa.so.0",
        &library("libEGL_mesa.so.0").needs("libdrm.so.2"),
    );
    vendor(&source, "40_other.json", "/opt/mesa/libEGL_mesa.so.0");
    let (_, error) = run(
        &mut command(source.path(), launcher.path(), &place.at("x.tar")),
        2,
    );
    assert!(
        error.contains("have the same name") && error.contains("/opt/mesa/libEGL_mesa.so.0"),
        "{error}"
    );
}

#[rstest]
#[case::no_registry("mesa:1", "names no registry")]
#[case::digest(
    "r.example/mesa@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "a digest is what comes out"
)]
#[case::scheme("docker://r.example/mesa:1", "not the reference of an image")]
#[case::upper_case("r.example/Mesa:1", "not the reference of an image")]
#[case::line_break("r.example/mesa:1\nspec: {}", "not the reference of an image")]
fn hostile_references_are_refused(#[case] reference: &str, #[case] expected: &str) {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    let mut make = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    make.arg("image")
        .arg("--root")
        .arg(source.path())
        .arg("--image")
        .arg(launcher.path());
    make.arg("--to")
        .arg(place.at("x.tar"))
        .arg("--reference")
        .arg(reference);
    let (_, error) = run(&mut make, 2);
    assert!(error.contains(expected), "{error}");
}

/// A policy for nobody knows which launcher would bring QEMU's modules to others.
#[test]
fn a_policy_is_for_one_launcher() {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    let to = place.at("flat.tar");
    let policy = |arguments: &[&str], status: i32| {
        let mut make = command(source.path(), launcher.path(), &to);
        run(make.args(["-o", "policy"]).args(arguments), status)
    };
    let (_, error) = policy(&[], 2);
    assert!(error.contains("--launcher-reference"), "{error}");
    let (text, _) = policy(
        &["--launcher-reference", LAUNCHER, "--pull-secret", "regcred"],
        0,
    );
    let policy: Value = serde_norway::from_str(&text).unwrap();
    assert_eq!(
        policy["metadata"]["name"],
        "mesa-injector-virt-launcher-v1-9-0"
    );
    let spec = &policy["spec"];
    assert_eq!(spec["failurePolicy"], "Fail");
    let labels = &spec["objectSelector"]["matchLabels"];
    assert_eq!(labels["kubevirt.io"], "virt-launcher");
    assert_eq!(labels["mesa-injector.io/inject"], "enabled");
    let settings = &spec["settings"];
    assert_eq!(settings["match"]["images"][0], LAUNCHER);
    assert_eq!(settings["imagePullSecrets"][0], "regcred");
    assert!(settings.get("nodeSelector").is_none());
}

/// `examples/display/policy.yaml` is for a launcher of CentOS Stream; `BLESS=1` writes it.
#[test]
fn the_example_is_what_is_written_for_a_launcher_of_centos_stream() {
    let (source, launcher, place) = (
        node(Arch::X86_64, false),
        image(Arch::X86_64, false, 34),
        Place::new(),
    );
    emulator(
        &launcher,
        "/usr/libexec/qemu-kvm",
        BUILD,
        "10.1.0 (qemu-kvm-10.1.0-20.el9)",
    );
    for name in ["ui-opengl.so", "ui-egl-headless.so"] {
        module(&source, "/usr/lib64/qemu-kvm", name, BUILD);
    }
    source.library("/usr/lib64/libepoxy.so.0", &library("libepoxy.so.0"));
    let node_program = place.at("program");
    fs::write(&node_program, program(Arch::X86_64, None)).unwrap();
    let mut make = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    make.arg("image")
        .arg("--root")
        .arg(source.path())
        .arg("--image")
        .arg(launcher.path());
    make.arg("--to")
        .arg(place.at("flat.tar"))
        .arg("--node-program")
        .arg(node_program);
    make.args(["--reference", "registry.example/mesa:kubevirt-v1.9.0-el9"]);
    make.args([
        "--launcher-reference",
        "quay.io/kubevirt/virt-launcher:v1.9.0",
        "-o",
        "policy",
    ]);
    let (text, _) = run(&mut make, 0);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/display/policy.yaml");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&example, &text).unwrap();
    }
    let expected = fs::read_to_string(&example).unwrap();
    assert_eq!(
        text,
        expected,
        "BLESS=1 cargo test rewrites {}",
        example.display()
    );
}

#[test]
fn the_reference_in_an_archive_is_the_launchers() {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    let archive = place.at("launcher.tar");
    let manifest =
        json!([{"Config": "config.json", "RepoTags": [LAUNCHER], "Layers": ["layer.tar"]}]);
    let saved = Layer::new()
        .file("layer.tar", Layer::tree(launcher.path()).bytes())
        .file("config.json", "{}")
        .file("manifest.json", manifest.to_string());
    archives::put(&archive, &saved.bytes());
    let mut make = command(source.path(), &archive, &place.at("flat.tar"));
    let (text, _) = run(make.args(["-o", "policy"]), 0);
    let policy: Value = serde_norway::from_str(&text).unwrap();
    assert_eq!(policy["spec"]["settings"]["match"]["images"][0], LAUNCHER);
}

#[test]
fn several_launchers_get_an_image_and_a_policy_each() {
    let (source, place) = (source(BUILD), Place::new());
    let launchers = [launcher(), launcher()];
    // The second has a library of its own already.
    let libdir = libdir(Arch::X86_64, true);
    launchers[1].library(&format!("{libdir}/libdrm.so.2"), &library("libdrm.so.2"));
    let to = place.at("flat");
    let mut make = command(source.path(), launchers[0].path(), &to);
    make.arg("--image").arg(launchers[1].path());
    make.args([
        "--launcher-reference",
        LAUNCHER,
        "--launcher-reference",
        "quay.example/kubevirt/virt-launcher:v1.8.4",
    ]);
    let (text, _) = run(make.args(["-o", "policy"]), 0);
    let documents: Vec<Value> = text
        .split("---\n")
        .map(|text| serde_norway::from_str(text).unwrap())
        .collect();
    let names: Vec<&str> = documents
        .iter()
        .map(|it| it["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "mesa-injector-virt-launcher-v1-9-0",
            "mesa-injector-virt-launcher-v1-8-4"
        ]
    );
    let references: Vec<&str> = documents
        .iter()
        .map(|it| {
            it["spec"]["settings"]["images"][0]["reference"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert!(
        references[0].starts_with("r.example/mesa:1-virt-launcher-v1-9-0@sha256:"),
        "{references:?}"
    );
    assert!(
        references[1].starts_with("r.example/mesa:1-virt-launcher-v1-8-4@sha256:"),
        "{references:?}"
    );
    let index: Value = serde_json::from_slice(&fs::read(to.join("index.json")).unwrap()).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2);
    for (manifest, reference) in manifests.iter().zip(references) {
        assert!(reference.ends_with(manifest["digest"].as_str().unwrap()));
    }
}

#[test]
fn by_tag_is_for_images_that_are_loaded_by_hand() {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    let mut make = command(source.path(), launcher.path(), &place.at("flat.tar"));
    let (text, _) = run(make.arg("--by-tag"), 0);
    let settings = settings(&text);
    assert_eq!(settings["images"][0]["reference"], REFERENCE);
    assert_eq!(settings["images"][0]["pullPolicy"], "IfNotPresent");
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    let to = place.at("home");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("index.json"), "{}").unwrap();
    let (_, error) = run(&mut command(source.path(), launcher.path(), &to), 2);
    assert!(error.contains("nothing in it is touched"), "{error}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    // Our own is replaced, and holds nothing of the image before.
    let ours = place.at("ours");
    run(&mut command(source.path(), launcher.path(), &ours), 0);
    source.file(
        "/usr/share/drirc.d/00-mesa-defaults.conf",
        "<driconf>new</driconf>",
    );
    run(&mut command(source.path(), launcher.path(), &ours), 0);
    assert_eq!(fs::read_dir(ours.join("blobs/sha256")).unwrap().count(), 3);
}

#[test]
fn stage_brings_the_modules_and_the_hook() {
    let (source, launcher, place) = (source(BUILD), launcher(), Place::new());
    let node_program = place.at("program");
    fs::write(&node_program, program(Arch::X86_64, None)).unwrap();
    let mut stage = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    stage
        .arg("stage")
        .arg("--root")
        .arg(source.path())
        .arg("--image")
        .arg(launcher.path());
    stage
        .arg("--to")
        .arg(place.at("area"))
        .arg("--node-program")
        .arg(&node_program);
    let (text, _) = run(&mut stage, 0);
    let settings = settings(&text);
    assert_eq!(settings["display"]["volume"], "mesa-lib");
    assert_eq!(
        settings["match"]["labels"]["mesa-injector.io/inject"],
        "enabled"
    );
    let library = place.at("area/current/lib");
    for name in ["ui-opengl.so", "ui-egl-headless.so", "libepoxy.so.0"] {
        assert!(library.join(name).is_file(), "{name}");
    }
    let mode = fs::metadata(library.join("mesa-node"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);

    let file = place.at("settings.json");
    fs::write(&file, &text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    check
        .arg("check")
        .arg("--settings")
        .arg(file)
        .arg("--image")
        .arg(launcher.path());
    run(&mut check, 0);
}

#[test]
fn files_bring_the_modules_to_the_launchers_own_directory() {
    let (source, launcher) = (source(BUILD), launcher());
    let mut scan = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    scan.arg("scan")
        .arg("--root")
        .arg(source.path())
        .arg("--image")
        .arg(launcher.path());
    let (text, _) = run(scan.args(["-o", "settings"]), 0);
    let settings = settings(&text);
    let paths = settings["hostPaths"].as_array().unwrap();
    let at = |name: &str| {
        paths
            .iter()
            .find(|it| it["path"].as_str().unwrap().ends_with(name))
            .unwrap()
    };
    assert_eq!(
        at("/ui-opengl.so")["mountPath"],
        "/usr/lib/x86_64-linux-gnu/qemu/ui-opengl.so"
    );
}
