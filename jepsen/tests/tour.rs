//! The README's tour is run as it stands, so that it cannot lie.

use claviger_jepsen::tool::binary;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[test]
fn the_tour_of_the_readme_works() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let programs = binary("claviger").unwrap();
    let path = format!("{}:{}", programs.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut tour = Command::new("bash");
    tour.arg(format!("{root}/docs/tour.sh")).env("PATH", path).process_group(0);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CLAVIGER")) {
        tour.env_remove(name);
    }
    let out = tour.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{}\n{said}", String::from_utf8_lossy(&out.stdout));
    for line in ["claviger operator init", "claviger custodian offer", "claviger audit tail"] {
        assert!(said.contains(line), "the tour did not come to {line:?}");
    }
}
