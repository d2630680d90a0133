//! The program itself, on a socket in a directory of its own: as it is compiled with the tests, or the one that MESA_NODE
//! names.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt as _;
use mesa_node::api::{HookPoint, InfoParams, InfoResult};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::Code;

use crate::client::{Client, VMI};
use crate::common::{data, long_domain, program, say};

const OURS: &str = "<graphics type='egl-headless'><gl rendernode='/dev/null'/></graphics>";

/// A hook that runs; it is killed when the test is over.
struct Hook {
    child: Child,
    directory: TempDir,
}

impl Hook {
    fn command(directory: &Path, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .arg("hook")
            .arg("--socket")
            .arg(directory.join("sockets/hook.sock"));
        command.args(arguments).stderr(Stdio::piped());
        command
    }

    fn start(arguments: &[&str]) -> Self {
        Hook::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    fn start_in(directory: TempDir, arguments: &[&str]) -> Self {
        let child = Hook::command(directory.path(), arguments).spawn().unwrap();
        let hook = Hook { child, directory };
        hook.wait_for(&hook.socket());
        hook
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("sockets/hook.sock")
    }

    /// As virt-launcher does: a file is there, and then it is dialled.
    fn wait_for(&self, socket: &Path) {
        let start = Instant::now();
        while UnixStream::connect(socket).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody listens");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn client<T>(&self, test: impl AsyncFnOnce(Client) -> T) -> T {
        let socket = self.socket();
        run(async move { test(Client::connect(&socket).await).await })
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Ends it, and returns its exit status and its log.
    fn end(mut self) -> (Option<i32>, Vec<serde_json::Value>) {
        self.signal(Signal::TERM);
        let start = Instant::now();
        let status = self.child.wait().unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        (status.code(), lines.collect())
    }

    /// How much it has in memory, in kB; `VmHWM` is how much it has had at most.
    fn memory(&self, key: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        let line = line.trim_start_matches(':');
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test)
}

/// What the program says when it does not run.
fn refusal(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = Hook::command(directory, arguments).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    (
        status.code(),
        said.replace(directory.to_str().unwrap(), "DIR"),
    )
}

fn domain(case: &str) -> String {
    fs::read_to_string(data().join(case)).unwrap()
}

#[test]
fn it_says_who_it_is() {
    let hook = Hook::start(&[]);
    let info = hook.client(async |client| client.info().await);
    let hook_points = vec![HookPoint {
        name: "OnDefineDomain".to_owned(),
        priority: 0,
    }];
    let versions = vec!["v1alpha3".to_owned()];
    let name = "mesa-injector".to_owned();
    assert_eq!(
        info,
        InfoResult {
            name,
            hook_points,
            versions
        }
    );
    assert_eq!(hook.end().1[1]["msg"], "virt-launcher has found the hook");
}

/// As `KubeVirt` 1.9 starts a VM: the second call has lost the `<gl>` and the options for QEMU.
#[test]
fn a_vm_is_given_its_display_in_both_calls() {
    let hook = Hook::start(&["--always", "--module-dir", "/modules"]);
    hook.client(async |client| {
        for call in ["first", "second"] {
            let domain = domain(&format!("always/kubevirt-1.9-{call}-call.xml"));
            let given = client.on_define_domain(&domain, VMI).await.unwrap();
            let node = given.matches("<gl rendernode='/dev/null'/>").count();
            let modules = given
                .matches("<qemu:env name='QEMU_MODULE_DIR' value='/modules'/>")
                .count();
            assert_eq!((node, modules), (1, 1), "{given}");
            let again = client.mutate_domain("libvirt", &given).await.unwrap();
            assert_eq!(again, given);
        }
    });
    let (status, log) = hook.end();
    assert_eq!(status, Some(0));
    let messages: Vec<_> = log
        .iter()
        .map(|line| line["msg"].as_str().unwrap())
        .collect();
    let [listens, first, again, second, once_more, ends] = messages[..] else {
        panic!("{messages:#?}")
    };
    assert!(listens.starts_with("listens on ") && listens.ends_with("hook.sock"));
    assert_eq!(first, "added a GL display and QEMU_MODULE_DIR");
    assert_eq!(
        second,
        "added the render node of the GL display and QEMU_MODULE_DIR"
    );
    assert_eq!(
        [again, once_more],
        ["unchanged: the GL display is there"; 2]
    );
    assert_eq!(ends, "ends, as it was told to");
    let line = &log[1];
    assert_eq!(line["namespace"], "default");
    assert_eq!(line["name"], "demo");
    assert_eq!(line["uid"], "0-1");
    assert_eq!(line["call"], "OnDefineDomain");
    assert_eq!(log[2]["call"], "MutateDomain");
}

#[test]
fn a_vm_without_need_is_unchanged() {
    let hook = Hook::start(&["--module-dir", "/modules"]);
    let domain = domain("when-needed/kubevirt-1.9-no-vgpu.xml");
    let given = hook.client(async |client| client.on_define_domain(&domain, VMI).await.unwrap());
    assert_eq!(given, domain);
    assert_eq!(
        hook.end().1[1]["msg"],
        "unchanged: no device of the VM has display='on'"
    );
}

#[test]
fn what_is_no_domain_is_refused_with_words_for_a_person() {
    let hook = Hook::start(&["--always"]);
    let status = hook.client(async |client| client.on_define_domain("", VMI).await.unwrap_err());
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "mesa-injector cannot give the VM a GL display: the domain is empty"
    );
    let line = &hook.end().1[1];
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "refused: the domain is empty");
}

