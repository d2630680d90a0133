//! Images in archives: what `docker save`, `podman save` and `skopeo copy` write reads as the directory that it was.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mesa_scan::arch::Arch;
use mesa_scan::layout::Layout;
use mesa_scan::tree::{Archive, RealPath, Tree};
use rstest::rstest;
use serde_json::json;

use crate::elf::library;
use crate::fixture::{Root, glibc, image, names, node, reasons, scan_of, scan_paths};

/// How a layer is packed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// How an archive is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// `docker save`, `skopeo copy … docker-archive:`
    Docker,
    /// `podman save`: a layer twice is a link.
    Podman,
    /// `skopeo copy … oci-archive:`
    OciArchive,
    /// `skopeo copy … oci:`
    OciDirectory,
}

/// A layer's tar file.
pub(crate) struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Layer(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o755);
        header
    }

    /// A name is written as it is, even one that the tar library would refuse.
    pub(crate) fn entry(
        mut self,
        kind: tar::EntryType,
        name: &str,
        link: &str,
        bytes: &[u8],
    ) -> Self {
        let mut header = Self::header(kind, bytes.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.entry(tar::EntryType::Regular, name, "", bytes.as_ref())
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(tar::EntryType::Directory, name, "", b"")
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Symlink, name, target, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Link, name, target, b"")
    }

    pub(crate) fn whiteout(self, name: &str) -> Self {
        self.file(name, b"")
    }

    /// All of a directory, hard links as links.
    pub(crate) fn tree(root: &Path) -> Self {
        let mut layer = Layer::new();
        let mut seen = std::collections::BTreeMap::new();
        layer.add(root, root, &mut seen);
        layer
    }

    fn add(
        &mut self,
        root: &Path,
        directory: &Path,
        seen: &mut std::collections::BTreeMap<u64, PathBuf>,
    ) {
        let mut entries: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.strip_prefix(root).unwrap().to_owned();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_symlink() {
                let mut header = Self::header(tar::EntryType::Symlink, 0);
                self.0
                    .append_link(&mut header, &name, fs::read_link(&path).unwrap())
                    .unwrap();
            } else if metadata.is_dir() {
                self.0.append_dir(&name, &path).unwrap();
                self.add(root, &path, seen);
            } else if let Some(first) = seen.get(&metadata.ino()) {
                let mut header = Self::header(tar::EntryType::Link, 0);
                self.0.append_link(&mut header, &name, first).unwrap();
            } else {
                assert!(!metadata.file_type().is_fifo());
                self.0.append_path_with_name(&path, &name).unwrap();
                if metadata.nlink() > 1 {
                    seen.insert(metadata.ino(), name);
                }
            }
        }
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Writes an image of some layers.
pub(crate) fn write(
    directory: &Path,
    form: Form,
    packing: Packing,
    layers: Vec<Vec<u8>>,
) -> PathBuf {
    let layers: Vec<Vec<u8>> = layers
        .into_iter()
        .map(|layer| pack(packing, layer))
        .collect();
    match form {
        Form::Docker | Form::Podman => {
            let mut archive = Layer::new();
            let mut listed = Vec::new();
            for (index, layer) in layers.iter().enumerate() {
                let name = format!("{index:064}.tar");
                archive = archive.file(&name, layer);
                listed.push(match form {
                    Form::Podman => {
                        archive = archive
                            .link(&format!("legacy{index}/layer.tar"), &format!("../{name}"));
                        format!("legacy{index}/layer.tar")
                    }
                    _ => name,
                });
            }
            let manifest = json!([{"Config": "config.json", "RepoTags": [], "Layers": listed}]);
            let archive = archive
                .file("config.json", "{}")
                .file("manifest.json", manifest.to_string());
            put(&directory.join("image.tar"), &archive.bytes())
        }
        Form::OciArchive | Form::OciDirectory => {
            let digest = |index: usize| format!("sha256:{index:064}");
            let descriptors: Vec<_> = (0..layers.len())
                .map(|index| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(index)}))
                .collect();
            let manifest = json!({"schemaVersion": 2, "layers": descriptors}).to_string();
            let inner = json!({"manifests": [
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(900), "platform": {"architecture": "amd64", "os": "linux"}},
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(901), "platform": {"architecture": "arm64", "os": "linux"}},
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(902), "platform": {"architecture": "unknown", "os": "unknown"}},
            ]}).to_string();
            let index = json!({"manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(800)}]}).to_string();
            let mut parts = vec![
                (
                    "oci-layout".to_owned(),
                    br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec(),
                ),
                ("index.json".to_owned(), index.into_bytes()),
                (format!("blobs/sha256/{:064}", 800), inner.into_bytes()),
                (format!("blobs/sha256/{:064}", 900), manifest.into_bytes()),
            ];
            for (index, layer) in layers.into_iter().enumerate() {
                parts.push((format!("blobs/sha256/{index:064}"), layer));
            }
            if matches!(form, Form::OciArchive) {
                let archive = parts
                    .into_iter()
                    .fold(Layer::new(), |archive, (name, bytes)| {
                        archive.file(&name, bytes)
                    });
                return put(&directory.join("image.tar"), &archive.bytes());
            }
            for (name, bytes) in parts {
                put(&directory.join("image").join(name), &bytes);
            }
            directory.join("image")
        }
    }
}

