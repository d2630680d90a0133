//! A node, an image and a pod between them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use display_tests::qmp::{Qemu, QmpError};
use display_tests::qtest::Qtest;
use display_tests::virtio_gpu::VirtioGpu;
use display_tests::vnc;
use serde_json::{Value, json};

use crate::machine::{
    Copy, built, is_fit, launcher, node, repository, run, source, stock_launcher,
    stock_launcher_with_libvirt,
};

/// QEMU as the tests run it: paused, in libvirt's sandbox, with the GL display and a VNC server that shows it, driven over its
/// standard input. A test reaches the machine through the socket of qtest, and the pod's volume `private`.
const QEMU: [&str; 17] = [
    "/usr/bin/qemu-system-x86_64",
    "-nodefaults",
    "-S",
    "-display",
    "egl-headless,rendernode=/dev/null",
    "-device",
    "virtio-vga-gl,id=gpu,addr=2",
    "-vnc",
    "unix:/var/run/kubevirt-private/vnc",
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    "-qtest",
    "unix:/var/run/kubevirt-private/qtest,server=on,wait=off",
    "-qtest-log",
    "/dev/null",
    "-qmp",
    "stdio",
];
/// As QEMU is told.
const GPU_SLOT: u8 = 2;

pub(crate) struct Stand {
    pub(crate) node: Copy,
    pub(crate) image: Copy,
    pub(crate) state: Copy,
    /// What is scanned in their place.
    archives: Option<[PathBuf; 2]>,
    /// The pod that the policy is given.
    pod: Value,
    /// What stands for the images of image volumes; a directory with nothing in it for the others.
    images: BTreeMap<String, PathBuf>,
}

impl Stand {
    /// A node and a launcher of Debian's suites; none where this machine cannot run them, and has said why.
    pub(crate) fn of(node_suite: &str, image_suite: &str) -> Option<Self> {
        is_fit().then(|| Stand::new(node(node_suite), launcher(image_suite)))
    }

    /// A source with Mesa and QEMU's modules, and a launcher with nothing of GL.
    pub(crate) fn of_stock(source_suite: &str, image_suite: &str) -> Option<Self> {
        is_fit().then(|| Stand::asking(source_suite, stock_launcher(image_suite)))
    }

    /// The same with a launcher that has libvirt too.
    pub(crate) fn of_stock_with_libvirt() -> Option<Self> {
        is_fit().then(|| Stand::asking("trixie", stock_launcher_with_libvirt()))
    }

    /// With a source, and a pod whose owner asks for a display.
    fn asking(source_suite: &str, image: Copy) -> Self {
        let mut stand = Stand::new(source(source_suite), image);
        stand.pod["metadata"]["labels"]["mesa-injector.io/inject"] = json!("enabled");
        stand
    }

    fn new(node: Copy, image: Copy) -> Self {
        let pod = fs::read_to_string(repository("test_data/pods/vgpu-vm.yaml")).unwrap();
        Stand {
            node,
            image,
            state: Copy::empty(),
            archives: None,
            pod: serde_norway::from_str(&pod).unwrap(),
            images: BTreeMap::new(),
        }
    }

    pub(crate) fn of_trixie() -> Option<Self> {
        Stand::of("trixie", "trixie")
    }

    /// The same with another pod.
    pub(crate) fn with_pod(mut self, pod: Value) -> Self {
        self.pod = pod;
        self
    }

    /// The same with a directory that stands for an image.
    pub(crate) fn with_image(mut self, reference: &str, directory: PathBuf) -> Self {
        self.images.insert(reference.to_owned(), directory);
        self
    }

    /// The directory that stands for an image.
    pub(crate) fn image_of(&self, reference: &str) -> &Path {
        &self.images[reference]
    }

    /// The same with a directory that stands for the image of these settings.
    pub(crate) fn with_volume(self, settings: &Value, directory: PathBuf) -> Self {
        let reference = settings["images"][0]["reference"].as_str().unwrap();
        self.with_image(reference, directory)
    }

    /// The same where QEMU looks for its modules in the first directory of these settings, as the hook tells it.
    pub(crate) fn with_module_directory(self, settings: &Value) -> Self {
        let mounts = [&settings["images"][0]["mounts"], &settings["hostPaths"]];
        let mounts = mounts.into_iter().filter_map(Value::as_array).flatten();
        let mut paths = mounts.map(|mount| mount["mountPath"].as_str().unwrap());
        let libraries = paths.find(|path| path.contains("/glibc-hwcaps/"));
        let libraries = libraries.unwrap().to_owned();
        self.with_variables(&[("QEMU_MODULE_DIR", &libraries)])
    }

