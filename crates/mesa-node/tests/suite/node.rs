//! `install`, `status` and `remove`, as the program that they are: whole, idempotent, and atomic however interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::RngCore as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use staging::{FLAT_MANIFEST, Manifest, StagedFile, hex};
use tempfile::TempDir;

use crate::common::{program, say};

const LAYOUT: &str = "3f2a9c0d1e4b";
const OTHER: &str = "b559a37504aa";
/// What a launcher's image brings, small.
const FILES: [&str; 4] = ["libEGL.so.1", "libgallium.so", "50_mesa.json", "mesa-node"];

/// The root of a flat image whose files say `version`.
fn image(layout: &str, version: &str) -> TempDir {
    let root = directory();
    let files = FILES.map(|name| {
        let bytes = format!("{name} {version}\n").repeat(50);
        fs::write(root.path().join(name), &bytes).unwrap();
        StagedFile {
            path: name.to_owned(),
            size: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
            source: format!("/usr/lib64/{name}"),
            build_id: None,
            executable: name == "mesa-node",
        }
    });
    let manifest = Manifest {
        layout: Some(layout.to_owned()),
        mesa: Some(version.to_owned()),
        ..Manifest::of(files, "x86_64")
    };
    fs::write(root.path().join(FLAT_MANIFEST), manifest.text()).unwrap();
    root
}

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// A node with Node Feature Discovery.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        let node = Node(directory());
        fs::create_dir(node.features()).unwrap();
        // A machine whose processes may not be looked at could remove nothing.
        fs::create_dir_all(node.proc().join("1")).unwrap();
        node.mounted("/");
        node
    }

    fn to(&self) -> PathBuf {
        self.0.path().join("mesa")
    }

    fn features(&self) -> PathBuf {
        self.0.path().join("features.d")
    }

    /// The node's proc file system, in which one process has one mount.
    fn proc(&self) -> PathBuf {
        self.0.path().join("proc")
    }

    fn mounted(&self, root: &str) {
        let line = format!("36 35 98:0 {root} /usr/lib ro - ext4 /dev/sda ro\n");
        fs::write(self.proc().join("1/mountinfo"), line).unwrap();
        fs::write(self.proc().join("1/comm"), "qemu-kvm\n").unwrap();
    }

    fn label(&self, layout: &str) -> PathBuf {
        self.features().join(format!("mesa-injector-{layout}"))
    }

    fn command(&self, command: &str) -> Command {
        let mut program = program();
        program.arg(command).arg("--to").arg(self.to());
        program.arg("--label").arg(self.features());
        program.env_remove("CLICOLOR_FORCE");
        program
    }

    fn install(&self, image: &TempDir) -> Command {
        let mut install = self.command("install");
        install.arg("--root").arg(image.path());
        install.arg("--proc").arg(self.proc());
        install
    }

    fn once(&self, image: &TempDir) -> Output {
        self.install(image).arg("--once").output().unwrap()
    }

    fn once_well(&self, image: &TempDir) {
        let output = self.once(image);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }

    fn remove(&self) -> Output {
        let mut remove = self.command("remove");
        remove.arg("--proc").arg(self.proc()).output().unwrap()
    }

    fn status(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command("status").args(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    }

    /// What the files of the current generation of a layout say, each whole; none where there is none.
    fn version(&self, layout: &str) -> Option<String> {
        let current = self.to().join(layout).join("current");
        current.exists().then(|| whole(&current))
    }

    fn generations(&self, layout: &str) -> Vec<String> {
        let Ok(names) = fs::read_dir(self.to().join(layout).join("generations")) else {
            return Vec::new();
        };
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// That a generation is what its manifest says, for root to write and all to read. Returns its version.
fn whole(generation: &Path) -> String {
    let manifest = fs::read(generation.join(FLAT_MANIFEST)).unwrap();
    let manifest = Manifest::parse(&manifest).unwrap();
    for file in &manifest.files {
        let path = generation.join(&file.path);
        let sum = hex(&Sha256::digest(fs::read(&path).unwrap()));
        assert_eq!(sum, file.sha256, "{}", path.display());
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if file.executable { 0o755 } else { 0o644 });
    }
    let link = fs::read_link(generation);
    if let Ok(link) = link {
        assert_eq!(link, Path::new("generations").join(&manifest.id));
    }
    manifest.mesa.unwrap()
}

/// The lines of a label without its expiry.
fn lines(label: &Path) -> Vec<String> {
    let text = fs::read_to_string(label).unwrap();
    let (expiry, rest) = text.split_once('\n').unwrap();
    let expiry = expiry.strip_prefix("# +expiry-time=").unwrap();
    humantime::parse_rfc3339(expiry).unwrap();
    rest.lines().map(str::to_owned).collect()
}

fn expiry(label: &Path) -> SystemTime {
    let text = fs::read_to_string(label).unwrap();
    let line = text.lines().next().unwrap();
    humantime::parse_rfc3339(line.strip_prefix("# +expiry-time=").unwrap()).unwrap()
}

/// Waits until something is so, and says what if it never is.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let late = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < late, "it is never so: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An install that runs; it is killed when the test is over.
struct Running(Child);

impl Running {
    fn start(mut install: Command) -> Self {
        install.stderr(Stdio::piped());
        Running(install.spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Ends it as the kubelet does.
    fn terminate(mut self) -> (Option<i32>, String) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let status = self.0.wait().unwrap();
        let mut said = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_files_are_there_before_the_label_says_so_and_both_stay_after_sigterm() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    let label = node.label(LAYOUT);
    let running = Running::start(node.install(&image));
    until("the label is there", || label.exists());
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.0"));
    assert_eq!(
        lines(&label),
        [
            "mesa-injector.ready=true".to_owned(),
            format!("mesa-injector.layout={LAYOUT}"),
            format!("mesa-injector.layout.{LAYOUT}=true"),
            "mesa-injector.mesa=25.0".to_owned()
        ]
    );
    let (status, text) = node.status(&[]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("whole; the label says that the node is ready"));
    let (status, said) = running.terminate();
    assert_eq!(status, Some(0), "{said}");
    for line in said.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.0"));
    assert!(label.exists());

    // A restart writes nothing but the label.
    let file = node.to().join(LAYOUT).join("current/libEGL.so.1");
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    node.once_well(&image);
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
}

#[test]
fn the_label_may_be_one_file() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    let file = node.0.path().join("labels");
    let command = |name: &str| {
        let mut command = program();
        command.arg(name).arg("--to").arg(node.to());
        command.arg("--label").arg(&file);
        command
    };
    let mut install = command("install");
    install.arg("--root").arg(image.path()).arg("--once");
    assert!(install.status().unwrap().success());
    assert_eq!(lines(&file).first().unwrap(), "mesa-injector.ready=true");
    assert!(command("status").status().unwrap().success());
    let mut remove = command("remove");
    remove.arg("--proc").arg(node.proc());
    assert!(remove.status().unwrap().success());
    assert!(!file.exists() && !node.to().exists());
}

#[test]
fn a_label_is_renewed_and_says_nothing_for_long() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    let mut install = node.install(&image);
    install.args(["--expiry", "8s"]);
    let label = node.label(LAYOUT);
    // As a clock has written it that was set back since.
    fs::write(
        &label,
        "# +expiry-time=2199-01-01T00:00:00Z\nmesa-injector.ready=true\n",
    )
    .unwrap();
    let _running = Running::start(install);
    until("the label is its own", || lines(&label).len() > 1);
    let first = expiry(&label);
    assert!(first < SystemTime::now() + Duration::from_secs(9));
    until("it is renewed", || expiry(&label) > first);
    // Three renewals may fail before it expires.
    let left = expiry(&label).duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(5), "{left:?}");
}