pub(crate) fn put(path: &Path, bytes: &[u8]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(bytes).unwrap();
    path.to_owned()
}

fn pack(packing: Packing, layer: Vec<u8>) -> Vec<u8> {
    match packing {
        Packing::Plain => layer,
        Packing::Gzip => {
            // In two members, as parallel compressors write it.
            let (first, second) = layer.split_at(layer.len() / 2);
            let mut out = Vec::new();
            for part in [first, second] {
                let mut encoder =
                    flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
                encoder.write_all(part).unwrap();
                encoder.finish().unwrap();
            }
            out
        }
        Packing::Zstd => {
            // In two frames with a skippable one between them, as containers/storage writes it.
            let (first, second) = layer.split_at(layer.len() / 2);
            let mut out = zstd::encode_all(first, 1).unwrap();
            out.extend([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
            out.extend(zstd::encode_all(second, 1).unwrap());
            out
        }
    }
}

fn open(path: &Path) -> Archive {
    Archive::open(path, Arch::X86_64).unwrap().unwrap()
}

fn text(archive: &Archive, path: &str) -> Option<String> {
    let tree: &dyn Tree = archive;
    let entry = tree.lookup(path).unwrap().found()?;
    Some(tree.read_text(&entry.path, 1000).unwrap())
}

#[rstest]
fn an_archive_reads_as_the_directory_that_it_was(
    #[values(Form::Docker, Form::Podman, Form::OciArchive, Form::OciDirectory)] form: Form,
    #[values(Packing::Plain, Packing::Gzip, Packing::Zstd)] packing: Packing,
) {
    let node = node(Arch::X86_64, true);
    let image = image(Arch::X86_64, true, 33);
    image
        .library("/opt/own/libdrm.so.2.0", &library("libdrm.so.2"))
        .link("/opt/own/libdrm.so.2", "/opt/own/libdrm.so.2.0")
        .file("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf")
        .file("/etc/ld.so.conf.d/own.conf", "/opt/own");
    let layer = Layer::tree(image.path()).bytes();
    let directory = tempfile::tempdir().unwrap();
    let archive = write(directory.path(), form, packing, vec![layer]);

    for layout in [Layout::Files, Layout::Staged] {
        let from_directory = scan_of(&node, &image, layout).unwrap();
        let from_archive = scan_paths(node.path(), &archive, layout).unwrap();
        assert!(!names(&from_archive).contains(&"libdrm.so.2"));
        assert_eq!(reasons(&from_archive), reasons(&from_directory));
        assert_eq!(
            mesa_scan::output::manifest(&from_archive).unwrap(),
            mesa_scan::output::manifest(&from_directory).unwrap()
        );
    }
}

#[rstest]
fn layers_merge_as_a_runtime_unpacks_them(
    #[values(Packing::Plain, Packing::Gzip, Packing::Zstd)] packing: Packing,
) {
    let lower = Layer::new()
        .directory("usr")
        .directory("usr/lib")
        .link("lib", "usr/lib")
        .file("usr/lib/kept", "kept")
        .file("usr/lib/replaced", "old")
        .file("usr/lib/removed", "old")
        .file("gone/with/its/children", "old")
        .file("opaque/old", "old")
        .file("opaque/deeper/old", "old")
        .file("was-file", "old")
        .file("was-directory/child", "old");
    let upper = Layer::new()
        // Through a link of the layer below, without an entry for the directory.
        .file("lib/through-link", "new")
        .file("./usr/lib/replaced", "new")
        .whiteout("usr/lib/.wh.removed")
        .whiteout(".wh.gone")
        // What a layer adds itself stays, even where its whiteout comes later.
        .file("opaque/new", "new")
        .whiteout("opaque/.wh..wh..opq")
        .whiteout("usr/lib/.wh.never-was")
        .whiteout(".wh.")
        .whiteout("usr/.wh...")
        .file("was-file/child", "new")
        .file("was-directory", "new")
        .hard_link("usr/lib/same", "usr/lib/kept");
    // A file cannot hold a child before it has become a directory.
    let upper = upper.bytes();
    let middle = Layer::new().whiteout(".wh.was-file").bytes();
    let directory = tempfile::tempdir().unwrap();
    let path = write(
        directory.path(),
        Form::Docker,
        packing,
        vec![lower.bytes(), middle, upper],
    );
    let archive = open(&path);

    for (path, expected) in [
        ("/usr/lib/kept", Some("kept")),
        ("/lib/kept", Some("kept")),
        ("/usr/lib/replaced", Some("new")),
        ("/usr/lib/removed", None),
        ("/usr/lib/through-link", Some("new")),
        ("/usr/lib/same", Some("kept")),
        ("/gone/with/its/children", None),
        ("/opaque/old", None),
        ("/opaque/deeper/old", None),
        ("/opaque/new", Some("new")),
        ("/was-file/child", Some("new")),
        ("/was-directory", Some("new")),
        ("/was-directory/child", None),
    ] {
        assert_eq!(text(&archive, path).as_deref(), expected, "{path}");
    }
    let tree: &dyn Tree = &archive;
    assert_eq!(
        tree.list(&RealPath::root()).unwrap(),
        ["lib", "opaque", "usr", "was-directory", "was-file"]
    );
    let id = |path| tree.lookup(path).unwrap().found().unwrap().node.id;
    assert_eq!(id("/usr/lib/same"), id("/usr/lib/kept"));
}

#[rstest]
#[case::endless_name(Layer::new().entry(tar::EntryType::GNULongName, "name", "", &vec![b'a'; 4 << 20]), "more than 1 MiB")]
#[case::endless_header(Layer::new().entry(tar::EntryType::XHeader, "name", "", &vec![b'a'; 4 << 20]), "more than 1 MiB")]
#[case::parent(Layer::new().file("../outside", "x"), "`..` in its name")]
#[case::parent_inside(Layer::new().file("usr/../../outside", "x"), "`..` in its name")]
#[case::hard_link_out(Layer::new().hard_link("passwd", "../../etc/passwd"), "out of the image")]
#[case::hard_link_to_nothing(Layer::new().hard_link("passwd", "/etc/passwd"), "which the image does not have")]
#[case::through_file(Layer::new().file("a", "x").file("a/b", "x"), "not a directory")]
#[case::through_escaping_link(Layer::new().link("up", "../.."). file("up/outside", "x"), "leads out of the root")]
#[case::through_looping_link(Layer::new().link("loop", "loop").file("loop/x", "x"), "links follow each other")]
#[case::through_dangling_link(Layer::new().link("etc", "/nowhere").file("etc/x", "x"), "not a directory")]
fn a_hostile_layer_is_refused(
    #[case] layer: Layer,
    #[case] expected: &str,
    #[values(Packing::Plain, Packing::Zstd)] packing: Packing,
) {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), Form::Docker, packing, vec![layer.bytes()]);
    let error = Archive::open(&path, Arch::X86_64).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "something was written"
    );
}