    /// The same with an image volume that holds what `stage` writes, and the settings that mount parts of it.
    pub(crate) fn with_staged_image(self) -> (Self, Value) {
        const REFERENCE: &str = "registry.example/mesa:trixie";
        let staged = self.stage();
        let mounts = staged["hostPaths"].as_array().unwrap().iter().map(|mount| {
            let path = mount["path"].as_str().unwrap();
            let part = path.rsplit('/').next().unwrap();
            json!({"subPath": part, "mountPath": mount["mountPath"]})
        });
        let mounts: Vec<Value> = mounts.collect();
        let volume = json!({"name": "mesa", "reference": REFERENCE, "mounts": mounts});
        let image = self.node.path().join("var/lib/mesa-injector/current");
        let image = fs::canonicalize(image).unwrap();
        (
            self.with_image(REFERENCE, image),
            json!({"images": [volume]}),
        )
    }

    /// Gives the compute container variables before the policy sees the pod.
    pub(crate) fn with_variables(mut self, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter();
        let env = variables.map(|(name, value)| json!({"name": name, "value": value}));
        self.pod["spec"]["containers"][0]["env"] = env.collect();
        self
    }

    fn scanner(&self, command: &str) -> Command {
        let mut scan = Command::new(built("MESA_SCAN", "target/debug/mesa-scan"));
        scan.arg(command);
        let roots = [self.node.path(), self.image.path()];
        let [node, image] = match &self.archives {
            Some(archives) => archives.each_ref().map(PathBuf::as_path),
            None => roots,
        };
        scan.arg("--root").arg(node).arg("--image").arg(image);
        scan
    }

    /// From here on archives of both roots are scanned.
    pub(crate) fn scan_archives(&mut self) {
        let archives = [("node", self.node.path()), ("image", self.image.path())];
        self.archives = Some(archives.map(|(name, root)| {
            let archive = self.state.path().join(name).with_extension("tar");
            let mut tar = Command::new("tar");
            tar.arg("-cf").arg(&archive).arg("-C").arg(root).arg(".");
            let mut said = run(&mut tar);
            // To tar a file has changed when another test links to it in the same moment.
            for _ in 0..4 {
                if said.is_err() {
                    said = run(&mut tar);
                }
            }
            said.unwrap();
            archive
        }));
    }

    /// The settings of `mesa-scan image`, which writes an OCI layout of a name.
    pub(crate) fn image(&self, name: &str, arguments: &[&str]) -> Value {
        let mut image = self.scanner("image");
        image.arg("--to").arg(self.state.path().join(name));
        image.args(["--reference", "registry.example/mesa:1"]);
        image.args([
            "--launcher-reference",
            "quay.io/kubevirt/virt-launcher:v1.9.0",
        ]);
        settings(run(image.args(arguments)))
    }

    /// The settings of `mesa-scan image` with the hook's program.
    pub(crate) fn image_with_hook(&self, name: &str) -> Value {
        let program = built("MESA_NODE", "target/mesa-node");
        self.image(name, &["--node-program", program.to_str().unwrap()])
    }

    /// An OCI layout that was written, as a runtime unpacks it.
    pub(crate) fn unpacked(&self, name: &str) -> PathBuf {
        let layout = self.state.path().join(name);
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            fs::File::open(layout.join("blobs").join(digest.replace(':', "/"))).unwrap()
        };
        let index = fs::read(layout.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let manifest: Value = serde_json::from_reader(blob(&index["manifests"][0])).unwrap();
        let root = layout.with_extension("root");
        for layer in manifest["layers"].as_array().unwrap() {
            let tar = zstd::Decoder::new(blob(layer)).unwrap();
            tar::Archive::new(tar).unpack(&root).unwrap();
        }
        root
    }

    /// The same with an image that was written for the volume of its settings.
    pub(crate) fn with_flat_image(self, settings: &Value, name: &str) -> Self {
        let root = self.unpacked(name);
        self.with_volume(settings, root)
    }

    fn stager(&self) -> Command {
        let mut stage = self.scanner("stage");
        let to = self.node.path().join("var/lib/mesa-injector");
        stage.arg("--to").arg(to);
        stage
    }

    /// `mesa-scan stage` on the node: what it says.
    pub(crate) fn try_stage(&self) -> Result<String, String> {
        run(&mut self.stager())
    }

    /// The settings of `mesa-scan stage`.
    pub(crate) fn stage(&self) -> Value {
        settings(self.try_stage())
    }

