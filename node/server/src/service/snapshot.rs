//! The state in a file, for whoever keeps it outside of the cluster: ciphertext, with what proves it.

use super::{ReadAsk, Service, Visit};
use claviger_core::failure::{Cause, Failure, Why};
use claviger_core::name::Digest;
use claviger_core::policy::Cluster;
use claviger_core::policy::action::SaveSnapshot;
use claviger_core::snapshot::file;
use claviger_ledger::Image;
use std::sync::Arc;

/// Files that are cut at the same time, at most: each keeps old versions alive on the disk.
const SAVES_MAX: usize = 2;

/// A file that is being cut.
pub struct SnapshotFile {
    service: Arc<Service>,
    image: Image,
    stage: Stage,
    /// One of [`SAVES_MAX`].
    _leave: Arc<()>,
}

enum Stage {
    Head,
    Parts,
    Seal(Digest),
    Over,
}

impl Service {
    /// The state as of now, as fresh as every other answer.
    pub async fn save_snapshot(self: &Arc<Self>, visit: &Visit, (): ()) -> Result<SnapshotFile, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _permit = self.permit::<SaveSnapshot>(visit.caller()?, Cluster, &reading)?;
        drop(reading);
        let leave = self.saving.clone();
        if Arc::strong_count(&leave) > SAVES_MAX + 1 {
            return Err(Why::Overloaded.into());
        }
        let image = self.ledger.image().map_err(unreadable)?.ok_or(Why::NotFounded)?;
        Ok(SnapshotFile { service: self.clone(), image, stage: Stage::Head, _leave: leave })
    }
}

impl SnapshotFile {
    /// The next bytes of the file, at most one part of it; none behind its end.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let (stage, piece) = match &self.stage {
            Stage::Head => (Stage::Parts, file::head_bytes(self.image.header())),
            Stage::Parts => {
                let (part, link) = self.image.part().map_err(unreadable)?.ok_or(ENDLESS)?;
                let over = file::is_end(&part);
                (if over { Stage::Seal(link) } else { Stage::Parts }, file::part_bytes(&part, &link))
            }
            Stage::Seal(link) => {
                let config = &self.service.config;
                (Stage::Over, file::seal_bytes(config.node, &config.identity, link))
            }
            Stage::Over => return Ok(None),
        };
        self.stage = stage;
        Ok(Some(piece))
    }
}

const ENDLESS: Cause = Cause("an image has no end");

fn unreadable(why: String) -> Cause {
    tracing::error!(why, "the state cannot be cut");
    Cause("the state cannot be cut")
}
