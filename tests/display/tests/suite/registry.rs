//! The image goes to a registry as it is: skopeo and docker-registry are Debian's own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::{Copy, registry, run};
use crate::stand::Stand;

/// A registry on the loopback, which ends with this value.
struct Registry {
    root: Copy,
    port: u16,
    server: Child,
}

impl Registry {
    fn start() -> Self {
        let root = registry();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let configuration = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: /images}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        );
        fs::write(root.path().join("registry.yml"), configuration).unwrap();
        fs::create_dir_all(root.path().join("var/tmp")).unwrap();
        let mut server = Command::new("chroot");
        server.arg(root.path());
        server.args(["/usr/bin/docker-registry", "serve", "/registry.yml"]);
        let log = fs::File::create(root.path().join("registry.log")).unwrap();
        let server = server.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let registry = Registry { root, port, server };
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let log = fs::read_to_string(registry.root.path().join("registry.log"));
            assert!(Instant::now() < until, "{log:?}");
            thread::sleep(Duration::from_millis(50));
        }
        registry
    }

    fn skopeo(&self, arguments: &[&str]) -> String {
        let mut skopeo = Command::new("chroot");
        skopeo.arg(self.root.path()).arg("/usr/bin/skopeo");
        run(skopeo.arg("--insecure-policy").args(arguments)).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn skopeo_copies_the_image_to_a_registry_and_its_digest_stays() {
    let Some(stand) = Stand::of_stock("trixie", "trixie") else {
        return;
    };
    let settings = stand.image("flat.tar", &["--no-hook"]);
    let reference = settings["images"][0]["reference"].as_str().unwrap();
    let (_, digest) = reference.split_once('@').unwrap();

    let registry = Registry::start();
    let archive = registry.root.path().join("flat.tar");
    fs::rename(stand.state.path().join("flat.tar"), archive).unwrap();
    let to = format!("docker://127.0.0.1:{}/mesa:1", registry.port);
    registry.skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        "oci-archive:/flat.tar",
        &to,
    ]);
    let format = [
        "--tls-verify=false",
        "--format",
        "{{.Digest}} {{.Os}}/{{.Architecture}}",
    ];
    let said = registry.skopeo(&[&["inspect"], &format[..], &[&to]].concat());
    assert_eq!(said.trim(), format!("{digest} linux/amd64"));
}
