//! The last link, the domain's display: the hook that the policy puts beside the compute container, over its socket.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::machine::run;
use crate::sidecar::Hook;
use crate::stand::{Admitted, Stand};

/// As Go writes XML, and so KubeVirt: an element without content has two tags.
const DOMAIN: &str = r#"<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
	<name>workstation</name>
	<memory unit="MiB">128</memory>
	<vcpu>1</vcpu>
	<os>
		<type arch="x86_64" machine="q35">hvm</type>
	</os>
	<devices>
		<emulator>/usr/bin/qemu-system-x86_64</emulator>
		<graphics type="vnc" socket="/var/run/kubevirt-private/virt-vnc"></graphics>
		<video>
			<model type="vga" heads="1"></model>
		</video>
		<memballoon model="none"></memballoon>
	</devices>
	<qemu:commandline>
		<qemu:arg value="-no-user-config"></qemu:arg>
	</qemu:commandline>
</domain>"#;
const PRIVATE: &str = "/var/run/kubevirt-private";
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2";

/// A stock launcher with libvirt, a flat image with the hook in it, and the settings for them.
fn stand(always: bool) -> Option<(Stand, Value)> {
    // As KubeVirt sets them.
    let variables = [
        ("XDG_CACHE_HOME", PRIVATE),
        ("XDG_CONFIG_HOME", PRIVATE),
        ("XDG_RUNTIME_DIR", "/var/run"),
    ];
    let stand = Stand::of_stock_with_libvirt()?.with_variables(&variables);
    let mut settings = stand.image_with_hook("flat");
    settings["display"]["always"] = json!(always);
    let stand = stand.with_flat_image(&settings, "flat");
    assert_eq!(stand.check(&settings), []);
    Some((stand, settings))
}

/// libvirt in the compute container of a pod, which is to start a domain.
fn libvirt(pod: &Admitted<'_>, domain: &str) -> Command {
    let file = pod.private("domain.xml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, domain).unwrap();
    let mut libvirt = pod.container();
    libvirt.args(["/usr/bin/virt-qemu-run", "--verbose"]);
    libvirt.arg(format!("--root={PRIVATE}/libvirt"));
    libvirt.arg(format!("{PRIVATE}/domain.xml"));
    libvirt
}

#[test]
fn a_vm_in_a_stock_launcher_gets_its_display_by_the_hook_of_its_pod() {
    let Some((stand, settings)) = stand(true) else {
        return;
    };
    let pod = stand.admit(&settings);
    let hook = Hook::start(&pod);
    let domain = hook.on_define_domain(DOMAIN);
    assert_eq!(hook.on_define_domain(&domain), domain);

    let _libvirt = Libvirt::start(&mut libvirt(&pod, &domain));
    let pid = fs::read_to_string(pod.private("libvirt/run/qemu/workstation.pid")).unwrap();
    let of_qemu = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", pid.trim())).unwrap();
    let arguments = of_qemu("cmdline").replace('\0', " ");
    assert!(
        arguments.contains(" -display egl-headless,rendernode=/dev/null "),
        "{arguments}"
    );
    assert!(
        arguments.contains(" -sandbox on,obsolete=deny,"),
        "{arguments}"
    );
    let environment = of_qemu("environ");
    let variable = format!("QEMU_MODULE_DIR={LIBRARIES}\0");
    assert!(environment.contains(&variable), "{environment}");
    let maps = of_qemu("maps");
    for name in [
        "ui-opengl.so",
        "ui-egl-headless.so",
        "libEGL_mesa.so.0",
        "libgallium-",
        "libLLVM",
    ] {
        assert!(
            maps.contains(&format!("{LIBRARIES}/{name}")),
            "{name} is not mapped"
        );
    }
}

/// The domain asks for a display, and nothing of it is mounted: what the owner of the VM reads.
#[test]
fn without_the_mounts_libvirt_says_that_there_is_no_such_display() {
    let Some((stand, settings)) = stand(true) else {
        return;
    };
    let domain = Hook::start(&stand.admit(&settings)).on_define_domain(DOMAIN);
    let said = run(&mut libvirt(&stand.not_admitted(), &domain)).unwrap_err();
    assert!(
        said.contains("Display 'egl-headless' is not available"),
        "{said}"
    );
}

#[test]
fn a_domain_without_a_need_of_a_display_comes_back_as_it_was() {
    let Some((stand, settings)) = stand(false) else {
        return;
    };
    let hook = Hook::start(&stand.admit(&settings));
    assert_eq!(hook.on_define_domain(DOMAIN), DOMAIN);
    // A vGPU whose picture QEMU shows, as KubeVirt writes it.
    let vgpu = r#"<hostdev type="mdev" managed="no" mode="subsystem" model="vfio-pci" display="on" ramfb="on"></hostdev>"#;
    let with_vgpu = DOMAIN.replace("<memballoon", &format!("{vgpu}<memballoon"));
    let changed = hook.on_define_domain(&with_vgpu);
    assert!(changed.contains("type='egl-headless'"), "{changed}");
}

/// libvirt with its guest; both end with this value.
struct Libvirt(Child);

impl Libvirt {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        while !said.contains("guest running") {
            assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
        }
        // Its standard error stays open for what it says at its end.
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Libvirt(child)
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // On this signal it ends its guest too.
        if let Some(pid) = Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}
