//! How nodes keep each other told who belongs and where they listen. A node that was away, or has just joined, learns the
//! header chain from whomever it can reach: the chain proves itself from the pinned lineage on, whoever brings it.

use crate::machine::{Chain, lineage_of};
use crate::node_files::NodeFiles;
use crate::peers::{Ahead, Peers, Turned};
use crate::raft::log::Log;
use crate::raft::snapshot::place_of;
use crate::raft::store::Stage;
use crate::{Fatal, Halt, LedgerView, Proof};
use bytes::Bytes;
use claviger_core::address::Announcement;
use claviger_core::codec::Canonical;
use claviger_core::crypto::sha256;
use claviger_core::header::HeaderLink;
use claviger_core::name::{Lineage, NodeId};
use claviger_core::planted;
use claviger_core::record::{RecordKey, Table, View};
use claviger_core::roster::{Founding, PRESENT_MAX, Role, Roster};
use claviger_core::snapshot::LogPlace;
use claviger_proto::peer::v1 as pb;
use claviger_world::network::{CallFailed, FRAME_BYTES_MAX, FrameKind, PeerCertificate};
use claviger_world::runtime;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// How often one of the others is asked how the cluster stands.
const ASK_EACH: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Longest that one node is listened to, however much of the chain it brings.
const ASK_WAIT: Duration = Duration::from_secs(60);
/// Links in one answer, at most.
const LINKS_AT_ONCE: u64 = 256;
/// Answers that are asked for in a row, at most: as many as bring a million links.
const PAGES_MAX: usize = 4_096;

/// Asks and answers.
pub(crate) struct Acquaint {
    pub peers: Arc<Peers>,
    pub stage: Arc<Stage>,
    pub log: Log,
    pub files: Arc<NodeFiles>,
    pub halt: Halt,
    /// Held while this node looks at another one that called itself torn from it: one at a time.
    pub looking_back: tokio::sync::Mutex<()>,
    /// Held while this node asks somebody whom it does not know yet: one at a time.
    pub asking_back: tokio::sync::Mutex<()>,
}

/// How a cluster stands that this node does not belong to yet, and where its members listen.
pub(crate) struct Acquainted {
    pub ahead: Ahead,
    pub announced: Vec<Announcement>,
}

impl Acquaint {
    /// Asks the others in turn, as long as the node lives.
    pub async fn run(self: Arc<Self>) {
        let mut last = self.peers.node();
        let mut kept = self.peers.worth_keeping();
        loop {
            runtime::sleep(ASK_EACH).await;
            if self.peers.lineage().is_none() {
                continue;
            }
            let others = self.peers.neighbours();
            let next = others.range(NodeId(last.0 + 1)..).next().or(others.first()).copied();
            let Some(next) = next else { continue };
            last = next;
            // Whoever cannot be reached now is asked again in its turn.
            let _ = self.ask(next).await;
            self.keep_announced(&mut kept).await;
        }
    }

    /// Keeps where the others listen, for a start at which nobody says so: whenever somebody has moved.
    async fn keep_announced(&self, kept: &mut Vec<Announcement>) {
        let announced = self.peers.worth_keeping();
        if announced == *kept {
            return;
        }
        if let Err(failed) = self.files.keep_announced(&announced).await {
            self.halt.halt(Fatal::Disk(failed));
        }
        *kept = announced;
    }

    /// Learns from one node whatever it knows beyond this one.
    pub async fn ask(&self, to: NodeId) -> Result<(), CallFailed> {
        runtime::timeout(ASK_WAIT, self.ask_at_leisure(to)).await.unwrap_or(Err(CallFailed::Late))
    }

    async fn ask_at_leisure(&self, to: NodeId) -> Result<(), CallFailed> {
        self.learn_at(&self.peers.address(to).ok_or(CallFailed::Unreachable)?).await
    }

    async fn learn_at(&self, address: &str) -> Result<(), CallFailed> {
        let lineage = self.peers.lineage().ok_or(CallFailed::Unreachable)?;
        let base = (*self.peers.chain()).clone();
        let mut announced = Vec::new();
        match self.gather(address, lineage, base, &mut announced).await {
            Ok(Some(ahead)) => self.believe(ahead).await?,
            Ok(None) => (),
            Err(failed @ CallFailed::Refused(_)) => return self.unless_parted(address, lineage, failed).await,
            Err(failed) => return Err(failed),
        }
        announced.into_iter().for_each(|said| self.peers.hear_address(said));
        self.unless_retired();
        Ok(())
    }

