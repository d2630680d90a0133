//! The vendors of libglvnd: JSON files that name a library each, of which libEGL loads all that it can.
//!
//! As `libeglvendor.c` of libglvnd has it: the directories one after the other, the files of each by name, and whatever cannot
//! be read or loaded is passed over without a word.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Closure;
use crate::loader::Loader;
use crate::tree::{Lookup, RealPath, Tree, TreeError, base_name};

/// Where packages put the vendors of libglvnd.
pub const VENDOR_DIRECTORY: &str = "/usr/share/glvnd/egl_vendor.d";

/// Where libglvnd looks for vendors, in this order; compiled into libEGL.
pub const VENDOR_DIRECTORIES: [&str; 2] = ["/etc/glvnd/egl_vendor.d", VENDOR_DIRECTORY];

/// The most bytes of a vendor JSON.
const MAX_VENDOR: u64 = 64 * 1024;

/// A vendor of libglvnd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vendor {
    /// The JSON file.
    pub json: RealPath,
    /// The library that it names: a soname, or an absolute path.
    pub library: String,
    /// Whether the file says a path relative to itself. libEGL hands that to `dlopen`, which takes it from the process's
    /// working directory, so that the library is found by accident only.
    pub is_relative: bool,
}

/// A vendor JSON that libglvnd passes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// The file.
    pub json: RealPath,
    /// Why.
    pub why: String,
}

