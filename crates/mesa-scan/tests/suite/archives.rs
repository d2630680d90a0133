//! Images in archives: what `docker save`, `podman save` and `skopeo copy` write reads as the directory that it was.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mesa_scan::gl::GlReadAhead;
use mesa_scan::gl::Layout as MountLayout;
use mesa_scan::loader::Arch;
use mesa_scan::tree::image::{Choice, Platform};
use mesa_scan::tree::{Image, RealPath, Tree, TreeError};
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::elf::library;
use crate::fixture::{Root, cache, glibc, image, names, node, reasons, scan_of, scan_paths};

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
    /// `skopeo copy … dir:`
    SkopeoDirectory,
    /// What `docker save` writes, unpacked.
    DockerUnpacked,
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
            let mut layout = Layout::default();
            let layers: Vec<Value> = layers.iter().map(|layer| layout.layer(layer)).collect();
            let manifest = layout.manifest("linux/amd64", &layers);
            let attestation = json!({"platform": {"architecture": "unknown", "os": "unknown"}});
            let images = [
                Layout::platform(manifest, "linux/amd64"),
                // Not saved with it.
                Layout::platform(Layout::absent(MANIFEST), "linux/arm64"),
                merge(Layout::absent(MANIFEST), attestation),
            ];
            let index = layout.index(&images);
            layout.write(directory, &[index], matches!(form, Form::OciArchive))
        }
        Form::SkopeoDirectory => {
            let directory = directory.join("image");
            let mut layout = Layout::default();
            let layers: Vec<Value> = layers.iter().map(|layer| layout.layer(layer)).collect();
            let manifest = layout.manifest("linux/amd64", &layers);
            put(
                &directory.join("version"),
                b"Directory Transport Version: 1.1\n",
            );
            for (name, bytes) in layout.blobs {
                let name = name.rsplit('/').next().unwrap();
                let is_manifest = manifest["digest"].as_str().unwrap().ends_with(name);
                let name = if is_manifest { "manifest.json" } else { name };
                put(&directory.join(name), &bytes);
            }
            directory
        }
        Form::DockerUnpacked => {
            let packed = write(directory, Form::Docker, Packing::Plain, layers);
            let unpacked = directory.join("image");
            tar::Archive::new(File::open(&packed).unwrap())
                .unpack(&unpacked)
                .unwrap();
            fs::remove_file(packed).unwrap();
            unpacked
        }
    }
}

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image in OCI layout.
#[derive(Default)]
pub(crate) struct Layout {
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    /// A blob's descriptor.
    pub(crate) fn blob(&mut self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let name = format!("blobs/{}", digest.replace(':', "/"));
        self.blobs.insert(name, bytes.to_vec());
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    pub(crate) fn layer(&mut self, bytes: &[u8]) -> Value {
        self.blob(LAYER, bytes)
    }

    /// An image that says itself for which platform it is.
    pub(crate) fn manifest(&mut self, platform: &str, layers: &[Value]) -> Value {
        let configuration = platform_json(platform);
        let configuration = self.blob(CONFIGURATION, configuration.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": configuration, "layers": layers});
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    pub(crate) fn index(&mut self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// The descriptor of something that is not there.
    pub(crate) fn absent(kind: &str) -> Value {
        json!({"mediaType": kind, "digest": format!("sha256:{:064}", 9), "size": 1})
    }

    pub(crate) fn platform(descriptor: Value, platform: &str) -> Value {
        merge(descriptor, json!({"platform": platform_json(platform)}))
    }

    pub(crate) fn tag(descriptor: Value, tag: &str) -> Value {
        merge(
            descriptor,
            json!({"annotations": {"org.opencontainers.image.ref.name": tag}}),
        )
    }

    pub(crate) fn write(self, directory: &Path, manifests: &[Value], in_archive: bool) -> PathBuf {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        let mut parts = self.blobs;
        parts.insert(
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec(),
        );
        parts.insert("index.json".to_owned(), index.to_string().into_bytes());
        if in_archive {
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

/// As OCI writes it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn platform_json(platform: &str) -> Value {
    let parts: Vec<&str> = platform.split('/').collect();
    let mut json = json!({"os": parts[0], "architecture": parts[1]});
    if let Some(variant) = parts.get(2) {
        json["variant"] = json!(variant);
    }
    json
}

fn merge(mut object: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("{more}")
    };
    object.as_object_mut().unwrap().extend(more);
    object
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

fn try_open(path: &Path) -> Result<Option<Image>, TreeError> {
    let choice = Choice {
        machine: Some(Platform::linux("amd64")),
        ..Choice::default()
    };
    Image::open(path, &choice, &GlReadAhead)
}

fn open(path: &Path) -> Image {
    try_open(path).unwrap().unwrap()
}

/// Why an image is not read.
fn refusal(path: &Path) -> String {
    try_open(path).err().unwrap().to_string()
}

fn text(archive: &Image, path: &str) -> Option<String> {
    let tree: &dyn Tree = archive;
    let entry = tree.lookup(path).unwrap().found()?;
    Some(tree.read_text(&entry.path, 1000).unwrap())
}

#[rstest]
fn an_archive_reads_as_the_directory_that_it_was(
    #[values(
        Form::Docker,
        Form::Podman,
        Form::OciArchive,
        Form::OciDirectory,
        Form::SkopeoDirectory,
        Form::DockerUnpacked
    )]
    form: Form,
    #[values(Packing::Plain, Packing::Gzip, Packing::Zstd)] packing: Packing,
) {
    let node = node(Arch::X86_64, true);
    let image = image(Arch::X86_64, true, 33);
    image
        .library("/opt/own/libdrm.so.2.0", &library("libdrm.so.2"))
        .link("/opt/own/libdrm.so.2", "/opt/own/libdrm.so.2.0")
        .file(
            "/etc/ld.so.cache",
            cache(&[("libdrm.so.2", "/opt/own/libdrm.so.2")]),
        );
    let layer = Layer::tree(image.path()).bytes();
    let directory = tempfile::tempdir().unwrap();
    let archive = write(directory.path(), form, packing, vec![layer]);

    for layout in [MountLayout::Files, MountLayout::Staged] {
        let from_directory = scan_of(&node, &image, layout).unwrap();
        let from_archive = scan_paths(node.path(), &archive, layout).unwrap();
        assert!(!names(&from_archive).contains(&"libdrm.so.2"));
        assert_eq!(reasons(&from_archive), reasons(&from_directory));
        assert_eq!(
            mesa_scan::output::scan(&from_archive).unwrap(),
            mesa_scan::output::scan(&from_directory).unwrap()
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
#[case::through_looping_link(Layer::new().link("loop", "loop").file("loop/x", "x"), "not a directory")]
#[case::through_dangling_link(Layer::new().link("etc", "/nowhere").file("etc/x", "x"), "not a directory")]
fn a_hostile_layer_is_refused(
    #[case] layer: Layer,
    #[case] expected: &str,
    #[values(Packing::Plain, Packing::Zstd)] packing: Packing,
) {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), Form::Docker, packing, vec![layer.bytes()]);
    let error = refusal(&path);
    assert!(error.contains(expected), "{error}");
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "something was written"
    );
}

/// A runtime unpacks it inside, too.
#[test]
fn a_link_above_the_root_leads_to_the_root() {
    let layer = Layer::new().link("up", "../..").file("up/outside", "x");
    let directory = tempfile::tempdir().unwrap();
    let layers = vec![layer.bytes()];
    let archive = open(&write(
        directory.path(),
        Form::Docker,
        Packing::Plain,
        layers,
    ));
    assert_eq!(text(&archive, "/outside").as_deref(), Some("x"));
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
    assert!(tree.lookup("/up").unwrap().found().is_none());
    for name in ["/null", "/pipe"] {
        let entry = tree.lookup(name).unwrap().found().unwrap();
        assert_eq!(entry.file_size(), None);
        assert!(tree.open(&entry.path).is_err());
    }
}

#[rstest]
#[case::nothing(b"", "no manifest.json")]
#[case::text(b"not an archive, but long enough for a header: ", "not an image")]
#[case::broken_gzip(&[0x1f, 0x8b, 8, 0], "cannot read")]
#[case::xz(&[0xfd, b'7', b'z', b'X', b'Z', 0], "compressed with xz, which is not read")]
#[case::bzip2(b"BZh91AY", "compressed with bzip2, which is not read")]
#[case::any_bytes(&[0x1b, b'[', b'2', b'J', 0xff], "not an image")]
fn what_is_no_archive_is_told_so(#[case] bytes: &[u8], #[case] expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = put(&directory.path().join("image.tar"), &bytes.repeat(30));
    let error = refusal(&path);
    assert!(error.contains(expected), "{error}");
    assert!(
        error.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{error:?}"
    );
}

#[rstest]
#[case::shape("manifest.json", "{}", "not what an image has there")]
#[case::none("manifest.json", "[]", "holds no image")]
#[case::two(
    "manifest.json",
    r#"[{"Config": "a", "Layers": []}, {"Config": "b", "Layers": []}]"#,
    "holds 2 images where one is looked at: a; b"
)]
#[case::absent("manifest.json", r#"[{"Layers": ["x.tar"]}]"#, "has no x.tar")]
#[case::outside("manifest.json", r#"[{"Layers": ["../../etc/passwd"]}]"#, "has no")]
#[case::digest(
    "index.json",
    r#"{"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1, "digest": "sha256:../../../etc/passwd"}]}"#,
    "not what an image has there"
)]
#[case::no_images(
    "index.json",
    r#"{"schemaVersion": 2, "manifests": []}"#,
    "holds no image"
)]
fn an_archive_of_the_wrong_shape_is_told_so(
    #[case] name: &str,
    #[case] json: &str,
    #[case] expected: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let archive = Layer::new().file(name, json).file("blobs/sha256/0", json);
    let path = put(&directory.path().join("image.tar"), &archive.bytes());
    let error = refusal(&path);
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
    // Nobody misses `oci-layout`, the last member, nor the two empty blocks at the end of a tar file.
    for length in (0..whole.len() - 1024 - 1536).step_by(97) {
        let path = put(&directory.path().join("cut.tar"), &whole[..length]);
        let opened = try_open(&path);
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

/// An image whose one file says which it is.
fn named(layout: &mut Layout, name: &str, platform: &str) -> Value {
    let layer = layout.layer(&Layer::new().file("name", name).bytes());
    layout.manifest(platform, &[layer])
}

/// Opens an image of several, and says which it is, or why none is.
fn chosen(path: &Path, platform: Option<&str>, tag: Option<&str>) -> String {
    let choice = Choice {
        platform: platform.map(|platform| platform.parse().unwrap()),
        machine: Some(Platform::linux("amd64")),
        tag: tag.map(str::to_owned),
    };
    match Image::open(path, &choice, &GlReadAhead) {
        Ok(image) => text(&image.unwrap(), "/name").unwrap(),
        Err(error) => error.to_string(),
    }
}

#[rstest]
#[case::one_of_another_variant(&["linux/amd64/v2"], None, "linux/amd64/v2")]
#[case::one_of_another_machine(&["linux/arm64"], None, "linux/arm64")]
#[case::default_before_variant(&["linux/amd64/v2", "linux/amd64"], None, "linux/amd64")]
#[case::default_by_another_name(&["linux/amd64/v3", "linux/amd64/v1"], None, "linux/amd64/v1")]
#[case::own_machine(&["linux/arm64", "linux/s390x", "linux/amd64"], None, "linux/amd64")]
#[case::asked_for(&["linux/arm64", "linux/amd64"], Some("linux/arm64/v8"), "linux/arm64")]
#[case::asked_variant(&["linux/amd64", "linux/amd64/v2", "linux/amd64/v3"], Some("linux/amd64/v2"), "linux/amd64/v2")]
#[case::nearest_variant(&["linux/amd64", "linux/amd64/v2"], Some("linux/amd64/v4"), "linux/amd64/v2")]
#[case::other_systems(&["windows/amd64", "linux/amd64"], None, "linux/amd64")]
#[case::undecided(&["linux/amd64/v2", "linux/amd64/v3"], None, "holds 2 images where one is looked at: linux/amd64/v2 sha256:")]
#[case::none_of_it(&["linux/arm64", "linux/s390x"], None, "holds no image for linux/amd64: linux/arm64 sha256:")]
#[case::not_that(&["linux/amd64"], Some("linux/arm64"), "holds no image for linux/arm64: linux/amd64 sha256:")]
#[case::newer_than_asked(&["linux/amd64/v3", "linux/arm64"], Some("linux/amd64/v2"), "holds no image for linux/amd64/v2: linux/amd64/v3 sha256:")]
fn an_index_is_resolved_as_a_runtime_does(
    #[case] platforms: &[&str],
    #[case] asked: Option<&str>,
    #[case] expected: &str,
    #[values(false, true)] nested: bool,
    #[values(false, true)] in_archive: bool,
    #[values(false, true)] names_its_variant: bool,
) {
    let mut layout = Layout::default();
    let mut images: Vec<Value> = Vec::new();
    for platform in platforms {
        // Few images name their variant in their configuration.
        let own: Vec<&str> = platform
            .split('/')
            .take(if names_its_variant { 3 } else { 2 })
            .collect();
        let image = named(&mut layout, platform, &own.join("/"));
        images.push(Layout::platform(image, platform));
    }
    if nested {
        images = vec![Layout::tag(layout.index(&images), "a:1")];
    }
    let directory = tempfile::tempdir().unwrap();
    let path = layout.write(directory.path(), &images, in_archive);
    let said = chosen(&path, asked, None);
    assert!(said.replace("a:1 ", "").contains(expected), "{said}");
}

#[test]
fn an_image_is_chosen_by_its_tag() {
    let mut layout = Layout::default();
    let (first, second) = (
        named(&mut layout, "first", "linux/amd64"),
        named(&mut layout, "second", "linux/amd64"),
    );
    let images = [
        Layout::tag(first.clone(), "1"),
        Layout::tag(first, "registry.example/launcher:stable"),
        Layout::tag(second, "2"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = layout.write(directory.path(), &images, false);
    for (tag, expected) in [
        (Some("1"), "first"),
        (Some("stable"), "first"),
        (Some("launcher:stable"), "first"),
        (Some("2"), "second"),
        (
            Some("able"),
            "holds no image able: 1, registry.example/launcher:stable linux/amd64 sha256:",
        ),
        (
            None,
            "holds 2 images where one is looked at: 1, registry.example/launcher:stable linux/amd64 sha256:",
        ),
    ] {
        let said = chosen(&path, None, tag);
        assert!(said.contains(expected), "{tag:?}: {said}");
    }
}

#[test]
fn one_image_under_two_tags_is_one() {
    let mut layout = Layout::default();
    let image = named(&mut layout, "one", "linux/amd64");
    let images = [
        Layout::tag(image.clone(), "1"),
        Layout::tag(image, "latest"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = layout.write(directory.path(), &images, false);
    assert_eq!(chosen(&path, None, None), "one");
}

#[test]
fn attestations_and_signatures_are_passed_over() {
    let mut layout = Layout::default();
    let image = named(&mut layout, "image", "linux/amd64");
    let attestation = named(&mut layout, "attestation", "unknown/unknown");
    let marked = merge(
        named(&mut layout, "marked", "linux/amd64"),
        json!({"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}),
    );
    let signature = Layout::tag(
        named(&mut layout, "signature", "linux/amd64"),
        "sha256-00.sig",
    );
    let artifact = merge(
        named(&mut layout, "artifact", "linux/amd64"),
        json!({"artifactType": "application/vnd.example.sbom"}),
    );
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let referrer = json!({"schemaVersion": 2, "config": empty, "layers": []});
    let referrer = layout.blob(MANIFEST, referrer.to_string().as_bytes());
    let images = [attestation, marked, signature, artifact, referrer, image];
    let directory = tempfile::tempdir().unwrap();
    let path = layout.write(directory.path(), &images, true);
    assert_eq!(chosen(&path, None, None), "image");
}

/// An index may say anything; the image knows what it is.
#[test]
fn the_own_configuration_decides_over_the_index() {
    let mut layout = Layout::default();
    let right = Layout::platform(named(&mut layout, "right", "linux/amd64"), "linux/arm64");
    let wrong = Layout::platform(named(&mut layout, "wrong", "linux/arm64"), "linux/amd64");
    let directory = tempfile::tempdir().unwrap();
    let path = layout.write(directory.path(), &[wrong, right], false);
    assert_eq!(chosen(&path, None, None), "right");
}

#[test]
fn an_archive_of_docker_with_several_images_is_chosen_from() {
    let root = |name: &str| Layer::new().file("name", name).bytes();
    let manifest = json!([
        {"Config": "a.json", "RepoTags": ["launcher:1"], "Layers": ["a.tar"]},
        {"Config": "a.json", "RepoTags": ["launcher:2"], "Layers": ["a.tar"]},
        {"Config": "b.json", "RepoTags": null, "Layers": ["b.tar"]},
    ]);
    let archive = Layer::new()
        .file("a.json", platform_json("linux/amd64").to_string())
        .file("b.json", platform_json("linux/arm64").to_string())
        .file("a.tar", root("a"))
        .file("b.tar", root("b"))
        .file("manifest.json", manifest.to_string());
    let directory = tempfile::tempdir().unwrap();
    let path = put(&directory.path().join("image.tar"), &archive.bytes());
    assert_eq!(chosen(&path, None, None), "a");
    assert_eq!(chosen(&path, None, Some("launcher:2")), "a");
    assert_eq!(chosen(&path, Some("linux/arm64"), None), "b");
    assert_eq!(
        chosen(&path, Some("linux/s390x"), None)
            .split(": ")
            .skip(1)
            .collect::<Vec<_>>(),
        [
            "holds no image for linux/s390x",
            "launcher:1, launcher:2 linux/amd64 a.json; linux/arm64 b.json"
        ]
    );
}

/// `docker export`, and what people compress as a whole.
#[rstest]
fn the_tar_file_of_a_root_and_a_compressed_archive_are_read(
    #[values(Packing::Plain, Packing::Gzip, Packing::Zstd)] packing: Packing,
    #[values(false, true)] is_root: bool,
) {
    let directory = tempfile::tempdir().unwrap();
    let root = Layer::new().file("etc/name", "root").bytes();
    let bytes = match is_root {
        true => root,
        false => fs::read(write(
            directory.path(),
            Form::OciArchive,
            Packing::Gzip,
            vec![root],
        ))
        .unwrap(),
    };
    let path = put(&directory.path().join("whole.tar"), &pack(packing, bytes));
    assert_eq!(text(&open(&path), "/etc/name").as_deref(), Some("root"));
}

/// A zstd frame that is skipped may come first, as pzstd and containers/storage write it.
#[test]
fn a_layer_that_begins_with_a_skippable_frame_is_read() {
    let layer = Layer::new().file("name", "skipped").bytes();
    let mut bytes = vec![0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    bytes.extend(zstd::encode_all(&*layer, 1).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = write(
        directory.path(),
        Form::OciDirectory,
        Packing::Plain,
        vec![bytes],
    );
    assert_eq!(text(&open(&path), "/name").as_deref(), Some("skipped"));
}

/// As GNU tar writes them: `tar -S` in its own form and in that of POSIX.
#[rstest]
fn sparse_members_are_read(
    #[values("gnu", "posix", "0.0", "0.1")] form: &str,
    #[values(Packing::Plain, Packing::Gzip)] packing: Packing,
) {
    let root = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 3 << 20];
    for (at, byte) in [
        (0, 1),
        (700_000, 2),
        (1_500_000, 3),
        (1_500_001, 4),
        (2_000_000, 5),
        (2_100_000, 6),
        (2_200_000, 7),
        (3_000_000, 8),
    ] {
        bytes[at] = byte;
    }
    let file = root.path().join("libx.so");
    put(&file, &bytes);
    let digging = std::process::Command::new("fallocate")
        .arg("--dig-holes")
        .arg(&file)
        .status();
    assert!(digging.unwrap().success());
    put(&root.path().join("lastlog"), b"");
    File::options()
        .write(true)
        .open(root.path().join("lastlog"))
        .unwrap()
        .set_len(200 << 30)
        .unwrap();
    put(&root.path().join("name"), b"after");
    let form = match form {
        "gnu" => vec!["--format=gnu".to_owned()],
        "posix" => vec!["--format=posix".to_owned()],
        version => vec![
            "--format=posix".to_owned(),
            format!("--sparse-version={version}"),
        ],
    };
    let tar = std::process::Command::new("tar")
        .args(["-S", "-c", "-C"])
        .arg(root.path())
        .args(form)
        .args(["lastlog", "libx.so", "name"])
        .output()
        .unwrap();
    assert!(tar.status.success());
    assert!(
        tar.stdout.len() < 1 << 20,
        "not sparse: {}",
        tar.stdout.len()
    );
    let directory = tempfile::tempdir().unwrap();
    let image = open(&write(
        directory.path(),
        Form::Docker,
        packing,
        vec![tar.stdout],
    ));
    let tree: &dyn Tree = &image;
    let entry = tree.lookup("/libx.so").unwrap().found().unwrap();
    assert_eq!(entry.file_size(), Some(3 << 20));
    let mut read = Vec::new();
    tree.open(&entry.path)
        .unwrap()
        .read_to_end(&mut read)
        .unwrap();
    assert!(read == bytes);
    assert_eq!(text(&image, "/name").as_deref(), Some("after"));
    let lastlog = tree.lookup("/lastlog").unwrap().found().unwrap();
    let error = tree.open(&lastlog.path).err().unwrap().to_string();
    assert!(
        error.contains("/lastlog") && error.contains("stored sparse"),
        "{error}"
    );
}

/// A name of half a million directories took for ever, and so did two thousand of two thousand.
#[rstest]
fn endless_names_are_refused_in_time(#[values(Packing::Plain, Packing::Zstd)] packing: Packing) {
    let long = |bytes: usize| "a/".repeat(bytes / 2);
    let directory = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    let layer = Layer::new().entry(
        tar::EntryType::GNULongName,
        "name",
        "",
        long(900_000).as_bytes(),
    );
    let path = write(
        directory.path(),
        Form::Docker,
        packing,
        vec![layer.file("x", "x").bytes()],
    );
    assert!(refusal(&path).contains("where Linux takes 4095: a/a/a/"));
    let mut layer = Layer::new();
    for number in 0..2000 {
        let name = format!("{number}/{}", long(4000));
        layer = layer
            .entry(tar::EntryType::GNULongName, "name", "", name.as_bytes())
            .file("x", "x");
    }
    let path = write(directory.path(), Form::Docker, packing, vec![layer.bytes()]);
    assert!(refusal(&path).contains("names of more than 256 MiB"));
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

/// Nothing outside of a directory is opened, and nothing in it that would block.
#[rstest]
#[case::parent(r#"[{"Config": "c", "Layers": ["../outside"]}]"#)]
#[case::absolute(r#"[{"Config": "c", "Layers": ["/etc/hostname"]}]"#)]
#[case::link(r#"[{"Config": "c", "Layers": ["link"]}]"#)]
#[case::pipe(r#"[{"Config": "c", "Layers": ["pipe"]}]"#)]
#[case::pipe_as_configuration(r#"[{"Config": "pipe", "Layers": ["pipe"]}]"#)]
#[case::directory(r#"[{"Config": "c", "Layers": ["blobs"]}]"#)]
fn a_directory_opens_nothing_else(#[case] manifest: &str) {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    put(
        &directory.path().join("outside"),
        &Layer::new().file("etc/x", "secret").bytes(),
    );
    put(&image.join("manifest.json"), manifest.as_bytes());
    fs::create_dir(image.join("blobs")).unwrap();
    std::os::unix::fs::symlink("../outside", image.join("link")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(image.join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let error = refusal(&image);
    assert!(
        ["has no ", "leads out of the root", "not a regular file"]
            .iter()
            .any(|what| error.contains(what)),
        "{error}"
    );
}