    /// What does not follow from this node's chain may be a later generation, which custodians have begun without what this
    /// node knows: then it has left, like everybody but their heir. Or they have begun one twice, and only people can say
    /// which of the two goes on: then the other one is told as well before this one ends.
    async fn unless_parted(&self, address: &str, lineage: Lineage, failed: CallFailed) -> Result<(), CallFailed> {
        let Some(fatal) = self.parted_from(address, lineage).await? else { return Err(failed) };
        if matches!(fatal, Fatal::Torn { .. }) {
            self.tell_torn(address, lineage).await;
        }
        self.halt.halt(fatal);
        Err(failed)
    }

    /// Why this node cannot go on beside the chain that whoever listens there proves; none where it can.
    async fn parted_from(&self, address: &str, lineage: Lineage) -> Result<Option<Fatal>, CallFailed> {
        let other = self.gather(address, lineage, Chain::default(), &mut Vec::new()).await?;
        Ok(other.and_then(|theirs| parted(self.peers.node(), &self.peers.chain(), &theirs)))
    }

    /// Has the other one look for itself. Whether it can or not, this node ends.
    async fn tell_torn(&self, address: &str, lineage: Lineage) {
        let announcements = self.peers.announcements().iter().map(|said| said.to_bytes().into()).collect();
        let links = self.peers.chain().length();
        let request = pb::AcquaintRequest { lineage: lineage.0.to_vec().into(), links, announcements, torn: true };
        let told: Result<(_, pb::AcquaintReply), _> =
            self.peers.call_plain(address, FrameKind::Acquaint, &request, ANSWER_WAIT).await;
        if let Err(failed) = told {
            tracing::warn!(%failed, address, "the other node that goes on alone may not have heard of this one");
        }
    }

    /// Looks at the chain of a node that says that both were let go on alone. Nothing is believed that it does not prove.
    pub async fn look_back(&self, from: &PeerCertificate, body: &Bytes) {
        let Ok(request) = pb::AcquaintRequest::decode(body.clone()) else { return };
        let Some(lineage) = self.peers.lineage().filter(|ours| request.torn && request.lineage[..] == ours.0) else {
            return;
        };
        let said = announcements(&request.announcements).into_iter().find(|said| self.is_of(said, from));
        let address = said.map(|said| said.address).or_else(|| self.peers.address(from.claims));
        let Some((address, _turn)) = address.zip(self.looking_back.try_lock().ok()) else { return };
        // Whoever takes long keeps others from being heard meanwhile.
        let looked = runtime::timeout(ASK_WAIT, self.parted_from(&address, lineage)).await;
        if let Ok(Ok(Some(fatal))) = looked {
            self.halt.halt(fatal);
        }
    }

    /// Where to ask somebody who is no member that this node knows, and says that its chain goes further: everybody whom it
    /// knows may have been replaced while it was away.
    pub fn stranger_ahead(&self, from: &PeerCertificate, body: &Bytes) -> Option<String> {
        let request = pb::AcquaintRequest::decode(body.clone()).ok()?;
        let ours = self.peers.lineage().is_some_and(|lineage| request.lineage[..] == lineage.0);
        // Whoever looks for company says that it has them all.
        let further = request.links > self.peers.chain().length() && request.links < u64::MAX;
        let stranger = self.peers.member(from.claims).is_none() && self.peers.alone().is_none();
        let said = announcements(&request.announcements).into_iter().find(|said| said.node == from.claims);
        said.filter(|_| ours && further && stranger && !request.torn).map(|said| said.address)
    }

    /// Learns there what it can. Nothing is believed that it does not prove.
    pub async fn ask_back(&self, address: &str) {
        if let Ok(_turn) = self.asking_back.try_lock() {
            // Whoever is asked in vain says so again.
            let _ = runtime::timeout(ASK_WAIT, self.learn_at(address)).await;
        }
    }

    /// Whether that is where the bearer of the certificate listens, who may have left.
    fn is_of(&self, said: &Announcement, from: &PeerCertificate) -> bool {
        let line = self.peers.member(said.node).filter(|line| line.key == from.key && said.node == from.claims);
        line.is_some_and(|line| said.is_by(&line))
    }

