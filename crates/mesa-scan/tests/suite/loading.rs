//! The verdict against the loader itself: whatever it says of a real node and a real image, so says a real `dlopen` in a
//! chroot that has the image and the set and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesa_scan::container::Cause;
use mesa_scan::gl::Layout;
use mesa_scan::gl::Role;
use mesa_scan::gl::entry_points::LIBRARIES;
use mesa_scan::loader::{Loader, Paths, Search};
use mesa_scan::output::Scan;
use mesa_scan::tree::{Directory, Tree};
use rstest::rstest;

use crate::debian::{self, Copy};
use crate::fixture::{reasons, scan_paths};

/// A chroot needs root, or a user namespace in which we are.
fn chroot() -> Option<Command> {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "chroot"]);
    let mut probe = Command::new("unshare");
    probe.args(["--user", "--map-root-user", "--mount", "true"]);
    let allowed =
        rustix::process::geteuid().is_root() || probe.status().is_ok_and(|status| status.success());
    if !allowed {
        debian::skip("neither root nor a user namespace, so no chroot");
        return None;
    }
    Some(command)
}

/// The program that opens libraries, linked against the oldest glibc, so that it runs on each.
fn program() -> Option<PathBuf> {
    let oldest = debian::launcher("bullseye")?.join("usr/lib/x86_64-linux-gnu");
    let oldest = match oldest.join("libc.so.6").exists() {
        true => oldest,
        false => debian::launcher("bullseye")?.join("lib/x86_64-linux-gnu"),
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/loading.c");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let built = directory.path().join("loading");
    let output = Command::new("cc")
        .args(["-nodefaultlibs", "-no-pie", "-o"])
        .args([&built, &source])
        .args([
            "-Wl,--no-as-needed".as_ref(),
            oldest.join("libc.so.6").as_os_str(),
            oldest.join("libdl.so.2").as_os_str(),
        ])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loading");
            fs::rename(built, &kept).unwrap();
            Some(kept)
        }
        Ok(output) => panic!("cc: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            debian::skip(&format!("cc: {error}"));
            None
        }
    }
}

/// What programs open: GL's libraries, the vendors' and each driver by its path.
fn opened(scan: &Scan) -> Vec<String> {
    let of_role = |role| {
        scan.files
            .items
            .iter()
            .filter(move |item| item.role == role)
    };
    let mut opened: Vec<String> = LIBRARIES.map(str::to_owned).to_vec();
    opened.extend(
        of_role(Role::Library)
            .filter(|item| item.name.contains("_mesa.so"))
            .map(|item| item.name.clone()),
    );
    opened.extend(
        of_role(Role::Dri)
            .chain(of_role(Role::Gbm))
            .map(|item| item.container_path.clone()),
    );
    opened
}

/// What the loader says of each library, in a chroot of the image with the files of a scan in place.
fn load(
    scan: &Scan,
    node: &Path,
    image: &Path,
    name: &str,
    without: Option<&str>,
) -> Option<Vec<String>> {
    let container = Copy::of(image, name);
    for file in &scan.plan.files {
        if without.is_none_or(|name| !file.container_path.ends_with(name)) {
            container.place(
                &node.join(file.item.real_path.relative()),
                &file.container_path,
            );
        }
    }
    open_all(scan, &container)
}

/// What the loader says of each library in a chroot.
fn open_all(scan: &Scan, container: &Copy) -> Option<Vec<String>> {
    fs::copy(program()?, container.path().join("loading")).unwrap();
    let output = chroot()?
        .arg(container.path())
        .arg("/loading")
        .args(opened(scan))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !text.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(text.lines().map(str::to_owned).collect())
}

