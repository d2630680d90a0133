//! The domain of a VM with a vGPU, as KubeVirt's converter gives it, and QEMU's command line, as libvirt makes it of that.

use std::fs;

use mdev_tests::{GUEST, PRIVATE};

use crate::machine::run;
use crate::stand::Admitted;

/// As KubeVirt 1.9 passed it to a hook.
const CONVERTED: &str = include_str!(
    "../../../../crates/mesa-node/tests/data/when-needed/kubevirt-1.9-vgpu-first-call.xml"
);
/// Where KubeVirt has the sockets of a VM.
const SOCKETS: &str = "/var/run/kubevirt-private/5f4a9dcd-0e0e-4b0c-9a52-8d1c9c0b1a11/virt-";

/// KubeVirt's domain, with the sockets where the VM's init looks for them, and the guest as its kernel.
pub(crate) fn converted() -> String {
    let log = CONVERTED
        .lines()
        .find(|line| line.contains("<log "))
        .unwrap();
    let [directory, _] = PRIVATE;
    let domain = CONVERTED.replace(&format!("{log}\n"), "");
    let domain = domain.replace(&format!("{SOCKETS}serial0"), &format!("{directory}/serial"));
    let domain = domain.replace(SOCKETS, &format!("{directory}/"));
    domain.replace("<os>", &format!("<os><kernel>{directory}/{GUEST}</kernel>"))
}

/// The same without a video device: the console of the vGPU is the first.
pub(crate) fn without_video(domain: &str) -> String {
    let (before, rest) = domain.split_once("<video>").unwrap();
    let (_, after) = rest.split_once("</video>").unwrap();
    format!("{before}<video><model type=\"none\"/></video>{after}")
}

/// The same with a vGPU that does not show what the firmware says, which takes an emulated QEMU a minute.
pub(crate) fn without_ramfb(domain: &str) -> String {
    domain.replace("ramfb=\"on\"", "ramfb=\"off\"")
}

/// The same with a display that somebody asks for by himself.
pub(crate) fn with_display(domain: &str) -> String {
    let display = "<graphics type='egl-headless'><gl rendernode='/dev/null'/></graphics>";
    domain.replace("<memballoon", &format!("{display}<memballoon"))
}

/// QEMU's command line for a domain, by the libvirt of a launcher.
pub(crate) fn command(pod: &Admitted<'_>, domain: &str) -> String {
    let [directory, _] = PRIVATE;
    let file = pod.private("domain.xml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, domain).unwrap();
    let mut virsh = pod.container();
    virsh.args(["/usr/bin/virsh", "--quiet", "--connect"]);
    virsh.arg(format!("qemu:///embed?root={directory}/libvirt"));
    virsh.args(["domxml-to-native", "qemu-argv", "--xml"]);
    virsh.arg(format!("{directory}/domain.xml"));
    let command = run(&mut virsh).unwrap_or_else(|error| panic!("{error}"));
    assert!(command.contains("-sandbox on,obsolete=deny,"), "{command}");
    assert!(command.contains("\"display\":\"on\""), "{command}");

    // libvirt makes these when it starts a VM: directories for sockets, and a key for secrets.
    let paths = command.split(['=', ',', ' ', '\n', '\'', '"']);
    let made = [
        "/monitor.sock",
        "/master-key.aes",
        "/org.qemu.guest_agent.0",
    ];
    let paths = paths.filter(|path| made.iter().any(|name| path.ends_with(name)));
    let paths: Vec<&str> = paths.filter(|path| path.starts_with(directory)).collect();
    let find = |name: &str| *paths.iter().find(|path| path.ends_with(name)).unwrap();
    let (monitor, key) = (find(made[0]), find(made[1]));
    let directories: Vec<&str> = paths
        .iter()
        .map(|path| path.rsplit_once('/').unwrap().0)
        .collect();
    let command = command.replace(monitor, &format!("{directory}/monitor"));
    format!(
        "mkdir -p {}\nhead -c 32 /dev/urandom > {key}\nexec env {command}",
        directories.join(" ")
    )
}