    /// How a cluster stands that this node does not belong to yet, as whoever listens there proves it.
    pub async fn meet(&self, address: &str, lineage: Lineage) -> Result<Acquainted, CallFailed> {
        let mut announced = Vec::new();
        let ahead = self.gather(address, lineage, Chain::default(), &mut announced).await?;
        Ok(Acquainted { ahead: ahead.ok_or_else(unreadable)?, announced })
    }

    /// What goes beyond `base`, link by link; none when nothing does.
    async fn gather(
        &self,
        address: &str,
        lineage: Lineage,
        base: Chain,
        announced: &mut Vec<Announcement>,
    ) -> Result<Option<Ahead>, CallFailed> {
        let (mut chain, mut came) = (base.clone(), Vec::new());
        for _ in 0..PAGES_MAX {
            let reply = self.page(address, lineage, base.length() + came.len() as u64).await?;
            *announced = announcements(&reply.announcements);
            let mut links = read_all::<HeaderLink>(&reply.links)?;
            if links.is_empty() {
                return if self.is_ours(&reply, &base) { Ok(None) } else { Err(no_part()) };
            }
            came.extend(links.iter().cloned());
            if chain.founding().is_none() {
                chain = begun(&reply.founding, links.remove(0), lineage)?;
            }
            chain = chain.longer(links).ok_or_else(unreadable)?;
            if !reply.roster.is_empty() {
                let roster = Roster::from_bytes(&reply.roster).map_err(|_| unreadable())?;
                let chain = Arc::new(chain.named(roster).ok_or_else(unreadable)?);
                let mut links = self.links(0, base.length());
                links.extend(came);
                return Ok(Some(Ahead { chain, links }));
            }
        }
        Err(unreadable())
    }

    /// Whether a chain that goes no further than `base` is a part of it, by what its owner says.
    fn is_ours(&self, reply: &pb::AcquaintReply, base: &Chain) -> bool {
        // Whoever has no link says so; one that is cut off half way is asked again.
        let Some(last) = reply.length.checked_sub(1).filter(|_| reply.length <= base.length()) else { return true };
        let own = self.links(last, reply.length).pop();
        let same = own.is_none_or(|link| sha256(&[&link.to_bytes()]).0[..] == reply.head[..]);
        same && reply.generation <= base.generation()
    }

    async fn page(&self, address: &str, lineage: Lineage, links: u64) -> Result<pb::AcquaintReply, CallFailed> {
        let announcements = self.peers.announcements().iter().map(|said| said.to_bytes().into()).collect();
        let request = pb::AcquaintRequest { lineage: lineage.0.to_vec().into(), links, announcements, torn: false };
        Ok(self.peers.call_plain(address, FrameKind::Acquaint, &request, ANSWER_WAIT).await?.1)
    }

    /// Believes a chain that was gathered, and keeps it where the records do not hold one yet.
    async fn believe(&self, ahead: Ahead) -> Result<(), CallFailed> {
        if self.stage.view.read().0.chain.head().is_none() {
            self.files.keep_chain(&ahead).await.map_err(|failed| {
                self.halt.halt(Fatal::Disk(failed));
                CallFailed::Unreachable
            })?;
        }
        self.peers.run_ahead(ahead);
        Ok(())
    }

    /// A node that has left for good says so and ends: nobody listens to it any more.
    fn unless_retired(&self) {
        let own = self.peers.member(self.peers.node());
        if own.is_some_and(|line| line.role == Role::Retired) {
            self.halt.halt(Fatal::Retired);
        }
    }