#[rstest]
fn absolute_names_links_and_devices_stay_inside(
    #[values(Packing::Plain, Packing::Gzip)] packing: Packing,
) {
    let layer = Layer::new()
        .file("/absolute", "inside")
        .link("to-absolute", "/absolute")
        .link("to-host", "/etc/hostname")
        .link("up", "../../../../etc/hostname")
        .entry(tar::EntryType::Char, "null", "", b"")
        .entry(tar::EntryType::Fifo, "pipe", "", b"");
    let directory = tempfile::tempdir().unwrap();
    let archive = open(&write(
        directory.path(),
        Form::Docker,
        packing,
        vec![layer.bytes()],
    ));
    assert_eq!(text(&archive, "/absolute").as_deref(), Some("inside"));
    assert_eq!(text(&archive, "/to-absolute").as_deref(), Some("inside"));
    assert_eq!(text(&archive, "/to-host"), None);
    let tree: &dyn Tree = &archive;
    assert!(
        tree.lookup("/up")
            .unwrap_err()
            .to_string()
            .contains("out of the root")
    );
    for name in ["/null", "/pipe"] {
        let entry = tree.lookup(name).unwrap().found().unwrap();
        assert_eq!(entry.file_size(), None);
        assert!(tree.open(&entry.path).is_err());
    }
}

