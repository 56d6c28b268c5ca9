//! A folder for one cluster, and a guardian that ends what was started in it and removes it, however its maker ends.
//!
//! The guardian is a shell that waits on a pipe. When the maker goes away, even by SIGKILL, the pipe closes, and the
//! guardian ends the processes whose ids stand under `pids/` and nothing else. Told `keep`, it leaves all as it is.

use crate::trouble::{About, Told};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

const GUARDIAN: &str = r#"
read -r word
[ "$word" = keep ] && exit 0
for pid in "$1"/pids/*; do [ -e "$pid" ] && kill -9 "${pid##*/}" 2>/dev/null; done
for point in "$1"/mounts/*; do [ -e "$point" ] && umount -l "$point" 2>/dev/null; done
rm -rf "$1"
"#;

/// The folder. Dropped, it goes with all that runs in it.
pub struct Folder {
    path: PathBuf,
    guardian: Mutex<Child>,
}

impl Folder {
    /// A new one under the system's folder for temporary files.
    pub fn new(purpose: &str) -> Told<Folder> {
        let path = tempfile::Builder::new()
            .prefix(&format!("claviger-{purpose}-"))
            .tempdir()
            .about("temporary folder")?
            .keep();
        for inner in ["pids", "mounts", "logs"] {
            fs::create_dir(path.join(inner)).about(inner)?;
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", GUARDIAN, "guardian"]).arg(&path);
        // A group of its own: an interrupt from the keyboard must not end the guardian before its work is done.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guardian = Mutex::new(shell.spawn().about("sh")?);
        Ok(Folder { path, guardian })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, inner: impl AsRef<Path>) -> PathBuf {
        self.path.join(inner)
    }

    /// From now on everything stays, after the maker too.
    pub fn keep(&self) -> Told<()> {
        let mut guardian = self.guardian.lock().expect("nobody panics while holding it");
        if let Some(mut words) = guardian.stdin.take() {
            words.write_all(b"keep\n")?;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Ok(mut guardian) = self.guardian.lock() else { return };
        drop(guardian.stdin.take());
        // The guardian's own end is all there is to wait for; its answer says nothing.
        guardian.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    #[test]
    fn what_runs_in_a_folder_ends_with_it() {
        let folder = Folder::new("guard").unwrap();
        let process = Process::start(&folder, "idle", Command::new("sleep").arg("600")).unwrap();
        let (pid, path) = (process.pid(), folder.path().to_owned());
        std::mem::forget(process);
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(folder);
        assert!(!path.exists());
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert!(state.contains(") Z"), "still runs: {state}");
    }

    #[test]
    fn a_kept_folder_stays() {
        let folder = Folder::new("kept").unwrap();
        let path = folder.path().to_owned();
        folder.keep().unwrap();
        drop(folder);
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }
}
