//! The command line: what it says, where, and with which exit status.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use mesa_scan::loader::Arch;
use rstest::rstest;
use serde_json::{Value, json};

use crate::archives::{Form, Layer, Layout, Packing, write};
use crate::fixture::{Root, image, node};

fn mesa_scan() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

fn scan(node: &Root, image: &Root) -> Command {
    let mut command = mesa_scan();
    command
        .arg("scan")
        .arg("--root")
        .arg(node.path())
        .arg("--image")
        .arg(image.path());
    command
}

fn check(node: &Root, image: &Root, settings: &str) -> Command {
    let mut command = mesa_scan();
    command
        .args(["check", "--settings", "-"])
        .write_stdin(settings);
    command
        .arg("--root")
        .arg(node.path())
        .arg("--image")
        .arg(image.path());
    command
}

fn stdout(command: &mut Command, status: i32) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

fn stderr(command: &mut Command, status: i32) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{error}");
    error
}

/// Compares with the file in `tests/golden`; `BLESS=1` writes it.
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{} differs; BLESS=1 cargo test rewrites it:\n{text}",
        path.display()
    );
}

#[test]
fn help_has_examples_and_the_exit_status() {
    for arguments in [
        &["--help"][..],
        &["scan", "--help"],
        &["stage", "--help"],
        &["check", "--help"],
    ] {
        let text = stdout(mesa_scan().args(arguments), 0);
        assert!(
            text.contains("Examples:") && text.contains("Exit status: 0 GL will load"),
            "{text}"
        );
    }
    assert!(stdout(mesa_scan().arg("-h"), 0).contains("Exit status"));
}

#[rstest]
#[case::no_command(&[], "Usage")]
#[case::no_such_root(&["scan", "--root", "/no/such/directory"], "cannot read /no/such/directory\n  caused by: No such file")]
#[case::root_is_a_device(&["scan", "--root", "/dev/null"], "neither a file nor a directory")]
#[case::platform(&["scan", "--platform", "linux/"], "write linux/amd64")]
#[case::check_needs_an_image(&["check", "--settings", "x"], "--image")]
#[case::layout(&["scan", "--layout", "tower"], "possible values: files, staged")]
fn wrong_usage_has_status_2(#[case] arguments: &[&str], #[case] expected: &str) {
    let text = stderr(mesa_scan().args(arguments), 2);
    assert!(text.contains(expected), "{text}");
}

#[rstest]
#[case::loads(36, 0, "table-loads.txt")]
#[case::does_not(33, 1, "table-does-not.txt")]
fn the_table_is_for_people(#[case] glibc: u32, #[case] status: i32, #[case] golden: &str) {
    let node = node(Arch::X86_64, true);
    let image = image(Arch::X86_64, false, glibc);
    let text = stdout(&mut scan(&node, &image), status);
    assert_golden(golden, &text);
    let staged = stdout(scan(&node, &image).args(["--layout", "staged"]), status);
    assert!(
        staged.contains("/var/lib/mesa-injector/current/lib at /usr/lib64/glibc-hwcaps/x86-64-v2"),
        "{staged}"
    );
}

#[rstest]
#[case("settings", "settings.json")]
#[case("policy", "policy.yaml")]
#[case("json", "scan.json")]
fn what_machines_read_is_written_for_the_staged_layout(#[case] output: &str, #[case] golden: &str) {
    let node = node(Arch::X86_64, true);
    let image = image(Arch::X86_64, false, 36);
    let arguments = ["--layout", "staged", "--output", output];
    assert_golden(golden, &stdout(scan(&node, &image).args(arguments), 0));
}

#[test]
fn colours_are_for_terminals() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    assert!(!stdout(&mut scan(&node, &image), 0).contains('\x1b'));
    assert!(stdout(scan(&node, &image).env("CLICOLOR_FORCE", "1"), 0).contains('\x1b'));
    let refused = stdout(
        scan(&node, &image)
            .env("NO_COLOR", "1")
            .env("CLICOLOR_FORCE", "0"),
        0,
    );
    assert!(!refused.contains('\x1b'));
}

