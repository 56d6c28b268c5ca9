//! The data folder: made private, and held by one process at a time.

use rustix::fs::{FlockOperation, flock};
use std::{
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The data folder cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenFailed {
    /// Another process has it.
    Held {
        /// Which folder.
        folder: PathBuf,
    },
    /// What stands in it is not what was made durable, or is of a newer release.
    Damaged {
        /// Which folder.
        folder: PathBuf,
        /// What the database said.
        cause: String,
    },
    /// The system refused.
    System {
        /// Which file or folder.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        cause: String,
    },
}

impl fmt::Display for OpenFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenFailed::Held { folder } => {
                write!(f, "another process has the data folder {}; stop it first", folder.display())
            }
            OpenFailed::Damaged { folder, cause } => write!(
                f,
                "the data folder {} is damaged or was written by a newer release ({cause}); \
                 do not repair it in place: replace the node",
                folder.display()
            ),
            OpenFailed::System { path, doing, cause } => write!(f, "{doing} {}: {cause}", path.display()),
        }
    }
}

impl std::error::Error for OpenFailed {}

/// A folder that this process alone uses, for as long as the value lives.
pub(crate) struct Folder {
    path: PathBuf,
    // Closing the file gives the folder free.
    _held: fs::File,
}

impl Folder {
    /// Makes the folder when it is not there, takes it, and shuts everybody else out of it (mode 0700).
    pub(crate) fn take(path: &Path) -> Result<Folder, OpenFailed> {
        private(path)?;
        let lock = path.join("lock");
        let held = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let held = held.map_err(|e| system(&lock, "cannot open", &e))?;
        // A lock on the open file, not on the process: a second opening by this very process is refused too.
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Folder { path: path.to_owned(), _held: held }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenFailed::Held { folder: path.to_owned() }),
            Err(e) => Err(system(&lock, "cannot lock", &e.into())),
        }
    }

    /// A private folder inside.
    pub(crate) fn inner(&self, name: &str) -> Result<PathBuf, OpenFailed> {
        let path = self.path.join(name);
        private(&path)?;
        Ok(path)
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the names in a folder durable: a file that was synced is lost all the same when its name was not.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn private(path: &Path) -> Result<(), OpenFailed> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path)?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(system(path, "cannot make the folder", &e)),
    }
    let shut = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    shut.map_err(|e| system(path, "cannot make private the folder", &e))
}

fn sync_parent(path: &Path) -> Result<(), OpenFailed> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(parent).map_err(|e| system(parent, "cannot sync the folder", &e))
}

pub(crate) fn system(path: &Path, doing: &'static str, cause: &io::Error) -> OpenFailed {
    OpenFailed::System { path: path.to_owned(), doing, cause: cause.to_string() }
}
