//! What a path, a name, a label and a resource pattern may be.

use crate::path::CleanPath;

/// Directories of the node of which a pod gets nothing: nothing in them is a library, and much of it is power
/// over the node.
const NODE_ONLY: [&str; 8] = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var/run",
    "/var/lib/kubelet",
    "/etc/kubernetes",
    "/root",
];

/// The directories that hold the C library, in some layout or other.
const LIBRARY_DIRECTORIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// The sonames of glibc up to `.so`. They must all be of one build, the image's.
const GLIBC: [&str; 18] = [
    "ld",
    "ld64",
    "libBrokenLocale",
    "libSegFault",
    "libanl",
    "libc",
    "libc_malloc_debug",
    "libdl",
    "libm",
    "libmemusage",
    "libmvec",
    "libnsl",
    "libpcprofile",
    "libpthread",
    "libresolv",
    "librt",
    "libthread_db",
    "libutil",
];

/// Whether a host path is what NixOS makes of its Mesa at boot: links into `/nix/store`, where all else is that it needs.
pub(super) fn is_of_nixos(path: &CleanPath<'_>) -> bool {
    let driver = CleanPath::new("/run/opengl-driver");
    *path == driver || path.is_below(&driver)
}

/// What a host path has to do with a directory that is the node's alone, as in `inside /proc`.
pub(super) fn node_only(path: &CleanPath<'_>) -> Option<String> {
    if *path == "/" {
        return Some("all of the node".to_owned());
    }
    NODE_ONLY.into_iter().find_map(|directory| {
        if *path == directory || path.is_below(directory) {
            Some(format!("in {directory} of the node"))
        } else if CleanPath::new(directory).is_below(path) {
            Some(format!("above {directory} of the node"))
        } else {
            None
        }
    })
}

/// Whether a file belongs to glibc by its name, as in `libm.so.6`, `libm-2.31.so` or `ld-linux-x86-64.so.2`.
#[must_use]
pub fn is_glibc_name(path: &str) -> bool {
    let name = base_name(path);
    if ["libnss_", "ld-linux", "ld64"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
    {
        return true;
    }
    let stem = stem(name);
    // Until 2.34 the files carried the version, libc-2.31.so, and the soname was a link to them.
    let soname = match stem.split_once('-') {
        Some((soname, version)) if version.starts_with(|first: char| first.is_ascii_digit()) => {
            soname
        }
        _ => stem,
    };
    is_library_name(name) && GLIBC.contains(&soname)
}

/// Whether a path is, or is above, a directory in which the C library lives.
pub(super) fn covers_glibc(path: &CleanPath<'_>) -> bool {
    *path == "/"
        || LIBRARY_DIRECTORIES.into_iter().any(|directory| {
            let multiarch = || {
                let below = path.strip_prefix(directory)?.strip_prefix('/')?;
                Some(!below.contains('/') && is_multiarch(below))
            };
            *path == directory
                || CleanPath::new(directory).is_below(path)
                || multiarch() == Some(true)
        })
}

/// Debian's names of architectures, as in `x86_64-linux-gnu`.
fn is_multiarch(name: &str) -> bool {
    name.split('-').any(|part| part == "linux")
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a path names a shared library.
pub(super) fn is_library_name(path: &str) -> bool {
    let name = base_name(path);
    let suffix = name.strip_prefix(stem(name)).unwrap_or_default();
    suffix == ".so" || suffix.starts_with(".so.")
}

/// A file's name up to the first `.so`, which is all of it where there is none.
fn stem(name: &str) -> &str {
    let end = name.as_bytes().windows(3).position(|part| part == b".so");
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}

/// The longest DNS label, in bytes.
const LABEL_LENGTH: usize = 63;

/// The volume name for a path, a DNS label: `mesa-` and the file's name up to `.so`.
#[must_use]
pub fn derived_name(path: &str) -> String {
    let mut name = String::with_capacity(LABEL_LENGTH);
    name.push_str("mesa-");
    for letter in stem(base_name(path)).chars() {
        if name.len() == LABEL_LENGTH {
            break;
        }
        name.push(match letter.to_ascii_lowercase() {
            letter @ ('a'..='z' | '0'..='9') => letter,
            _ => '-',
        });
    }
    name.truncate(name.trim_end_matches('-').len());
    name
}

/// Whether a text is a DNS label (RFC 1123), which volumes and containers are named by.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= LABEL_LENGTH
        && text.bytes().all(inner)
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a text is a DNS subdomain (RFC 1123), which most objects are named by.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// Whether a text is a label key or resource name: `name` or `dns.subdomain/name`.
pub(super) fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        None => is_name(text),
        Some((domain, name)) => is_dns_subdomain(domain) && is_name(name),
    }
}

/// Whether a text is the value of a label.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

fn is_name(text: &str) -> bool {
    let outer = |letter: char| letter.is_ascii_alphanumeric();
    let inner = |letter: char| outer(letter) || matches!(letter, '-' | '_' | '.');
    text.len() <= LABEL_LENGTH
        && text.chars().all(inner)
        && text.starts_with(outer)
        && text.ends_with(outer)
}

/// Whether some resource has a name that fits a pattern: the pattern becomes one when its stars are filled in.
pub(super) fn fits_a_resource(pattern: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    // Nothing in the place of each star, a letter, or a letter and in one of them the slash behind a domain.
    ["", "a"].into_iter().any(|filling| {
        is_qualified_name(&parts.join(filling))
            || (1..parts.len()).any(|star| {
                let (before, behind) = parts.split_at_checked(star).unwrap_or_default();
                let slash = [before.join(filling), behind.join(filling)].join("a/a");
                is_qualified_name(&slash)
            })
    })
}

/// The resource pattern that one which fits no resource most likely meant.
pub(super) fn nearest_resource(pattern: &str) -> Option<String> {
    let (domain, name) = match pattern.trim().split_once('/') {
        Some((domain, name)) => (Some(domain.to_ascii_lowercase()), name),
        None => (None, pattern.trim()),
    };
    // KubeVirt names a mediated device's resource after its type, with `_` for each space.
    let letter = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | '*' => letter,
        _ => '_',
    };
    let name: String = name.trim().chars().map(letter).collect();
    let name = match name.trim_matches(['-', '_', '.']) {
        "" => "*",
        name => name,
    };
    let nearest = match domain {
        Some(domain) if !domain.trim().is_empty() => format!("{}/{name}", domain.trim()),
        // That would be any resource.
        _ if name == "*" => return None,
        _ => name.to_owned(),
    };
    fits_a_resource(&nearest).then_some(nearest)
}