#[test]
fn the_same_findings_are_written_the_same() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 33));
    for output in ["table", "settings", "policy", "json"] {
        let once = stdout(scan(&node, &image).args(["--output", output]), 1);
        let twice = stdout(scan(&node, &image).args(["--output", output]), 1);
        assert_eq!(once, twice);
    }
}

#[test]
fn a_list_of_files_comes_with_its_warning_in_every_output() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    for output in ["table", "settings", "policy", "json"] {
        let output = scan(&node, &image)
            .args(["--output", output])
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(
            text.contains("until the node's Mesa is updated (libgallium-1.2.3.so"),
            "{text}"
        );
    }
    let staged = scan(&node, &image)
        .args(["--layout", "staged"])
        .output()
        .unwrap();
    assert!(
        !String::from_utf8(staged.stdout)
            .unwrap()
            .contains("is updated")
    );
}

#[test]
fn without_an_image_the_set_is_shown_and_nothing_promised() {
    let node = node(Arch::X86_64, true);
    let text = stdout(mesa_scan().arg("scan").arg("--root").arg(node.path()), 1);
    assert!(
        text.contains("libEGL.so.1") && text.contains("no image is given"),
        "{text}"
    );
    assert!(!text.contains("libc.so.6"));
}

#[test]
fn settings_are_checked_wherever_they_stand() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    let settings = stdout(scan(&node, &image).args(["--output", "settings"]), 0);
    let policy = stdout(scan(&node, &image).args(["--output", "policy"]), 0);
    let several = format!("apiVersion: v1\nkind: Namespace\n---\n{policy}");
    let mark = format!("\u{feff}{policy}");
    for text in [&settings, &policy, &several, &mark] {
        assert_eq!(
            stdout(&mut check(&node, &image, text), 0).lines().next(),
            Some("GL will load.")
        );
    }
    let said = stdout(check(&node, &image, &settings).args(["-o", "json"]), 0);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["version"], 1);
    assert_eq!(said["loads"], true);
    let findings = said["findings"].as_array().unwrap();
    assert!(!findings.is_empty() && findings.iter().all(|finding| finding["severity"] == "note"));
}

#[rstest]
#[case::not_settings("hostPath: []", "did you mean hostPaths?")]
#[case::not_yaml("{", "neither JSON nor YAML")]
#[case::several("a: 1\n---\nb: 2\n", "not 2 documents")]
#[case::two_policies(
    "{apiVersion: policies.kubewarden.io/v1, kind: AdmissionPolicy}\n---\n{apiVersion: policies.kubewarden.io/v1, kind: AdmissionPolicy}",
    "holds 2 policies"
)]
#[case::other_object("{apiVersion: v1, kind: Pod}", "not a Pod")]
fn settings_that_the_policy_refuses_are_an_error(#[case] settings: &str, #[case] expected: &str) {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    let text = stderr(&mut check(&node, &image, settings), 2);
    assert!(text.contains(expected), "{text}");
}

/// Each problem alone, on settings that are otherwise what scan wrote.
#[rstest]
#[case::missing(|node: &Root| { fs::remove_file(node.at("/usr/lib/x86_64-linux-gnu/libdrm.so.2")).unwrap(); }, "is not on the node")]
#[case::dangling(|node: &Root| {
    fs::remove_file(node.at("/usr/lib/x86_64-linux-gnu/libdrm.so.2")).unwrap();
    node.link("/usr/lib/x86_64-linux-gnu/libdrm.so.2", "libdrm.so.2.9");
}, "the link /usr/lib/x86_64-linux-gnu/libdrm.so.2 leads to libdrm.so.2.9, which is not on the node")]
#[case::directory(|node: &Root| {
    fs::remove_file(node.at("/usr/lib/x86_64-linux-gnu/libdrm.so.2")).unwrap();
    node.directory("/usr/lib/x86_64-linux-gnu/libdrm.so.2");
}, "is of type Directory, the settings say File")]
#[case::unreadable(|node: &Root| {
    use std::os::unix::fs::PermissionsExt;
    let path = node.at("/usr/lib/x86_64-linux-gnu/libdrm.so.2");
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
}, "has mode 0640, and QEMU's user 107 may not read it")]
#[case::unreadable_in_a_directory(|node: &Root| {
    use std::os::unix::fs::PermissionsExt;
    let path = node.at("/usr/lib/x86_64-linux-gnu/dri/swrast_dri.so");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}, "dri/swrast_dri.so has mode 0600")]
