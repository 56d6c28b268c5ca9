//! The state of a moment, cut for whoever keeps it outside of the cluster.

use crate::Ledger;
use crate::machine::LoadFailed;
use crate::raft::picture::{CutFailed, Cutter, Picture};
use crate::raft::store::Position;
use claviger_core::name::Digest;
use claviger_core::snapshot::{CHUNK_BYTES, SnapshotHeader};
use std::sync::Arc;

/// A pinned view of the state. What others write meanwhile does not change it; as long as it lives, the disk keeps the old
/// versions of what it shows.
pub struct Image {
    header: SnapshotHeader,
    cutter: Cutter,
}

impl Image {
    /// What it says of itself.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// The next part in its canonical form with its link: chunks, then the end, then none.
    ///
    /// # Errors
    /// Why it cannot be read, for the log.
    pub fn part(&mut self) -> Result<Option<(Vec<u8>, Digest)>, String> {
        self.cutter.part().map_err(|failed: CutFailed| failed.to_string())
    }
}

impl Ledger {
    /// The state as it is now. None before the founding.
    ///
    /// # Errors
    /// Why it cannot be read, for the log.
    pub fn image(&self) -> Result<Option<Image>, String> {
        let view = self.view().0;
        let told = |failed: LoadFailed| format!("{failed:?}");
        let meta = Position::read(&*view.pin).map_err(told)?.meta();
        let picture = Picture::take(view, meta, CHUNK_BYTES).map_err(told)?.map(Arc::new);
        Ok(picture.map(|picture| Image { header: picture.header().clone(), cutter: picture.cut() }))
    }
}
