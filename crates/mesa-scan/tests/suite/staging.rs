//! `mesa-scan stage`, as the program that it is: complete, idempotent, and atomic however it is interrupted.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mesa_scan::commands::scan::scan;
use mesa_scan::gl::{Layout, Originals};
use mesa_scan::loader::Arch;
use mesa_scan::tree::TreeError;
use rstest::rstest;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::debian;
use crate::elf::library as library_of;
use crate::fixture::{Root, image, node, sources};

/// A node, an image, and a directory to stage to.
struct Stage {
    node: Root,
    image: Root,
    area: Root,
}

impl Stage {
    fn new() -> Self {
        Stage {
            node: node(Arch::X86_64, true),
            image: image(Arch::X86_64, true, 36),
            area: Root::new(),
        }
    }

    fn to(&self) -> PathBuf {
        self.area.at("/mesa")
    }

    fn command(&self) -> Command {
        self.command_to(&self.to())
    }

    fn command_to(&self, to: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
        command.arg("stage");
        command.arg("--root").arg(self.node.path());
        command.arg("--image").arg(self.image.path());
        command.arg("--to").arg(to);
        command.env_remove("CLICOLOR_FORCE");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    fn run_well(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        output
    }

    fn fails(&self, arguments: &[&str], expected: &str) {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }

    fn current(&self) -> Option<String> {
        current(&self.to())
    }

    /// Changes what will be staged.
    fn update(&self, text: &str) {
        self.node
            .file("/usr/share/drirc.d/00-mesa-defaults.conf", text);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The id of the current generation.
fn current(area: &Path) -> Option<String> {
    let link = fs::read_link(area.join("current")).ok()?;
    let (directory, id) = link.to_str().unwrap().split_once('/').unwrap();
    assert_eq!(directory, "generations");
    Some(id.to_owned())
}

/// That a generation has exactly what its manifest says, to the byte, for root to write and all to read.
fn assert_whole(generation: &Path) {
    let manifest = fs::read(generation.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let mut expected = BTreeSet::from(["manifest.json".to_owned()]);
    for file in manifest["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let bytes = fs::read(generation.join(path)).unwrap();
        let sum: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(file["sha256"].as_str().unwrap(), sum, "{path}");
        expected.insert(path.to_owned());
    }
    let mut found = BTreeSet::new();
    let mut directories = vec![generation.to_owned()];
    while let Some(directory) = directories.pop() {
        let metadata = fs::metadata(&directory).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o755, "{}", directory.display());
        assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                assert_eq!(
                    fs::metadata(&path).unwrap().mode() & 0o777,
                    0o644,
                    "{}",
                    path.display()
                );
                found.insert(
                    path.strip_prefix(generation)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    assert_eq!(found, expected);
    assert_eq!(
        generation.file_name().unwrap().to_str(),
        manifest["id"].as_str()
    );
}

/// The generations that are there, each whole.
fn generations(area: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(area.join("generations")) else {
        return BTreeSet::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = names.filter(|name| !name.starts_with('.')).collect();
    for name in &names {
        assert_whole(&area.join("generations").join(name));
    }
    names
}

/// All of a tree with everything that a change would change.
fn snapshot(directory: &Path) -> BTreeSet<(PathBuf, u64, i64, i64)> {
    let mut all = BTreeSet::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            all.insert((
                path.clone(),
                metadata.ino(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            ));
            if metadata.is_dir() {
                directories.push(path);
            }
        }
    }
    all
}

#[test]
fn a_generation_is_whole_and_its_settings_pass_the_check() {
    let stage = Stage::new();
    // Whatever the umask.
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    shell
        .arg(stage.command().get_program())
        .args(stage.command().get_args());
    let output = shell.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let id = stage.current().unwrap();
    assert_eq!(generations(&stage.to()), BTreeSet::from([id.clone()]));
    let generation = stage.to().join("generations").join(id);
    for file in [
        "lib/libEGL.so.1",
        "lib/libgallium-1.2.3.so",
        "dri/swrast_dri.so",
        "gbm/dri_gbm.so",
        "egl_vendor.d/50_mesa.json",
        "drirc.d/00-mesa-defaults.conf",
    ] {
        assert!(generation.join(file).is_file(), "{file}");
    }

    let settings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(settings["hostPaths"].as_array().unwrap().len(), 5);

    // Where it is below the node's root, the settings say what it is called there.
    let to = stage.node.at("/var/lib/mesa");
    let output = stage.command_to(&to).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let settings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        settings["hostPaths"][0]["path"],
        "/var/lib/mesa/current/dri"
    );
    let file = stage.area.at("/settings.json");
    fs::write(&file, output.stdout).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_mesa-scan"))
        .args(["check".as_ref(), "--settings".as_ref(), file.as_os_str()])
        .args([
            "--root".as_ref(),
            stage.node.path().as_os_str(),
            "--image".as_ref(),
            stage.image.path().as_os_str(),
        ])
        .output()
        .unwrap();
    assert_eq!(
        check.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
}

#[test]
fn running_it_again_changes_nothing() {
    let stage = Stage::new();
    let nfd = stage.area.at("/nfd");
    let arguments = ["--nfd", nfd.to_str().unwrap(), "--keep", "0"];
    stage.run_well(&arguments);
    let before = snapshot(stage.area.path());
    let output = stage.run_well(&arguments);
    assert!(said(&output).contains("is current already"));
    assert_eq!(snapshot(stage.area.path()), before);
}

#[test]
fn an_update_of_the_node_makes_a_new_generation_and_going_back_takes_the_old() {
    let stage = Stage::new();
    stage.run_well(&[]);
    let first = stage.current().unwrap();
    stage.update("<driconf>new</driconf>");
    stage.run_well(&[]);
    let second = stage.current().unwrap();
    assert_ne!(first, second);
    assert_eq!(generations(&stage.to()).len(), 2);
    stage.update("<driconf/>");
    stage.run_well(&[]);
    assert_eq!(stage.current().unwrap(), first);
    assert_eq!(generations(&stage.to()).len(), 2);
}

#[test]
fn a_damaged_generation_is_replaced() {
    let stage = Stage::new();
    stage.run_well(&[]);
    let library = stage.to().join("current/lib/libEGL.so.1");
    fs::write(&library, "damaged").unwrap();
    stage.run_well(&[]);
    assert_eq!(
        generations(&stage.to()),
        BTreeSet::from([stage.current().unwrap()])
    );
    fs::remove_file(&library).unwrap();
    stage.run_well(&[]);
    generations(&stage.to());
}

#[test]
fn killed_at_any_point_it_leaves_a_whole_generation_in_use() {
    const STEPS: u32 = 50;
    const MANY: u32 = 1000;
    let stage = Stage::new();
    // Enough bytes that there is time to be killed while they are copied.
    for number in 0..8 {
        let path = format!("/usr/share/drirc.d/{number:02}-large.conf");
        stage.node.file(&path, vec![number; 40_000]);
    }
    let start = Instant::now();
    stage.run_well(&[]);
    let whole = start.elapsed();
    let mut before = stage.current().unwrap();
    let (mut runs, mut interrupted, mut flipped) = (0, 0, 0);
    // Later and later, and again, until many were killed and several were done before they could be.
    while (interrupted <= STEPS / 5 || runs - interrupted < 5) && runs < MANY {
        stage.update(&format!("<driconf>{runs}</driconf>"));
        let mut command = stage.command();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // A later run may take longer than the first one.
        thread::sleep(whole * 3 * (runs % STEPS) / STEPS);
        child.kill().unwrap();
        runs += 1;
        interrupted += u32::from(!child.wait().unwrap().success());
        let now = stage.current().unwrap();
        let there = generations(&stage.to());
        assert!(there.contains(&now), "current leads nowhere");
        assert!(there.contains(&before), "the generation in use is gone");
        flipped += u32::from(now != before);
        before = now;
    }
    assert!(runs < MANY, "{interrupted} of {runs} interrupted");
    eprintln!("{interrupted} of {runs} runs were killed, {flipped} had a new generation in use");
    // And the next run cleans up and succeeds.
    stage.run_well(&["--keep", "0"]);
    let names = fs::read_dir(stage.to().join("generations"))
        .unwrap()
        .count();
    assert_eq!(names, 1);
}

#[test]
fn two_at_once_do_not_meet() {
    let stage = Stage::new();
    stage.run_well(&[]);
    let lock = fs::File::open(stage.to().join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    stage.update("<driconf>new</driconf>");
    let before = snapshot(&stage.to());
    stage.fails(&[], "another mesa-scan stages there");
    assert_eq!(snapshot(&stage.to()), before);
    drop(lock);
    stage.run_well(&[]);
}

#[test]
fn old_generations_go_unless_they_are_kept_or_mounted() {
    let stage = Stage::new();
    let mut ids = Vec::new();
    for number in 0..5 {
        stage.update(&format!("<driconf>{number}</driconf>"));
        stage.run_well(&[]);
        ids.push(stage.current().unwrap());
        thread::sleep(Duration::from_millis(10));
    }
    // A container that runs has the first one mounted.
    let proc = Root::new();
    let line = format!(
        "36 35 98:0 /var/lib/mesa/generations/{}/lib /usr/lib ro - ext4 /dev/sda ro\n",
        ids[0]
    );
    proc.file("/1/mountinfo", "1 1 0:1 / / rw - ext4 /dev/sda rw\n")
        .file("/77/mountinfo", line);
    let arguments = ["--keep", "1", "--proc", proc.path().to_str().unwrap()];
    stage.run_well(&arguments);
    let kept: BTreeSet<String> = [0, 3, 4].map(|index: usize| ids[index].clone()).into();
    assert_eq!(generations(&stage.to()), kept);
    assert_eq!(stage.current().unwrap(), ids[4]);

    proc.file("/77/mountinfo", "");
    let arguments = ["--keep", "0", "--proc", proc.path().to_str().unwrap()];
    stage.run_well(&arguments);
    assert_eq!(generations(&stage.to()), BTreeSet::from([ids[4].clone()]));
    let empty = Root::new();
    stage.fails(
        &["--keep", "0", "--proc", empty.path().to_str().unwrap()],
        "no process 1 there",
    );
}

/// A proc file system, and what process 77 has mounted.
fn proc_with(mounted: &str) -> Root {
    let proc = Root::new();
    let line = |root: &str| format!("36 35 98:0 {root} /usr/lib ro - ext4 /dev/sda ro\n");
    proc.file("/1/mountinfo", line("/"));
    proc.file("/77/mountinfo", line(mounted));
    proc
}

/// Its own processes are all that a container sees, and the generations that others have mounted are not among theirs.
#[rstest]
#[case("pid:[4026531836]", true)]
#[case("pid:[4026532201]", false)]
fn nothing_is_removed_by_the_processes_of_a_container_alone(
    #[case] namespace: &str,
    #[case] is_host: bool,
) {
    let stage = Stage::new();
    stage.run_well(&[]);
    stage.update("<driconf>new</driconf>");
    let proc = proc_with("/");
    proc.link("/1/ns/pid", namespace);
    let arguments = ["--keep", "0", "--proc", proc.path().to_str().unwrap()];
    match is_host {
        true => drop(stage.run_well(&arguments)),
        false => stage.fails(&arguments, "hostPID"),
    }
    let left = if is_host { 1 } else { 2 };
    assert_eq!(generations(&stage.to()).len(), left);
}

/// Another version of mesa-scan writes another manifest; the files stay the very same.
#[test]
fn a_generation_is_its_files_and_not_its_manifest() {
    let stage = Stage::new();
    stage.run_well(&[]);
    let generation = stage
        .to()
        .join("generations")
        .join(stage.current().unwrap());
    let library = generation.join("lib/libEGL.so.1");
    let before = fs::metadata(&library).unwrap().ino();
    fs::write(generation.join("manifest.json"), "{}\n").unwrap();
    let output = stage.run_well(&[]);
    assert!(
        said(&output).contains("is current already"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::metadata(&library).unwrap().ino(), before);
    assert_whole(&generation);
}

#[test]
fn a_damaged_generation_is_put_aside_for_the_containers_that_have_it() {
    let stage = Stage::new();
    stage.run_well(&[]);
    let all = stage.to().join("generations");
    let library = |generation: &str| all.join(generation).join("lib/libEGL.so.1");
    let id = stage.current().unwrap();
    fs::write(library(&id), "damaged").unwrap();
    let before = fs::metadata(library(&id)).unwrap().ino();
    stage.run_well(&[]);
    assert_eq!(stage.current().unwrap(), id);
    assert_whole(&all.join(&id));
    assert_eq!(fs::metadata(library(".damaged-1")).unwrap().ino(), before);

    let keep = |proc: &Root| {
        let arguments = ["--keep", "0", "--proc", proc.path().to_str().unwrap()];
        stage.run_well(&arguments);
        library(".damaged-1").exists()
    };
    assert!(keep(&proc_with("/x/generations/.damaged-1/lib")));
    assert!(!keep(&proc_with("/")));
}

#[test]
fn what_is_no_generation_is_left_alone() {
    let stage = Stage::new();
    stage.run_well(&[]);
    let all = stage.to().join("generations");
    fs::write(all.join("notes"), "of somebody").unwrap();
    fs::create_dir(all.join("backup")).unwrap();
    fs::write(all.join(".old"), "a file").unwrap();
    stage.update("<driconf>new</driconf>");
    let proc = proc_with("/");
    stage.run_well(&["--keep", "0", "--proc", proc.path().to_str().unwrap()]);
    let mut left: Vec<_> = fs::read_dir(&all)
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    left.sort();
    let mut expected: [std::ffi::OsString; 3] = [
        "backup".into(),
        "notes".into(),
        stage.current().unwrap().into(),
    ];
    expected.sort();
    assert_eq!(left, expected);
}

#[test]
fn what_fails_after_the_flip_says_that_the_generation_is_current() {
    let stage = Stage::new();
    let nfd = stage.area.at("/nfd");
    let arguments = [
        "--keep",
        "1",
        "--proc",
        "/nowhere",
        "--nfd",
        nfd.to_str().unwrap(),
    ];
    stage.fails(&arguments, "is current, but not all is done");
    assert!(stage.current().is_some());
    assert!(
        fs::read_to_string(&nfd)
            .unwrap()
            .starts_with("mesa-injector.ready=true\n")
    );
}

/// Who owns a directory above can put another in its place.
#[test]
fn a_directory_below_another_users_is_refused() {
    if !rustix::process::geteuid().is_root() {
        crate::debian::skip("only root can give a directory to another user");
        return;
    }
    let stage = Stage::new();
    let chown = |user: &str| {
        let mut chown = Command::new("chown");
        assert!(
            chown
                .arg(user)
                .arg(stage.area.path())
                .status()
                .unwrap()
                .success()
        );
    };
    chown("1000");
    stage.fails(&[], "belongs to another user");
    chown("0");
    stage.run_well(&[]);
}

#[test]
fn what_will_not_load_is_staged_by_force_only() {
    let stage = Stage {
        image: image(Arch::X86_64, true, 33),
        ..Stage::new()
    };
    let nfd = stage.area.at("/nfd");
    let arguments = ["--nfd", nfd.to_str().unwrap()];
    let output = stage.run(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("needs GLIBC_2.34 of libc.so.6, the image has 2.33"),
        "{}",
        said(&output)
    );
    assert!(output.stdout.is_empty());
    assert_eq!(stage.current(), None);
    assert_eq!(
        fs::read_to_string(&nfd).unwrap(),
        "mesa-injector.ready=false\n"
    );

    let output = stage.run(&["--nfd", nfd.to_str().unwrap(), "--force"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stage.current().is_some());
    assert!(
        fs::read_to_string(&nfd)
            .unwrap()
            .starts_with("mesa-injector.ready=false\n")
    );
}

#[test]
fn the_labels_say_what_is_staged() {
    let stage = Stage::new();
    let driver = "/usr/lib/x86_64-linux-gnu/dri/swrast_dri.so";
    let mut bytes = fs::read(stage.node.at(driver)).unwrap();
    bytes.extend(b"\0Mesa 24.0.1+weird~1\0");
    stage.node.file(driver, bytes);
    let nfd = stage.area.at("/features.d/mesa");
    fs::create_dir(nfd.parent().unwrap()).unwrap();
    let output = stage.run_well(&["--nfd", nfd.to_str().unwrap()]);
    let settings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let selector = |name: &str| {
        let label = format!("feature.node.kubernetes.io/mesa-injector.{name}");
        settings["nodeSelector"][label].as_str().unwrap().to_owned()
    };
    assert_eq!(selector("ready"), "true");
    let layout = selector("layout");
    assert_eq!(layout.len(), 12);
    assert_eq!(
        fs::read_to_string(&nfd).unwrap(),
        format!(
            "mesa-injector.ready=true\nmesa-injector.layout={layout}\nmesa-injector.mesa=24.0.1_weird_1\nmesa-injector.glibc=2.34\n"
        )
    );
    assert_eq!(
        fs::metadata(&nfd).unwrap().permissions().mode() & 0o777,
        0o644
    );
    assert_eq!(fs::read_dir(nfd.parent().unwrap()).unwrap().count(), 1);
}

/// A node with another Mesa, or a launcher with other places, has other mounts.
#[test]
fn the_layout_tells_nodes_apart_that_have_other_mounts() {
    let layout = |stage: &Stage| {
        let nfd = stage.area.at("/nfd");
        stage.run_well(&["--nfd", nfd.to_str().unwrap()]);
        let text = fs::read_to_string(nfd).unwrap();
        let (_, rest) = text.split_once("layout=").unwrap();
        rest.lines().next().unwrap().to_owned()
    };
    let stage = Stage::new();
    let first = layout(&stage);
    assert_eq!(layout(&Stage::new()), first);
    stage.update("<driconf>an update changes no layout</driconf>");
    assert_eq!(layout(&stage), first);
    let older = Stage::new();
    fs::remove_dir_all(older.node.at("/usr/lib/x86_64-linux-gnu/gbm")).unwrap();
    assert_ne!(layout(&older), first);
    let other = Stage {
        image: image(Arch::X86_64, false, 36),
        ..Stage::new()
    };
    assert_ne!(layout(&other), first);
    // The policy for all nodes selects the same.
    let mut scan = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    scan.arg("scan")
        .arg("--root")
        .arg(stage.node.path())
        .arg("--image")
        .arg(stage.image.path());
    let output = scan
        .args(["--layout", "staged", "-o", "policy"])
        .output()
        .unwrap();
    let policy: Value = serde_norway::from_slice(&output.stdout).unwrap();
    let selector = &policy["spec"]["settings"]["nodeSelector"];
    assert_eq!(
        selector["feature.node.kubernetes.io/mesa-injector.layout"],
        first
    );
}

#[test]
fn a_label_can_expire() {
    let stage = Stage::new();
    let nfd = stage.area.at("/nfd");
    stage.run_well(&["--nfd", nfd.to_str().unwrap(), "--label-expiry", "1day"]);
    let text = fs::read_to_string(&nfd).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let until = first.strip_prefix("# +expiry-time=").unwrap();
    assert!(
        until.ends_with('Z') && until.len() == "2026-11-28T00:00:00Z".len(),
        "{until}"
    );
    assert!(rest.starts_with("mesa-injector.ready=true\n"), "{rest}");
    stage.fails(&["--label-expiry", "1day"], "--nfd");
    stage.fails(
        &["--nfd", nfd.to_str().unwrap(), "--label-expiry", "soon"],
        "soon",
    );
}

/// An update of the node that does not load: as long as the old generation does, the node is ready; with an image in which it does
/// not, or where nothing can be told, it is not.
#[test]
fn the_label_is_withdrawn_when_the_current_generation_does_not_load() {
    let stage = Stage::new();
    let nfd = stage.area.at("/nfd");
    let arguments = ["--nfd", nfd.to_str().unwrap()];
    stage.run_well(&arguments);
    let is_ready = || fs::read_to_string(&nfd).unwrap().contains("ready=true\n");
    let library = "/usr/lib/x86_64-linux-gnu/libdrm.so.2";
    let newer = library_of("libdrm.so.2").requires("libc.so.6", "GLIBC_2.99");
    stage.node.library(library, &newer);
    assert_eq!(stage.run(&arguments).status.code(), Some(1));
    assert!(is_ready());
    let old = image(Arch::X86_64, true, 33);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
    command
        .arg("stage")
        .arg("--root")
        .arg(stage.node.path())
        .arg("--image")
        .arg(old.path());
    let output = command
        .arg("--to")
        .arg(stage.to())
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!is_ready());

    stage.node.library(library, &library_of("libdrm.so.2"));
    stage.run_well(&arguments);
    assert!(is_ready());
    stage.node.file("/etc/ld.so.conf", "include ld.so.conf\n");
    assert_eq!(stage.run(&arguments).status.code(), Some(2));
    assert!(!is_ready());
}

/// A package manager writes a new file of the same name; an editor may write into the old one.
#[rstest]
#[case::another_file_of_the_name(true)]
#[case::other_bytes_of_the_size(false)]
fn what_changes_after_it_was_judged_is_not_staged(#[case] is_another_file: bool) {
    let stage = Stage::new();
    let driconf = "/usr/share/drirc.d/00-mesa-defaults.conf";
    let sources = sources(stage.node.path(), stage.image.path()).unwrap();
    let scan = scan(&sources, Layout::Staged, "/mesa/current").unwrap();
    let node = sources.node().unwrap();
    let read = || {
        Originals::read(
            node.tree(),
            &scan.plan.files,
            None,
            (Arch::X86_64, None),
            &|_| {},
        )
    };
    let id = read().unwrap().manifest.id;
    assert_eq!(read().unwrap().manifest.id, id);

    let file = stage.node.at(driconf);
    let other = fs::read_to_string(&file).unwrap().to_uppercase();
    if is_another_file {
        fs::write(stage.node.at("/new"), other).unwrap();
        fs::rename(stage.node.at("/new"), &file).unwrap();
    } else {
        fs::write(&file, other).unwrap();
    }
    let error = read().err().expect("it is read all the same");
    assert!(
        matches!(&error, TreeError::Invalid { path, .. } if path == driconf),
        "{error}"
    );
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let stage = Stage::new();
    fs::create_dir(stage.to()).unwrap();
    fs::set_permissions(stage.to(), fs::Permissions::from_mode(0o777)).unwrap();
    stage.fails(&[], "others may write there");
    fs::set_permissions(stage.to(), fs::Permissions::from_mode(0o755)).unwrap();
    stage.run_well(&[]);
    fs::set_permissions(stage.area.path(), fs::Permissions::from_mode(0o777)).unwrap();
    stage.fails(&[], "others may write there");
}

#[test]
fn an_unreadable_file_leaves_the_old_generation_in_use() {
    let stage = Stage::new();
    stage.run_well(&[]);
    let before = stage.current();
    stage.update("<driconf>new</driconf>");
    let file = stage.node.at("/usr/share/drirc.d/00-mesa-defaults.conf");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let output = match rustix::process::geteuid().is_root() {
        false => stage.run(&[]),
        // Root reads everything, so this is done as nobody, in a directory that is nobody's.
        true => {
            let chown = Command::new("chown")
                .args(["-R", "65534"])
                .arg(stage.to())
                .status()
                .unwrap();
            assert!(chown.success());
            let mut nobody = Command::new("setpriv");
            nobody.args(["--reuid", "65534", "--clear-groups"]);
            nobody
                .arg(stage.command().get_program())
                .args(stage.command().get_args())
                .output()
                .unwrap()
        }
    };
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("00-mesa-defaults.conf\n  caused by: Permission denied"),
        "{}",
        said(&output)
    );
    assert_eq!(stage.current(), before);
}

#[test]
fn the_selinux_label_is_set_or_the_command_is_said() {
    let stage = Stage::new();
    // A generation that is current already is labelled too.
    stage.run_well(&["--selinux", "never"]);
    let output = stage.run_well(&["--selinux", "always"]);
    assert!(said(&output).contains("is current already"));
    let library = stage.to().join("current/lib/libEGL.so.1");
    let mut label = [0; 128];
    match rustix::fs::lgetxattr(&library, "security.selinux", &mut label[..]) {
        Ok(length) => assert_eq!(&label[..length], b"system_u:object_r:container_file_t:s0\0"),
        Err(_) => assert!(
            said(&output).contains("semanage fcontext -a -t container_file_t"),
            "{}",
            said(&output)
        ),
    }
}

/// Runs a script in a mount namespace of its own, where `$1` is the staging directory and the rest the command.
fn with_own_mounts(stage: &Stage, script: &str) -> Option<Output> {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--mount", "sh", "-ec", script, "sh"]);
    unshare
        .arg(stage.to())
        .arg(stage.command().get_program())
        .args(stage.command().get_args());
    let output = unshare.output().unwrap();
    if said(&output).starts_with("unshare:") {
        debian::skip(&said(&output));
        return None;
    }
    Some(output)
}

#[test]
fn a_full_disk_leaves_the_old_generation_in_use() {
    let stage = Stage::new();
    let large = stage.node.at("/usr/share/drirc.d/99-large.conf");
    let script = format!(
        "to=$1; shift; mkdir $to; mount -t tmpfs -o size=400k,mode=755 none $to; \"$@\" >/dev/null; \
         before=$(readlink $to/current); head -c 1000000 /dev/zero >{0}; \
         status=0; \"$@\" || status=$?; [ $status = 2 ]; [ $before = $(readlink $to/current) ]; ls -A $to/generations",
        large.display()
    );
    let Some(output) = with_own_mounts(&stage, &script) else {
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("no space left on the device, the files have 1.0 MB"),
        "{}",
        said(&output)
    );
    let left = String::from_utf8(output.stdout).unwrap();
    assert_eq!(left.lines().count(), 1, "{left}");
}

#[test]
fn a_read_only_target_is_an_error() {
    let stage = Stage::new();
    let script = "to=$1; shift; mkdir $to; mount -t tmpfs -o mode=755 none $to; \"$@\" >/dev/null; \
         before=$(readlink $to/current); mount -o remount,ro $to; \
         status=0; \"$@\" || status=$?; [ $status = 2 ]; [ $before = $(readlink $to/current) ]";
    let Some(output) = with_own_mounts(&stage, script) else {
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("Read-only file system"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_target_from_which_nothing_is_executed_is_an_error() {
    let stage = Stage::new();
    let script = "to=$1; shift; mkdir $to; mount -t tmpfs -o mode=755,noexec none $to; \
         status=0; \"$@\" || status=$?; [ $status = 2 ]";
    let Some(output) = with_own_mounts(&stage, script) else {
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("mounted noexec"),
        "{}",
        said(&output)
    );
}
