//! A node, an image and a pod between them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use display_tests::qmp::{Qemu, QmpError};
use serde_json::Value;

use crate::machine::{Copy, built, launcher, launcher_with_libvirt, node, repository, run};

/// QEMU as the test runs it: paused, with the GL display, driven over its standard input.
const QEMU: [&str; 9] = [
    "/usr/bin/qemu-system-x86_64",
    "-nodefaults",
    "-S",
    "-display",
    "egl-headless,rendernode=/dev/null",
    "-device",
    "virtio-vga-gl,id=gpu",
    "-qmp",
    "stdio",
];

pub(crate) struct Stand {
    pub(crate) node: Copy,
    pub(crate) image: Copy,
    pub(crate) state: Copy,
    /// The pod that the policy is given.
    pod: Value,
}

impl Stand {
    pub(crate) fn of(node_suite: &str, image_suite: &str) -> Self {
        let pod = fs::read_to_string(repository("test_data/pods/vgpu-vm.yaml")).unwrap();
        Stand {
            node: node(node_suite),
            image: launcher(image_suite),
            state: Copy::empty(),
            pod: serde_norway::from_str(&pod).unwrap(),
        }
    }

    /// The same with an image that has libvirt too.
    pub(crate) fn with_libvirt() -> Self {
        let mut stand = Stand::of("trixie", "trixie");
        stand.image = launcher_with_libvirt();
        stand
    }

    /// Gives the compute container variables before the policy sees the pod.
    pub(crate) fn with_variables(mut self, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter();
        let env = variables.map(|(name, value)| serde_json::json!({"name": name, "value": value}));
        self.pod["spec"]["containers"][0]["env"] = env.collect();
        self
    }

    fn scanner(&self, command: &str) -> Command {
        let mut scan = Command::new(built("MESA_SCAN", "target/release/mesa-scan"));
        scan.arg(command);
        scan.arg("--root").arg(self.node.path());
        scan.arg("--image").arg(self.image.path());
        scan
    }

    /// `mesa-scan stage` on the node: what it says.
    pub(crate) fn try_stage(&self) -> Result<String, String> {
        let to = self.node.path().join("var/lib/mesa-injector");
        run(self.scanner("stage").arg("--to").arg(to))
    }

    /// The settings of `mesa-scan stage`.
    pub(crate) fn stage(&self) -> Value {
        settings(self.try_stage())
    }

    /// `mesa-scan scan` of the node; its settings for the files one by one, whatever the verdict.
    pub(crate) fn files(&self) -> Value {
        settings(run(self.scanner("scan").args(["--output", "settings"])))
    }

    /// The causes and sentences of `mesa-scan check`; none where GL will load.
    pub(crate) fn check(&self, settings: &Value) -> Vec<(String, String)> {
        let file = self.state.path().join("check.json");
        fs::write(&file, settings.to_string()).unwrap();
        let mut check = self.scanner("check");
        check.arg("--settings").arg(file);
        let said = run(check.args(["--output", "json"]));
        let verdict: Value =
            serde_json::from_str(said.as_ref().unwrap_or_else(|text| text)).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let reasons: Vec<_> = verdict["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reason| (text(&reason["cause"]), text(&reason["what"])))
            .collect();
        assert_eq!(said.is_ok(), reasons.is_empty(), "{verdict}");
        reasons
    }

    /// Puts the pod through the policy, and returns what a command in its compute container is started with.
    pub(crate) fn admit(&self, settings: &Value) -> Admitted<'_> {
        let before = self.state.path().join("before.json");
        fs::write(&before, self.pod.to_string()).unwrap();
        let policy = built("POLICY_WASM", "policy.wasm");
        let mut preview = Command::new(built("MESA_PREVIEW", "target/release/mesa-preview"));
        preview.arg("--policy").arg(policy);
        preview.args(["--settings-json", &settings.to_string(), "--output", "yaml"]);
        let pod = self.state.path().join("pod.yaml");
        fs::write(&pod, run(preview.arg(before)).unwrap()).unwrap();
        Admitted { stand: self, pod }
    }

    /// The pod as it is without the policy.
    pub(crate) fn not_admitted(&self) -> Admitted<'_> {
        let pod = self.state.path().join("pod.yaml");
        fs::write(&pod, self.pod.to_string()).unwrap();
        Admitted { stand: self, pod }
    }
}

fn settings(said: Result<String, String>) -> Value {
    let text = said.unwrap_or_else(|text| text);
    // Reasons why it will not load follow the settings on standard error.
    let mut values = serde_json::Deserializer::from_str(&text).into_iter();
    values.next().unwrap().unwrap_or_else(|_| panic!("{text}"))
}

/// A pod that is ready to be started.
pub(crate) struct Admitted<'a> {
    stand: &'a Stand,
    pod: PathBuf,
}

impl Admitted<'_> {
    pub(crate) fn container(&self) -> Command {
        let mut realise = Command::new(env!("CARGO_BIN_EXE_realise"));
        realise.arg("--pod").arg(&self.pod);
        realise.arg("--node").arg(self.stand.node.path());
        realise.arg("--image").arg(self.stand.image.path());
        realise.arg("--state").arg(self.stand.state.path());
        realise.arg("--");
        realise
    }

    /// Real QEMU.
    pub(crate) fn qemu(&self) -> Result<Qemu, QmpError> {
        Qemu::start(self.container().args(QEMU))
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
        let volumes = self.stand.state.path().join("volumes/private");
        volumes.join(name)
    }
}
