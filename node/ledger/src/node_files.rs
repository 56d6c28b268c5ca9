//! What a data folder says of itself: whose it is, which disk it is, which cluster it is pinned to, how often it has
//! been started on.

use crate::bank::AFTER_ALL_KEYS;
use crate::machine::{Chain, lineage_of};
use crate::peers::Ahead;
use crate::{LedgerConfig, PinRefused, StartFailed, recall, succession};
use claviger_core::address::Announcement;
use claviger_core::codec::{Canonical, Malformed, Reader, Writer};
use claviger_core::header::HeaderLink;
use claviger_core::name::{DiskId, Lineage, NodeId};
use claviger_core::roster::{Founding, Genesis, PRESENT_MAX, Role, Roster};
use claviger_world::disk::{Batch, Disk, DiskFailed, Space};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SELF: &[u8] = b"node";
const GENESIS: &[u8] = b"genesis";
/// There when everything but the page must be cleared at the next start.
const ABANDONED: &[u8] = b"abandoned";
/// How the cluster stood when this node joined it, as long as its records do not say so themselves.
const CHAIN: &[u8] = b"chain";
/// Where the other nodes listen, as they have said.
const ANNOUNCED: &[u8] = b"announced";
const FORMAT: u16 = 1;
/// Links of a chain that is kept, at most.
const LINKS_MAX: usize = 1 << 20;

/// The folder's own page.
struct Page {
    node: NodeId,
    disk: DiskId,
    incarnation: u64,
}

impl Canonical for Page {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).u64(self.node.0).raw(&self.disk.0).u64(self.incarnation);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Page { node: NodeId::read(r)?, disk: DiskId::read(r)?, incarnation: r.u64()? })
    }
}

/// What a folder says before anything is written to it.
pub(crate) struct Found {
    page: Option<Page>,
    genesis: Option<Genesis>,
    abandoned: bool,
}

impl Found {
    /// Reads a folder, which must be this node's or new.
    pub fn read(config: &LedgerConfig, disk: &dyn Disk) -> Result<Found, StartFailed> {
        let damaged = |_| StartFailed::Damaged("the node's own page");
        let read = |key| disk.read(Space::Node, key).map_err(StartFailed::Disk);
        let page = read(SELF)?.map(|b| Page::from_bytes(&b)).transpose().map_err(damaged)?;
        let genesis = read(GENESIS)?.map(|b| Genesis::from_bytes(&b)).transpose().map_err(damaged)?;
        if let Some(found) = page.as_ref().map(|page| page.node).filter(|found| *found != config.node) {
            return Err(StartFailed::OtherNode { found });
        }
        if let Some(found) = genesis.as_ref().map(|g| &g.cluster).filter(|found| **found != config.cluster) {
            return Err(StartFailed::OtherCluster { found: found.clone() });
        }
        Ok(Found { page, genesis, abandoned: read(ABANDONED)?.is_some() })
    }

    /// Which disk it is, and how often it was started on; none when it is new.
    pub fn disk(&self) -> Option<(DiskId, u64)> {
        self.page.as_ref().map(|page| (page.disk, page.incarnation))
    }

    /// The cluster that it is pinned to.
    pub fn pinned(&self) -> Option<Lineage> {
        self.genesis.as_ref().map(lineage_of)
    }

    /// Whether everything but the page is to be cleared.
    pub fn abandoned(&self) -> bool {
        self.abandoned
    }
}

/// The folder, once it has been accepted as this node's.
pub(crate) struct NodeFiles {
    disk: Arc<dyn Disk>,
    page: Page,
    genesis: Mutex<Option<Genesis>>,
    /// Whether the next start clears everything.
    abandoned: AtomicBool,
}

/// What changes the genesis is called one at a time: whoever calls sees to it.
impl NodeFiles {
    /// Takes a folder for this node, whose disk it names if it is new, and counts the start.
    pub async fn take(found: Found, node: NodeId, new: DiskId, disk: Arc<dyn Disk>) -> Result<NodeFiles, DiskFailed> {
        let (id, starts) = found.disk().unwrap_or((new, 0));
        let page = Page { node, disk: id, incarnation: starts + 1 };
        let mut batch = Batch::default();
        if found.abandoned {
            clear(&mut batch);
        }
        batch.put(Space::Node, SELF, page.to_bytes());
        disk.write(batch).await?;
        Ok(NodeFiles { disk, page, genesis: Mutex::new(found.genesis), abandoned: AtomicBool::new(false) })
    }

    /// Which disk this is.
    pub fn disk_id(&self) -> DiskId {
        self.page.disk
    }

    /// How often it was started on.
    pub fn incarnation(&self) -> u64 {
        self.page.incarnation
    }

    /// The genesis that it is pinned to.
    pub fn genesis(&self) -> Option<Genesis> {
        self.genesis.lock().clone()
    }

    /// Pins a genesis that has this node, with this disk, in its roster.
    pub async fn pin(&self, cluster: &LedgerConfig, genesis: &Genesis) -> Result<(), PinRefused> {
        if self.abandoned.load(Ordering::SeqCst) {
            return Err(PinRefused::Begun);
        }
        if let Some(pinned) = self.genesis() {
            return if pinned == *genesis { Ok(()) } else { Err(PinRefused::OtherGenesis) };
        }
        if genesis.cluster != cluster.cluster {
            return Err(PinRefused::OtherCluster);
        }
        if genesis.roster.member(self.page.node).is_none_or(|me| me.disk != self.page.disk) {
            return Err(PinRefused::NotMember);
        }
        let mut batch = Batch::default();
        batch.put(Space::Node, GENESIS, genesis.to_bytes());
        self.disk.write(batch).await.map_err(PinRefused::Disk)?;
        *self.genesis.lock() = Some(genesis.clone());
        Ok(())
    }

