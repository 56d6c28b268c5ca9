//! Append-only files: audit books and the like, in a folder of their own.

use crate::folder::sync_folder;
use claviger_world::disk::{AppendFile, BoxFuture, DiskFailed};
use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Longest name of a file, in bytes.
const FILE_NAME_BYTES_MAX: usize = 128;

/// The folder `files/`.
pub(crate) struct Files {
    folder: PathBuf,
    /// Files that somebody holds: opened again they are the same, so that one order of appends holds.
    open: Mutex<BTreeMap<String, Weak<Appending>>>,
}

impl Files {
    /// Takes the folder, which is there.
    pub(crate) fn new(folder: PathBuf) -> Files {
        Files { folder, open: Mutex::default() }
    }

    /// Opens a file, made when it is not there.
    pub(crate) fn open(&self, name: &str) -> Result<Arc<Appending>, DiskFailed> {
        self.checked(name, "opening a file")?;
        let mut open = lock(&self.open);
        if let Some(file) = open.get(name).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let path = self.folder.join(name);
        let file = fs::OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path);
        let file = file.and_then(|f| sync_folder(&self.folder).map(|()| f));
        let file = Arc::new(Appending::new(file.map_err(|e| failed("opening a file", &e))?)?);
        open.insert(name.to_owned(), Arc::downgrade(&file));
        Ok(file)
    }

    /// Names of all files, in order.
    pub(crate) fn names(&self) -> Result<Vec<String>, DiskFailed> {
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                names.extend(entry?.file_name().into_string().ok().filter(|n| lawful(n)));
            }
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(|e| failed("listing files", &e))
    }

    /// Removes a file that nobody holds.
    pub(crate) fn remove(&self, name: &str) -> Result<(), DiskFailed> {
        const DOING: &str = "removing a file";
        self.checked(name, DOING)?;
        let mut open = lock(&self.open);
        if open.get(name).is_some_and(|f| f.strong_count() > 0) {
            return Err(DiskFailed { doing: DOING, cause: "somebody has it open".into() });
        }
        open.remove(name);
        let gone = fs::remove_file(self.folder.join(name)).and_then(|()| sync_folder(&self.folder));
        gone.map_err(|e| failed(DOING, &e))
    }

    fn checked(&self, name: &str, doing: &'static str) -> Result<(), DiskFailed> {
        let good = lawful(name);
        if good { Ok(()) } else { Err(DiskFailed { doing, cause: "not a file name: [a-z0-9._-]+".into() }) }
    }
}

/// `[a-z0-9._-]+`, and no way out of the folder.
fn lawful(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let dots = name.bytes().all(|b| b == b'.');
    !dots && name.len() <= FILE_NAME_BYTES_MAX && name.bytes().all(letter)
}

/// One file that grows.
pub(crate) struct Appending {
    file: Arc<fs::File>,
    state: Arc<Mutex<State>>,
}

struct State {
    length: u64,
    /// Set by the first failure that leaves it open what the file holds; refuses all that follow.
    failed: Option<DiskFailed>,
}

impl Appending {
    fn new(file: fs::File) -> Result<Appending, DiskFailed> {
        let length = file.metadata().map_err(|e| failed("opening a file", &e))?.len();
        Ok(Appending { file: Arc::new(file), state: Arc::new(Mutex::new(State { length, failed: None })) })
    }
}

impl State {
    fn good(&self) -> Result<(), DiskFailed> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Remembers a failure that cannot be undone.
    fn fail(&mut self, failure: DiskFailed) -> DiskFailed {
        self.failed.get_or_insert(failure).clone()
    }
}

impl AppendFile for Appending {
    /// Whole or not at all, while the process lives: what a full disk left of the bytes is cut off again.
    fn append(&self, bytes: &[u8]) -> Result<(), DiskFailed> {
        const DOING: &str = "appending to a file";
        let mut state = lock(&self.state);
        state.good()?;
        if let Err(e) = (&*self.file).write_all(bytes) {
            return match self.file.set_len(state.length) {
                Ok(()) => Err(failed(DOING, &e)),
                Err(_) => Err(state.fail(failed(DOING, &e))),
            };
        }
        state.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let (file, state) = (self.file.clone(), self.state.clone());
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || sync(&file, &state)).await;
            done.unwrap_or_else(|e| Err(failed(SYNCING, &io::Error::other(e))))
        })
    }

    fn len(&self) -> Result<u64, DiskFailed> {
        Ok(lock(&self.state).length)
    }

    fn read_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, DiskFailed> {
        let there = lock(&self.state).length.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(there).unwrap_or(usize::MAX).min(count)];
        self.file.read_exact_at(&mut bytes, offset).map_err(|e| failed("reading a file", &e))?;
        Ok(bytes)
    }

    fn cut(&self, length: u64) -> Result<(), DiskFailed> {
        const DOING: &str = "cutting a file";
        let mut state = lock(&self.state);
        state.good()?;
        if length >= state.length {
            return Ok(());
        }
        match self.file.set_len(length).and_then(|()| self.file.sync_all()) {
            Ok(()) => state.length = length,
            Err(e) => return Err(state.fail(failed(DOING, &e))),
        }
        Ok(())
    }
}

const SYNCING: &str = "syncing a file";

/// A failed sync may have thrown the dirty pages away: a second one that succeeds would prove nothing.
fn sync(file: &fs::File, state: &Mutex<State>) -> Result<(), DiskFailed> {
    lock(state).good()?;
    file.sync_data().map_err(|e| lock(state).fail(failed(SYNCING, &e)))
}

fn failed(doing: &'static str, cause: &io::Error) -> DiskFailed {
    DiskFailed { doing, cause: cause.to_string() }
}

/// What the lock guards is whole after every step, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_everything_after_a_sync_that_failed() {
        // The system cannot sync a pipe, and says so: the one honest way to make fdatasync fail without another disk.
        let (_reader, writer) = io::pipe().unwrap();
        let file = Appending::new(fs::File::from(std::os::fd::OwnedFd::from(writer))).unwrap();
        file.append(b"page").unwrap();
        let first = file.sync().await.unwrap_err();
        assert_eq!(first.doing, SYNCING);
        assert_eq!(file.sync().await.unwrap_err(), first);
        assert_eq!(file.append(b"more").unwrap_err(), first);
    }

    #[test]
    fn refuses_names_that_lead_elsewhere() {
        for bad in ["", ".", "..", "...", "a/b", "../a", "A", "a b", "ä", "a\0", &"a".repeat(129)] {
            assert!(!lawful(bad), "{bad:?}");
        }
        for good in ["book-1.pages", "a", ".a", "0_x"] {
            assert!(lawful(good), "{good:?}");
        }
    }
}
