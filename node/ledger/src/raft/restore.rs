//! A snapshot out of a file, onto the disk of a node that belongs to no cluster: proven as it comes, put into the bank that
//! is not the state, and made the state only by a mandate of its custodians (`succession.rs`), when it is read back and
//! proven once more.

use super::LogId;
use super::intake::{Desk, Staged, prove, staged};
use super::snapshot::space_of;
use super::store::{Position, Stage};
use crate::bank::Bank;
use crate::machine::is_of_state;
use crate::{Fatal, StartFailed};
use claviger_core::chain::Chain;
use claviger_core::header::HeaderLink;
use claviger_core::mandate::SignedMandate;
use claviger_core::name::Digest;
use claviger_core::roster::Custodians;
use claviger_core::snapshot::file::{FileBroken, FileReader, Inspected};
use claviger_core::snapshot::{SnapshotChunk, SnapshotHeader};
use claviger_world::disk::{Batch, Disk, DiskFailed, Space};
use std::fmt;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// A snapshot that was restored, and waits for the mandate to go on with it.
#[derive(Clone)]
pub struct Restored {
    /// What it says of itself.
    pub header: SnapshotHeader,
    /// Its header chain.
    pub chain: Chain,
    /// The links of that chain.
    pub links: Vec<HeaderLink>,
    /// Who may give the mandate.
    pub custodians: Custodians,
}

/// Why a snapshot was not restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreFailed {
    /// The node belongs to a cluster, or another snapshot is on its way.
    NotEmpty,
    /// The file is not believed.
    Broken(FileBroken),
    /// It is of a cluster or region that this node is not configured for.
    OtherCluster,
    /// A file opens that cluster, and nobody holds shares who could give a mandate.
    NoCustodians,
    /// The disk failed.
    Disk(DiskFailed),
}

impl fmt::Display for RestoreFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreFailed::NotEmpty => f.write_str("the node belongs to a cluster, or takes a snapshot already"),
            RestoreFailed::Broken(why) => why.fmt(f),
            RestoreFailed::OtherCluster => f.write_str("the node is configured for another cluster or region"),
            RestoreFailed::NoCustodians => f.write_str("nobody holds shares of that cluster who could give a mandate"),
            RestoreFailed::Disk(failed) => failed.fmt(f),
        }
    }
}

impl std::error::Error for RestoreFailed {}

impl From<FileBroken> for RestoreFailed {
    fn from(why: FileBroken) -> Self {
        RestoreFailed::Broken(why)
    }
}

/// A file on its way in.
pub struct Restoring {
    disk: Arc<dyn Disk>,
    stage: Arc<Stage>,
    /// Nothing else is put into that bank meanwhile.
    desk: OwnedMutexGuard<Desk>,
    bank: Bank,
    reader: FileReader,
}

impl Restoring {
    /// Begins with an empty bank.
    pub(crate) async fn begin(
        disk: Arc<dyn Disk>,
        stage: Arc<Stage>,
        mut desk: OwnedMutexGuard<Desk>,
    ) -> Result<Restoring, RestoreFailed> {
        let bank = stage.banks.current().next();
        let mut writes = Batch::default();
        bank.clear(&mut writes);
        desk.installed(&mut writes);
        let restoring = Restoring { disk, stage, desk, bank, reader: FileReader::default() };
        restoring.write(writes).await?;
        Ok(restoring)
    }

    /// Takes the next bytes, of any length. What they bring is durable when it completes.
    ///
    /// # Errors
    /// When the file is not believed. Nothing more must be fed then.
    pub async fn feed(&mut self, bytes: &[u8]) -> Result<(), RestoreFailed> {
        for chunk in self.reader.feed(bytes)? {
            let writes = self.bank.place(pairs(chunk)?);
            self.write(writes).await?;
        }
        Ok(())
    }

    /// That was all. What was proven waits for its mandate, as long as the node runs.
    ///
    /// # Errors
    /// When the file ends too early, or what it holds is not what it says.
    pub async fn finish(mut self) -> Result<Restored, RestoreFailed> {
        let Inspected { header, progress, chain, links, custodians, .. } = std::mem::take(&mut self.reader).finish()?;
        let custodians = custodians.ok_or(RestoreFailed::NoCustodians)?;
        let staged = Staged::new(header.clone(), progress);
        let mut writes = Batch::default();
        staged.put(&mut writes);
        self.write(writes).await?;
        self.desk.keep(staged);
        Ok(Restored { header, chain, links, custodians })
    }

    async fn write(&self, writes: Batch) -> Result<(), RestoreFailed> {
        self.disk.write(writes).await.map_err(|failed| {
            self.stage.halt.halt(Fatal::Disk(failed.clone()));
            RestoreFailed::Disk(failed)
        })
    }
}

fn pairs(chunk: SnapshotChunk) -> Result<Batch, FileBroken> {
    let mut writes = Batch::default();
    for pair in chunk.pairs {
        let space = space_of(pair.table);
        let position = space == Space::Machine && Position::lies_at(&pair.key);
        if !position && !is_of_state(space, &pair.key) {
            return Err(FileBroken::Unreadable);
        }
        writes.put(space, pair.key, pair.value);
    }
    Ok(writes)
}

/// Adds to a batch that the restored snapshot of that image is the state, once it was read back from the disk and proven
/// anew, and its custodians' mandate with it. The last entry that it covers; none when it is not there.
pub(crate) fn make_current(
    disk: &Arc<dyn Disk>,
    image: &Digest,
    mandate: &SignedMandate,
    batch: &mut Batch,
) -> Result<Option<LogId>, StartFailed> {
    let damaged = StartFailed::Damaged;
    let staged = staged(&**disk).map_err(StartFailed::Disk)?.filter(|staged| staged.header.image() == *image);
    let Some(staged) = staged else { return Ok(None) };
    let old = Bank::current(&**disk).map_err(crate::ledger::not_loaded)?;
    let new = old.next();
    let lying = new.of(disk.clone());
    let (mut machine, meta) = prove(&lying, &staged, Some(staged.header.lineage)).map_err(crate::ledger::not_loaded)?;
    if !mandate.follows(machine.chain()) {
        return Err(damaged("the custodians' mandate is not for the restored snapshot"));
    }
    let founding = machine.chain().founding().cloned().ok_or(damaged("the restored snapshot has no founding"))?;
    let position = Position { last: meta.last_log_id, membership: meta.last_membership };
    let last = position.last.ok_or(damaged("the restored snapshot ends nowhere"))?;
    let mut writes = Batch::default();
    // Whoever gave the mandate has taken the state for what it is.
    let state = machine.store_installed(last.index, Some(last.index), &mut writes);
    position.write(&state, &mut writes);
    batch.0.extend(new.place(writes).0);
    new.select(batch);
    old.clear(batch);
    Desk::default().installed(batch);
    crate::node_files::pin_restored(&founding.genesis, batch);
    Ok(Some(last))
}
