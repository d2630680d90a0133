//! The cluster with a stock launcher's image, the flat image for it, and the policy that mounts it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cluster_tests::cluster::{CONTROLLER, Cluster, ClusterError, Kubectl, NODE, run};
use cluster_tests::hosts::Hosts;
use cluster_tests::image;
use manifests::Policy;
use serde_json::{Value, json};

use crate::machine::{Copy, built, registry, repository, source, unpack};
use crate::pod;

/// What KubeVirt calls its launcher.
pub(crate) const LAUNCHER: &str = "quay.io/kubevirt/virt-launcher:v1.9.0";
/// What pods call the flat image.
pub(crate) const FLAT: &str = "registry.example/mesa:1";
/// The library directory of the launcher that the flat image is mounted in.
pub(crate) const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2";
/// What a launcher with libvirt is made of; nothing of GL is among it.
const PACKAGES: &str = "bash dash coreutils libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-log libvirt-clients \
    libnbd0 qemu-system-x86 qemu-utils procps findutils grep sed gawk util-linux libcap2-bin passwd iproute2";
/// What KubeVirt's image says to libvirt.
const QEMU_CONF: &str = r#"stdio_handler = "logd"
vnc_listen = "0.0.0.0"
vnc_tls = 0
vnc_sasl = 0
user = "qemu"
group = "qemu"
dynamic_ownership = 1
remember_owner = 0
namespaces = [ ]
cgroup_controllers = [ ]
"#;
const LIBVIRT_CONF: &str = r#"listen_tls = 0
listen_tcp = 0
log_outputs = "1:stderr"
"#;
/// What the scripts for administrators are told of the module.
pub(crate) const REF: &str = "registry://registry.example/mesa-injector:v1";
/// How long a pod may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// QEMU's GL display with what is mounted, in libvirt's sandbox; where virt-launcher would wait for a hook, after the hook.
pub(crate) const DISPLAY: &str = r#"
case "$*" in *"--hook-sidecars 1") waits=yes ;; esac
for _ in $(seq 50); do
    [ -n "$waits" ] && [ ! -S /var/run/kubevirt-hooks/mesa-injector/mesa-injector.sock ] || break
    sleep 0.2
done
[ -z "$waits" ] || stat -c 'hook: %F of %u' /var/run/kubevirt-hooks/mesa-injector/mesa-injector.sock
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2
printf 'screendump /tmp/screen.ppm\nquit\n' | qemu-system-x86_64 -M q35,accel=tcg -m 64 -nodefaults -vga none \
    -display egl-headless,rendernode=/dev/null -device VGA -S -monitor stdio \
    -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
[ -s /tmp/screen.ppm ] && echo 'the display is up'
"#;

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) hosts: Hosts,
    /// The annotated module, as a URL of the policy server.
    pub(crate) module: String,
    /// The policy that `mesa-scan image` wrote.
    pub(crate) flat: Policy,
    /// Where Mesa and QEMU's modules come from.
    pub(crate) source: Copy,
    /// The archive of the launcher.
    pub(crate) launcher: PathBuf,
    pod: Value,
}

/// What comes from the network, which the cluster has no part of.
pub(crate) fn fetch() {
    drop(source("trixie"));
    launcher_root();
    drop(registry());
    network();
    busybox();
}

fn launcher_root() -> PathBuf {
    unpack("trixie", "cluster-launcher", &[PACKAGES])
}

fn network() -> PathBuf {
    unpack(
        "trixie",
        "cluster-network",
        &["+containernetworking-plugins"],
    )
    .join("usr/lib/cni")
}

fn busybox() -> PathBuf {
    unpack("trixie", "cluster-busybox", &["+busybox-static"]).join("usr/bin/busybox")
}