#[test]
fn what_is_damaged_is_repaired_at_the_start_and_while_it_runs() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    node.once_well(&image);
    let file = node.to().join(LAYOUT).join("current/libgallium.so");
    let damage = || fs::write(&file, "other bytes").unwrap();
    let is_whole = || fs::metadata(&file).is_ok_and(|it| it.len() > 100);
    damage();
    let (status, text) = node.status(&[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("damaged (libgallium.so: 11 bytes instead of"),
        "{text}"
    );
    node.once_well(&image);
    assert!(is_whole());

    let mut install = node.install(&image);
    install.args(["--expiry", "2s"]);
    let running = Running::start(install);
    let label = node.label(LAYOUT);
    let before = expiry(&label);
    until("it is looked at", || expiry(&label) != before);
    damage();
    until("it is repaired", is_whole);
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.0"));
    // Bytes of the same number, too, which only a checksum tells.
    let bytes = fs::read_to_string(&file).unwrap().to_uppercase();
    fs::write(&file, bytes).unwrap();
    assert_eq!(node.status(&["--checksums"]).0, Some(1));
    until("it is repaired", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains("libgallium.so 25.0"))
    });
    // And what QEMU's user may not read.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    until("all may read it", || {
        fs::metadata(&file).is_ok_and(|it| it.permissions().mode() & 0o777 == 0o644)
    });
    drop(running);
}

