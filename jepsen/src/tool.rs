//! The command line `claviger`, run as a person would run it, and where our binaries are.

use crate::trouble::{About, Told, Trouble};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a run of the tool left.
#[derive(Debug)]
pub struct Ran {
    /// Exit status; -1 for a signal.
    pub code: i32,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it said beside.
    pub stderr: String,
}

impl Ran {
    /// The standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The standard output as JSON.
    pub fn json(&self) -> Told<serde_json::Value> {
        serde_json::from_slice(&self.stdout).about(format!("not JSON: {}", self.text()))
    }
}

/// `claviger` with its surroundings: which cluster, who asks.
#[derive(Clone, Default)]
pub struct Tool {
    variables: Vec<(String, String)>,
}

impl Tool {
    /// The tool with nothing set, and a home folder without anybody's configuration.
    pub fn at_home(home: &Path) -> Tool {
        Tool::default().with("HOME", home).with("XDG_CONFIG_HOME", home.join(".config"))
    }

    /// With one more environment variable.
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Tool {
        self.variables.push((name.into(), value.as_ref().to_string_lossy().into_owned()));
        self
    }

    /// The environment as lines for a shell.
    pub fn exports(&self) -> impl Iterator<Item = String> {
        let ours = self.variables.iter().filter(|(name, _)| name.starts_with("CLAVIGER_"));
        ours.map(|(name, value)| format!("export {name}={value}"))
    }

    /// Another program in the same surroundings, with nothing of ours from outside.
    pub fn surround<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CLAVIGER_")) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().cloned())
    }

    /// Runs it to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Told<Ran> {
        self.run_with(arguments, b"")
    }

    /// Runs it to its end with something on its standard input.
    pub fn run_with<A: AsRef<OsStr>>(&self, arguments: &[A], input: &[u8]) -> Told<Ran> {
        let mut child = self.start(arguments)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A tool that ends before it has read everything is judged by its exit status.
            stdin.write_all(input).ok();
        }
        Tool::ended(child)
    }

    /// Starts it, with pipes to its standard input, output and error.
    pub fn start<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Told<Child> {
        let mut command = Command::new(binary("claviger")?);
        self.surround(command.args(arguments));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().about("claviger")
    }

    /// Waits for its end, and takes what is left of its output.
    pub fn ended(child: Child) -> Told<Ran> {
        let out = child.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        Ok(Ran { code: out.status.code().unwrap_or(-1), stdout: out.stdout, stderr })
    }

    /// Runs it; anything but exit status 0 is trouble.
    pub fn must<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Told<Ran> {
        let ran = self.run(arguments)?;
        if ran.code == 0 {
            return Ok(ran);
        }
        let shown: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        Err(Trouble::new(format!("claviger {}: exit {}: {}", shown.join(" "), ran.code, ran.stderr.trim())))
    }
}

/// An example of the client library, built with its tests.
pub fn example(name: &str) -> Told<PathBuf> {
    let beside = binary("clavigerd")?.with_file_name("examples").join(name);
    let built = beside.is_file().then_some(beside);
    built.about(format!("{name} is not built; run `cargo build -p claviger-client --examples --profile ci` first"))
}

/// One of our binaries: beside the running executable, or one folder up, where tests run.
pub fn binary(name: &str) -> Told<PathBuf> {
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.about(format!("{name} is not built; run `cargo build --workspace --bins --profile ci` first"))
}