#[rstest]
#[case::nothing(b"", "no manifest.json")]
#[case::text(b"not an archive, but long enough for a header: ", "not an image")]
#[case::gzip(&[0x1f, 0x8b, 8, 0], "compressed as a whole")]
fn what_is_no_archive_is_told_so(#[case] bytes: &[u8], #[case] expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = put(&directory.path().join("image.tar"), &bytes.repeat(30));
    let error = Archive::open(&path, Arch::X86_64).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[rstest]
#[case::shape("manifest.json", "{}", "not what an image has there")]
#[case::none("manifest.json", "[]", "names 0 images")]
#[case::two(
    "manifest.json",
    r#"[{"Layers": []}, {"Layers": []}]"#,
    "names 2 images"
)]
#[case::absent("manifest.json", r#"[{"Layers": ["x.tar"]}]"#, "has no x.tar")]
#[case::outside("manifest.json", r#"[{"Layers": ["../../etc/passwd"]}]"#, "has no")]
#[case::digest(
    "index.json",
    r#"{"manifests": [{"digest": "sha256:../../../etc/passwd"}]}"#,
    "is not a digest"
)]
#[case::other(
    "index.json",
    r#"{"manifests": [{"digest": "sha256:0", "platform": {"architecture": "s390x"}}]}"#,
    "no image for amd64"
)]
#[case::many(
    "index.json",
    r#"{"manifests": [{"digest": "sha256:0"}, {"digest": "sha256:1"}]}"#,
    "has 2 images"
)]
#[case::circle(
    "index.json",
    r#"{"manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:0"}]}"#,
    "indexes lead to each other"
)]
fn an_archive_of_the_wrong_shape_is_told_so(
    #[case] name: &str,
    #[case] json: &str,
    #[case] expected: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let archive = Layer::new().file(name, json).file("blobs/sha256/0", json);
    let path = put(&directory.path().join("image.tar"), &archive.bytes());
    let error = Archive::open(&path, Arch::X86_64).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[rstest]
fn a_truncated_archive_is_an_error_wherever_it_ends(
    #[values(Packing::Plain, Packing::Gzip, Packing::Zstd)] packing: Packing,
) {
    let root = Root::new();
    glibc(&root, Arch::X86_64, true, 36);
    let layer = Layer::tree(root.path()).bytes();
    let directory = tempfile::tempdir().unwrap();
    let whole = fs::read(write(
        directory.path(),
        Form::OciArchive,
        packing,
        vec![layer],
    ))
    .unwrap();
    // The end of a tar file is two empty blocks, which nobody misses.
    for length in (0..whole.len() - 1536).step_by(97) {
        let path = put(&directory.path().join("cut.tar"), &whole[..length]);
        let opened = Archive::open(&path, Arch::X86_64);
        assert!(opened.is_err(), "{length} of {} bytes", whole.len());
    }
}

#[test]
fn names_that_are_longer_than_a_header_are_read() {
    let root = Root::new();
    let long = format!("/{}/{}", "a".repeat(150), "b".repeat(150));
    root.file(&long, "deep");
    let directory = tempfile::tempdir().unwrap();
    let layer = Layer::tree(root.path()).bytes();
    let archive = open(&write(
        directory.path(),
        Form::Docker,
        Packing::Gzip,
        vec![layer],
    ));
    assert_eq!(text(&archive, &long).as_deref(), Some("deep"));
}