#[test]
fn where_it_cannot_be_repaired_the_label_says_that_the_node_is_not_ready() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    node.once_well(&image);
    let damaged = "damaged";
    fs::write(node.to().join(LAYOUT).join("current/libEGL.so.1"), damaged).unwrap();
    fs::write(image.path().join("libEGL.so.1"), damaged).unwrap();
    let output = node.once(&image);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("/usr/lib64/libEGL.so.1: changed"),
        "{}",
        said(&output)
    );
    let label = fs::read_to_string(node.label(LAYOUT)).unwrap();
    assert_eq!(label, "mesa-injector.ready=false\n");
    assert_eq!(node.status(&[]).0, Some(1));
}

#[test]
fn a_failed_update_takes_nothing_from_what_is_current_and_whole() {
    let (node, old) = (Node::new(), image(LAYOUT, "25.0"));
    node.once_well(&old);
    let new = image(LAYOUT, "25.1");
    fs::write(new.path().join("libEGL.so.1"), "damaged").unwrap();
    assert_eq!(node.once(&new).status.code(), Some(2));
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.0"));
    assert_eq!(
        lines(&node.label(LAYOUT)).first().unwrap(),
        "mesa-injector.ready=true"
    );
}

#[test]
fn an_update_leaves_what_a_container_has_mounted_until_it_lets_go() {
    let (node, old, new) = (Node::new(), image(LAYOUT, "25.0"), image(LAYOUT, "25.1"));
    node.once_well(&old);
    let id = node.generations(LAYOUT).remove(0);
    node.mounted(&format!("/var/lib/mesa/{LAYOUT}/generations/{id}"));
    let mut install = node.install(&new);
    install.args(["--expiry", "1s"]);
    let running = Running::start(install);
    until("the new one is current", || {
        node.version(LAYOUT).as_deref() == Some("25.1")
    });
    thread::sleep(Duration::from_millis(600));
    assert_eq!(node.generations(LAYOUT).len(), 2);
    node.mounted("/");
    until("the old one goes", || node.generations(LAYOUT).len() == 1);
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.1"));
    drop(running);
}

/// During an upgrade of KubeVirt there are two launchers, and two DaemonSets.
#[test]
fn two_layouts_do_not_meet_and_the_one_that_nobody_looks_after_goes() {
    let (node, one, two) = (Node::new(), image(LAYOUT, "25.0"), image(OTHER, "25.0"));
    let mut install = node.install(&one);
    install.args(["--expiry", "1h"]);
    let first = Running::start(install);
    until("the first is there", || node.label(LAYOUT).exists());
    let short = |image: &TempDir| {
        let mut install = node.install(image);
        install.args(["--expiry", "1s"]);
        Running::start(install)
    };
    let second = short(&two);
    until("the second is there", || node.label(OTHER).exists());
    // As if it had been long ago: but it is looked after.
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    let lock = fs::File::options()
        .write(true)
        .open(node.to().join(LAYOUT).join(".lock"));
    let lock = lock.unwrap();
    lock.set_modified(long_ago).unwrap();
    thread::sleep(Duration::from_millis(600));
    assert!(node.label(LAYOUT).exists() && node.version(LAYOUT).is_some());

    drop(first);
    lock.set_modified(long_ago).unwrap();
    until("the first goes", || !node.to().join(LAYOUT).exists());
    assert!(!node.label(LAYOUT).exists() && node.label(OTHER).exists());
    drop(second);

    // A clock that was set back: what is of the future is not old.
    node.once_well(&one);
    let lock = fs::File::options()
        .write(true)
        .open(node.to().join(LAYOUT).join(".lock"));
    let future = SystemTime::now() + Duration::from_secs(7200);
    lock.unwrap().set_modified(future).unwrap();
    node.once_well(&two);
    assert!(node.version(LAYOUT).is_some());
}

