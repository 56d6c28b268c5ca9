//! A mandate of the custodians on this node's disk: kept while the node runs, carried out at its next start, before Raft
//! begins. From then on the node votes alone, for a log that ends with its own word. It hears nobody and opens for nobody
//! until the header link that begins the next generation is applied; every step can be cut by a crash and is taken again.
//!
//! Must not contain: who may ask for it, and how signatures are gathered (server); what a mandate says (core).

use crate::raft::log::Log;
use crate::raft::restore;
use crate::raft::snapshot::place_of;
use crate::{StartFailed, recall};
use claviger_core::codec::{Canonical, Malformed, Reader, Writer};
use claviger_core::mandate::{Ground, SignedMandate};
use claviger_core::name::{Lineage, NodeId};
use claviger_core::time::UnixMs;
use claviger_world::disk::{Batch, Disk, DiskFailed, Space};
use std::sync::Arc;

/// In `Space::Node`.
const MANDATE: &[u8] = b"mandate";
const FORMAT: u16 = 1;

/// A mandate, and whether this disk has gone through with it.
#[derive(Clone)]
pub(crate) struct Kept {
    carried_out: bool,
    pub signed: SignedMandate,
}

impl Canonical for Kept {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).bool(self.carried_out);
        self.signed.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Kept { carried_out: r.bool()?, signed: SignedMandate::read(r)? })
    }
}

/// Keeps a mandate for the next start.
pub(crate) async fn keep(disk: &dyn Disk, signed: SignedMandate) -> Result<(), DiskFailed> {
    let mut batch = Batch::default();
    put(&Kept { carried_out: false, signed }, &mut batch);
    disk.write(batch).await
}

/// How long after its time is over a mandate is still carried out, in milliseconds: a host takes its time to start.
const GRACE_MS: u64 = 3_600_000;

/// The mandate that this disk has gone through with, now or before; whether that was now. One whose time is over, or whose
/// ground is not there any more, is forgotten: the cluster may have gone on meanwhile.
pub(crate) async fn carry_out(
    disk: &Arc<dyn Disk>,
    node: NodeId,
    pinned: Option<Lineage>,
    log: &Log,
    now: UnixMs,
) -> Result<(Option<SignedMandate>, bool), StartFailed> {
    let Some(stored) = disk.read(Space::Node, MANDATE).map_err(StartFailed::Disk)? else { return Ok((None, false)) };
    let kept = Kept::from_bytes(&stored).map_err(|_| StartFailed::Damaged("the custodians' mandate"))?;
    if kept.carried_out {
        return Ok((Some(kept.signed), false));
    }
    let mut batch = Batch::default();
    let in_time = now <= kept.signed.mandate.expires.plus_ms(GRACE_MS);
    if !in_time || !prepare(disk, node, log, pinned, &kept.signed, &mut batch)? {
        tracing::error!(in_time, "a mandate of the custodians is not carried out, and forgotten: ask for another");
        let mut batch = Batch::default();
        forget(&mut batch);
        disk.write(batch).await.map_err(StartFailed::Disk)?;
        return Ok((None, false));
    }
    // What was known of disks that have left is nobody's business any more.
    recall::forget(&mut batch);
    let kept = Kept { carried_out: true, ..kept };
    put(&kept, &mut batch);
    disk.write(batch).await.map_err(StartFailed::Disk)?;
    Ok((Some(kept.signed), true))
}

/// Adds what the mandate comes to. Whether its ground is there: a log of that cluster that reaches as far, or that very
/// snapshot on a disk that holds nothing else.
fn prepare(
    disk: &Arc<dyn Disk>,
    node: NodeId,
    log: &Log,
    pinned: Option<Lineage>,
    signed: &SignedMandate,
    batch: &mut Batch,
) -> Result<bool, StartFailed> {
    match &signed.mandate.ground {
        // Whatever stands in the log stays: some of it may have been acknowledged.
        Ground::Survivor(end) => {
            if pinned != Some(signed.mandate.lineage) {
                return Ok(false);
            }
            let Some(last) = log.last().filter(|last| place_of(last) >= *end) else { return Ok(false) };
            Log::begin_alone(last, true, log.vote(), node, batch);
        }
        Ground::Restored(image) => {
            if !log.is_empty() || pinned.is_some() {
                return Ok(false);
            }
            let Some(last) = restore::make_current(disk, image, signed, batch)? else { return Ok(false) };
            Log::begin_alone(last, false, None, node, batch);
        }
    }
    Ok(true)
}

/// Forgets it: the folder is made as new.
pub(crate) fn forget(batch: &mut Batch) {
    batch.delete(Space::Node, MANDATE);
}

fn put(kept: &Kept, batch: &mut Batch) {
    batch.put(Space::Node, MANDATE, kept.to_bytes());
}