/// The directories of a real generation, mounted as the settings that come with it say.
#[rstest]
fn a_staged_generation_passes_the_check_and_loads(#[values("bookworm", "trixie")] suite: &str) {
    let (Some(node), Some(image)) = (debian::node(suite), debian::launcher(suite)) else {
        return;
    };
    let on_node = Copy::of(&node, &format!("{suite}-stage"));
    let area = on_node.path().join("var/lib/mesa");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesa-scan"));
        command
            .args(arguments)
            .arg("--root")
            .arg(on_node.path())
            .arg("--image")
            .arg(&image);
        command
    };
    let output = run(&["stage", "--to", area.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let settings = on_node.path().join("settings.json");
    fs::write(&settings, &output.stdout).unwrap();
    let check = run(&["check", "--settings", settings.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );

    let container = Copy::of(&image, &format!("{suite}-staged"));
    let settings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for mount in settings["hostPaths"].as_array().unwrap() {
        let text = |key: &str| mount[key].as_str().unwrap();
        let directory = on_node.path().join(&text("path")[1..]);
        for file in fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            container.place(&path, &format!("{}/{name}", text("mountPath")));
        }
    }
    let scan = scan_paths(&node, &image, Layout::Staged).unwrap();
    for line in open_all(&scan, &container).into_iter().flatten() {
        assert!(line.starts_with("ok "), "{line}");
    }
}

#[rstest]
#[case::older_image("bookworm", "bullseye", false)]
#[case::same_release("bookworm", "bookworm", true)]
#[case::newer_image("bookworm", "trixie", true)]
#[case::much_older_image("trixie", "bullseye", false)]
#[case::one_release_older("trixie", "bookworm", false)]
#[case::newest("trixie", "trixie", true)]
fn the_loader_agrees_with_the_verdict(
    #[case] node_suite: &str,
    #[case] image_suite: &str,
    #[case] loads: bool,
    #[values(Layout::Files, Layout::Staged)] layout: Layout,
) {
    let (Some(node), Some(image)) = (debian::node(node_suite), debian::launcher(image_suite))
    else {
        return;
    };
    if image_suite == "bullseye" && layout == Layout::Staged {
        let error = scan_paths(&node, &image, layout).err().unwrap().to_string();
        assert!(error.contains("does not search glibc-hwcaps"), "{error}");
        return;
    }
    let scan = scan_paths(&node, &image, layout).unwrap();
    assert_eq!(scan.findings.loads(), loads, "{}", reasons(&scan));
    assert!(
        scan.findings
            .fatal()
            .all(|reason| reason.cause == Cause::VersionMissing)
    );

    let name = format!("{node_suite}-{image_suite}-{layout:?}");
    let Some(said) = load(&scan, &node, &image, &name, None) else {
        return;
    };
    assert_eq!(said.len(), opened(&scan).len());
    if loads {
        for line in &said {
            assert!(line.starts_with("ok "), "{line}");
        }
        return;
    }
    // The loader stops at the first version that is missing; it must be one that we named, of that very library:
    // "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /usr/lib/…/libxcb.so.1)".
    let refused = said.iter().filter(|line| line.starts_with("no ")).count();
    assert!(refused > 0, "{said:#?}");
    for line in said.iter().filter(|line| line.starts_with("no ")) {
        let version = between(line, "version `", "'");
        let by = between(line, "(required by ", ")");
        let by = by.rsplit('/').next().unwrap();
        let named = scan.findings.fatal().any(|reason| {
            reason.what.starts_with(&format!("{by} needs ")) || same_file(&scan, &reason.what, by)
        });
        assert!(named, "{line}\n{}", reasons(&scan));
        let required = scan.files.items.iter().filter(|item| item.name == by);
        let mut required = required.flat_map(|item| &item.elf.as_ref().unwrap().requires);
        assert!(
            required.any(|requirement| requirement.version == version),
            "{line}"
        );
    }
    // And just those fail that load a library with a reason.
    for (name, line) in opened(&scan).iter().zip(&said) {
        let reached = reached(&scan, name);
        let named = |item: &&str| {
            let mut reasons = scan.findings.fatal();
            reasons.any(|reason| same_file(&scan, &reason.what, item))
        };
        assert_eq!(
            line.starts_with("no "),
            reached.iter().any(|item| named(&item.as_str())),
            "{line}"
        );
    }
}

/// The names of all files of the set that a library loads, its own among them.
fn reached(scan: &Scan, name: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut ahead = vec![name.rsplit('/').next().unwrap().to_owned()];
    while let Some(name) = ahead.pop() {
        let item = scan.files.items.iter().find(|item| item.name == name);
        let Some(elf) = item.and_then(|item| item.elf.as_ref()) else {
            continue;
        };
        if reached.insert(name) {
            ahead.extend(elf.needed.iter().cloned());
        }
    }
    reached
}

/// A driver goes by many names, of which a reason has the first.
fn same_file(scan: &Scan, what: &str, name: &str) -> bool {
    let id = |name: &str| {
        scan.files
            .items
            .iter()
            .find(|item| item.name == name)
            .map(|item| item.id)
    };
    let named = what.split(' ').next().unwrap();
    id(named).is_some() && id(named) == id(name)
}

fn between<'a>(line: &'a str, start: &str, end: &str) -> &'a str {
    let from = line.split_once(start).unwrap_or_else(|| panic!("{line}")).1;
    from.split_once(end).unwrap().0
}