    /// Pins the genesis of a cluster that this node has joined: it stands in the newest roster, not in the first.
    pub async fn pin_joined(
        &self,
        cluster: &LedgerConfig,
        ahead: &Ahead,
        announced: &[Announcement],
    ) -> Result<Genesis, PinRefused> {
        let genesis = &ahead.chain.founding().ok_or(PinRefused::NotMember)?.genesis;
        if self.genesis().is_some_and(|pinned| pinned != *genesis) {
            return Err(PinRefused::OtherGenesis);
        }
        if genesis.cluster != cluster.cluster {
            return Err(PinRefused::OtherCluster);
        }
        let line = ahead.chain.roster().and_then(|roster| roster.member(self.page.node));
        if line.is_none_or(|me| me.disk != self.page.disk || me.role == Role::Retired) {
            return Err(PinRefused::NotMember);
        }
        let mut batch = Batch::default();
        batch.put(Space::Node, GENESIS, genesis.to_bytes()).put(Space::Node, CHAIN, chain_bytes(ahead));
        batch.put(Space::Node, ANNOUNCED, announced_bytes(announced));
        self.disk.write(batch).await.map_err(PinRefused::Disk)?;
        *self.genesis.lock() = Some(genesis.clone());
        Ok(genesis.clone())
    }

    /// Keeps a chain that this node's records do not hold yet.
    pub async fn keep_chain(&self, ahead: &Ahead) -> Result<(), DiskFailed> {
        let mut batch = Batch::default();
        batch.put(Space::Node, CHAIN, chain_bytes(ahead));
        self.disk.write(batch).await
    }

    /// Keeps where the members have said that they listen.
    pub async fn keep_announced(&self, announced: &[Announcement]) -> Result<(), DiskFailed> {
        let mut batch = Batch::default();
        batch.put(Space::Node, ANNOUNCED, announced_bytes(announced));
        self.disk.write(batch).await
    }

    /// Where the members had said that they listen.
    pub fn announced(&self) -> Result<Vec<Announcement>, StartFailed> {
        let Some(bytes) = self.disk.read(Space::Node, ANNOUNCED).map_err(StartFailed::Disk)? else {
            return Ok(Vec::new());
        };
        let mut r = Reader::new(&bytes);
        let read = r.list(PRESENT_MAX).and_then(|announced| r.end().map(|()| announced));
        read.map_err(|_| StartFailed::Damaged("where the other nodes listen"))
    }

    /// The chain that was kept, proven anew from the pinned genesis.
    pub fn chain(&self) -> Result<Option<Ahead>, StartFailed> {
        let (Some(genesis), Some(bytes)) =
            (self.genesis(), self.disk.read(Space::Node, CHAIN).map_err(StartFailed::Disk)?)
        else {
            return Ok(None);
        };
        let damaged = StartFailed::Damaged("the header chain that this node joined with");
        let read = |r: &mut Reader<'_>| Ok((Founding::read(r)?, r.list(LINKS_MAX)?, Roster::read(r)?));
        let mut reader = Reader::new(&bytes);
        let kept: Result<(Founding, Vec<HeaderLink>, Roster), Malformed> = read(&mut reader);
        let (founding, links, roster) = kept.map_err(|_| damaged.clone())?;
        if founding.genesis != genesis || reader.end().is_err() {
            return Err(damaged);
        }
        let chain = Chain::walk(founding, links.clone(), roster).map_err(|_| damaged)?;
        Ok(Some(Ahead { chain: Arc::new(chain), links }))
    }

    /// Forgets the genesis.
    pub async fn unpin(&self) -> Result<(), PinRefused> {
        let mut batch = Batch::default();
        batch.delete(Space::Node, GENESIS);
        self.disk.write(batch).await.map_err(PinRefused::Disk)?;
        *self.genesis.lock() = None;
        Ok(())
    }

    /// Forgets the genesis, and has the next start clear everything that Raft has written under it.
    pub async fn abandon(&self) -> Result<(), PinRefused> {
        self.abandoned.store(true, Ordering::SeqCst);
        let mut batch = Batch::default();
        batch.delete(Space::Node, GENESIS).put(Space::Node, ABANDONED, FORMAT.to_be_bytes().to_vec());
        self.disk.write(batch).await.map_err(PinRefused::Disk)?;
        *self.genesis.lock() = None;
        Ok(())
    }
}

/// Adds to a batch that the folder is pinned to the genesis of a cluster that was restored to it.
pub(crate) fn pin_restored(genesis: &Genesis, batch: &mut Batch) {
    batch.put(Space::Node, GENESIS, genesis.to_bytes());
}

fn announced_bytes(announced: &[Announcement]) -> Vec<u8> {
    let mut w = Writer::default();
    w.list(announced);
    w.into_bytes()
}

fn chain_bytes(ahead: &Ahead) -> Vec<u8> {
    let (founding, roster) = (ahead.chain.founding(), ahead.chain.roster());
    let (founding, roster) = founding.zip(roster).expect("a chain that was proven begins and ends");
    let mut w = Writer::default();
    founding.write(&mut w);
    w.list(&ahead.links);
    roster.write(&mut w);
    w.into_bytes()
}

/// Makes a folder as new, but for its page: this is the same disk.
fn clear(batch: &mut Batch) {
    for space in Space::ALL.into_iter().filter(|space| *space != Space::Node) {
        batch.delete_range(space, &[][..], &AFTER_ALL_KEYS[..]);
    }
    batch
        .delete(Space::Node, GENESIS)
        .delete(Space::Node, ABANDONED)
        .delete(Space::Node, CHAIN)
        .delete(Space::Node, ANNOUNCED);
    recall::forget(batch);
    succession::forget(batch);
}
