//! What cutting the power needs of this machine, asked for before anything is begun.

use super::volume::{Volume, cut};
use crate::folder::Folder;
use crate::trouble::Told;
use std::ffi::OsString;

/// Programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 4] =
    [("mkfs.ext4", "e2fsprogs"), ("mount", "mount"), ("umount", "mount"), ("cc", "gcc")];
const TRIAL_MB: u64 = 16;

/// What is missing, in words for whoever can bring it; empty when all is there.
pub fn missing() -> Vec<String> {
    let mut missing: Vec<String> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root: file systems are mounted, and their power is cut".into());
    }
    for (program, package) in PROGRAMS.iter().filter(|(program, _)| !found(program)) {
        missing.push(format!("{program}, of the package {package}"));
    }
    if missing.is_empty() {
        missing.extend(trial().err().map(|why| format!("a file system that can be mounted and cut: {why}")));
    }
    missing
}

fn found(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(program).is_file())
}

/// Where programs are looked for: a path that was not made for root often lacks the folders of mkfs.
pub fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// A small one is made, mounted, cut, mounted again.
fn trial() -> Told<()> {
    let folder = Folder::new("trial")?;
    let volume = Volume::create(&folder, "trial", TRIAL_MB)?;
    cut(&[&volume])?;
    volume.unmount()?;
    volume.mount()
}
