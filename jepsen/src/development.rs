//! A development node, and what its banner says: whatever a stranger would copy from it works.

use crate::folder::Folder;
use crate::ports;
use crate::process::{LOOK_EVERY, Process};
use crate::tool::{Tool, binary};
use crate::trouble::{Told, Trouble};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest that a node takes until it answers.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

/// Starts `clavigerd dev` on a free port.
pub fn start(folder: &Folder, data: &Path) -> Told<Process> {
    let mut command = Command::new(binary("clavigerd")?);
    command.arg("dev").arg("--data").arg(data).arg("--listen").arg(ports::free()?.to_string());
    Process::start(folder, "dev", &mut command)
}

/// What the banner says: the tool as the administrator, and as a program.
pub struct Banner {
    /// All of it.
    pub said: String,
    /// With what it says an administrator has.
    pub administrator: Tool,
    /// With what it says a program has.
    pub program: Tool,
}

/// Reads the banner, as soon as a status call with what it says finds the node open.
pub fn banner(folder: &Folder, process: &mut Process) -> Told<Banner> {
    let started = Instant::now();
    loop {
        let said = std::fs::read_to_string(process.log())?;
        if let Some((first, second)) = said.split_once("As a program") {
            let (administrator, program) = (tool(folder, first), tool(folder, second));
            if program.exports().count() == 4 && program.run(&["operator", "status"])?.code == 0 {
                return Ok(Banner { administrator, program, said });
            }
        }
        if process.ended()?.is_some() || started.elapsed() >= READY_WITHIN {
            return Err(Trouble::new(format!("it ended, or is not open in time: {said}")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The tool with every `export NAME=VALUE` of a part of the banner.
fn tool(folder: &Folder, part: &str) -> Tool {
    let exports = part.lines().filter_map(|l| l.trim().strip_prefix("export ")?.split_once('='));
    exports.fold(Tool::at_home(folder.path()), |tool, (name, value)| tool.with(name, value.trim_matches(['"', '\''])))
}