#[test]
fn two_at_once_do_not_meet() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    let start = |_| {
        let mut install = node.install(&image);
        install.arg("--once").stderr(Stdio::piped());
        install.spawn().unwrap()
    };
    let all: Vec<Child> = (0..8).map(start).collect();
    for child in all {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.0"));
    assert_eq!(node.generations(LAYOUT).len(), 1);

    let running = Running::start(node.install(&image));
    until("it holds the lock", || {
        let output = node.remove();
        output.status.code() == Some(1) && said(&output).contains("delete its DaemonSet first")
    });
    let output = node.once(&image);
    assert_eq!(output.status.code(), Some(2));
    let expected = "another mesa-scan stages there";
    assert!(said(&output).contains(expected), "{}", said(&output));
    drop(running);
}

#[test]
fn remove_takes_the_label_first_and_says_what_stays() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    node.once_well(&image);
    let id = node.generations(LAYOUT).remove(0);
    node.mounted(&format!("/var/lib/mesa/{LAYOUT}/generations/{id}"));
    fs::write(node.features().join("somebody-elses"), "a=b\n").unwrap();
    let output = node.remove();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let expected =
        format!("generation {id} of layout {LAYOUT} stays: process 1 (qemu-kvm) has it mounted");
    assert!(said(&output).contains(&expected), "{}", said(&output));
    assert!(!node.label(LAYOUT).exists());
    assert_eq!(node.version(LAYOUT), None);
    assert_eq!(node.generations(LAYOUT), [id]);
    let (status, text) = node.status(&[]);
    assert_eq!(status, Some(1));
    assert!(text.contains("not current any more"), "{text}");

    node.mounted("/");
    let output = node.remove();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!node.to().exists());
    assert!(node.features().join("somebody-elses").exists());
    // Once more there is nothing to do.
    let output = node.remove();
    assert_eq!(
        (output.status.code(), said(&output).as_str()),
        (Some(0), "")
    );
}

#[test]
fn a_removal_that_stays_ends_at_sigterm_and_only_then() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    node.once_well(&image);
    let mut remove = node.command("remove");
    remove.arg("--stay").arg("--proc").arg(node.proc());
    let running = Running::start(remove);
    until("all is gone", || !node.to().exists());
    thread::sleep(Duration::from_millis(300));
    let (status, said) = running.terminate();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("is removed"), "{said}");
}

#[test]
fn remove_takes_a_label_whose_files_are_gone() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    node.once_well(&image);
    fs::remove_dir_all(node.to()).unwrap();
    assert_eq!(node.remove().status.code(), Some(0));
    assert!(!node.label(LAYOUT).exists());
}

#[test]
fn what_cannot_tell_what_is_mounted_removes_nothing() {
    let (node, old, new) = (Node::new(), image(LAYOUT, "25.0"), image(LAYOUT, "25.1"));
    node.once_well(&old);
    fs::create_dir_all(node.proc().join("1/ns")).unwrap();
    std::os::unix::fs::symlink("pid:[1]", node.proc().join("1/ns/pid")).unwrap();
    let output = node.once(&new);
    // The new one is there all the same.
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("the processes of one container alone"));
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.1"));
    assert_eq!(node.generations(LAYOUT).len(), 2);
    let output = node.remove();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("fix: "), "{}", said(&output));
    assert_eq!(node.generations(LAYOUT).len(), 2);
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.1"));
}

#[rstest]
#[case::nothing(&[])]
#[case::expired(&["--label"])]
fn status_is_no_where_nothing_holds(#[case] label: &[&str]) {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    assert_eq!(
        node.status(&[]),
        (Some(1), "there is nothing of an image\n".to_owned())
    );
    if label.is_empty() {
        return;
    }
    node.once_well(&image);
    let text = fs::read_to_string(node.label(LAYOUT)).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    fs::write(
        node.label(LAYOUT),
        format!("# +expiry-time=2020-01-01T00:00:00Z\n{rest}"),
    )
    .unwrap();
    let (status, text) = node.status(&["--output", "json"]);
    assert_eq!(status, Some(1));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["ready"], false);
    assert_eq!(json["layouts"][0]["layout"], LAYOUT);
    assert_eq!(json["layouts"][0]["label"], "expired");
    assert_eq!(json["layouts"][0]["problem"], Value::Null);
    fs::remove_file(node.label(LAYOUT)).unwrap();
    assert!(node.status(&[]).1.contains("there is no label"));
}

