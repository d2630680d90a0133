//! Guests and files for the tests of the command.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use assert_cmd::Command;
use tempfile::TempDir;

/// What a guest does when one of its functions is called.
pub(crate) enum Act<'a> {
    /// Returns these bytes.
    Return(&'a str),
    /// Returns an error.
    Fail(&'a str),
    /// Runs these instructions.
    Run(&'a str),
}

/// A waPC policy in WebAssembly text.
///
/// `validate` and `validate_settings` are told apart by the length of their names, all that `__guest_call` is
/// given before it asks for more.
pub(crate) fn guest(validate: &Act<'_>, validate_settings: &Act<'_>) -> Vec<u8> {
    let (mut data, mut bodies) = (String::new(), Vec::new());
    for (act, offset) in [(validate, 1024), (validate_settings, 32 * 1024)] {
        bodies.push(match act {
            Act::Return(text) => {
                store(&mut data, offset, text);
                format!(
                    "(call $respond (i32.const {offset}) (i32.const {})) (i32.const 1)",
                    text.len()
                )
            }
            Act::Fail(text) => {
                store(&mut data, offset, text);
                format!(
                    "(call $fail (i32.const {offset}) (i32.const {})) (i32.const 0)",
                    text.len()
                )
            }
            Act::Run(instructions) => format!("{instructions} (i32.const 1)"),
        });
    }
    let [validate, validate_settings] = [&bodies[0], &bodies[1]];
    let module = format!(
        r#"(module
             (import "wapc" "__guest_response" (func $respond (param i32 i32)))
             (import "wapc" "__guest_error" (func $fail (param i32 i32)))
             (import "wapc" "__host_call" (func $host (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
             (memory (export "memory") 4)
             {data}
             (data (i32.const 512) "kubewardentracinglog{{}}")
             (func (export "__guest_call") (param $function i32) (param $payload i32) (result i32)
               (if (result i32) (i32.eq (local.get $function) (i32.const 8))
                 (then {validate})
                 (else {validate_settings}))))"#
    );
    wat::parse_str(module).unwrap()
}

fn store(data: &mut String, offset: usize, text: &str) {
    let bytes: String = text.bytes().fold(String::new(), |mut bytes, byte| {
        write!(bytes, "\\{byte:02x}").unwrap();
        bytes
    });
    writeln!(data, "(data (i32.const {offset}) \"{bytes}\")").unwrap();
}

/// A directory with the policy, and the command run in it.
pub(crate) struct Preview {
    directory: TempDir,
}

impl Preview {
    /// With a guest whose `validate` does this, and that accepts all settings.
    pub(crate) fn of(validate: &Act<'_>) -> Self {
        Self::of_module(&guest(validate, &Act::Return(r#"{"valid": true}"#)))
    }

    /// With this module as policy.wasm.
    pub(crate) fn of_module(module: &[u8]) -> Self {
        let preview = Self {
            directory: TempDir::new().unwrap(),
        };
        preview.file("policy.wasm", module);
        preview
    }

    /// With the policy of this repository.
    pub(crate) fn of_policy() -> Self {
        Self::of_module(&fs::read(policy_wasm()).unwrap())
    }

    /// Writes a file beside the policy.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.directory.path().join(name), content).unwrap();
        self
    }

    /// Where the command is run.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The command, with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("mesa-preview").unwrap();
        command
            .current_dir(self.directory.path())
            .env_remove("NO_COLOR")
            .args(arguments);
        command
    }

    /// What the command prints when all is well.
    pub(crate) fn prints(&self, arguments: &[&str]) -> String {
        let output = self
            .command(arguments)
            .assert()
            .success()
            .get_output()
            .clone();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the command says on standard error when it fails, and exits with 1: the error, its causes and the fix, here in
    /// one line.
    pub(crate) fn complains(&self, arguments: &[&str]) -> String {
        let output = self
            .command(arguments)
            .assert()
            .code(1)
            .get_output()
            .clone();
        let complaint = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = complaint.lines().map(str::trim).collect();
        lines.join("; ")
    }
}

/// A file or directory of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The policy of this repository, built.
pub(crate) fn policy_wasm() -> PathBuf {
    let file = repository("policy.wasm");
    assert!(
        file.exists(),
        "{} is missing: run `make policy.wasm` first",
        file.display()
    );
    file
}

/// What is handed around beside the repository, if it is there.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(path);
    path.exists().then_some(path)
}

/// A launcher pod, as small as it can be.
pub(crate) const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {generateName: virt-launcher-vm-, namespace: vms, labels: {kubevirt.io: virt-launcher}}
spec: {containers: [{name: compute, image: launcher}]}
";

/// What an injecting policy answers to [`POD`].
pub(crate) const MUTATION: &str = r#"{
  "accepted": true,
  "warnings": ["look out"],
  "audit_annotations": {"result": "injected"},
  "mutated_object": {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
      "generateName": "virt-launcher-vm-",
      "namespace": "vms",
      "labels": {"kubevirt.io": "virt-launcher"},
      "annotations": {"mesa-injector.io/status": "injected"}
    },
    "spec": {
      "containers": [{
        "name": "compute",
        "image": "launcher",
        "resources": {"limits": {"squat.ai/dri": 1}, "requests": {"squat.ai/dri": 1}},
        "volumeMounts": [
          {"name": "mesa-libgl", "mountPath": "/usr/lib64/libGL.so.1", "readOnly": true},
          {"name": "mesa", "mountPath": "/usr/lib64/dri", "subPath": "dri"}
        ]
      }],
      "nodeSelector": {"mesa": "yes"},
      "volumes": [
        {"name": "mesa-libgl", "hostPath": {"path": "/usr/lib64/libGL.so.1", "type": "File"}},
        {"name": "mesa", "image": {"reference": "registry.example/mesa:1", "pullPolicy": "IfNotPresent"}}
      ]
    }
  }
}"#;
