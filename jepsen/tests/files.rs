//! Files and pipes of any size through real nodes: gigabytes in constant memory, a node that is killed midway, and streams
//! that were cut, reordered, doubled, or go on behind their end.

use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::stage::{Stage, WITNESS, valid_calls};
use claviger_jepsen::tool::Tool;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout};
use std::thread;

static STAGE: Stage = Stage::new("files");

/// Size of the pipe's load, in GiB; `make files` wants more.
const GIB: &str = "CLAVIGER_FILES_GIB";
/// What a tool may hold in memory at most, and what a node may take on, in KiB.
const TOOL_KIB_MAX: u64 = 64 << 10;
const NODE_KIB_MAX: u64 = 96 << 10;
const BLOCK_BYTES: usize = 1 << 20;
const HEADER_BYTES: usize = 112;
const CHUNK_BYTES: usize = 65_536 + 16;

/// Blocks of which no two are alike.
struct Blocks {
    block: Vec<u8>,
    next: u64,
}

impl Blocks {
    fn new() -> Blocks {
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        Blocks { block: noise.take(BLOCK_BYTES).collect(), next: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.block[..8].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        &self.block
    }
}

/// The most memory that a process ever held, in KiB; none once it has ended.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn feed(mut to: ChildStdin, blocks: u64) {
    let mut made = Blocks::new();
    for _ in 0..blocks {
        to.write_all(made.next()).expect("the tool takes all of it");
    }
}

/// Copies until the end; how much it was, and the most memory that the reader's process held on the way.
fn copy(mut from: ChildStdout, mut to: ChildStdin, from_pid: u32) -> (u64, u64) {
    let (mut buffer, mut bytes, mut peak) = (vec![0; BLOCK_BYTES], 0, 0);
    loop {
        let count = from.read(&mut buffer).unwrap();
        if count == 0 {
            return (bytes, peak);
        }
        peak = peak_kib(from_pid).unwrap_or(peak);
        to.write_all(&buffer[..count]).expect("the other tool takes all of it");
        bytes += count as u64;
    }
}

/// Compares with what was fed; how many blocks there were, and the most memory that the process held.
fn compare(mut from: ChildStdout, pid: u32) -> (u64, u64) {
    let (mut made, mut block, mut peak) = (Blocks::new(), vec![0; BLOCK_BYTES], 0);
    while from.read_exact(&mut block).is_ok() {
        peak = peak_kib(pid).unwrap_or(peak);
        assert!(block == made.next(), "another plaintext");
    }
    (made.next, peak)
}

fn begun(tool: &Tool, verb: &str) -> (Child, ChildStdin, ChildStdout) {
    let mut child = tool.start(&[verb, "--key", WITNESS]).unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    (child, stdin, stdout)
}