#[rstest]
#[case("bookworm", "libglapi.so.0", "dri/swrast_dri.so")]
#[case("trixie", "libxcb-randr.so.0", "gbm/dri_gbm.so")]
fn without_one_library_of_the_set_drivers_do_not_load(
    #[case] suite: &str,
    #[case] removed: &str,
    #[case] driver: &str,
) {
    let (Some(node), Some(image)) = (debian::node(suite), debian::launcher(suite)) else {
        return;
    };
    let scan = scan_paths(&node, &image, Layout::Files).unwrap();
    let Some(said) = load(
        &scan,
        &node,
        &image,
        &format!("{suite}-without"),
        Some(removed),
    ) else {
        return;
    };
    let driver = said.iter().find(|line| line.contains(driver)).unwrap();
    assert!(
        driver.starts_with("no ") && driver.contains(removed),
        "{driver}"
    );
}

/// What a real `ldconfig` wrote is what the loader goes by: for each name the file that `ldconfig -p` says.
#[rstest]
fn the_cache_of_a_real_ldconfig_is_read(#[values("bookworm", "trixie")] suite: &str) {
    let Some(root) = debian::node(suite) else {
        return;
    };
    let root = Copy::of(&root, &format!("cache-{suite}"));
    let own = root.path().join("opt/own");
    fs::create_dir_all(&own).unwrap();
    let libdrm = root.path().join("usr/lib/x86_64-linux-gnu/libdrm.so.2");
    fs::rename(fs::canonicalize(libdrm).unwrap(), own.join("libdrm.so.2")).unwrap();
    fs::write(root.path().join("etc/ld.so.conf.d/own.conf"), "/opt/own\n").unwrap();
    let ldconfig = |arguments: &[&str]| {
        let mut command = Command::new("/usr/sbin/ldconfig");
        let output = command.arg("-r").arg(root.path()).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    if !Path::new("/usr/sbin/ldconfig").exists() {
        debian::skip("no ldconfig");
        return;
    }
    ldconfig(&[]);
    let tree = Directory::open(root.path()).unwrap();
    let loader = Loader::of(&tree).unwrap();
    let listed = ldconfig(&["-p"]);
    let mut seen = 0;
    for line in listed
        .lines()
        .filter(|line| line.contains("(libc6,x86-64)"))
    {
        let (name, path) = line.trim().split_once(" (libc6,x86-64) => ").unwrap();
        let Search::Found(library) = loader.find(name, &Paths::default()).unwrap() else {
            panic!("{line}");
        };
        let expected = (&tree as &dyn Tree).lookup(path).unwrap().found().unwrap();
        assert_eq!(library.entry.path, expected.path, "{line}");
        seen += 1;
    }
    println!("{suite}: {seen} names");
    assert!(seen > 50, "{listed}");
    assert!(listed.contains("libdrm.so.2 (libc6,x86-64) => /opt/own/libdrm.so.2"));
}
