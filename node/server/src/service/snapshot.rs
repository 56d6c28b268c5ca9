//! The state in a file, for whoever keeps it outside of the cluster: ciphertext, with what proves it.

use super::{ReadAsk, Service, Visit};
use claviger_core::failure::{Cause, Failure, Why};
use claviger_core::name::Digest;
use claviger_core::policy::Cluster;
use claviger_core::policy::action::SaveSnapshot;
use claviger_core::snapshot::file;
use claviger_ledger::Image;
use claviger_world::{runtime, watch};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Files that are cut at the same time, at most: each keeps old versions alive on the disk.
const SAVES_MAX: usize = 2;

/// Longest that one may take: a caller who reads no more would keep them for ever.
const SAVE_S_MAX: u64 = 3_600;

type Pinned = Mutex<Option<(Image, Arc<()>)>>;

/// A file that is being cut.
pub struct SnapshotFile {
    service: Arc<Service>,
    /// With one of [`SAVES_MAX`]; gone when it has taken too long, or the node stops.
    pinned: Arc<Pinned>,
    stage: Stage,
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
        // Nobody is given, over this node's signature, what the node itself would not be opened over.
        self.believed().await?;
        let leave = self.saving.clone();
        if Arc::strong_count(&leave) > SAVES_MAX + 1 {
            return Err(Why::Overloaded.into());
        }
        let image = self.ledger.image().map_err(unreadable)?.ok_or(Why::NotFounded)?;
        let pinned = Arc::new(Mutex::new(Some((image, leave))));
        runtime::spawn(let_go(Arc::downgrade(&pinned), self.stopping.subscribe()));
        Ok(SnapshotFile { service: self.clone(), pinned, stage: Stage::Head })
    }
}

impl SnapshotFile {
    /// The next bytes of the file, at most one part of it; none behind its end.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut pinned = self.pinned.lock();
        let (image, _) = pinned.as_mut().ok_or(Why::Deadline)?;
        let (stage, piece) = match &self.stage {
            Stage::Head => (Stage::Parts, file::head_bytes(image.header())),
            Stage::Parts => {
                let (part, link) = image.part().map_err(unreadable)?.ok_or(ENDLESS)?;
                let over = file::is_end(&part);
                (if over { Stage::Seal(link) } else { Stage::Parts }, file::part_bytes(&part, &link))
            }
            Stage::Seal(link) => {
                let config = &self.service.config;
                (Stage::Over, file::seal_bytes(config.node, &config.identity, link))
            }
            Stage::Over => return Ok(None),
        };
        drop(pinned);
        self.stage = stage;
        Ok(Some(piece))
    }
}

/// Lets go of a file that nobody reads any more, or that must not outlast its node.
async fn let_go(pinned: Weak<Pinned>, mut stopping: watch::Receiver<bool>) {
    let stops = stopping.until(|stopping| stopping.then_some(()));
    // Whichever comes first: the time is over, the node stops, or it is gone.
    let _ = runtime::timeout(Duration::from_secs(SAVE_S_MAX), stops).await;
    if let Some(pinned) = pinned.upgrade() {
        *pinned.lock() = None;
    }
}

const ENDLESS: Cause = Cause("an image has no end");

fn unreadable(why: String) -> Cause {
    tracing::error!(why, "the state cannot be cut");
    Cause("the state cannot be cut")
}
