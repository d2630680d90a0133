//! The socket: it is there when somebody listens, and not before or after.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use manifests::console::Failure;

/// Whoever sees the socket may connect: to connect takes write permission, and virt-launcher runs as root in some clusters,
/// without root's powers. Only the containers of the pod that mount the volume see it.
const MODE: u32 = 0o666;

/// Where a socket is made, beside where it is to be: virt-launcher takes every file there for a socket of a hook, and no
/// directory.
const WORKSHOP: &str = ".new";

/// A socket that somebody listens on; its file is gone with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: File,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Its path names no file.
    #[error("{} is no name for a socket", .0.display())]
    Name(PathBuf),
    /// Something else has its place.
    #[error("{} is there, and is {what}", path.display())]
    Taken {
        /// The place.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The system refuses.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl Failure for SocketError {
    fn fix(&self) -> Option<String> {
        let fix = match self {
            SocketError::Name(_) => "name a file, in a directory that virt-launcher looks into",
            SocketError::Taken { .. } => "take it away, or give the hook a directory of its own",
            SocketError::Io { error, .. } if error.kind() == ErrorKind::InvalidInput => {
                "name a shorter path: a socket's has at most 107 bytes"
            }
            SocketError::Io { error, .. }
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                "let the hook's user write there; in a pod, mount a volume there"
            }
            SocketError::Io { .. } => return None,
        };
        Some(fix.to_owned())
    }
}

impl Socket {
    /// Listens, and then puts the socket into its place. What an earlier run has left there goes.
    ///
    /// # Errors
    /// Something else is there, or the system refuses.
    pub fn listen(path: &Path) -> Result<Self, SocketError> {
        let (Some(directory), Some(_)) = (path.parent(), path.file_name()) else {
            return Err(SocketError::Name(path.to_owned()));
        };
        let failed = |action| {
            move |error| SocketError::Io {
                action,
                path: path.to_owned(),
                error,
            }
        };
        fs::create_dir_all(directory).map_err(|error| SocketError::Io {
            action: "make the directory",
            path: directory.to_owned(),
            error,
        })?;
        stale(path)?;
        let workshop = directory.join(WORKSHOP);
        let new = workshop.join("s");
        // A run that was killed in between has left it.
        let _ = fs::remove_file(&new);
        match fs::create_dir(&workshop) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed("make")(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed("listen on"))?;
        let placed = fs::set_permissions(&new, Permissions::from_mode(MODE))
            .and_then(|()| fs::rename(&new, path))
            .and_then(|()| fs::symlink_metadata(path));
        if placed.is_err() {
            let _ = fs::remove_file(&new);
        }
        let _ = fs::remove_dir(&workshop);
        let metadata = placed.map_err(failed("make"))?;
        Ok(Socket {
            listener,
            file: File {
                path: path.to_owned(),
                identity: identity(&metadata),
            },
        })
    }

    /// The listener, and the file that is to be kept as long.
    #[must_use]
    pub fn into_parts(self) -> (UnixListener, File) {
        (self.listener, self.file)
    }
}

/// The file of a socket. When it is dropped it goes, unless somebody has put another in its place.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for File {
    fn drop(&mut self) {
        let there = fs::symlink_metadata(&self.path);
        if there.is_ok_and(|there| identity(&there) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Whether the place is free, or has a socket that may be replaced.
fn stale(path: &Path) -> Result<(), SocketError> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(SocketError::Io {
                action: "look at",
                path: path.to_owned(),
                error,
            });
        }
    };
    let what = if there.is_socket() {
        return Ok(());
    } else if there.is_dir() {
        "a directory"
    } else if there.is_symlink() {
        "a symbolic link"
    } else if there.is_file() {
        "a file"
    } else {
        "no socket"
    };
    Err(SocketError::Taken {
        path: path.to_owned(),
        what,
    })
}