    /// Answers whoever asks: what is said proves itself, and holds no secret.
    pub fn hear(&self, body: Bytes) -> Result<Bytes, Turned> {
        if body.len() > FRAME_BYTES_MAX {
            return Err(Turned::Unreadable);
        }
        let request = pb::AcquaintRequest::decode(body).map_err(|_| Turned::Unreadable)?;
        let lineage = self.peers.lineage().ok_or(Turned::NotFounded)?;
        if request.lineage[..] != lineage.0 {
            return Err(Turned::OtherCluster);
        }
        announcements(&request.announcements).into_iter().for_each(|said| self.peers.hear_address(said));
        let chain = self.peers.chain();
        let links = self.links(request.links, chain.length().min(request.links.saturating_add(LINKS_AT_ONCE)));
        let whole = request.links + links.len() as u64 >= chain.length();
        let first = request.links == 0 && !links.is_empty();
        let bytes = |value: Option<Vec<u8>>| value.unwrap_or_default().into();
        let nothing = LogPlace { term: 0, leader: 0, index: 0 };
        let end = self.log.last().as_ref().map_or(nothing, place_of);
        let reply = pb::AcquaintReply {
            founding: bytes(chain.founding().filter(|_| first).map(Canonical::to_bytes)),
            roster: bytes(chain.roster().filter(|_| whole && !links.is_empty()).map(Canonical::to_bytes)),
            links: links.iter().map(|link| link.to_bytes().into()).collect(),
            announcements: self.peers.announcements().iter().map(|said| said.to_bytes().into()).collect(),
            generation: chain.generation(),
            length: chain.length(),
            head: bytes(chain.head_digest().map(|head| head.0.to_vec())),
            mandated: self.peers.alone().map_or(0, |signed| signed.mandate.generation),
            last_log_term: end.term,
            last_log_leader: end.leader,
            last_log_index: end.index,
        };
        Ok(reply.encode_to_vec().into())
    }

    /// How the cluster stands, as far as this node has proven it.
    pub fn proof(&self) -> Option<Proof> {
        let chain = self.peers.chain();
        let (founding, roster) = (chain.founding()?.clone(), chain.roster()?.clone());
        let links = self.links(0, chain.length());
        (links.len() as u64 == chain.length()).then_some(Proof { founding, links, roster })
    }

    /// Links `from..to`, out of the records or from ahead of them; none when there are not so many.
    fn links(&self, from: u64, to: u64) -> Vec<HeaderLink> {
        if let Some(ahead) = self.peers.ahead() {
            let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
            return range.and_then(|(from, to)| ahead.links.get(from..to)).unwrap_or_default().to_vec();
        }
        let view: LedgerView = self.stage.view.read().clone();
        let read = |number| {
            let record = view.record(&RecordKey::numbered(Table::Header, number))?;
            HeaderLink::from_bytes(&record.value).ok()
        };
        (from..to).map(read).collect::<Option<Vec<_>>>().unwrap_or_default()
    }
}

/// Those that can be read: each proves itself to whoever has the roster.
fn announcements(said: &[Bytes]) -> Vec<Announcement> {
    said.iter().take(PRESENT_MAX).filter_map(|bytes| Announcement::from_bytes(bytes).ok()).collect()
}

/// The chain of one link, of a founding that is that of the lineage.
fn begun(founding: &[u8], first: HeaderLink, lineage: Lineage) -> Result<Chain, CallFailed> {
    let founding = Founding::from_bytes(founding).map_err(|_| unreadable())?;
    let ours = lineage_of(&founding.genesis) == lineage;
    Chain::begin(founding, first).filter(|_| ours).ok_or_else(unreadable)
}

fn read_all<T: Canonical>(values: &[Bytes]) -> Result<Vec<T>, CallFailed> {
    values.iter().map(|bytes| T::from_bytes(bytes).map_err(|_| unreadable())).collect()
}

/// Why a node cannot go on beside a chain that was proven to it whole. One that its own is a part of is none: then something
/// else was refused.
fn parted(node: NodeId, own: &Chain, theirs: &Ahead) -> Option<Fatal> {
    if let Some(generation) = own.torn_from(&theirs.chain) {
        return Some(Fatal::Torn { generation }).filter(|_| !planted!(TornGoesOn));
    }
    let last = own.length().checked_sub(1).and_then(|last| theirs.links.get(usize::try_from(last).ok()?));
    let within = last.map(|link| sha256(&[&link.to_bytes()])) == own.head_digest();
    if within || theirs.chain.generation() <= own.generation() {
        return None;
    }
    let line = theirs.chain.roster().and_then(|roster| roster.member(node));
    let left = line.is_none_or(|line| line.role == Role::Retired);
    Some(if left { Fatal::Retired } else { Fatal::Torn { generation: theirs.chain.generation() } })
}

fn no_part() -> CallFailed {
    CallFailed::Refused("its header chain is no part of this node's".into())
}

fn unreadable() -> CallFailed {
    CallFailed::Refused(Turned::Unreadable.to_string())
}
