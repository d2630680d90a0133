//! One node and its control plane.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use manifests::Policy;
use serde_json::{Value, json};

use crate::hosts::{ADDRESS, Hosts};
use crate::image;
use crate::pki::{Pki, PkiError};
use crate::webhook;

/// The node.
pub const NODE: &str = "node";
/// Who makes launcher pods.
pub const CONTROLLER: &str = "system:serviceaccount:kubevirt:kubevirt-controller";
/// What every sandbox of a pod runs.
const PAUSE: &str = "cluster-tests/pause:1";
/// How long a program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why there is no cluster, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or a program.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
    /// The certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A program ended, or is silent.
    #[error("{program} is not ready; its log ends with\n{log}")]
    NotReady {
        /// Which one.
        program: String,
        /// The last lines of its log.
        log: String,
    },
    /// What a command said.
    #[error("{0}")]
    Command(String),
}

fn of(what: impl Into<String>) -> impl FnOnce(io::Error) -> ClusterError {
    let what = what.into();
    move |error| ClusterError::Io(what, error)
}

/// A cluster.
pub struct Cluster {
    hosts: Hosts,
    directory: PathBuf,
    pki: Pki,
}

/// kubectl, of one API server.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// A policy that is served and asked about.
pub struct Installed {
    kubectl: Kubectl,
    id: String,
    server: Child,
}

/// A part of the control plane, which ends with this value.
pub struct Controller(Child);

impl Cluster {
    /// Starts one in a directory. `busybox` is a static one, that every sandbox runs; `plugins` are those of the Container
    /// Network Interface.
    ///
    /// # Errors
    /// What does not start.
    pub fn start(
        hosts: Hosts,
        directory: &Path,
        busybox: &Path,
        plugins: &Path,
    ) -> Result<Self, ClusterError> {
        let pki = Pki::new(&directory.join("pki"))?;
        let cluster = Cluster {
            hosts,
            directory: directory.to_owned(),
            pki,
        };
        let addresses = ["127.0.0.1", ADDRESS, "localhost", "kubernetes", NODE];
        for (name, user, organisation) in [
            ("apiserver", "kube-apiserver", None),
            ("policy-server", "policy-server", None),
            ("admin", "admin", Some("system:masters")),
            ("kubelet", "system:node:node", Some("system:nodes")),
        ] {
            cluster.pki.issue(name, user, organisation, &addresses)?;
        }
        cluster.start_etcd()?;
        cluster.start_containerd(plugins)?;
        let kubectl = cluster.start_api_server("apiserver", 6443, &[])?;
        cluster.start_kubelet()?;
        cluster.import_pause(busybox)?;
        cluster.wait_for_node(&kubectl)?;
        Ok(cluster)
    }