impl World {
    pub(crate) fn new(hosts: Hosts, directory: &Path) -> Self {
        let cluster = Cluster::start(hosts.clone(), directory, &busybox(), &network());
        let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));

        let annotated = directory.join("annotated.wasm");
        let mut annotate = Command::new(hosts.path("kwctl"));
        annotate
            .arg("annotate")
            .arg(built("POLICY_WASM", "policy.wasm"));
        annotate
            .arg("--metadata-path")
            .arg(repository("metadata.yml"));
        annotate.arg("--usage-path").arg(repository("README.md"));
        run(annotate.arg("--output-path").arg(&annotated)).unwrap();

        let launcher = directory.join("launcher.tar");
        let root = launcher_with_its_files(&kubevirt_directory(&hosts));
        image::archive(root.path(), LAUNCHER, &[], &launcher).unwrap();
        cluster.import(LAUNCHER, &launcher).unwrap();

        let source = source("trixie");
        let flat_archive = directory.join("flat.tar");
        let flat = policy_of(
            scanner("image", &source, &launcher)
                .arg("--to")
                .arg(&flat_archive)
                .args([
                    "--reference",
                    FLAT,
                    "--by-tag",
                    "--launcher-reference",
                    LAUNCHER,
                ])
                .arg("--node-program")
                .arg(built("MESA_NODE", "target/mesa-node")),
        );
        cluster.import(FLAT, &flat_archive).unwrap();

        let world = World {
            cluster,
            hosts,
            module: format!("file://{}", annotated.display()),
            flat,
            source,
            launcher,
            pod: serde_json::from_str(include_str!("../launcher-pod.json")).unwrap(),
        };
        world.prepare();
        world
    }

    /// What KubeVirt has done in a cluster: labels of the node, and a user who makes pods.
    fn prepare(&self) {
        let kubectl = self.cluster.kubectl();
        let labels = [
            "kubevirt.io/schedulable=true",
            "machine-type.node.kubevirt.io/q35=true",
        ];
        let label = [&["label", "node", NODE][..], &labels].concat();
        kubectl.run(&label).unwrap();
        let binding = format!("--user={CONTROLLER}");
        let role = ["create", "clusterrolebinding", "kubevirt-controller"];
        kubectl
            .run(&[&role[..], &["--clusterrole=cluster-admin", &binding]].concat())
            .unwrap();
        self.service_account("default");
        self.namespace("kubevirt", None);
        self.namespace("vms", Some("restricted"));
    }

    /// A namespace under a level of Pod Security, with what the controllers that are not here would make in it.
    pub(crate) fn namespace(&self, name: &str, level: Option<&str>) {
        let mut labels = json!({});
        if let Some(level) = level {
            labels["pod-security.kubernetes.io/enforce"] = json!(level);
        }
        let kubectl = self.cluster.kubectl();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        kubectl.create(&namespace, &[]).unwrap();
        self.service_account(name);
    }

    fn service_account(&self, namespace: &str) {
        let account = [
            "create",
            "serviceaccount",
            "default",
            "--namespace",
            namespace,
        ];
        self.cluster.kubectl().run(&account).unwrap();
    }

    /// The rendered pod of a VM that asks for a display, whose compute container runs a script.
    pub(crate) fn pod(&self, namespace: &str, name: &str, script: &str) -> Value {
        let pod = pod::with_script(pod::runnable(&self.pod), script);
        pod::labelled(
            pod::named(pod, namespace, name),
            "mesa-injector.io/inject",
            "enabled",
        )
    }

    /// The same that runs virt-launcher.
    pub(crate) fn virt_launcher_pod(&self, namespace: &str, name: &str) -> Value {
        let mut pod = pod::named(pod::runnable(&self.pod), namespace, name);
        let compute = &mut pod["spec"]["containers"][0];
        // As KubeVirt does with useEmulation.
        compute["args"]
            .as_array_mut()
            .unwrap()
            .push(json!("--allow-emulation"));
        pod::labelled(pod, "mesa-injector.io/inject", "enabled")
    }

    /// A program of KubeVirt's, where it is at hand.
    pub(crate) fn kubevirt(&self, name: &str) -> Option<PathBuf> {
        let program = kubevirt_directory(&self.hosts).join(name);
        program.is_file().then_some(program)
    }

    /// Creates a pod as KubeVirt does.
    pub(crate) fn create(&self, pod: &Value) -> Result<Value, ClusterError> {
        self.cluster.kubectl().create(pod, &["--as", CONTROLLER])
    }

    /// Creates it, and returns it as it is once it has ended, with what its compute container wrote.
    pub(crate) fn run(&self, pod: &Value) -> (Value, String) {
        let created = self.create(pod).unwrap_or_else(|error| panic!("{error}"));
        let ended = self.wait(&created, |pod| {
            ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default())
        });
        let log = self.log(&ended, pod::COMPUTE);
        (ended, log)
    }

    /// Waits until something is true of a pod.
    pub(crate) fn wait(&self, pod: &Value, is_so: impl Fn(&Value) -> bool) -> Value {
        let [namespace, name] = names(pod);
        let until = Instant::now() + PATIENCE;
        loop {
            let pod = self
                .cluster
                .kubectl()
                .get(&["pod", name, "--namespace", namespace]);
            let pod = pod.unwrap_or_else(|error| panic!("{error}"));
            if is_so(&pod) {
                return pod;
            }
            assert!(
                Instant::now() < until,
                "{name} is still so: {}\n{}\n{}",
                pod["status"],
                self.events(&pod),
                self.log(&pod, pod::COMPUTE)
            );
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// What a container wrote.
    pub(crate) fn log(&self, pod: &Value, container: &str) -> String {
        let [namespace, name] = names(pod);
        let log = [
            "logs",
            name,
            "--namespace",
            namespace,
            "--container",
            container,
        ];
        let log = self.cluster.kubectl().run(&log);
        log.unwrap_or_else(|error| error.to_string())
    }

    /// The events of a pod.
    pub(crate) fn events(&self, pod: &Value) -> String {
        let [namespace, name] = names(pod);
        let selector = format!("--field-selector=involvedObject.name={name}");
        let messages = "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}";
        let events = [
            "get",
            "events",
            "--namespace",
            namespace,
            &selector,
            "--output",
            messages,
        ];
        self.cluster.kubectl().run(&events).unwrap_or_default()
    }

    /// Waits for an event of a pod that says something.
    pub(crate) fn wait_for_event(&self, pod: &Value, says: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.events(pod).contains(says) {
            assert!(
                Instant::now() < until,
                "nothing says {says}: {}",
                self.events(pod)
            );
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// Ends a pod at once.
    pub(crate) fn delete(&self, pod: &Value) {
        let [namespace, name] = names(pod);
        let delete = [
            "delete",
            "pod",
            name,
            "--namespace",
            namespace,
            "--force",
            "--grace-period=0",
        ];
        self.cluster.kubectl().run(&delete).unwrap();
    }

    /// A policy as a file, as an administrator has it.
    pub(crate) fn policy_file(&self, policy: &Policy) -> PathBuf {
        let file = self.cluster.directory().join("policy.yaml");
        fs::write(&file, policy.to_yaml(&[]).unwrap()).unwrap();
        file
    }

    /// Runs one of the scripts for administrators with a policy: the exit code, and what it said.
    pub(crate) fn tool(&self, kubectl: &Kubectl, words: &[&str], policy: &Path) -> (i32, String) {
        let mut tool = Command::new(repository("hack").join(words[0]));
        tool.args(&words[1..]).arg(policy);
        let path = std::env::var("PATH").unwrap();
        tool.env("PATH", format!("{}:{path}", self.hosts.path("").display()));
        tool.env("KUBECONFIG", kubectl.kubeconfig());
        tool.env("PATIENCE", "30").env("REF", REF);
        let output = tool.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.code().unwrap(), said)
    }

    /// The policy of a scan that stages to a directory of the node.
    pub(crate) fn stage(&self, to: &Path) -> Policy {
        let mut stage = scanner("stage", &self.source, &self.launcher);
        stage
            .arg("--to")
            .arg(to)
            .args(["--selinux", "never", "--node-program"]);
        let settings = run(stage.arg(built("MESA_NODE", "target/mesa-node"))).unwrap();
        let settings: Value = serde_json::from_str(&settings).unwrap();
        let mut policy = self.flat.clone();
        "staged".clone_into(&mut policy.metadata.name);
        policy.spec.settings = settings.as_object().unwrap().clone();
        policy
    }
}

/// A launcher's root: what its image has beside its packages.
fn launcher_with_its_files(kubevirt: &Path) -> Copy {
    let copy = Copy::of(&[launcher_root()]);
    let root = copy.path();
    for directory in [
        "dev",
        "etc/libvirt",
        "home/qemu",
        "proc",
        "run",
        "sys",
        "tmp",
        "var",
    ] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    run(Command::new("chmod").arg("1777").arg(root.join("tmp"))).unwrap();
    let run_of_var = root.join("var/run");
    let _ = fs::remove_dir_all(&run_of_var);
    let _ = fs::remove_file(&run_of_var);
    std::os::unix::fs::symlink("../run", run_of_var).unwrap();
    for (file, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nqemu:x:107:107::/home/qemu:/bin/sh\n",
        ),
        ("etc/group", "root:x:0:\nqemu:x:107:\n"),
    ] {
        write(&root.join(file), text);
    }
    let programs = ["virt-launcher", "virt-launcher-monitor"].map(|name| kubevirt.join(name));
    if programs.iter().all(|program| program.is_file()) {
        for program in programs {
            fs::copy(
                &program,
                root.join("usr/bin").join(program.file_name().unwrap()),
            )
            .unwrap();
        }
        // As KubeVirt's image has it: virt-launcher hands the capability on to QEMU.
        let monitor = root.join("usr/bin/virt-launcher-monitor");
        run(Command::new("setcap")
            .arg("cap_net_bind_service=+ep")
            .arg(monitor))
        .unwrap();
        // Debian has no virtqemud: libvirtd stands in, under the name of the socket.
        let libvirtd = "#!/bin/sh\nln -sf libvirt-sock /var/run/libvirt/virtqemud-sock\nexec /usr/sbin/libvirtd \"$@\"\n";
        write(&root.join("usr/sbin/virtqemud"), libvirtd);
        run(Command::new("chmod")
            .arg("755")
            .arg(root.join("usr/sbin/virtqemud")))
        .unwrap();
        for (file, text) in [
            ("qemu.conf", QEMU_CONF),
            ("virtqemud.conf", LIBVIRT_CONF),
            ("virtlogd.conf", ""),
        ] {
            write(&root.join("etc/libvirt").join(file), text);
        }
    }
    copy
}

/// Writes a file anew: the one that is there may be a hard link to the unpacked root's.
fn write(path: &Path, text: &str) {
    let _ = fs::remove_file(path);
    fs::write(path, text).unwrap();
}

/// KubeVirt's programs: beside the others, or as they were given to this project.
fn kubevirt_directory(hosts: &Hosts) -> PathBuf {
    let directory = hosts.path("kubevirt");
    let given = repository("../shared/hosts/kubevirt");
    for name in ["client", "virt-launcher", "virt-launcher-monitor"] {
        let [program, packed] = [directory.join(name), given.join(name).with_extension("xz")];
        if program.is_file() || !packed.is_file() {
            continue;
        }
        fs::create_dir_all(&directory).unwrap();
        let new = File::create(program.with_extension("new")).unwrap();
        let mut unpack = Command::new("xz");
        let status = unpack.arg("-dc").arg(packed).stdout(new).status();
        assert!(status.unwrap().success());
        run(Command::new("chmod")
            .arg("755")
            .arg(program.with_extension("new")))
        .unwrap();
        fs::rename(program.with_extension("new"), program).unwrap();
    }
    directory
}

pub(crate) fn scanner(command: &str, source: &Copy, launcher: &Path) -> Command {
    let mut scan = Command::new(built("MESA_SCAN", "target/debug/mesa-scan"));
    scan.arg(command).arg("--root").arg(source.path());
    scan.arg("--image").arg(launcher);
    scan
}

pub(crate) fn policy_of(command: &mut Command) -> Policy {
    let text = run(command.args(["--output", "policy"])).unwrap_or_else(|error| panic!("{error}"));
    serde_norway::from_str(&text).unwrap()
}

pub(crate) fn names(pod: &Value) -> [&str; 2] {
    ["namespace", "name"].map(|key| pod["metadata"][key].as_str().unwrap())
}

/// The names of the volumes of a pod, and the paths of its compute container's mounts.
pub(crate) fn mounts(pod: &Value) -> (Vec<&str>, Vec<&str>) {
    let spec = &pod["spec"];
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let mounts = spec["containers"][0]["volumeMounts"].as_array();
    (
        volumes
            .map(|volume| volume["name"].as_str().unwrap())
            .collect(),
        mounts
            .into_iter()
            .flatten()
            .map(|mount| mount["mountPath"].as_str().unwrap())
            .collect(),
    )
}