/// Whoever writes an image is trusted with what runs in the launcher, and still with nothing of the node.
#[rstest]
#[case::no_image("", "run this in an image")]
#[case::not_json("{", "no list of an image's files")]
#[case::climbs(r#"["../x"]"#, "no path below a generation")]
#[case::absolute(r#"["/etc/passwd"]"#, "no path below a generation")]
#[case::twice(r#"["a", "a"]"#, "is there twice")]
#[case::no_layout("null", "does not say its layout")]
#[case::a_layout_that_climbs("\"../x\"", "is no layout")]
fn what_is_no_image_is_not_installed(#[case] what: &str, #[case] expected: &str) {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    let path = image.path().join(FLAT_MANIFEST);
    let mut manifest = Manifest::parse(&fs::read(&path).unwrap()).unwrap();
    match serde_json::from_str(what) {
        Ok(Value::Array(paths)) => {
            let file = manifest.files.remove(0);
            let files = paths.iter().map(|path| StagedFile {
                path: path.as_str().unwrap().to_owned(),
                ..file.clone()
            });
            manifest = Manifest {
                layout: manifest.layout,
                ..Manifest::of(files, "x86_64")
            };
            fs::write(&path, manifest.text()).unwrap();
        }
        Ok(layout) => {
            manifest.layout = layout.as_str().map(str::to_owned);
            fs::write(&path, manifest.text()).unwrap();
        }
        Err(_) if what.is_empty() => fs::remove_file(&path).unwrap(),
        Err(_) => fs::write(&path, what).unwrap(),
    }
    let output = node.once(&image);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains(expected), "{}", said(&output));
    assert!(!node.to().exists() && fs::read_dir(node.features()).unwrap().next().is_none());
}

/// Whenever it is killed: what is current is whole, and the label says no more than that.
#[test]
fn killed_at_any_point_nothing_is_half() {
    let (node, old, new) = (Node::new(), image(LAYOUT, "25.0"), image(LAYOUT, "25.1"));
    let began = Instant::now();
    node.once_well(&old);
    let takes = began.elapsed().as_micros() as u64 + 1000;
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for round in 0..100 {
        let mut command = match round % 3 {
            0 => node.install(&new),
            1 => node.install(&old),
            _ => node.command("remove"),
        };
        match round % 3 {
            2 => command.arg("--proc").arg(node.proc()),
            _ => command.arg("--once"),
        };
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_micros(random.next_u64() % takes));
        let _ = child.kill();
        child.wait().unwrap();
        let version = node.version(LAYOUT);
        let label = node.label(LAYOUT);
        let is_ready = label.exists() && lines(&label)[0] == "mesa-injector.ready=true";
        assert!(!is_ready || version.is_some(), "round {round}");
        *found.entry(format!("{version:?}")).or_default() += 1;
    }
    say(&format!("killed 100 times, current was then: {found:?}"));
    assert!(found.len() > 1, "{found:?}");
    node.once_well(&new);
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.1"));
    assert_eq!(node.generations(LAYOUT).len(), 1);
    assert_eq!(node.remove().status.code(), Some(0));
    assert!(!node.to().exists());
}