    /// Where it works.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// kubectl of its API server.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        self.kubectl_of("admin", 6443)
    }

    fn kubectl_of(&self, user: &str, port: u16) -> Kubectl {
        Kubectl {
            program: self.hosts.path("kubectl"),
            kubeconfig: self.kubeconfig(user, port),
        }
    }

    /// The directory of a pod's volume that is an `emptyDir`, on the node.
    #[must_use]
    pub fn volume(&self, pod: &Value, name: &str) -> PathBuf {
        let uid = pod.pointer("/metadata/uid").and_then(Value::as_str);
        let uid = uid.unwrap_or_default();
        let volumes = format!("kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir");
        self.directory.join(volumes).join(name)
    }

    /// Gives the node an image of an archive.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn import(&self, name: &str, archive: &Path) -> Result<(), ClusterError> {
        let mut import = self.ctr();
        import.args(["images", "import", "--index-name", name]);
        run(import.arg(archive)).map(drop)
    }

    /// Takes it away.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn remove_image(&self, name: &str) -> Result<(), ClusterError> {
        run(self.ctr().args(["images", "rm", "--sync", name])).map(drop)
    }

    fn ctr(&self) -> Command {
        let beside = self.hosts.path("ctr");
        let beside = beside.is_file().then_some(beside);
        let mut ctr = Command::new(beside.unwrap_or_else(|| self.hosts.path("sid/usr/bin/ctr")));
        ctr.arg("--address").arg(self.path("containerd.sock"));
        ctr.args(["--namespace", "k8s.io"]);
        ctr
    }

    /// Starts one more API server over what the first one stores, with flags.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn start_api_server(
        &self,
        name: &str,
        port: u16,
        flags: &[&str],
    ) -> Result<Kubectl, ClusterError> {
        let mut server = Command::new(self.hosts.path("hyper"));
        server.arg("kube-apiserver");
        let file = |name: &str| self.pki.path(name).display().to_string();
        for (flag, value) in [
            ("etcd-servers", "http://127.0.0.1:2379".to_owned()),
            ("secure-port", port.to_string()),
            ("bind-address", "127.0.0.1".to_owned()),
            ("advertise-address", "127.0.0.1".to_owned()),
            ("tls-cert-file", file("apiserver.crt")),
            ("tls-private-key-file", file("apiserver.key")),
            ("client-ca-file", file("ca.crt")),
            ("service-account-key-file", file("sa.pub")),
            ("service-account-signing-key-file", file("sa.key")),
            ("service-account-issuer", "https://cluster-tests".to_owned()),
            ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            (
                "enable-admission-plugins",
                "NodeRestriction,PodSecurity".to_owned(),
            ),
            ("allow-privileged", "true".to_owned()),
            ("kubelet-client-certificate", file("admin.crt")),
            ("kubelet-client-key", file("admin.key")),
            ("endpoint-reconciler-type", "none".to_owned()),
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        ] {
            server.arg(format!("--{flag}={value}"));
        }
        let mut server = self.spawn(name, server.args(flags))?;
        let kubectl = self.kubectl_of("admin", port);
        self.until(name, &mut server, || {
            kubectl.run(&["get", "--raw", "/readyz"]).is_ok()
        })?;
        Ok(kubectl)
    }

    /// Starts the scheduler, for pods that name no node.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_scheduler(&self) -> Result<Controller, ClusterError> {
        let scheduler = self.start_controller("kube-scheduler", &[])?;
        // The node is ready, which a controller would note.
        let ready = "node.kubernetes.io/not-ready";
        let node = self
            .kubectl()
            .run(&["get", "node", NODE, "--output", "yaml"])?;
        if node.contains(ready) {
            let taint = ["taint", "node", NODE, &format!("{ready}-")];
            self.kubectl().run(&taint)?;
        }
        Ok(scheduler)
    }

    /// Starts the controllers of DaemonSets, and of what goes with something that is deleted.
    ///
    /// # Errors
    /// Where they cannot be started.
    pub fn start_controllers(&self) -> Result<Controller, ClusterError> {
        let names =
            "--controllers=daemonset-controller,garbage-collector-controller,namespace-controller";
        let certificates = format!("--cert-dir={}", self.path("controllers").display());
        self.start_controller("kube-controller-manager", &[names, &certificates])
    }

    fn start_controller(&self, name: &str, flags: &[&str]) -> Result<Controller, ClusterError> {
        let mut controller = Command::new(self.hosts.path("hyper"));
        controller.args([name, "--leader-elect=false", "--kubeconfig"]);
        controller.arg(self.kubectl().kubeconfig()).args(flags);
        Ok(Controller(self.spawn(name, &mut controller)?))
    }

    fn start_etcd(&self) -> Result<(), ClusterError> {
        let mut etcd = Command::new(self.hosts.path("etcd"));
        etcd.arg("--data-dir").arg(self.path("etcd"));
        // What is lost with the machine is not missed.
        etcd.arg("--unsafe-no-fsync");
        self.spawn("etcd", &mut etcd).map(drop)
    }

    fn start_containerd(&self, plugins: &Path) -> Result<(), ClusterError> {
        let state = self.path("containerd");
        let socket = self.path("containerd.sock");
        let network = self.path("network");
        let runc = self.hosts.path("runc");
        let list = json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.244.0.0/24", "dataDir": self.path("addresses")}},
                {"type": "loopback"},
            ],
        });
        fs::create_dir_all(&network).map_err(of(network.display().to_string()))?;
        self.write("network/10-pods.conflist", &list.to_string())?;
        let config = format!(
            r#"version = 3
root = "{state}/root"
state = "{state}/state"

[grpc]
address = "{socket}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE}"

[plugins.'io.containerd.cri.v1.runtime']
disable_apparmor = true
# Where this machine is a container itself, it may not lower the score.
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{plugins}"]
conf_dir = "{network}"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{runc}"
"#,
            state = state.display(),
            socket = socket.display(),
            plugins = plugins.display(),
            network = network.display(),
            runc = runc.display(),
        );
        let config = self.write("containerd.toml", &config)?;
        let mut containerd = Command::new(self.hosts.path("containerd"));
        let mut containerd = self.spawn("containerd", containerd.arg("--config").arg(config))?;
        self.until("containerd", &mut containerd, || {
            run(self.ctr().arg("version")).is_ok()
        })
    }

    fn start_kubelet(&self) -> Result<(), ClusterError> {
        let file = |name: &str| self.pki.path(name);
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": false,
            "enforceNodeAllocatable": [],
            "failSwapOn": false,
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": false},
                "x509": {"clientCAFile": file("ca.crt")},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": format!("unix://{}", self.path("containerd.sock").display()),
            "tlsCertFile": file("kubelet.crt"),
            "tlsPrivateKeyFile": file("kubelet.key"),
            "podLogsDir": self.path("pods-log"),
            "resolvConf": "",
            "clusterDNS": ["10.96.0.10"],
            "evictionHard": {"memory.available": "10Mi"},
            "readOnlyPort": 0,
            "healthzPort": 0,
        });
        let config = self.write("kubelet.yaml", &config.to_string())?;
        let mut kubelet = Command::new(self.hosts.path("hyper"));
        kubelet.arg("kubelet").arg("--config").arg(config);
        kubelet
            .arg("--kubeconfig")
            .arg(self.kubeconfig("kubelet", 6443));
        kubelet.arg("--root-dir").arg(self.path("kubelet"));
        kubelet.args(["--hostname-override", NODE, "--node-ip", ADDRESS]);
        self.spawn("kubelet", &mut kubelet).map(drop)
    }

    fn import_pause(&self, busybox: &Path) -> Result<(), ClusterError> {
        let root = self.path("pause");
        fs::create_dir_all(root.join("bin")).map_err(of("pause"))?;
        fs::copy(busybox, root.join("bin/sleep")).map_err(of(busybox.display().to_string()))?;
        let archive = self.path("pause.tar");
        image::archive(&root, PAUSE, &["/bin/sleep", "1000000"], &archive).map_err(of("pause"))?;
        self.import(&format!("docker.io/{PAUSE}"), &archive)
    }

    fn wait_for_node(&self, kubectl: &Kubectl) -> Result<(), ClusterError> {
        let until = Instant::now() + PATIENCE;
        let wait = ["wait", "--for=condition=Ready", "node/node", "--timeout=5s"];
        while Instant::now() < until {
            if kubectl.run(&wait).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(200));
        }
        Err(self.not_ready("kubelet"))
    }

    /// Serves a policy by a module, over TLS, and has the API server ask about pods, as Kubewarden's controller does. What a
    /// policy server says that ends at once is the error. `flags` are more of the policy server's.
    ///
    /// # Errors
    /// Where the policy server does not get ready, above all for settings that the policy refuses.
    pub fn install(
        &self,
        policy: &Policy,
        module: &str,
        flags: &[&str],
    ) -> Result<Installed, ClusterError> {
        let id = webhook::id(policy);
        let mut policies = serde_json::Map::new();
        policies.insert(id.clone(), webhook::entry(policy, module));
        let policies = self.write("policies.yml", &Value::from(policies).to_string())?;
        let mut server = Command::new(self.hosts.path("policy-server"));
        server.arg("--policies").arg(policies);
        server
            .arg("--policies-download-dir")
            .arg(self.path("modules"));
        server.args(["--addr", "127.0.0.1", "--port", "8443"]);
        server.args(["--readiness-probe-port", "8081", "--workers", "2"]);
        server
            .arg("--cert-file")
            .arg(self.pki.path("policy-server.crt"));
        server
            .arg("--key-file")
            .arg(self.pki.path("policy-server.key"));
        server.args([
            "--log-level",
            "warn",
            "--ignore-kubernetes-connection-failure",
        ]);
        let mut server = self.spawn("policy-server", server.args(flags))?;
        self.until("policy-server", &mut server, || is_ready("127.0.0.1:8081"))?;

        let authority = base64(self.pki.authority().as_bytes());
        let webhook = webhook::configuration(policy, "https://127.0.0.1:8443", &authority);
        let kubectl = self.kubectl();
        let installed = Installed {
            kubectl: kubectl.clone(),
            id,
            server,
        };
        kubectl.create(&webhook, &[])?;
        // The API server looks at its list of webhooks about once a second.
        thread::sleep(Duration::from_secs(2));
        Ok(installed)
    }

    /// Ends every pod, and waits for its processes: what they leave outside of this process's namespaces goes with them.
    pub fn stop(&self) {
        let kubectl = self.kubectl();
        let _ = kubectl.run(&[
            "delete",
            "pods",
            "--all",
            "--all-namespaces",
            "--force",
            "--grace-period=0",
        ]);
        let until = Instant::now() + Duration::from_secs(20);
        let tasks = || run(self.ctr().args(["tasks", "list", "--quiet"]));
        while tasks().is_ok_and(|tasks| !tasks.is_empty()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, ClusterError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(of(path.display().to_string()))?;
        Ok(path)
    }

    fn kubeconfig(&self, user: &str, port: u16) -> PathBuf {
        let name = format!("{user}-{port}.kubeconfig");
        let file = |name: String| self.pki.path(&name);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": file("ca.crt".to_owned()),
            }}],
            "users": [{"name": "user", "user": {
                "client-certificate": file(format!("{user}.crt")),
                "client-key": file(format!("{user}.key")),
            }}],
            "contexts": [{"name": "it", "context": {"cluster": "cluster", "user": "user"}}],
            "current-context": "it",
        });
        // Where it cannot be written, kubectl says so.
        self.write(&name, &config.to_string())
            .unwrap_or_else(|_| self.path(&name))
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Result<Child, ClusterError> {
        let log = self.path(&format!("{name}.log"));
        let log = File::create(&log).map_err(of(log.display().to_string()))?;
        let copy = log.try_clone().map_err(of("log"))?;
        command.stdin(Stdio::null()).stdout(log).stderr(copy);
        // containerd looks for its shim there.
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.hosts.directory().display());
        command.env("PATH", path);
        command.spawn().map_err(of(name))
    }

    fn until(
        &self,
        program: &str,
        child: &mut Child,
        is_ready: impl Fn() -> bool,
    ) -> Result<(), ClusterError> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
            if is_ready() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(self.not_ready(program))
    }

    fn not_ready(&self, program: &str) -> ClusterError {
        let log = fs::read_to_string(self.path(&format!("{program}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.len().saturating_sub(15);
        ClusterError::NotReady {
            program: program.to_owned(),
            log: lines.get(last..).unwrap_or_default().join("\n"),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Installed {
    /// Ends the policy server; the API server asks it all the same.
    pub fn stop_server(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let kind = "mutatingwebhookconfiguration";
        let _ = self.kubectl.run(&["delete", kind, &self.id]);
        self.stop_server();
        thread::sleep(Duration::from_secs(1));
    }
}

impl Kubectl {
    /// The program with its cluster.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    /// What says which cluster it is, for programs that call kubectl themselves.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What it writes.
    ///
    /// # Errors
    /// What it says.
    pub fn run(&self, arguments: &[&str]) -> Result<String, ClusterError> {
        run(self.command().args(arguments))
    }

    /// An object, or a list of them.
    ///
    /// # Errors
    /// What it says.
    pub fn get(&self, arguments: &[&str]) -> Result<Value, ClusterError> {
        let mut get = self.command();
        let text = run(get.arg("get").args(arguments).args(["--output", "json"]))?;
        serde_json::from_str(&text).map_err(|error| ClusterError::Command(error.to_string()))
    }

    /// Creates an object, which is returned as it is then.
    ///
    /// # Errors
    /// What the API server says of it.
    pub fn create(&self, object: &Value, flags: &[&str]) -> Result<Value, ClusterError> {
        let file = tempfile::NamedTempFile::new().map_err(of("a manifest"))?;
        fs::write(file.path(), object.to_string()).map_err(of("a manifest"))?;
        let mut create = self.command();
        create.args(["create", "--output", "json", "--filename"]);
        let text = run(create.arg(file.path()).args(flags))?;
        serde_json::from_str(&text).map_err(|error| ClusterError::Command(error.to_string()))
    }
}

/// What a command writes.
///
/// # Errors
/// What it says where it fails.
pub fn run(command: &mut Command) -> Result<String, ClusterError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(of(name))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(ClusterError::Command(format!("{out}{said}")))
}

/// Whether a policy server says that it is ready.
fn is_ready(address: &str) -> bool {
    use std::io::{Read, Write};
    let ask = || -> io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /readiness HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.lines().next().is_some_and(|it| it.contains(" 200 ")))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
