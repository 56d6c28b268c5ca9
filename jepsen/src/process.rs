//! One process of ours: started with a log file, ended by its id, waited for.

use crate::folder::Folder;
use crate::trouble::{About, Told, Trouble};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often something that cannot be awaited is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A process that runs, or has ended. Not ended by being dropped: its folder's guardian does that.
pub struct Process {
    child: Child,
    mark: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts it. Both its outputs are added to `logs/{name}.log` in the folder.
    pub fn start(folder: &Folder, name: &str, command: &mut Command) -> Told<Process> {
        let log = folder.join(format!("logs/{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log).about(log.display())?;
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().about(command.get_program().display())?;
        let mark = folder.join(format!("pids/{}", child.id()));
        File::create(&mark).about(mark.display())?;
        Ok(Process { child, mark, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its outputs go.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Told<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        if ended.is_some() {
            fs::remove_file(&self.mark).ok();
        }
        Ok(ended)
    }

    /// SIGKILL by process id, and waits until it is gone.
    pub fn kill(&mut self) -> Told<ExitStatus> {
        self.signal(Signal::KILL)?;
        let ended = self.child.wait()?;
        fs::remove_file(&self.mark).ok();
        Ok(ended)
    }

    /// SIGTERM, and waits for a graceful end.
    pub fn stop(&mut self, within: Duration) -> Told<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(within)
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, within: Duration) -> Told<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < within {
            if let Some(ended) = self.ended()? {
                return Ok(ended);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(Trouble::new(format!("process {} still runs after {within:?}", self.pid())))
    }

    fn signal(&mut self, signal: Signal) -> Told<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        kill(self.pid(), signal)
    }
}

/// Sends a signal to one process, by its id.
pub fn kill(pid: u32, signal: Signal) -> Told<()> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).about("no process id")?;
    kill_process(id, signal).about(format!("signal to {pid}"))
}