/// Runs a script in namespaces of its own: those of a node, which sees the processes of its containers and its own mounts.
/// `$1` is the directory of a node, `$2` and `$3` are images and `$4` is the program.
fn on_a_node(node: &Node, images: [&TempDir; 2], script: &str) -> Option<Output> {
    let script = format!(
        "to=$1/mesa; old=$2; new=$3; program=$4; mkdir -p $to $1/nodeproc; mount -t proc proc $1/nodeproc
         # A container of the node.
         contained() {{ unshare --pid --fork --kill-child --mount-proc \"$@\"; }}
         install() {{ contained $program install --to $to --label $1/features.d --proc $1/nodeproc --root $2 --once; }}
         {script}"
    );
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    unshare
        .args(["sh", "-euc", &script, "sh"])
        .arg(node.0.path());
    for image in images {
        unshare.arg(image.path());
    }
    unshare.arg(program().get_program());
    let output = unshare.output().unwrap();
    if said(&output).starts_with("unshare:") || said(&output).starts_with("mount:") {
        say(&format!("left out: no namespaces here: {}", said(&output)));
        return None;
    }
    assert!(output.status.success(), "{}", said(&output));
    Some(output)
}

/// Real mounts, seen through the node's proc file system by a program in a container of its own.
#[test]
fn a_container_that_has_the_old_generation_mounted_keeps_it() {
    let (node, old, new) = (Node::new(), image(LAYOUT, "25.0"), image(LAYOUT, "25.1"));
    let script = format!(
        "install $1 $old; mkdir $1/mnt
         unshare --mount sh -euc 'mount --bind \"$1\" \"$2\"; exec sleep 1000' sh $to/{LAYOUT}/current $1/mnt & holder=$!
         until grep -q {LAYOUT}/generations /proc/$holder/mountinfo; do sleep 0.05; done
         install $1 $new; ls $to/{LAYOUT}/generations | wc -l
         kill $holder; wait $holder || true
         install $1 $new; ls $to/{LAYOUT}/generations | wc -l"
    );
    let Some(output) = on_a_node(&node, [&old, &new], &script) else {
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2\n1\n");
    assert_eq!(node.version(LAYOUT).as_deref(), Some("25.1"));
}

#[test]
fn a_full_disk_leaves_the_old_generation_and_its_label() {
    let (node, old, new) = (Node::new(), image(LAYOUT, "25.0"), image(LAYOUT, "25.1"));
    let script = "mount -t tmpfs -o size=80k,mode=755 none $to; install $1 $old
         before=$(cat $1/features.d/*); dd if=/dev/zero of=$to/full bs=1k count=60 2>/dev/null || true
         status=0; install $1 $new || status=$?; [ $status = 2 ]
         [ \"$before\" = \"$(cat $1/features.d/*)\" ]; cat $to/*/current/libEGL.so.1 | head -n 1";
    let Some(output) = on_a_node(&node, [&old, &new], script) else {
        return;
    };
    assert!(
        said(&output).contains("no space left on the device"),
        "{}",
        said(&output)
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "libEGL.so.1 25.0\n"
    );
}

#[test]
fn a_read_only_target_gets_no_label() {
    let (node, old, new) = (Node::new(), image(LAYOUT, "25.0"), image(LAYOUT, "25.1"));
    let script = "mount -t tmpfs -o mode=755,ro none $to
         status=0; install $1 $old || status=$?; [ $status = 2 ]; ls $1/features.d";
    let Some(output) = on_a_node(&node, [&old, &new], script) else {
        return;
    };
    assert!(
        said(&output).contains("Read-only file system"),
        "{}",
        said(&output)
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

/// At most a second of processor time an hour, and 10 MB: an hour has four renewals with the default expiry.
#[test]
fn it_costs_next_to_nothing_while_it_waits() {
    let (node, image) = (Node::new(), image(LAYOUT, "25.0"));
    let mut install = node.install(&image);
    install.args(["--expiry", "1s"]);
    let label = node.label(LAYOUT);
    let running = Running::start(install);
    until("the label is there", || label.exists());
    let pid = running.pid().as_raw_nonzero();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    thread::sleep(Duration::from_secs(5));
    // Twenty renewals, and a tick is a hundredth of a second.
    let seconds = (ticks() - before) as f64 / 100.0;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = memory.trim().trim_end_matches(" kB").parse().unwrap();
    say(&format!(
        "20 renewals take {seconds} s of processor time, and {kilobytes} kB of memory"
    ));
    assert!(seconds / 20.0 * 4.0 < 1.0, "{seconds} s for 20 renewals");
    // The program of the tests is not the small one of the image.
    let limit = if std::env::var_os("MESA_NODE").is_some() {
        10_000
    } else {
        20_000
    };
    assert!(kilobytes < limit, "{kilobytes} kB");
}
