//! The SELinux context without which containers may not read a directory outside of `/usr`.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use rustix::fs::XattrFlags;

const ENFORCE: &str = "/sys/fs/selinux/enforce";
const ATTRIBUTE: &str = "security.selinux";
const CONTAINER_FILE: &[u8] = b"system_u:object_r:container_file_t:s0\0";
const TYPE: &str = "container_file_t";

/// Whether the staged files get an SELinux label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selinux {
    /// Where the kernel enforces SELinux.
    Auto,
    /// In any case.
    Always,
    /// Not at all.
    Never,
}

impl Selinux {
    /// What they are called, in the order of [`Selinux::from_str`].
    pub const NAMES: [&str; 3] = ["auto", "always", "never"];
}

impl FromStr for Selinux {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Selinux::Auto),
            "always" => Ok(Selinux::Always),
            "never" => Ok(Selinux::Never),
            other => Err(format!("{other} is none of {}", Self::NAMES.join(", "))),
        }
    }
}

/// The context that files get.
#[derive(Debug)]
pub struct Context {
    /// What the system said when a file could not be labelled.
    refused: RefCell<Option<String>>,
}

impl Context {
    /// The context, where there is to be one.
    #[must_use]
    pub fn choose(selinux: Selinux) -> Option<Self> {
        let wanted = match selinux {
            Selinux::Always => true,
            Selinux::Never => false,
            Selinux::Auto => fs::read_to_string(ENFORCE).is_ok_and(|text| text.trim() == "1"),
        };
        wanted.then(|| Context {
            refused: RefCell::new(None),
        })
    }

    /// Labels a file or directory. What fails is said once, with the command that does it.
    pub(super) fn apply(&self, path: &Path) {
        if let Err(error) =
            rustix::fs::lsetxattr(path, ATTRIBUTE, CONTAINER_FILE, XattrFlags::empty())
        {
            self.refused.borrow_mut().get_or_insert(error.to_string());
        }
    }

    /// What is left for the user to do.
    #[must_use]
    pub fn advice(&self, directory: &Path) -> Option<String> {
        let directory = directory.display();
        let refused = self.refused.borrow();
        refused.as_ref().map(|error| {
            format!(
                "SELinux: the files could not be labelled ({error}), and containers may not read them; run: \
                 semanage fcontext -a -t {TYPE} '{directory}/generations(/.*)?' && restorecon -R {directory}/generations"
            )
        })
    }
}