    /// The same with the hook's program.
    pub(crate) fn stage_with_hook(&self) -> Value {
        let mut stage = self.stager();
        stage.arg("--node-program");
        settings(run(stage.arg(built("MESA_NODE", "target/mesa-node"))))
    }

    /// On a Debian node the six paths of the webhook that this project replaces need a script that links them.
    pub(crate) fn link_the_six_paths(&self) {
        let lib64 = self.node.path().join("usr/lib64");
        for name in [
            "libGL.so.1",
            "libEGL.so.1",
            "libGLESv2.so.2",
            "libGLX.so.0",
            "dri",
        ] {
            let target = format!("/usr/lib/x86_64-linux-gnu/{name}");
            symlink(target, lib64.join(name)).unwrap();
        }
    }

    /// `mesa-scan scan` of the node; its settings for the files one by one, whatever the verdict.
    pub(crate) fn files(&self) -> Value {
        settings(run(self.scanner("scan").args(["--output", "settings"])))
    }

    /// The causes and sentences of `mesa-scan check`; none where GL will load.
    pub(crate) fn check(&self, settings: &Value) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let verdict = self.verdict(settings);
        let findings = verdict["findings"].as_array().unwrap().iter();
        findings
            .filter(|finding| finding["severity"] == "fatal")
            .map(|reason| (text(&reason["cause"]), text(&reason["what"])))
            .collect()
    }

    /// All that `mesa-scan check` says.
    pub(crate) fn verdict(&self, settings: &Value) -> Value {
        let file = self.state.path().join("check.json");
        fs::write(&file, settings.to_string()).unwrap();
        let mut check = self.scanner("check");
        check.arg("--settings").arg(file);
        for volume in settings["images"].as_array().into_iter().flatten() {
            let text = |key: &str| volume[key].as_str().unwrap();
            if let Some(directory) = self.images.get(text("reference")) {
                let volume = format!("{}={}", text("name"), directory.display());
                check.arg("--volume").arg(volume);
            }
        }
        let said = run(check.args(["--output", "json"]));
        let verdict: Value =
            serde_json::from_str(said.as_ref().unwrap_or_else(|text| text)).unwrap();
        assert_eq!(verdict["loads"], said.is_ok(), "{verdict}");
        verdict
    }

    /// Puts the pod through the policy, and returns what a command in its compute container is started with.
    pub(crate) fn admit(&self, settings: &Value) -> Admitted<'_> {
        let before = self.state.path().join("before.json");
        fs::write(&before, self.pod.to_string()).unwrap();
        let policy = built("POLICY_WASM", "policy.wasm");
        let mut preview = Command::new(built("MESA_PREVIEW", "target/debug/mesa-preview"));
        preview.arg("--policy").arg(policy);
        preview.args(["--settings-json", &settings.to_string(), "--output", "yaml"]);
        let pod = self.state.path().join("pod.yaml");
        fs::write(&pod, run(preview.arg(before)).unwrap()).unwrap();
        self.admitted(pod)
    }

    /// The pod as it is without the policy.
    pub(crate) fn not_admitted(&self) -> Admitted<'_> {
        let pod = self.state.path().join("pod.yaml");
        fs::write(&pod, self.pod.to_string()).unwrap();
        self.admitted(pod)
    }

    fn admitted(&self, pod: PathBuf) -> Admitted<'_> {
        Admitted {
            stand: self,
            pod,
            flags: Vec::new(),
        }
    }
}

/// The check named this cause, of this file.
pub(crate) fn assert_said(stand: &Stand, settings: &Value, cause: &str, file: &str) {
    let reasons = stand.check(settings);
    let said = |(of, what): &(String, String)| of == cause && what.contains(file);
    assert!(reasons.iter().any(said), "{cause} {file}: {reasons:#?}");
}

fn settings(said: Result<String, String>) -> Value {
    let text = said.unwrap_or_else(|text| text);
    // Reasons why it will not load follow the settings on standard error.
    let mut values = serde_json::Deserializer::from_str(&text).into_iter();
    values.next().unwrap().unwrap_or_else(|_| panic!("{text}"))
}

/// A pod that is ready to be started, as YAML.
pub(crate) struct Admitted<'a> {
    stand: &'a Stand,
    pod: PathBuf,
    /// What the runtime does otherwise.
    flags: Vec<&'static str>,
}

