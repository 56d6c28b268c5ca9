//! Files, written so that none is lost, half written, or readable by those who should not.

use crate::failure::Failure;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Who may read a new file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone: mode 0600.
    Owner,
    /// Whoever the umask lets.
    Anyone,
}

/// A failure that names the file.
pub fn at(path: &Path, cause: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {cause}", path.display()))
}

/// Refuses before anything is written when one of the files exists and is not to be replaced.
pub fn refuse_existing(paths: &[&Path], force: bool) -> Result<(), Failure> {
    match paths.iter().find(|path| !force && path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(path) => Err(at(path, "exists already").next("choose another place, or replace it with --force")),
    }
}

/// Makes a folder that only its owner may enter, with its parents. One that is there is left as it is.
pub fn folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| at(path, e))
}

/// Writes a file whole or not at all: beside its place, synced, then renamed. Replaces what is there.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), Failure> {
    let (mut file, part) = Part::create(path, readers)?;
    file.write_all(bytes).map_err(|e| at(path, e))?;
    part.finish(&file)
}

/// A file that is being written beside its place. Dropped before it is finished, it is gone.
pub struct Part {
    path: PathBuf,
    beside: Option<PathBuf>,
}

impl Part {
    /// Makes an empty file beside `path`.
    pub fn create(path: &Path, readers: Readers) -> Result<(File, Part), Failure> {
        let path = place(path)?;
        let beside = beside(&path)?;
        let mode = if readers == Readers::Owner { 0o600 } else { 0o666 };
        let file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).map_err(|e| at(&path, e))?;
        Ok((file, Part { path, beside: Some(beside) }))
    }

    /// Puts it, whole, into its place, where it survives a power cut.
    pub fn finish(mut self, file: &File) -> Result<(), Failure> {
        let Some(beside) = &self.beside else { return Ok(()) };
        let put = file.sync_all().and_then(|()| fs::rename(beside, &self.path)).and_then(|()| sync_folder(&self.path));
        put.map_err(|e| at(&self.path, e))?;
        self.beside = None;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = fs::remove_file(beside); // the failure that led here is the one to tell
        }
    }
}

/// Where a file is really put: what a link leads to. A device, a pipe or a folder is not replaced by a file.
fn place(path: &Path) -> Result<PathBuf, Failure> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() => path.canonicalize().map_err(|e| at(path, e)),
        Ok(_) => Err(at(path, "is there, and is no file").next("write to standard output, and redirect that")),
        Err(e) if e.kind() == ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => place(&path.parent().unwrap_or(Path::new("")).join(target)),
            Err(_) => Ok(path.to_owned()),
        },
        Err(e) => Err(at(path, e)),
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn beside(path: &Path) -> Result<PathBuf, Failure> {
    let name = path.file_name().ok_or_else(|| at(path, "is no name of a file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    // In containers every process may have the same number.
    hidden.push(format!(".{}.part", hex::encode(crate::chance::fresh::<8>().spend())));
    Ok(path.with_file_name(hidden))
}

/// Reads a file of at most `bytes_max` bytes.
pub fn read(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let file = File::open(path).map_err(|e| at(path, e))?;
    bounded(file, bytes_max)
        .map_err(|e| at(path, e))?
        .ok_or_else(|| at(path, format!("is longer than {bytes_max} bytes")))
}

/// Reads to the end; nothing when that is further than `bytes_max` bytes. The buffer never moves, so no copy is left behind.
pub fn bounded(mut from: impl Read, bytes_max: usize) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut buffer = Zeroizing::new(vec![0; bytes_max + 1]);
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(filled);
    Ok((filled <= bytes_max).then_some(buffer))
}

/// Reads text of at most `bytes_max` bytes.
pub fn text(path: &Path, bytes_max: usize) -> Result<Zeroizing<String>, Failure> {
    let mut bytes = read(path, bytes_max)?;
    let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|_| at(path, "is no text"))?;
    Ok(Zeroizing::new(text))
}

/// Reads a private file: refused when its group or others may read it.
pub fn private_text(path: &Path, bytes_max: usize) -> Result<Zeroizing<String>, Failure> {
    let mode = fs::metadata(path).map_err(|e| at(path, e))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(
            at(path, "others than its owner may read this private file").next(format!("chmod 600 {}", path.display()))
        );
    }
    text(path, bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_what_is_no_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (link, target) in [("one", "there"), ("two", "not-yet"), ("three", "two")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        replace(&at("there"), b"old", Readers::Anyone).unwrap();
        for (link, target) in [("one", "there"), ("two", "not-yet"), ("three", "not-yet")] {
            replace(&at(link), link.as_bytes(), Readers::Anyone).unwrap();
            assert!(at(link).symlink_metadata().unwrap().is_symlink(), "{link}");
            assert_eq!(fs::read(at(target)).unwrap(), link.as_bytes());
        }
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["loop", "socket", "."] {
            assert!(replace(&at(name), b"x", Readers::Owner).is_err(), "{name}");
        }
        assert!(replace(Path::new("/dev/null"), b"x", Readers::Owner).unwrap_err().message.contains("is no file"));
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 7, "nothing is left beside them");
    }

    #[test]
    fn a_private_file_is_its_owners_alone_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        replace(&path, b"one", Readers::Owner).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(refuse_existing(&[&path], false).unwrap_err().next.unwrap().contains("--force"));
        replace(&path, b"two", Readers::Owner).unwrap();
        assert_eq!(private_text(&path, 3).unwrap().as_str(), "two");
        assert!(read(&path, 2).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(private_text(&path, 3).unwrap_err().next.unwrap().contains("chmod 600"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
