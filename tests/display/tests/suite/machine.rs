//! What the tests need of the machine: root, the project's programs, and roots of Debian's packages.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const NODE: &str = "libc-bin libegl-mesa0 libegl1 libgbm1 libgl1 libgl1-mesa-dri libgles2 libglx-mesa0 libglx0 libopengl0";
/// What a launcher image has without QEMU.
const BASE: &str = "bash coreutils libelf1 libexpat1 liblzma5 libncurses6 libstdc++6 libxml2 libzstd1 zlib1g libffi8 seabios";
/// QEMU; then its GL modules and what only these need, without the mesa that Debian would install with them.
const QEMU_TRIXIE: &str = "qemu-system-x86 qemu-system-common";
const MODULES_TRIXIE: &str =
    "+qemu-system-modules-opengl +libepoxy0 +libvirglrenderer1 +libvulkan1 +libva2 +libva-drm2";
/// Bookworm's QEMU itself depends on libgbm1, so its dependencies are named one by one.
const QEMU_BOOKWORM: &str = "libaio1 libbpf1 libcapstone4 libfdt1 libfuse3-3 libgcc-s1 libglib2.0-0 libgmp10 libgnutls30 \
    libhogweed6 libibverbs1 libjpeg62-turbo libnettle8 libnuma1 libpixman-1-0 libpmem1 libpng16-16 librdmacm1 libsasl2-2 \
    libseccomp2 libslirp0 libudev1 liburing2 libvdeplug2 +qemu-system-x86 +qemu-system-common +qemu-system-data";
const MODULES_BOOKWORM: &str =
    "+qemu-system-gui +libepoxy0 +libvirglrenderer1 +libvulkan1 +libva2 +libva-drm2";

/// Whether the tests can run here: they need root that may mount, Debian's packages, and the processor that these are for.
/// Where they cannot, the reason is printed, once; in CI that is a failure.
pub(crate) fn is_fit() -> bool {
    static REASON: OnceLock<Option<&str>> = OnceLock::new();
    let reason = REASON.get_or_init(|| {
        let reason = unfit();
        reason.inspect(|reason| skipped(reason));
        reason
    });
    if let Some(reason) = reason {
        let is_ci = std::env::var("CI").as_deref() == Ok("true");
        assert!(!is_ci, "CI skips nothing: {reason}");
    }
    reason.is_none()
}

fn unfit() -> Option<&'static str> {
    let does = |command: &str, arguments: &[&str]| {
        let output = Command::new(command).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !rustix::process::geteuid().is_root() {
        Some("a container of another user is made by root only: run 'make e2e-display' as root")
    } else if !does("unshare", &["--mount", "true"]) {
        Some(
            "this root may not mount: run 'make e2e-display' where it has CAP_SYS_ADMIN and unshare",
        )
    } else if !does("apt-get", &["--version"]) {
        Some("there is no apt-get: run 'make e2e-display' on a Debian-like machine")
    } else if !cfg!(target_arch = "x86_64") {
        Some("the packages are for x86-64: run 'make e2e-display' on such a machine")
    } else {
        None
    }
}