fn each_problem_of_a_host_path_is_named(#[case] spoil: fn(&Root), #[case] expected: &str) {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    let settings = stdout(scan(&node, &image).args(["--output", "settings"]), 0);
    // The drivers by their directory.
    let mut settings: Value = serde_json::from_str(&settings).unwrap();
    let mounts = settings["hostPaths"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["path"].as_str().unwrap().contains("/dri/"));
    mounts.push(json!({"path": "/usr/lib/x86_64-linux-gnu/dri", "type": "Directory"}));
    let settings = settings.to_string();
    stdout(&mut check(&node, &image, &settings), 0);
    spoil(&node);
    let text = stdout(&mut check(&node, &image, &settings), 1);
    assert!(text.contains(expected), "{text}");
}

#[rstest]
#[case::through_a_file("/etc/passwd/lib", "/etc/passwd is a file in the image")]
#[case::through_a_dangling_link("/srv/x", "leads to nowhere, which it does not have")]
#[case::in_another_mount(
    "/usr/share/glvnd/egl_vendor.d/sub",
    "lies in the mount /usr/share/glvnd/egl_vendor.d"
)]
#[case::directory_over_a_file(
    "/etc/passwd",
    "the image has a file there, and a directory cannot be mounted over it"
)]
fn each_problem_of_a_mount_path_is_named(#[case] mount_path: &str, #[case] expected: &str) {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    image.file("/etc/passwd", "root").link("/srv", "nowhere");
    let settings = json!({"hostPaths": [
        {"path": "/usr/share/glvnd/egl_vendor.d", "type": "Directory"},
        {"path": "/usr/share/drirc.d", "type": "Directory", "mountPath": mount_path},
    ]});
    let text = stdout(&mut check(&node, &image, &settings.to_string()), 1);
    assert!(text.contains(expected), "{text}");
}

#[test]
fn what_cannot_be_looked_at_is_no_promise() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    let settings = json!({
        "containers": ["sidecar"],
        "images": [{"name": "mesa", "reference": "registry.example/mesa:1", "mounts": [{"subPath": "lib", "mountPath": "/usr/lib64/glibc-hwcaps/x86-64-v2"}]}],
    });
    let text = stdout(&mut check(&node, &image, &settings.to_string()), 1);
    assert!(
        text.contains("comes from the image registry.example/mesa:1, which is not on this node"),
        "{text}"
    );
    assert!(text.contains("containers has no compute"), "{text}");
}

#[test]
fn what_cannot_be_opened_is_named_with_its_option_and_the_fix() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 38));
    let absent = node.path().join("absent");
    let with = |option: &str, path: &Path| {
        let mut command = mesa_scan();
        command.arg(if option == "--settings" {
            "check"
        } else {
            "scan"
        });
        for (name, default) in [("--root", node.path()), ("--image", image.path())] {
            command
                .arg(name)
                .arg(if name == option { path } else { default });
        }
        if option == "--settings" {
            command.arg(option).arg(path);
        }
        stderr(&mut command, 2)
    };
    for (option, fix) in [
        (
            "--root",
            "name the root of a node: a directory, or an image of docker save, podman save or skopeo copy, with --root",
        ),
        (
            "--image",
            "name the root of an image: a directory, or an image of docker save, podman save or skopeo copy, with --image",
        ),
        (
            "--settings",
            "name a file that can be read, or - for standard input",
        ),
    ] {
        let error = with(option, &absent);
        let what = match option {
            "--settings" => format!("error: cannot read {}\n", absent.display()),
            "--root" => format!(
                "error: cannot open the node's root {0}\n  caused by: cannot read {0}\n",
                absent.display()
            ),
            _ => format!(
                "error: cannot open the image {0}\n  caused by: cannot read {0}\n",
                absent.display()
            ),
        };
        let start =
            format!("{what}  caused by: No such file or directory (os error 2)\nfix: {fix}");
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn an_error_says_what_failed_then_why_then_what_to_do() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    let settings = "hostPath: []\ncontainers: 1\n\"\\e[2J\\u202e\": 1\n";
    // The problems stand below each other, and no name in them steers the terminal or passes for a line of ours.
    let error = stderr(&mut check(&node, &image, settings), 2);
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        lines[0],
        "error: standard input: the policy would not accept these settings"
    );
    assert!(lines[1].starts_with("  caused by: "), "{error}");
    assert_eq!(lines.len(), 4, "{error}");
    assert!(
        lines[2..].iter().all(|line| line.starts_with("    ")),
        "{error}"
    );
    assert!(!error.contains(['\x1b', '\u{202e}']), "{error}");

    let mut coloured = check(&node, &image, "[1]");
    let error = stderr(coloured.env("CLICOLOR_FORCE", "1"), 2);
    assert_eq!(
        error,
        "\x1b[1m\x1b[31merror:\x1b[0m standard input: settings must be one object, not a list\n\
         \x1b[1m\x1b[32mfix:\x1b[0m write the settings as keys with values, or {} for the defaults\n"
    );
}