fn well_ended(child: Child) {
    let ran = Tool::ended(child).unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn gigabytes_go_through_two_pipes_in_constant_memory() {
    STAGE.play(async |cluster| {
        let gib: u64 = std::env::var(GIB).map_or(1, |text| text.parse().expect("a number of GiB"));
        let blocks = gib << 10;
        let pids: Vec<u32> = cluster.nodes.iter().map(|node| node.pid().unwrap()).collect();
        let before: Vec<u64> = pids.iter().map(|pid| peak_kib(*pid).unwrap()).collect();
        let tool = cluster.tool(&cluster.service);
        let (sealing, plain, sealed) = begun(&tool, "encrypt");
        let (opening, ciphertext, opened) = begun(&tool, "decrypt");
        let (sealing_pid, opening_pid) = (sealing.id(), opening.id());
        let feeding = thread::spawn(move || feed(plain, blocks));
        let copying = thread::spawn(move || copy(sealed, ciphertext, sealing_pid));
        let (came, opening_kib) = compare(opened, opening_pid);
        feeding.join().unwrap();
        let (sealed_bytes, sealing_kib) = copying.join().unwrap();
        well_ended(sealing);
        well_ended(opening);
        assert_eq!(came, blocks);
        assert_eq!(sealed_bytes, HEADER_BYTES as u64 + (blocks << 20) / 65_536 * CHUNK_BYTES as u64);
        assert!(sealing_kib > 0 && sealing_kib < TOOL_KIB_MAX, "encrypt held {sealing_kib} KiB");
        assert!(opening_kib > 0 && opening_kib < TOOL_KIB_MAX, "decrypt held {opening_kib} KiB");
        for (pid, before) in pids.iter().zip(before) {
            // The kernel counts pages by processor, and may report a little less than before.
            let more = peak_kib(*pid).unwrap().saturating_sub(before);
            assert!(more < NODE_KIB_MAX, "a node took {more} KiB more for {gib} GiB");
        }
        valid_calls(cluster).await.unwrap();
    });
}

/// A folder of the test's own, what is in it, and a file there that must not come to be.
struct Desk(PathBuf);

impl Desk {
    fn new(cluster: &Cluster, name: &str) -> Desk {
        let path = cluster.folder.join(name);
        fs::create_dir(&path).unwrap();
        Desk(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn holds(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

#[test]
fn a_node_that_is_killed_midway_leaves_nothing() {
    STAGE.play(async |cluster| {
        let desk = Desk::new(cluster, "killed");
        let tool = cluster.tool_at(2, &cluster.service).unwrap();
        let mut child = tool.start(&["encrypt", "--key", WITNESS, "-o", &desk.path("out")]).unwrap();
        let (mut stdin, mut blocks) = (child.stdin.take().unwrap(), Blocks::new());
        for _ in 0..64 {
            stdin.write_all(blocks.next()).unwrap();
        }
        assert_eq!(desk.holds().len(), 1, "it is being written beside its place");
        assert!(!Path::new(&desk.path("out")).exists());
        cluster.node_mut(2).unwrap().kill().unwrap();
        while stdin.write_all(blocks.next()).is_ok() {}
        drop(stdin);
        let ran = Tool::ended(child).unwrap();
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("begin anew"), "{}", ran.stderr);
        assert_eq!(desk.holds(), [""; 0]);
        cluster.restart(2).await.unwrap();
        cluster.open().await.unwrap();
        valid_calls(cluster).await.unwrap();
    });
}

#[test]
fn refuses_streams_that_were_changed_and_renames_nothing() {
    STAGE.unharmed(async |cluster| {
        let (desk, tool) = (Desk::new(cluster, "changed"), cluster.tool(&cluster.service));
        let mut blocks = Blocks::new();
        let plain = &blocks.next()[..200_000];
        fs::write(desk.path("plain"), plain).unwrap();
        tool.must(&["encrypt", "--key", WITNESS, &desk.path("plain"), "-o", &desk.path("sealed")]).unwrap();
        let sealed = fs::read(desk.path("sealed")).unwrap();
        let (head, rest) = sealed.split_at(HEADER_BYTES);
        let c: Vec<&[u8]> = rest.chunks(CHUNK_BYTES).collect();
        assert_eq!(c.len(), 4);
        for (what, changed) in [
            ("cut within a chunk", sealed[..sealed.len() - 1].to_vec()),
            ("cut between chunks", [head, c[0], c[1], c[2]].concat()),
            ("cut to its header", head.to_vec()),
            ("reordered", [head, c[1], c[0], c[2], c[3]].concat()),
            ("doubled", [head, c[0], c[0], c[1], c[2], c[3]].concat()),
            ("with a chunk behind its end", [head, c[0], c[1], c[2], c[3], c[3]].concat()),
            ("with a byte behind its end", [&sealed[..], b"x"].concat()),
        ] {
            fs::write(desk.path("changed"), changed).unwrap();
            let ran = tool.run(&["decrypt", "--key", WITNESS, &desk.path("changed"), "-o", &desk.path("out")]).unwrap();
            assert_eq!(ran.code, 1, "{what}");
            assert!(ran.stderr.contains("cannot be decrypted"), "{what}: {}", ran.stderr);
            assert_eq!(desk.holds(), ["changed", "plain", "sealed"], "{what}");
        }
        let back = tool.must(&["decrypt", "--key", WITNESS, &desk.path("sealed")]).unwrap();
        assert!(back.stdout == plain);
    });
}