/// Says what is not tested here, and why. Not by a macro, whose output the test runner keeps to itself.
pub(crate) fn skipped(reason: &str) {
    let line = format!("skipped: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// A program that `make e2e-display` builds, or the one that a variable names.
pub(crate) fn built(variable: &str, path: &str) -> PathBuf {
    let built = std::env::var_os(variable).map_or_else(|| repository(path), PathBuf::from);
    assert!(
        built.exists(),
        "{} is not there: run 'make e2e-display', which builds it, or set {variable}",
        built.display()
    );
    built
}

/// Runs a command and returns what it wrote, or what went wrong with it.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(text + &String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn unpack(suite: &str, name: &str, packages: &[&str]) -> PathBuf {
    let root = target()
        .join("debian-roots")
        .join(format!("{name}-{suite}"));
    let mut command = Command::new(repository("hack/debian-root"));
    command.arg(suite).arg(&root);
    for packages in packages {
        command.args(packages.split_whitespace());
    }
    run(&mut command).unwrap();
    root
}

/// The parts of roots, each unpacked once. mesa-scan's tests have the first one too.
fn node_root(suite: &str) -> PathBuf {
    unpack(suite, "node", &[NODE])
}

fn launcher_root(suite: &str) -> PathBuf {
    let (qemu, _) = qemu(suite);
    unpack(suite, "display-launcher", &[BASE, qemu])
}

fn modules_root(suite: &str) -> PathBuf {
    let (_, modules) = qemu(suite);
    unpack(suite, "display-modules", &[modules])
}

/// A node with mesa from packages.
pub(crate) fn node(suite: &str) -> Copy {
    Copy::of(&[node_root(suite)])
}

/// A launcher with QEMU and QEMU's part of GL, but no mesa; `gl-probe` is in it too.
pub(crate) fn launcher(suite: &str) -> Copy {
    with_probe(Copy::of(&[launcher_root(suite), modules_root(suite)]))
}

/// A launcher with QEMU and nothing of GL.
pub(crate) fn stock_launcher(suite: &str) -> Copy {
    without_gl(Copy::of(&[launcher_root(suite)]))
}

fn without_gl(copy: Copy) -> Copy {
    // Bookworm has them in a package with other modules.
    let modules = copy.path().join("usr/lib/x86_64-linux-gnu/qemu");
    for module in fs::read_dir(modules).unwrap() {
        let module = module.unwrap().path();
        let name = module.file_stem().unwrap().to_str().unwrap();
        if name.ends_with("-gl") || ["ui-opengl", "ui-egl-headless"].contains(&name) {
            fs::remove_file(module).unwrap();
        }
    }
    copy
}

/// An image that somebody made for a launcher, with mesa and QEMU's modules: of the packages of images/debian.Containerfile,
/// for the Debian that it is for.
pub(crate) fn source(suite: &str) -> Copy {
    if suite == "bookworm" {
        return Copy::of(&[node_root(suite), launcher_root(suite), modules_root(suite)]);
    }
    let containerfile = fs::read_to_string(repository("images/debian.Containerfile")).unwrap();
    let (_, packages) = containerfile
        .split_once("--no-install-recommends \\\n")
        .unwrap();
    let packages = packages.split("&&").next().unwrap().replace('\\', "");
    Copy::of(&[unpack(suite, "display-source", &["libc-bin", &packages])])
}

/// The packages of QEMU and those of its GL modules.
fn qemu(suite: &str) -> (&'static str, &'static str) {
    match suite {
        "bookworm" => (QEMU_BOOKWORM, MODULES_BOOKWORM),
        _ => (QEMU_TRIXIE, MODULES_TRIXIE),
    }
}

/// The same with libvirt, and the user that it looks up.
pub(crate) fn stock_launcher_with_libvirt() -> Copy {
    let libvirt = "libvirt-clients libvirt-clients-qemu libvirt-daemon-driver-qemu";
    let libvirt = unpack("trixie", "display-libvirt", &[libvirt]);
    let copy = without_gl(Copy::of(&[launcher_root("trixie"), libvirt]));
    fs::create_dir_all(copy.path().join("etc")).unwrap();
    for (file, line) in [
        ("passwd", "qemu:x:107:107::/:/bin/false\n"),
        ("group", "qemu:x:107:\n"),
    ] {
        fs::write(copy.path().join("etc").join(file), line).unwrap();
    }
    copy
}

fn with_probe(copy: Copy) -> Copy {
    let source = repository("tests/display/tests/suite/gl-probe.c");
    let probe = copy.path().join("usr/bin/gl-probe");
    run(Command::new("cc").arg("-o").arg(probe).arg(source)).unwrap();
    copy
}

/// A registry, and what copies images to it.
pub(crate) fn registry() -> PathBuf {
    let packages = "bash coreutils docker-registry skopeo";
    unpack("trixie", "display-registry", &[packages])
}

/// A registry on the loopback, which ends with this value.
pub(crate) struct Registry {
    pub(crate) root: Copy,
    pub(crate) port: u16,
    server: Child,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let root = Copy::of(&[registry()]);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let configuration = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: /images}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        );
        fs::write(root.path().join("registry.yml"), configuration).unwrap();
        fs::create_dir_all(root.path().join("var/tmp")).unwrap();
        let mut server = Command::new("chroot");
        server.arg(root.path());
        server.args(["/usr/bin/docker-registry", "serve", "/registry.yml"]);
        let log = fs::File::create(root.path().join("registry.log")).unwrap();
        let server = server.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let registry = Registry { root, port, server };
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let log = fs::read_to_string(registry.root.path().join("registry.log"));
            assert!(Instant::now() < until, "{log:?}");
            thread::sleep(Duration::from_millis(50));
        }
        registry
    }

    pub(crate) fn skopeo(&self, arguments: &[&str]) -> String {
        let mut skopeo = Command::new("chroot");
        skopeo.arg(self.root.path()).arg("/usr/bin/skopeo");
        run(skopeo.arg("--insecure-policy").args(arguments)).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A directory of a test's own, which goes with it.
pub(crate) struct Copy(PathBuf);

impl Copy {
    /// Roots in one, whose files are hard links: what a test adds or removes is gone with it. What several have, such as the
    /// C library, is the first one's.
    pub(crate) fn of(roots: &[PathBuf]) -> Self {
        let copy = Copy::empty();
        for root in roots {
            let mut link = Command::new("cp");
            run(link.arg("-alnT").arg(root).arg(copy.path())).unwrap();
        }
        copy
    }

    pub(crate) fn empty() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("display-{}-{number}", std::process::id());
        let path = target().join("debian-roots").join(name);
        fs::create_dir_all(&path).unwrap();
        Copy(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