/// `mesa-scan … | head -1` has read enough.
#[rstest]
fn a_closed_pipe_is_not_an_error(
    #[values(
        &["scan"], &["scan", "-o", "json"], &["scan", "-o", "policy"], &["scan", "-o", "settings"],
        &["check", "--settings", "/dev/null"], &["check", "-o", "json", "--settings", "/dev/null"]
    )]
    arguments: &[&str],
    #[values((36, 0), (33, 1))] (glibc, status): (u32, i32),
) {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, glibc));
    let status = if arguments[0] == "check" { 1 } else { status };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_mesa-scan"))
        .args(arguments)
        .arg("--root")
        .arg(node.path())
        .arg("--image")
        .arg(image.path())
        .stdout(writer)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(!said.contains("error"), "{said}");
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_mesa-scan"))
        .args(["scan", "--root"])
        .arg(node.path())
        .arg("--image")
        .arg(image.path())
        .stdout(
            fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        )
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        "error: cannot write to standard output\n  caused by: No space left on device (os error 28)\n"
    );
}

/// `--root` takes an image as `--image` does.
#[test]
fn the_root_of_a_node_may_be_an_archive() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, false, 36));
    let directory = tempfile::tempdir().unwrap();
    let archive = |name: &str, root: &Root| {
        let layer = Layer::tree(root.path()).bytes();
        let directory = directory.path().join(name);
        fs::create_dir(&directory).unwrap();
        write(&directory, Form::OciArchive, Packing::Gzip, vec![layer])
    };
    let (node_archive, image_archive) = (archive("node", &node), archive("image", &image));
    let of = |root: &Path, image: &Path, arguments: &[&str]| {
        let mut command = mesa_scan();
        command
            .args(arguments)
            .arg("--root")
            .arg(root)
            .arg("--image")
            .arg(image);
        stdout(&mut command, 0)
    };
    for output in ["table", "settings", "policy", "json"] {
        for layout in ["files", "staged"] {
            let arguments = ["scan", "--layout", layout, "-o", output];
            assert_eq!(
                of(&node_archive, &image_archive, &arguments),
                of(node.path(), image.path(), &arguments),
            );
        }
    }
    let settings = directory.path().join("settings.json");
    fs::write(
        &settings,
        of(&node_archive, &image_archive, &["scan", "-o", "settings"]),
    )
    .unwrap();
    let arguments = [
        "check",
        "-o",
        "json",
        "--settings",
        settings.to_str().unwrap(),
    ];
    assert_eq!(
        of(&node_archive, &image_archive, &arguments),
        of(node.path(), image.path(), &arguments),
    );
    // The same bytes are the same generation, wherever they come from.
    let staged = |root: &Path, to: &str| {
        let to = directory.path().join(to);
        let arguments = [
            "stage",
            "-o",
            "json",
            "--node-path",
            "/mesa",
            "--to",
            to.to_str().unwrap(),
        ];
        let said: Value = serde_json::from_str(&of(root, &image_archive, &arguments)).unwrap();
        assert_eq!(said["version"], 1);
        assert_eq!(
            said["settings"]["hostPaths"][0]["path"],
            "/mesa/current/dri"
        );
        said["generation"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        staged(&node_archive, "from-archive"),
        staged(node.path(), "from-directory")
    );
}

