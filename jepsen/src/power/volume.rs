//! A disk that can lose its power: ext4 in a file behind a loop device. The cut is ext4's own SHUTDOWN ioctl without a flush
//! of its journal: from then on nothing reaches the file, and what was not synced before is gone at the next mount.

use super::rights::search_path;
use crate::folder::Folder;
use crate::pki::path;
use crate::trouble::{About, Told, Trouble};
use rustix::ioctl::{Setter, ioctl};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Size of a volume, in megabytes. Its file has holes where nothing was written.
pub const VOLUME_MB: u64 = 512;
/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`.
const SHUTDOWN: u32 = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: stop, and flush nothing.
const NO_LOG_FLUSH: u32 = 2;
/// How long an end of all users of a volume may take after they were killed.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// One volume, mounted or not. Dropped, it is unmounted, and its loop device goes with the mount.
pub struct Volume {
    image: PathBuf,
    point: PathBuf,
}

impl Volume {
    /// Makes one in a folder, which unmounts it should we be killed, and mounts it.
    pub fn create(folder: &Folder, name: &str, megabytes: u64) -> Told<Volume> {
        let (image, point) = (folder.join(format!("{name}.ext4")), folder.join(format!("mounts/{name}")));
        fs::create_dir_all(&point).about(point.display())?;
        File::create(&image).and_then(|file| file.set_len(megabytes << 20)).about(image.display())?;
        must(Command::new("mkfs.ext4").args(["-q", "-F", path(&image)]))?;
        let volume = Volume { image, point };
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Mounts it; ext4 replays its journal.
    pub fn mount(&self) -> Told<()> {
        must(Command::new("mount").args(["-t", "ext4", "-o", "loop", path(&self.image), path(&self.point)]))
    }

    /// Unmounts it, as soon as nobody uses it.
    pub fn unmount(&self) -> Told<()> {
        let started = Instant::now();
        loop {
            let unmounted = must(Command::new("umount").arg(&self.point));
            if unmounted.is_ok() || started.elapsed() > FREE_WITHIN {
                return unmounted;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Puts everything that was written so far onto the disk, as a system does by itself after some seconds.
    pub fn settle(&self) -> Told<()> {
        let root = File::open(&self.point).about(self.point.display())?;
        rustix::fs::syncfs(root).about("syncfs")
    }

    /// Fills what is left of it.
    pub fn fill(&self) -> Told<()> {
        let mut ballast = File::create(self.ballast()).about("ballast")?;
        let block = [0; 65_536];
        // Ends with "no space left", which is what is wanted.
        while std::io::Write::write_all(&mut ballast, &block).is_ok() {}
        Ok(())
    }

    /// Frees it again.
    pub fn free(&self) -> Told<()> {
        fs::remove_file(self.ballast()).about("ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.point.join("ballast")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The folder's guardian may have done it before us, or may yet: nobody is left to be told.
        must(Command::new("umount").arg(&self.point)).ok();
    }
}

/// Cuts the power of all of them at one moment, or as near to it as threads can be.
pub fn cut(volumes: &[&Volume]) -> Told<()> {
    let roots = volumes.iter().map(|v| File::open(&v.point).about(v.point.display())).collect::<Told<Vec<_>>>()?;
    let start = Barrier::new(roots.len());
    let cut = |root: &File| {
        start.wait();
        shut_down(root)
    };
    let done: Vec<Told<()>> = thread::scope(|scope| {
        let threads: Vec<_> = roots.iter().map(|root| scope.spawn(|| cut(root))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(Trouble::new("a cut panicked")))).collect()
    });
    done.into_iter().collect()
}

#[allow(unsafe_code, reason = "no safe function knows this ioctl")]
fn shut_down(root: &File) -> Told<()> {
    // SAFETY: the opcode takes a pointer to one u32, which the kernel reads and does not keep.
    let done = unsafe { ioctl(root, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) };
    done.about("the SHUTDOWN ioctl")
}

fn must(command: &mut Command) -> Told<()> {
    let ran =
        command.env("PATH", search_path()).stdin(Stdio::null()).output().about(command.get_program().display())?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(Trouble::new(format!("{}: {}", command.get_program().display(), said.trim())))
}