impl Admitted<'_> {
    /// The same by a runtime that lets nothing be executed from image volumes.
    pub(crate) fn with_noexec_images(mut self) -> Self {
        self.flags.push("--noexec");
        self
    }

    /// The same by a runtime that mounts all of an image where a part of it is asked for.
    pub(crate) fn with_sub_paths_ignored(mut self) -> Self {
        self.flags.push("--ignore-sub-paths");
        self
    }

    /// What starts a command in the compute container, which is to be added.
    pub(crate) fn container(&self) -> Command {
        self.start("compute")
    }

    /// What starts a container of the pod with a command, its own unless one is added.
    pub(crate) fn start(&self, container: &str) -> Command {
        let mut realise = Command::new(built("REALISE", "target/debug/realise"));
        realise.args(["--container", container]);
        realise.arg("--pod").arg(&self.pod);
        realise.arg("--node").arg(self.stand.node.path());
        realise.arg("--image").arg(self.stand.image.path());
        realise.arg("--state").arg(self.stand.state.path());
        for (reference, directory) in self.images() {
            let image = format!("--image-volume={reference}={}", directory.display());
            realise.arg(image);
        }
        realise.args(&self.flags);
        realise.arg("--");
        realise
    }

    /// The pod itself.
    pub(crate) fn yaml(&self) -> String {
        fs::read_to_string(&self.pod).unwrap()
    }

    /// What a command in the compute container says, or why it does not.
    pub(crate) fn says(&self, command: &[&str]) -> Result<String, String> {
        run(self.container().args(command))
    }

    /// What stands for each image that the pod has for a volume.
    fn images(&self) -> BTreeMap<String, PathBuf> {
        let empty = self.stand.state.path().join("empty");
        fs::create_dir_all(&empty).unwrap();
        let pod: Value = serde_norway::from_str(&fs::read_to_string(&self.pod).unwrap()).unwrap();
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let references = volumes.filter_map(|volume| volume["image"]["reference"].as_str());
        let directory = |reference: &str| self.stand.images.get(reference).unwrap_or(&empty);
        references
            .map(|reference| (reference.to_owned(), directory(reference).clone()))
            .collect()
    }

    /// Real QEMU.
    pub(crate) fn qemu(&self) -> Result<Qemu, QmpError> {
        Qemu::start(self.container().args(QEMU))
    }

    /// The name of the renderer of the QEMU that was started, which painted what a VNC client then saw. `screendump` has no
    /// surface where the screen is a texture.
    pub(crate) fn paint(&self) -> Result<String, Box<dyn Error>> {
        const SIDE: u16 = 64;
        let mut gpu = VirtioGpu::start(Qtest::new(self.connect("qtest")?), GPU_SLOT)?;
        let renderer = gpu.renderer()?;
        gpu.paint([1.0, 0.5, 0.25], SIDE.into())?;
        let screen = vnc::look(self.connect("vnc")?)?;
        let is_painted = screen.pixels.iter().all(|pixel| *pixel == [255, 128, 64]);
        if (screen.width, screen.height) == (SIDE, SIDE) && is_painted {
            Ok(renderer)
        } else {
            Err(format!("{renderer} painted {screen:?}").into())
        }
    }

    /// It is mesa's software renderer that paints.
    pub(crate) fn assert_paints(&self) {
        let renderer = self.paint().unwrap();
        println!("{renderer}");
        let is_llvmpipe = renderer.to_lowercase().starts_with("llvmpipe (llvm ");
        assert!(is_llvmpipe, "{renderer}");
    }

    /// A socket of the QEMU that was started, in its volume `private`.
    fn connect(&self, socket: &str) -> io::Result<UnixStream> {
        // The address of a socket is short, and the path of a checkout may be long.
        let directory = File::open(self.private(""))?;
        UnixStream::connect(format!("/proc/self/fd/{}/{socket}", directory.as_raw_fd()))
    }

    /// What the pod's own volume of a name holds.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.stand.state.path().join("volumes").join(name)
    }

    /// Why QEMU does not start.
    pub(crate) fn qemu_fails(&self) -> String {
        self.qemu().expect_err("QEMU starts").to_string()
    }

    /// A minimal program that brings GL up through GBM, after it opened these libraries.
    pub(crate) fn probe(&self, libraries: &[&str]) -> String {
        let mut probe = self.container();
        probe.args(["/usr/bin/gl-probe", "/dev/null"]);
        run(probe.args(libraries)).unwrap_or_else(|text| text)
    }

    /// A file that the container wrote to its own volume `private`, which the pod mounts at `/var/run/kubevirt-private`.
    pub(crate) fn private(&self, name: &str) -> PathBuf {
        self.volume("private").join(name)
    }
}
