//! KubeVirt's own virt-launcher in the pod, asked for a VM as virt-handler asks.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cluster_tests::cluster::{ClusterError, run};
use manifests::Policy;
use serde_json::{Value, json};

use crate::world::{LIBRARIES, World, names};

/// What virt-handler knows the VM by.
const UID: &str = "6a1b2c3d-0000-4000-8000-df8111e6116a";
const NAME: &str = "b-vgpu-display-default";
const NAMESPACE: &str = "vms";
/// The namespace of pods that migrate here, which need a host path for it.
const MIGRATION: &str = "migration";
/// What libvirt calls it.
const DOMAIN: &str = "vms_b-vgpu-display-default";
/// The socket of our Plugin.
const PLUGIN: &str = "/var/run/kubevirt-plugin/egl/hook.sock";

/// The VM, as it looks after virt-api's defaults: no disk, no network.
fn vmi() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": UID},
        "spec": {
            "architecture": "amd64",
            "terminationGracePeriodSeconds": 10,
            "domain": {
                "machine": {"type": "q35"},
                "cpu": {"cores": 1, "sockets": 1, "threads": 1, "model": "host-model"},
                "memory": {"guest": "256Mi"},
                "resources": {"requests": {"memory": "256Mi"}},
                "features": {"acpi": {"enabled": true}},
                "firmware": {"uuid": "0bd5b7b2-0f2b-4b42-8d7e-0c6a1f9a4b11"},
                "devices": {
                    "autoattachGraphicsDevice": true,
                    "autoattachPodInterface": false,
                    "autoattachMemBalloon": true,
                    "autoattachSerialConsole": true,
                },
            },
        },
    })
}

/// The flat image's policy for VMs without a vGPU too, for there is no such device here.
fn policy(world: &World) -> Policy {
    let mut policy = world.flat.clone();
    policy.spec.settings["display"]["always"] = json!(true);
    policy
}

/// A pod whose virt-launcher runs.
struct Launcher<'a> {
    world: &'a World,
    pod: Value,
    /// virt-handler's ear: what happens to the domain is told there, and virt-launcher does not end before.
    notified: Child,
}

impl<'a> Launcher<'a> {
    fn start(world: &'a World, name: &str) -> Self {
        Self::of(world, &world.virt_launcher_pod(NAMESPACE, name))
    }

    /// One that can migrate: its proxies' sockets, which virt-handler carries between nodes, are the other one's too.
    fn migratable(world: &'a World, name: &str, inject: &str) -> Self {
        let mut pod = world.virt_launcher_pod(MIGRATION, name);
        pod["metadata"]["annotations"]["mesa-injector.io/inject"] = json!(inject);
        let spec = &mut pod["spec"];
        let volumes = spec["volumes"].as_array_mut().unwrap();
        volumes.push(json!({"name": "proxies", "hostPath": {"path": proxies(world)}}));
        let mounts = spec["containers"][0]["volumeMounts"].as_array_mut();
        mounts
            .unwrap()
            .push(json!({"name": "proxies", "mountPath": "/var/run/kubevirt/migrationproxy"}));
        Self::of(world, &pod)
    }

    fn of(world: &'a World, pod: &Value) -> Self {
        let created = world.create(pod).unwrap_or_else(|error| panic!("{error}"));
        let socket = world
            .cluster
            .volume(&created, "sockets")
            .join("launcher-sock");
        let pod = world.wait(&created, |pod| {
            let phase = &pod["status"]["phase"];
            assert_ne!(phase, "Failed", "{}", world.log(pod, "compute"));
            socket.exists()
        });
        let public = world.cluster.volume(&created, "public");
        symlink("domain-notify.sock", public.join("domain-notify-pipe.sock")).unwrap();
        // virt-launcher, as another user, must write to its socket.
        let mut notified = Command::new("sh");
        notified.args(["-c", "umask 0 && exec \"$0\" notify"]);
        notified.arg(world.kubevirt("client").unwrap());
        // The address of a socket is short, and the path of a volume long.
        let name = names(&pod)[1];
        let share = world.cluster.directory().join(format!("public-{name}"));
        symlink(public, &share).unwrap();
        notified.env("KUBEVIRT_SHARE", share);
        notified.stdout(Stdio::null()).stderr(Stdio::null());
        let notified = notified.spawn().unwrap();
        Launcher {
            world,
            pod,
            notified,
        }
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.world.cluster.volume(&self.pod, name)
    }

    /// What virt-handler calls, with the VM as it is then.
    fn handler(&self, call: &str, vmi: &Value, plugins: Option<&Value>) -> Result<String, String> {
        let directory = self.world.cluster.directory();
        let file = directory.join("vmi.json");
        fs::write(&file, vmi.to_string()).unwrap();
        // The sockets volume is mounted inside the public one.
        let share = directory.join(format!("share-{}", names(&self.pod)[1]));
        fs::create_dir_all(&share).unwrap();
        let sockets = share.join("sockets");
        if !sockets.exists() {
            symlink(self.volume("sockets"), sockets).unwrap();
        }
        let mut client = Command::new(self.world.kubevirt("client").unwrap());
        client.env("KUBEVIRT_SHARE", share).arg(call).arg(file);
        if let Some(plugins) = plugins {
            client.env("PLUGINS_JSON", plugins.to_string());
        }
        run(&mut client).map_err(|error| error.to_string())
    }