#[test]
fn a_domain_of_another_hypervisor_is_unchanged() {
    let hook = Hook::start(&["--always"]);
    let given = hook.client(async |client| client.mutate_domain("cloud", "{}").await.unwrap());
    assert_eq!(given, "{}");
    assert_eq!(hook.end().1[1]["level"], "warning");
}

#[test]
fn a_call_that_nobody_has_subscribed_to_is_unimplemented() {
    Hook::start(&[]).client(async |client| {
        for path in ["/kubevirt.hooks.v1alpha3.Callbacks/Shutdown", "/a/b", "/"] {
            let status = client
                .call::<_, InfoResult>(path, InfoParams {})
                .await
                .unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented);
        }
    });
}

#[test]
fn a_plugin_has_a_socket_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("plugin/mesa/hook.sock");
    let hook = Hook::start_in(
        directory,
        &["--always", "--plugin-socket", plugin.to_str().unwrap()],
    );
    hook.wait_for(&plugin);
    for socket in [&plugin, &hook.socket()] {
        run(async {
            let client = Client::connect(socket).await;
            let domain = client
                .mutate_domain("libvirt", "<domain><devices/></domain>")
                .await;
            assert_eq!(
                domain.unwrap(),
                format!("<domain><devices>{OURS}</devices></domain>")
            );
        });
    }
    let sockets = [plugin, hook.socket()];
    let directory = sockets.clone().map(|it| it.parent().unwrap().to_owned());
    for directory in &directory {
        assert_eq!(
            fs::read_dir(directory).unwrap().count(),
            1,
            "only the socket is there"
        );
    }
    hook.signal(Signal::TERM);
    let start = Instant::now();
    while sockets.iter().any(|it| it.exists()) {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "the sockets are still there"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn another_user_of_the_pod_may_connect() {
    let hook = Hook::start(&[]);
    let metadata = fs::symlink_metadata(hook.socket()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o666);
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let sockets = directory.path().join("sockets");
    // What a hook leaves that was killed: at any time, even between two steps of the next one's start.
    fs::create_dir_all(sockets.join(".new")).unwrap();
    drop(UnixListener::bind(sockets.join("hook.sock")).unwrap());
    drop(UnixListener::bind(sockets.join(".new/s")).unwrap());
    let hook = Hook::start_in(directory, &[]);
    assert_eq!(
        hook.client(async |client| client.info().await).name,
        "mesa-injector"
    );
    assert_eq!(fs::read_dir(sockets).unwrap().count(), 1);
}

#[test]
fn a_hook_that_was_killed_is_replaced() {
    let mut hook = Hook::start(&["--always"]);
    hook.child.kill().unwrap();
    hook.child.wait().unwrap();
    assert!(hook.socket().exists());
    hook.child = Hook::command(hook.directory.path(), &["--always"])
        .spawn()
        .unwrap();
    hook.wait_for(&hook.socket());
    assert_eq!(
        hook.client(async |client| client.info().await).name,
        "mesa-injector"
    );
}

#[test]
fn what_is_no_socket_stays_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sockets/hook.sock");
    fs::create_dir(directory.path().join("sockets")).unwrap();
    fs::write(&socket, "mine").unwrap();
    let (status, said) = refusal(directory.path(), &[]);
    assert_eq!(status, Some(1));
    assert_eq!(
        said,
        "error: DIR/sockets/hook.sock is there, and is a file\n\
         fix: take it away, or give the hook a directory of its own\n"
    );
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
    fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink("elsewhere", &socket).unwrap();
    assert!(
        refusal(directory.path(), &[])
            .1
            .contains("is a symbolic link")
    );
    fs::remove_file(&socket).unwrap();
    fs::create_dir(&socket).unwrap();
    assert!(refusal(directory.path(), &[]).1.contains("is a directory"));
}

