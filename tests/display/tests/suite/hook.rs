//! The last link, the domain's XML, by the script of `examples/display/hook.yaml`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rstest::rstest;
use rustix::process::{Pid, Signal};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::machine::{Copy, is_fit, libvirt, repository, run, skipped};
use crate::stand::Stand;

/// As Go writes XML, and so KubeVirt: an element without content has two tags.
const PLAIN: &str = r#"<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
	<name>workstation</name>
	<memory unit="MiB">128</memory>
	<vcpu>1</vcpu>
	<os>
		<type arch="x86_64" machine="q35">hvm</type>
	</os>
	<devices>
		<emulator>/usr/bin/qemu-system-x86_64</emulator>
		<video>
			<model type="virtio" heads="1"></model>
		</video>
		<memballoon model="none"></memballoon>
	</devices>
	<qemu:commandline>
		<qemu:arg value="-no-user-config"></qemu:arg>
	</qemu:commandline>
</domain>"#;
const VNC: &str = r#"<graphics type="vnc" socket="/var/run/kubevirt-private/virt-vnc"/>"#;
/// A vGPU whose picture QEMU shows through OpenGL, as KubeVirt writes it.
const VGPU: &str = r#"<hostdev type="mdev" managed="no" mode="subsystem" model="vfio-pci" display="on" ramfb="on">
			<source>
				<address uuid="53764d0e-85a0-42b4-af5c-2046b460b1dc"></address>
			</source>
			<alias name="ua-gpu-gpu"></alias>
		</hostdev>"#;
const DISPLAY: &str =
    r#"<graphics type="egl-headless"><gl rendernode="/dev/dri/renderD128"/></graphics>"#;