    fn starts_its_vm(&self, plugins: Option<&Value>) {
        if let Err(error) = self.handler("sync", &vmi(), plugins) {
            panic!(
                "{error}\n{}\n{}",
                self.log("compute"),
                self.log("mesa-injector-hook")
            );
        }
        self.wait_until_it_runs();
    }

    fn wait_until_it_runs(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        let state = || self.virsh(&["domstate"]);
        while !state().is_ok_and(|state| state.starts_with("running")) {
            assert!(Instant::now() < until, "{}", self.log("compute"));
            thread::sleep(Duration::from_millis(300));
        }
        // virt-launcher looks for QEMU once a second, and would wait for one that ended before it was seen.
        thread::sleep(Duration::from_millis(2500));
    }

    fn exec(&self, command: &[&str]) -> Result<String, ClusterError> {
        let [namespace, name] = names(&self.pod);
        let exec = [
            "exec",
            name,
            "--namespace",
            namespace,
            "--container",
            "compute",
            "--",
        ];
        self.world
            .cluster
            .kubectl()
            .run(&[&exec[..], command].concat())
    }

    fn virsh(&self, command: &[&str]) -> Result<String, ClusterError> {
        let connect = "qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock";
        self.exec(&[&["virsh", "--connect", connect], command, &[DOMAIN]].concat())
    }

    fn log(&self, container: &str) -> String {
        self.world.log(&self.pod, container)
    }

    /// QEMU of this pod, in the machine's list of processes.
    fn qemu(&self) -> PathBuf {
        let pod = self.world.wait(&self.pod, |_| true);
        let container = &pod["status"]["containerStatuses"][0]["containerID"];
        let (_, id) = container.as_str().unwrap().split_once("://").unwrap();
        let is_it = |process: &PathBuf| {
            let has = |file: &str, text: &str| {
                fs::read_to_string(process.join(file)).is_ok_and(|it| it.contains(text))
            };
            has("cgroup", id) && has("cmdline", "guest=")
        };
        let processes = fs::read_dir("/proc").unwrap();
        let mut processes = processes.map(|entry| entry.unwrap().path());
        processes.find(is_it).expect("there is no QEMU")
    }

    /// QEMU runs with the GL display, its modules and Mesa come from the mount, and its picture gets through.
    fn assert_has_its_display(&self) {
        let xml = self.virsh(&["dumpxml"]).unwrap();
        assert_eq!(xml.matches("type='egl-headless'").count(), 1, "{xml}");
        let qemu = self.qemu();
        let of_qemu = |file: &str| fs::read_to_string(qemu.join(file)).unwrap();
        let arguments = of_qemu("cmdline").replace('\0', " ");
        let display = " -display egl-headless,rendernode=/dev/null ";
        assert!(arguments.contains(display), "{arguments}");
        assert!(arguments.contains(" -vnc "), "{arguments}");
        assert!(
            arguments.contains(" -sandbox on,obsolete=deny,"),
            "{arguments}"
        );
        let maps = of_qemu("maps");
        for file in ["ui-opengl.so", "ui-egl-headless.so", "libEGL_mesa.so.0"] {
            assert!(
                maps.contains(&format!("{LIBRARIES}/{file}")),
                "{file}\n{maps}"
            );
        }
    }

    /// The VM ends, then the pod, with the sidecar in good order.
    fn ends_well(&self) {
        self.handler("kill", &vmi(), None).unwrap();
        let _ = self.handler("delete", &vmi(), None);
        let ended = self.world.wait(&self.pod, |pod| {
            ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default())
        });
        assert_eq!(
            ended["status"]["phase"],
            "Succeeded",
            "{}",
            self.log("compute")
        );
        let hook = &ended["status"]["initContainerStatuses"][0]["state"]["terminated"];
        assert_eq!(hook["exitCode"], 0, "{ended}");
        self.world.delete(&self.pod);
    }
}

impl Drop for Launcher<'_> {
    fn drop(&mut self) {
        let _ = self.notified.kill();
        let _ = self.notified.wait();
    }
}

/// The programs of KubeVirt are there, or a line says that they are not.
fn is_here(world: &World) -> bool {
    let missing = ["client", "virt-launcher", "virt-launcher-monitor"];
    let missing = missing
        .into_iter()
        .find(|name| world.kubevirt(name).is_none());
    if let Some(missing) = missing {
        eprintln!("skipped: HOSTS has no {missing} of KubeVirt");
    }
    missing.is_none()
}

pub(crate) fn starts(world: &World) {
    if !is_here(world) {
        return;
    }
    let policy = policy(world);
    let _installed = world.cluster.install(&policy, &world.module, &[]).unwrap();
    let launcher = Launcher::start(world, "vm");
    launcher.starts_its_vm(None);
    launcher.assert_has_its_display();
    // As virt-handler does every few minutes, and at each change of the VM.
    launcher.handler("sync", &vmi(), None).unwrap();
    launcher.assert_has_its_display();
    let said = launcher.log("mesa-injector-hook");
    assert!(said.contains("OnDefineDomain"), "{said}");
    launcher.ends_well();
}

