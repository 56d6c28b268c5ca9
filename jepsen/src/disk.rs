//! Disks that fail: a shim that makes syncs and writes fail when told, a small file system that fills up.

use crate::folder::Folder;
use crate::node::Node;
use crate::pki::path;
use crate::trouble::{About, Told};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every sync answers EIO.
    SyncFails,
    /// Every write answers ENOSPC.
    Full,
}

/// A disk that works until it is told to fail.
pub struct BadDisk {
    flag: PathBuf,
}

impl BadDisk {
    /// Puts one under a node that does not run yet. Compiles the shim with the system's C compiler.
    pub fn under(node: &mut Node, folder: &Folder, shim: &Path, fault: Fault) -> Told<BadDisk> {
        let source = std::fs::read_to_string(shim).about(shim.display())?;
        let library = compile(folder, "shim", &source)?;
        let (variable, flag) = match fault {
            Fault::SyncFails => ("CLAVIGER_SHIM_EIO", folder.join("sync-fails")),
            Fault::Full => ("CLAVIGER_SHIM_ENOSPC", folder.join("disk-full")),
        };
        node.environment.push(("LD_PRELOAD".into(), library));
        node.environment.push((variable.into(), path(&flag).into()));
        Ok(BadDisk { flag })
    }

    /// From now on it fails.
    pub fn fail(&self) -> Told<()> {
        std::fs::write(&self.flag, b"").about("flag")
    }

    /// From now on it works.
    pub fn mend(&self) -> Told<()> {
        std::fs::remove_file(&self.flag).about("flag")
    }
}

/// Compiles a library for LD_PRELOAD with the system's C compiler; answers its path.
pub fn compile(folder: &Folder, name: &str, source: &str) -> Told<String> {
    let (text, library) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    std::fs::write(&text, source).about(text.display())?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o", path(&library), path(&text), "-ldl"]);
    compiler.status().about("cc")?.success().then_some(()).about(format!("{name}.c does not compile"))?;
    Ok(path(&library).to_owned())
}

/// A file system in memory, small enough to be filled.
pub struct SmallDisk {
    point: PathBuf,
}

impl SmallDisk {
    /// Mounts one, or nothing where this process may not mount.
    pub fn mount(folder: &Folder, megabytes: u32) -> Told<Option<SmallDisk>> {
        let point = folder.join("mounts/small");
        std::fs::create_dir_all(&point)?;
        let size = format!("size={megabytes}m,mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs", path(&point)]).stderr(Stdio::null());
        Ok(mount.status().is_ok_and(|s| s.success()).then_some(SmallDisk { point }))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Fills what is left of it.
    pub fn fill(&self) -> Told<()> {
        use std::io::Write;
        let mut ballast = std::fs::File::create(self.ballast()).about("ballast")?;
        let block = [0; 4096];
        // Ends with "no space left", which is what is wanted.
        while ballast.write_all(&block).is_ok() {}
        Ok(())
    }

    /// Frees it again.
    pub fn free(&self) -> Told<()> {
        std::fs::remove_file(self.ballast()).about("ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.point.join("ballast")
    }
}
