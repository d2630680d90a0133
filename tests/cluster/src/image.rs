//! An image of one layer, out of a directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

/// Writes a `docker save` archive of a directory, with the capabilities of its programs.
///
/// # Errors
/// Where something cannot be read or written.
pub fn archive(root: &Path, name: &str, entry_point: &[&str], to: &Path) -> io::Result<()> {
    let mut layer = tempfile::tempfile_in(to.parent().unwrap_or(Path::new(".")))?;
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--xattrs",
        "--xattrs-include=security.capability",
    ]);
    tar.arg("--directory").arg(root).arg(".");
    let status = tar.stdout(layer.try_clone()?).status()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "tar of {}: {status}",
            root.display()
        )));
    }
    let digest = digest(&mut layer)?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entry_point, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        "history": [{"created_by": "tests/cluster"}],
    });
    let config = config.to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]);

    let mut archive = tar::Builder::new(io::BufWriter::new(File::create(to)?));
    let mut put = |name: &str, size: u64, bytes: &mut dyn Read| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes)
    };
    let size = layer.metadata()?.len();
    io::Seek::rewind(&mut layer)?;
    put("layer.tar", size, &mut layer)?;
    for (name, text) in [
        (config_name.as_str(), config),
        ("manifest.json", manifest.to_string()),
    ] {
        put(name, text.len() as u64, &mut text.as_bytes())?;
    }
    archive.into_inner()?.flush()
}

fn digest(file: &mut File) -> io::Result<String> {
    io::Seek::rewind(file)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            None | Some([]) => return Ok(hex(&hash.finalize())),
            Some(bytes) => hash.update(bytes),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