#[test]
fn which_image_is_meant_is_asked_with_the_flags_that_say_it() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    let mut layout = Layout::default();
    let layer = layout.layer(&Layer::tree(image.path()).bytes());
    let mut images = Vec::new();
    for variant in ["v2", "v3"] {
        let platform = format!("linux/amd64/{variant}");
        let manifest = layout.manifest(&platform, std::slice::from_ref(&layer));
        images.push(Layout::tag(Layout::platform(manifest, &platform), variant));
    }
    let directory = tempfile::tempdir().unwrap();
    let archive = layout.write(directory.path(), &images, false);
    let command = |arguments: &[&str]| {
        let mut command = mesa_scan();
        command.args(["scan", "--root"]).arg(node.path());
        command.arg("--image").arg(&archive).args(arguments);
        command
    };
    let said = stderr(&mut command(&[]), 2);
    assert!(
        said.contains("2 images where one is looked at: v2 linux/amd64/v2 sha256:"),
        "{said}"
    );
    assert!(
        said.contains("fix: choose one by its tag or platform, with --tag or --platform"),
        "{said}"
    );
    stdout(&mut command(&["--tag", "v3"]), 0);
    stdout(&mut command(&["--platform", "linux/amd64/v3"]), 0);
    let said = stderr(&mut command(&["--platform", "linux/s390x"]), 2);
    assert!(
        said.contains("holds no image for linux/s390x: v2 linux/amd64/v2"),
        "{said}"
    );
    let mut as_root = mesa_scan();
    as_root.arg("scan").arg("--root").arg(&archive);
    let said = stderr(&mut as_root, 2);
    assert!(said.contains("with --root-tag or --platform"), "{said}");
}

/// Systems whose libraries are in no library directory, and those of another C library.
#[rstest]
#[case::nixos(
    "/nix/store/a-glibc/lib/libc.so.6",
    "NixOS keeps its libraries in /nix/store and has no library directory: such systems are not supported"
)]
#[case::guix(
    "/gnu/store/a-glibc/lib/libc.so.6",
    "Guix System keeps its libraries in /gnu/store"
)]
#[case::musl(
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-x86_64.so.1 is the loader of musl"
)]
fn what_is_not_supported_is_said_with_what_to_do(#[case] file: &str, #[case] expected: &str) {
    let (unsupported, image) = (Root::new(), image(Arch::X86_64, true, 36));
    unsupported
        .file(file, "")
        .link("/run/opengl-driver", "/nix/store/b-mesa");
    let said = stderr(&mut scan(&unsupported, &image), 2);
    assert!(said.contains(expected), "{said}");
    assert!(
        said.contains("fix: take Mesa from an image of Debian, Fedora or CentOS Stream"),
        "{said}"
    );
}

/// What check finds of the mounts, scan finds of those that it suggests.
#[test]
fn a_file_that_qemu_may_not_read_is_found_by_scan_too() {
    use std::os::unix::fs::PermissionsExt;
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    let path = node.at("/usr/lib/x86_64-linux-gnu/libdrm.so.2");
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    let said = stdout(&mut scan(&node, &image), 1);
    assert!(said.contains("libdrm.so.2 has mode 0640"), "{said}");
    // Copies are readable by all.
    stdout(scan(&node, &image).args(["--layout", "staged"]), 0);
}

#[test]
fn a_mount_point_that_cannot_be_made_is_a_finding_of_scan() {
    let (node, image) = (node(Arch::X86_64, true), image(Arch::X86_64, true, 36));
    image.file("/usr/share/drirc.d", "a file");
    let said = stdout(&mut scan(&node, &image), 1);
    assert!(
        said.contains("/usr/share/drirc.d is a file in the image"),
        "{said}"
    );
    let said = stdout(scan(&node, &image).args(["--layout", "staged"]), 1);
    assert!(
        said.contains("the image has a file there, and a directory cannot be mounted over it"),
        "{said}"
    );
}