fn example(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(repository("examples/display").join(name)).unwrap();
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// Runs the script as the sidecar-shim does.
fn on_define_domain(vmi: &Value, domain: &str) -> Result<String, String> {
    let directory = Copy::empty();
    let script = directory.path().join("onDefineDomain");
    let text = &example("hook.yaml")[0]["data"]["onDefineDomain"];
    fs::write(&script, text.as_str().unwrap()).unwrap();
    let mut command = Command::new("python3");
    // A text stands for itself, also where it is no JSON.
    let vmi = vmi.as_str().map_or(vmi.to_string(), str::to_owned);
    command.arg(script).args(["--vmi", &vmi]);
    run(command.args(["--domain", domain])).map(|xml| xml.trim_end().to_owned())
}

fn with_vnc() -> String {
    PLAIN.replace("<memballoon", &format!("{VNC}<memballoon"))
}

fn with_vgpu() -> String {
    with_vnc().replace("<memballoon", &format!("{VGPU}<memballoon"))
}

#[rstest]
#[case::without_graphics(PLAIN.to_owned())]
#[case::with_graphics(with_vnc())]
#[case::with_a_vgpu(with_vgpu())]
fn the_hook_adds_the_display_and_changes_nothing_else(#[case] domain: String) {
    let changed = on_define_domain(&json!({}), &domain).unwrap();
    assert_eq!(changed.matches(DISPLAY).count(), 1, "{changed}");
    let rest = changed.replace(DISPLAY, "");
    assert_eq!(canonical(&rest), canonical(&domain));
}

/// XML in the one form that all its spellings have in common (C14N).
fn canonical(xml: &str) -> String {
    let script = "import sys, xml.etree.ElementTree as tree; print(tree.canonicalize(sys.argv[1]))";
    run(Command::new("python3").args(["-c", script, xml])).unwrap()
}

#[test]
fn a_second_run_changes_nothing() {
    let once = on_define_domain(&json!({}), &with_vnc()).unwrap();
    assert_eq!(on_define_domain(&json!({}), &once).unwrap(), once);
}

#[test]
fn the_render_node_is_that_of_the_annotation() {
    let vmi = |node| json!({"metadata": {"annotations": {"mesa-injector.io/render-node": node}}});
    let changed = on_define_domain(&vmi("/dev/null"), PLAIN).unwrap();
    assert!(
        changed.contains(r#"<gl rendernode="/dev/null"/>"#),
        "{changed}"
    );
    let error = on_define_domain(&vmi("renderD128"), PLAIN).unwrap_err();
    assert!(error.contains("write a path below /dev"), "{error}");
}

#[rstest]
#[case::no_json("{", "--vmi is not the JSON of a VMI")]
#[case::no_object(r#"{"metadata": null}"#, "--vmi is not the JSON of a VMI")]
fn a_vmi_that_cannot_be_read_is_refused(#[case] vmi: &str, #[case] reason: &str) {
    let error = on_define_domain(&Value::String(vmi.to_owned()), PLAIN).unwrap_err();
    assert!(error.contains(reason), "{error}");
}

#[rstest]
#[case::malformed("<domain><devices></domain>", "is not well-formed XML")]
#[case::empty("", "is not well-formed XML")]
#[case::without_devices("<domain/>", "is no domain with one <devices>")]
#[case::another_document("<network><devices/></network>", "is no domain with one <devices>")]
fn a_domain_that_cannot_be_read_is_refused(#[case] domain: &str, #[case] reason: &str) {
    let error = on_define_domain(&json!({}), domain).unwrap_err();
    assert!(error.contains(reason), "{error}");
}

#[rstest]
#[case::without_graphics(PLAIN.to_owned())]
#[case::with_graphics(with_vnc())]
#[case::with_a_vgpu(with_vgpu())]
fn libvirt_accepts_the_domain(#[case] domain: String) {
    if !is_fit() {
        return;
    }
    let root = libvirt();
    let inside = |arguments: &[&str]| run(Command::new("chroot").arg(root.path()).args(arguments));
    let validate = |domain: &str| {
        fs::write(root.path().join("domain.xml"), domain).unwrap();
        let tool = ["/usr/bin/bash", "/usr/bin/virt-xml-validate"];
        inside(&[tool, ["/domain.xml", "domain"]].concat())
    };
    let changed = on_define_domain(&json!({}), &domain).unwrap();
    let misspelt = changed.replace("rendernode", "render-node");
    let said = validate(&misspelt).unwrap_err();
    assert!(said.contains("fails to validate"), "{said}");
    validate(&changed).unwrap();
    let dump = "define /domain.xml; dumpxml workstation";
    let dumped = inside(&["/usr/bin/virsh", "--connect", "test:///default", dump]).unwrap();
    assert!(
        dumped.contains("<graphics type='egl-headless'>"),
        "{dumped}"
    );
    assert!(
        dumped.contains("<gl rendernode='/dev/dri/renderD128'/>"),
        "{dumped}"
    );
}

/// libvirt in the realised container starts what the hook returned, and its QEMU has OpenGL.
#[test]
fn libvirt_starts_the_domain_and_qemu_has_opengl() {
    let private = "/var/run/kubevirt-private";
    // As KubeVirt sets them.
    let variables = [
        ("XDG_CACHE_HOME", private),
        ("XDG_CONFIG_HOME", private),
        ("XDG_RUNTIME_DIR", "/var/run"),
    ];
    let Some(stand) = Stand::with_libvirt() else {
        return;
    };
    let stand = stand.with_variables(&variables);
    let pod = stand.admit(&stand.stage());
    let vmi = json!({"metadata": {"annotations": {"mesa-injector.io/render-node": "/dev/null"}}});
    let domain = on_define_domain(&vmi, PLAIN).unwrap();
    let file = pod.private("domain.xml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, domain).unwrap();

    let _libvirt = Libvirt::start(pod.container().args([
        "/usr/bin/virt-qemu-run",
        "--verbose",
        &format!("--root={private}/libvirt"),
        &format!("{private}/domain.xml"),
    ]));
    let pid = fs::read_to_string(pod.private("libvirt/run/qemu/workstation.pid")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{}/maps", pid.trim())).unwrap();
    for name in [
        "/ui-egl-headless.so",
        "/libEGL_mesa.so.0",
        "/libgallium-",
        "/libLLVM",
    ] {
        assert!(maps.contains(name), "{name} is not mapped");
    }
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
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
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

/// The builds of QEMU in KubeVirt's images, where their package lists are at hand.
#[test]
fn the_containerfile_names_the_builds_of_qemu_that_kubevirts_launchers_have() {
    let text = fs::read_to_string(repository("examples/display/Containerfile")).unwrap();
    let Ok(packages) = fs::read(repository("../shared/launcher-packages.json")) else {
        skipped("there is no ../shared/launcher-packages.json beside this repository");
        return;
    };
    let packages: Value = serde_json::from_slice(&packages).unwrap();
    for image in packages["images"].as_object().unwrap().values() {
        let names = image.as_array().unwrap().iter().filter_map(Value::as_str);
        let qemu = names.filter_map(|name| name.strip_prefix("qemu-kvm-core-"));
        let builds: Vec<&str> = qemu
            .filter_map(|name| name.split_once(':')?.1.strip_suffix(".x86_64"))
            .collect();
        let [build] = builds[..] else {
            panic!("{builds:?}")
        };
        assert!(text.contains(&format!("QEMU={build}\n")), "{build}");
    }
}

#[test]
fn the_annotation_of_the_example_names_the_config_map_and_its_script() {
    let vmi = &example("vmi.yaml")[0];
    let hook = &example("hook.yaml")[0];
    let annotation = &vmi["metadata"]["annotations"]["hooks.kubevirt.io/hookSidecars"];
    let sidecars: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
    let script = &sidecars[0]["configMap"];
    assert_eq!(script["name"], hook["metadata"]["name"]);
    assert!(hook["data"][script["key"].as_str().unwrap()].is_string());
    assert_eq!(script["hookPath"], "/usr/bin/onDefineDomain");
}

#[test]
fn the_policy_of_the_example_is_for_the_namespace_of_the_vm() {
    let policy = &example("policy.yaml")[0];
    let namespaces = &policy["spec"]["namespaceSelector"]["matchExpressions"][0]["values"];
    for name in ["namespace.yaml", "hook.yaml", "vmi.yaml"] {
        let metadata = &example(name)[0]["metadata"];
        let namespace = metadata.get("namespace").unwrap_or(&metadata["name"]);
        assert!(namespaces.as_array().unwrap().contains(namespace), "{name}");
    }
}