#[test]
fn where_no_socket_can_be_the_reason_is_said() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("sockets"), "").unwrap();
    let (status, said) = refusal(directory.path(), &[]);
    assert_eq!(status, Some(1));
    let reason = "error: cannot make the directory DIR/sockets\n  caused by: ";
    assert!(said.starts_with(reason), "{said}");
    let missing = directory.path().join("sockets/further");
    assert!(refusal(&missing, &[]).1.contains("Not a directory"));
    // No file system takes new files in proc, whoever asks.
    let (_, said) = refusal(Path::new("/proc/self"), &[]);
    assert!(
        said.starts_with("error: cannot make the directory "),
        "{said}"
    );
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("a".repeat(120));
    let (status, said) = refusal(&long, &[]);
    assert_eq!(status, Some(1));
    assert!(
        said.contains("cannot listen on") && said.contains("a shorter path"),
        "{said}"
    );
}

#[test]
fn a_render_node_that_no_domain_can_have_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (status, said) = refusal(directory.path(), &["--render-node", "renderD128"]);
    assert_eq!(status, Some(1));
    assert_eq!(
        said,
        "error: no domain can have this --render-node or --module-dir\n  \
         caused by: \"renderD128\" is not an absolute path\n\
         fix: name the absolute path of a file in virt-launcher's container\n"
    );
}

#[test]
fn each_signal_that_ends_a_container_ends_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut hook = Hook::start(&[]);
        // A client that stays is no reason to wait.
        let _client = UnixStream::connect(hook.socket()).unwrap();
        hook.signal(signal);
        assert_eq!(hook.child.wait().unwrap().code(), Some(0));
        assert!(!hook.socket().exists());
    }
}

#[test]
fn many_calls_at_once_are_answered() {
    let hook = Hook::start(&["--always"]);
    let socket = hook.socket();
    run(async {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..100 {
            let socket = socket.clone();
            calls.spawn(async move {
                let domain = format!("<domain><name>{number}</name><devices></devices></domain>");
                let client = Client::connect(&socket).await;
                let given = client.on_define_domain(&domain, VMI).await.unwrap();
                assert_eq!(given.replace(OURS, ""), domain);
            });
        }
        assert_eq!(calls.join_all().await.len(), 100);
    });
    assert_eq!(hook.end().1.len(), 102);
}

/// Whoever may connect may also talk nonsense: the next one is answered all the same.
#[test]
fn a_client_that_speaks_no_grpc_harms_nobody() {
    let hook = Hook::start(&[]);
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff",
    ] {
        let mut stream = UnixStream::connect(hook.socket()).unwrap();
        let _ = stream.write_all(nonsense);
    }
    assert_eq!(
        hook.client(async |client| client.info().await).name,
        "mesa-injector"
    );
}

#[test]
fn large_domains_are_answered_and_do_not_stay_in_memory() {
    let hook = Hook::start(&["--always", "--module-dir", "/modules"]);
    let mut said = format!("memory: {} kB at first", hook.memory("VmRSS"));
    for megabytes in [1, 4, 16] {
        let domain = long_domain((megabytes << 20) - 4096);
        let (given, took) = hook.client(async |client| {
            let start = Instant::now();
            let given = client.on_define_domain(&domain, VMI).await.unwrap();
            (given, start.elapsed())
        });
        assert_eq!(given.matches(OURS).count(), 1);
        assert_eq!(given.matches("QEMU_MODULE_DIR").count(), 1);
        // The connection ends a moment later than its client.
        std::thread::sleep(Duration::from_millis(300));
        let (idle, most) = (hook.memory("VmRSS"), hook.memory("VmHWM"));
        // Of larger ones, which no VM has that is known, the C library keeps more.
        assert!(megabytes > 1 || idle <= 10 << 10, "{idle} kB");
        said += &format!("; {megabytes} MB in {took:?}: {idle} kB behind, {most} kB at most");
    }
    say(&said);
    // The sidecar may have 64 MB.
    assert!(hook.memory("VmHWM") < 60_000, "{said}");
}

#[test]
fn hostile_names_do_not_break_the_log() {
    let hook = Hook::start(&[]);
    let vmi =
        r#"{"metadata": {"name": "a\n{\"msg\": \"forged\"}\u001b[2J", "namespace": "\u2028"}}"#;
    let forged = "<domain\u{2028}\u{1b}/>";
    hook.client(async |client| client.on_define_domain(forged, vmi).await.unwrap_err());
    let (_, log) = hook.end();
    assert_eq!(log.len(), 3, "{log:#?}");
    assert_eq!(log[1]["name"], "a\u{fffd}{\"msg\": \"forged\"}\u{fffd}[2J");
}

#[test]
fn help_has_an_example_and_the_version_is_said() {
    let help = program().args(["hook", "--help"]).assert().success();
    let help = String::from_utf8(help.get_output().stdout.clone()).unwrap();
    assert!(help.contains("mesa-node hook --module-dir"), "{help}");
    let version = program().arg("--version").assert().success();
    let version = String::from_utf8(version.get_output().stdout.clone()).unwrap();
    assert_eq!(
        version,
        format!("mesa-node {}\n", env!("CARGO_PKG_VERSION"))
    );
    program().assert().code(2);
}
