//! The image goes to a registry as it is: skopeo and docker-registry are Debian's own.

use std::fs;

use crate::machine::Registry;
use crate::stand::Stand;

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
