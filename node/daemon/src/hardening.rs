//! What the process gives up before it holds a secret.

use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask},
    thread::set_no_new_privs,
};
use std::io;

/// No core dumps, no reading of our memory by processes of the same user, no new privileges, private files; and as many
/// open files as the system lets us have, for connections are files.
///
/// # Errors
/// When the system refuses: the process must not go on as if it were hardened.
pub fn harden() -> io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_no_new_privs(true)?;
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum })?;
    Ok(())
}
