//! A key's life: made, used for a real file, rotated, disabled.

use super::Scene;
use crate::pki::path;
use crate::trouble::{About, Told};
use crate::wire::refusal;
use claviger_proto::v1::EncryptRequest;
use std::path::{Path, PathBuf};
use tonic::Code;

/// The key of the story.
pub const INVOICES: &str = "tenants/default/keys/invoices";
/// The file of the story: this project's licence.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../LICENSE");

/// Makes the key, and gives everybody their roles.
pub async fn create(scene: &mut Scene) -> Told<()> {
    scene.tale.step("A key is created");
    scene.cluster.give_roles().await?;
    scene.tale.tell("roles: one operator, one auditor, one program that may use the keys of a tenant");
    let tool = scene.cluster.tool(&scene.cluster.administrator);
    let made = tool.must(&["--output", "json", "key", "create", "invoices"])?.json()?;
    scene.tale.same(&text(&made["key"], "name")?, &INVOICES.to_owned(), format_args!("{INVOICES}, AES-256-GCM"))
}

/// Encrypts a file through one node and decrypts it through the others.
pub fn encrypt_a_file(scene: &mut Scene) -> Told<()> {
    scene.tale.step("A file is encrypted");
    let plain = std::fs::read(FILE).about(FILE)?;
    let sealed = encrypt(scene, 1, "license.v1")?;
    let bytes = std::fs::read(&sealed)?;
    scene.tale.same(
        &bytes.len(),
        &(plain.len() + 128),
        format_args!("LICENSE, {} bytes, through node 1", plain.len()),
    )?;
    for node in [2, 3] {
        let opened = decrypt(scene, node, &sealed)?;
        scene.tale.check(opened == plain, format_args!("decrypted through node {node}: the same bytes"))?;
    }
    Ok(())
}

/// Rotates the key; what the old version encrypted still opens.
pub fn rotate(scene: &mut Scene) -> Told<()> {
    scene.tale.step("The key is rotated");
    let tool = scene.cluster.tool(&scene.cluster.administrator);
    let key = tool.must(&["--output", "json", "key", "rotate", "invoices"])?.json()?;
    let version = key["key"]["primary_version"].as_u64();
    scene.tale.same(&version, &Some(2), "version 2 encrypts from now on")?;
    let plain = std::fs::read(FILE).about(FILE)?;
    let old = decrypt(scene, 3, &scene.cluster.folder.join("license.v1"))?;
    scene.tale.check(old == plain, "what version 1 encrypted still opens")?;
    let sealed = encrypt(scene, 2, "license.v2")?;
    let new = decrypt(scene, 1, &sealed)?;
    scene.tale.check(new == plain, "what version 2 encrypts opens too")
}

/// Disables the key through one node; every node refuses it at once.
pub async fn disable(scene: &mut Scene) -> Told<()> {
    scene.tale.step("The key is disabled");
    let through = scene.report.killed.node;
    // Connections first: what is shown is how fast the nodes know, not how fast a handshake is.
    let mut lines = Vec::new();
    for node in &scene.cluster.nodes {
        lines.push((node.id(), scene.cluster.line(node.id(), &scene.cluster.service).await?));
    }
    let tool = scene.cluster.tool_at(through, &scene.cluster.administrator)?;
    tool.must(&["key", "disable", "invoices"])?;
    for (id, line) in lines {
        let ask = EncryptRequest { name: INVOICES.into(), plaintext: "late".into(), ..Default::default() };
        let said = refusal(line.crypto().encrypt(ask).await);
        let wanted = Some((Code::FailedPrecondition, "disabled".to_owned()));
        scene.tale.same(&said, &wanted, format_args!("disabled through node {through}: node {id} refuses it"))?;
    }
    Ok(())
}

fn encrypt(scene: &Scene, node: u64, name: &str) -> Told<PathBuf> {
    let out = scene.cluster.folder.join(name);
    let tool = scene.cluster.tool_at(node, &scene.cluster.service)?;
    tool.must(&["encrypt", "--key", "invoices", "-o", path(&out), FILE])?;
    Ok(out)
}

fn decrypt(scene: &Scene, node: u64, sealed: &Path) -> Told<Vec<u8>> {
    let tool = scene.cluster.tool_at(node, &scene.cluster.service)?;
    Ok(tool.must(&["decrypt", "--key", "invoices", path(sealed)])?.stdout)
}

fn text(value: &serde_json::Value, field: &str) -> Told<String> {
    value[field].as_str().map(str::to_owned).about(format!("no {field} in {value}"))
}
