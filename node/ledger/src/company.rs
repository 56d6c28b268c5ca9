//! Who else is there, before a node goes on alone: whoever is configured is asked once more how the cluster stands, also by
//! a node that hears nobody else. What they say is not proven; it can only keep a node from going on.

use crate::acquaint::{ANSWER_WAIT, Acquaint};
use claviger_core::chain::Chain;
use claviger_core::name::{Lineage, NodeId};
use claviger_core::roster::Roster;
use claviger_proto::peer::v1 as pb;
use claviger_world::network::{FrameKind, PeerCertificate};
use futures_util::future::join_all;
use std::collections::BTreeSet;

/// Why a node does not go on alone from a chain: somebody is there who does, or could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Company {
    /// Most voters of its roster answer.
    Voters,
    /// That node has a mandate to begin a generation that this one would begin, or a later one.
    Heir(NodeId),
    /// That node tells of a later generation.
    Later(NodeId),
}

/// What a node says of how the cluster stands.
struct Said {
    from: PeerCertificate,
    generation: u64,
    mandated: u64,
}

impl Acquaint {
    /// Who keeps this node from going on alone, from that chain.
    pub async fn company(&self, chain: &Chain) -> Option<Company> {
        let lineage = chain.lineage()?;
        let everybody = self.peers.anybody().into_values();
        let said = join_all(everybody.map(|address| self.look_at(address, lineage))).await;
        judge(self.peers.node(), chain.generation(), chain.roster()?, said.into_iter().flatten().collect())
    }

    async fn look_at(&self, address: String, lineage: Lineage) -> Option<Said> {
        // Whoever is asked sends no links: as if this node had them all.
        let request = pb::AcquaintRequest { lineage: lineage.0.to_vec().into(), links: u64::MAX, ..Default::default() };
        let answer: Result<(_, pb::AcquaintReply), _> =
            self.peers.call_plain(&address, FrameKind::Acquaint, &request, ANSWER_WAIT).await;
        let (from, reply) = answer.ok()?;
        Some(Said { from, generation: reply.generation, mandated: reply.mandated })
    }
}

fn judge(node: NodeId, generation: u64, roster: &Roster, said: Vec<Said>) -> Option<Company> {
    if let Some(later) = said.iter().find(|said| said.generation > generation) {
        return Some(Company::Later(later.from.claims));
    }
    if let Some(heir) = said.iter().find(|said| said.mandated > generation) {
        return Some(Company::Heir(heir.from.claims));
    }
    let voters = roster.voters();
    let themselves = |said: &&Said| roster.member(said.from.claims).is_some_and(|line| line.key == said.from.key);
    let mut reached: BTreeSet<NodeId> = said.iter().filter(themselves).map(|said| said.from.claims).collect();
    reached.insert(node);
    (voters.intersection(&reached).count() > voters.len() / 2).then_some(Company::Voters)
}