impl Vendor {
    /// The vendors of a tree in libglvnd's order, and the files that are passed over.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn of(tree: &dyn Tree) -> Result<(Vec<Self>, Vec<PassedOver>), TreeError> {
        let (mut vendors, mut passed_over) = (Vec::new(), Vec::new());
        for directory in VENDOR_DIRECTORIES {
            for json in tree.children(directory)? {
                if !json.name().ends_with(".json") {
                    continue;
                }
                match Vendor::read(tree, &json)? {
                    Ok(vendor) => vendors.push(vendor),
                    Err(why) => passed_over.push(PassedOver { json, why }),
                }
            }
        }
        Ok((vendors, passed_over))
    }

    /// Reads a vendor JSON, or says why libglvnd passes it over.
    fn read(tree: &dyn Tree, json: &RealPath) -> Result<Result<Self, String>, TreeError> {
        let entry = match tree.lookup(json.as_str())? {
            Lookup::Found(entry) => entry,
            Lookup::Loop { .. } => return Ok(Err("a link that leads to itself".to_owned())),
            Lookup::Missing | Lookup::Dangling { .. } => {
                return Ok(Err("a dangling link".to_owned()));
            }
        };
        if entry.file_size().is_none() {
            return Ok(Err("not a regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        let file = tree.open(&entry.path)?;
        file.take(MAX_VENDOR + 1)
            .read_to_end(&mut bytes)
            .map_err(TreeError::io(json))?;
        Ok(match bytes.len() as u64 {
            0 => Err("empty".to_owned()),
            size if size > MAX_VENDOR => Err(format!("larger than {MAX_VENDOR} bytes")),
            _ => library_in(&bytes).map(|library| Vendor::naming(json, library)),
        })
    }

    fn naming(json: &RealPath, library: String) -> Self {
        let is_relative = library.contains('/') && !library.starts_with('/');
        Vendor {
            json: json.clone(),
            library: match is_relative {
                true => format!("{}/{library}", json.parent()),
                false => library,
            },
            is_relative,
        }
    }

    /// Whether this is NVIDIA's.
    #[must_use]
    pub fn is_nvidia(&self) -> bool {
        base_name(&self.library).starts_with("libEGL_nvidia")
    }

    /// What keeps libEGL from loading it; nothing where it loads.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn lacks(&self, loader: &Loader<'_>) -> Result<Option<String>, TreeError> {
        let closure = Closure::follow(loader, [self.library.clone()], |_| Ok(false))?;
        let mut absent = closure.absent.into_iter();
        Ok(absent.next().map(|(name, absent)| match absent.needed_by {
            None => format!("{name} is not there"),
            Some(by) => format!("{} needs {name}, which is not there", base_name(&by)),
        }))
    }
}

/// The library that a vendor JSON names, as libglvnd reads it with cJSON: control characters are white space, what follows
/// the value does not matter, keys are compared without case, and of several the first counts.
fn library_in(bytes: &[u8]) -> Result<String, String> {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text: Vec<u8> = text.iter().map(|byte| (*byte).max(b' ')).collect();
    let text = String::from_utf8_lossy(&text);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Members>();
    let members = match values.next() {
        Some(Ok(members)) => members,
        Some(Err(error)) => return Err(format!("not a vendor file as libglvnd reads it: {error}")),
        None => return Err("empty".to_owned()),
    };
    let missing = |key: &str| format!("it has no {key} that libglvnd reads");
    let version: Option<String> = members.get("file_format_version");
    let version = version.ok_or_else(|| missing("file_format_version"))?;
    if !is_readable(&version) {
        return Err(format!(
            "file_format_version {version:?} is not 1.0, which libglvnd reads"
        ));
    }
    let icd: Option<Members> = members.get("ICD");
    let library: Option<String> = icd.and_then(|icd| icd.get("library_path"));
    let library = library.ok_or_else(|| missing("ICD.library_path"))?;
    match library.as_str() {
        "" => Err("ICD.library_path is empty".to_owned()),
        _ => Ok(library),
    }
}

/// `sscanf("%d.%d.%d")`: the major version is 1, and the minor one, where there is one, at most 0.
fn is_readable(version: &str) -> bool {
    let (major, rest) = number(version);
    let minor = rest.strip_prefix('.').and_then(|rest| number(rest).0);
    major == Some(1) && minor.is_none_or(|minor| minor <= 0)
}

/// A number at the beginning of a text, and what follows it.
fn number(text: &str) -> (Option<i64>, &str) {
    let text = text.trim_start();
    let digits = text.trim_start_matches(['+', '-']);
    let signs = text.len() - digits.len();
    let end = digits.find(|letter: char| !letter.is_ascii_digit());
    let end = signs + end.unwrap_or(digits.len());
    let (number, rest) = text.split_at(end);
    match number.parse() {
        Ok(number) => (Some(number), rest),
        Err(_) => (None, text),
    }
}

/// An object's members in their order, none of them read yet.
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// A member, if it is of the type that is asked for.
    fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let mut members = self.0.iter();
        let (_, value) = members.find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        serde_json::from_str(value.get()).ok()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        reader.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::library_in;

    #[test]
    fn what_libglvnds_parser_accepts_is_accepted() {
        let names_it = |version: &str| {
            format!(
                r#"{{"file_format_version": "{version}", "ICD": {{"library_path": "libEGL_x.so.0"}}}}"#
            )
        };
        for text in [
            names_it("1.0.0"),
            names_it("1"),
            names_it("1.0"),
            names_it(" 1.0.9 beta"),
            names_it("1.x"),
            names_it("01.00"),
            names_it("1.0.0") + " and whatever follows",
            names_it("1.0.0") + "\0{",
            names_it("1.0.0")
                .replace("ICD", "icd")
                .replace("library_path", "Library_Path"),
            names_it("1.0.0").replace("\"ICD\"", "\"comment\": \"two\nlines\", \"ICD\""),
            names_it("1.0.0").replace("}}", "}, \"ICD\": 7}"),
            format!("\r\n\t{}", names_it("1.0.0")),
        ] {
            assert_eq!(
                library_in(text.as_bytes()),
                Ok("libEGL_x.so.0".to_owned()),
                "{text}"
            );
        }
        let mut latin = b"{\"author\": \"M\xfcller\", ".to_vec();
        latin.extend(&names_it("1.0.0").as_bytes()[1..]);
        assert_eq!(library_in(&latin), Ok("libEGL_x.so.0".to_owned()));
    }

    #[test]
    fn what_libglvnd_passes_over_is_passed_over_and_why() {
        for (text, why) in [
            ("", "empty"),
            (" \n", "empty"),
            ("\u{feff}{}", "not a vendor file"),
            ("// a comment\n{}", "not a vendor file"),
            ("{\\n}", "not a vendor file"),
            ("[]", "not a vendor file"),
            ("{}", "no file_format_version"),
            (r#"{"file_format_version": 1}"#, "no file_format_version"),
            (
                r#"{"file_format_version": "2.0.0"}"#,
                "\"2.0.0\" is not 1.0",
            ),
            (r#"{"file_format_version": "1.1"}"#, "\"1.1\" is not 1.0"),
            (r#"{"file_format_version": "x"}"#, "\"x\" is not 1.0"),
            (r#"{"file_format_version": ""}"#, "\"\" is not 1.0"),
            (r#"{"file_format_version": "1.0"}"#, "no ICD.library_path"),
            (
                r#"{"file_format_version": "1.0", "ICD": []}"#,
                "no ICD.library_path",
            ),
            (
                r#"{"file_format_version": "1.0", "ICD": {"library_path": 1}}"#,
                "no ICD.library_path",
            ),
            (
                r#"{"file_format_version": "1.0", "ICD": {"library_path": ""}}"#,
                "library_path is empty",
            ),
        ] {
            let said = library_in(text.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