/// The hook dies, is started again by the kubelet, and is found by virt-launcher.
pub(crate) fn restarted_hook(world: &World) {
    if !is_here(world) {
        return;
    }
    let policy = policy(world);
    let _installed = world.cluster.install(&policy, &world.module, &[]).unwrap();
    let launcher = Launcher::start(world, "restarted");
    kill("/mesa-injector/mesa-node");
    launcher.world.wait(&launcher.pod, |pod| {
        let hook = &pod["status"]["initContainerStatuses"][0];
        hook["restartCount"] == 1 && hook["state"]["running"].is_object()
    });
    launcher.starts_its_vm(None);
    launcher.assert_has_its_display();
    launcher.ends_well();
}

/// Kills every process with such a first argument; all are this machine's own.
fn kill(program: &str) {
    let mut kill = Command::new("pkill");
    kill.args(["--signal", "KILL", "--full", &format!("^{program}")]);
    assert!(kill.stdout(Stdio::null()).status().unwrap().success());
}

/// A Plugin of somebody's makes KubeVirt drop a part of the domain after the hooks, unless the hook is a Plugin's sidecar too.
pub(crate) fn plugins(world: &World) {
    if !is_here(world) {
        return;
    }
    let foreign = json!({"metadata": {"name": "foreign"}, "spec": {
        "condition": "false",
        "domainHooks": [{"cel": {"expression": "Domain{}"}}],
    }});
    let ours = json!({"metadata": {"name": "egl"}, "spec": {
        "domainHooks": [{"sidecar": {"socketPath": PLUGIN}}],
    }});
    let mut policy = policy(world);
    policy.spec.settings["display"]["plugin"] = json!("egl");
    let _installed = world.cluster.install(&policy, &world.module, &[]).unwrap();
    // As KubeVirt renders a pod where there are Plugins.
    let mut pod = world.virt_launcher_pod(NAMESPACE, "plugins");
    let spec = &mut pod["spec"];
    let volumes = spec["volumes"].as_array_mut().unwrap();
    volumes.push(json!({"name": "plugins", "emptyDir": {}}));
    let mounts = spec["containers"][0]["volumeMounts"]
        .as_array_mut()
        .unwrap();
    mounts.push(json!({"name": "plugins", "mountPath": "/var/run/kubevirt-plugin"}));
    let launcher = Launcher::of(world, &pod);
    launcher.starts_its_vm(Some(&json!([foreign, ours])));
    launcher.assert_has_its_display();
    launcher.ends_well();
}

/// A VM moves to another pod, and has its display there; where nothing was mounted there, it stays where it is.
pub(crate) fn migration(world: &World) {
    if !is_here(world) {
        return;
    }
    let policy = policy(world);
    let _installed = world.cluster.install(&policy, &world.module, &[]).unwrap();
    world.namespace(MIGRATION, None);
    // virt-launcher takes it for its own.
    fs::create_dir(proxies(world)).unwrap();
    chown(proxies(world), Some(107), Some(107)).unwrap();
    let source = Launcher::migratable(world, "source", "enabled");
    source.starts_its_vm(None);

    let bare = Launcher::migratable(world, "bare", "disabled");
    migrate(&source, &bare, "1d1bb0a1-6d05-4ef1-9ed6-2a8a3c8e1a11");
    let said = wait_for_log(&source, "Live migration");
    assert!(
        said.contains("Display 'egl-headless' is not available"),
        "{said}"
    );
    source.assert_has_its_display();
    world.delete(&bare.pod);

    let target = Launcher::migratable(world, "target", "enabled");
    migrate(&source, &target, "1d1bb0a1-6d05-4ef1-9ed6-2a8a3c8e1a12");
    target.wait_until_it_runs();
    target.assert_has_its_display();
    target.ends_well();
    world.delete(&source.pod);
}

fn wait_for_log(launcher: &Launcher<'_>, says: &str) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let log = launcher.log("compute");
        if log.contains(says) || Instant::now() > until {
            return log;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// virt-handler's part: the target gets ready, its sockets become the source's, and the source is told to move.
fn migrate(source: &Launcher<'_>, target: &Launcher<'_>, uid: &str) {
    let mut vmi = vmi();
    vmi["status"] = json!({
        "runtimeUser": 107,
        "migrationTransport": "Unix",
        "migrationState": {
            "migrationUid": uid,
            "sourceNode": "a",
            "targetNode": "b",
            "mode": "PreCopy",
        },
    });
    target.handler("prepare-target", &vmi, None).unwrap();
    let socket = proxies(source.world).join(format!("{UID}-source.sock"));
    let _ = fs::remove_file(&socket);
    fs::hard_link(
        target.volume("libvirt-runtime").join("libvirt-sock"),
        socket,
    )
    .unwrap();
    source.handler("migrate", &vmi, None).unwrap();
}

fn proxies(world: &World) -> PathBuf {
    world.cluster.directory().join("proxies")
}
