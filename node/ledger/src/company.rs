//! Who else is there, before a node goes on alone: whoever is configured is asked once more how the cluster stands, also by
//! a node that hears nobody else. What they say is not proven; it can only keep a node from going on.

use crate::acquaint::{ANSWER_WAIT, Acquaint};
use claviger_core::chain::Chain;
use claviger_core::mandate::{Ground, Mandate};
use claviger_core::name::{Lineage, NodeId};
use claviger_core::roster::Roster;
use claviger_core::snapshot::LogPlace;
use claviger_proto::peer::v1 as pb;
use claviger_world::network::{FrameKind, PeerCertificate};
use futures_util::future::join_all;
use std::collections::BTreeSet;

/// Why a node does not go on alone from a chain: somebody is there who does, or could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Company {
    /// Most voters of its roster answer.
    Voters,
    /// That node answers, and this one does not vote: it was given a snapshot, or was still on its way in. The other one
    /// votes, or has come in since: it has its disk, and no less than this one.
    Survivor(NodeId),
    /// This node has a mandate, and that voter, which was away when it was given, is back. It may have found others to go on
    /// with whom this node does not reach.
    Back(NodeId),
    /// This node has a mandate, and that one, which was away when it was given, has entries that it does not have.
    Longer(NodeId),
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
    /// Links of its chain.
    length: u64,
    log_end: LogPlace,
}

/// Who asks what the others say.
struct Asking<'a> {
    node: NodeId,
    generation: u64,
    /// Links of the chain that it would go on from.
    length: u64,
    roster: &'a Roster,
    /// The mandate that it has carried out: since then it votes with nobody.
    alone: Option<&'a Mandate>,
}

impl Acquaint {
    /// Who keeps this node from going on alone, from that chain.
    pub async fn company(&self, chain: &Chain) -> Option<Company> {
        let lineage = chain.lineage()?;
        let everybody = self.peers.anybody().into_values();
        let said = join_all(everybody.map(|address| self.look_at(address, lineage))).await;
        let alone = self.peers.alone().map(|signed| &signed.mandate);
        let (generation, length) = (chain.generation(), chain.length());
        let asking = Asking { node: self.peers.node(), generation, length, roster: chain.roster()?, alone };
        judge(&asking, &said.into_iter().flatten().collect::<Vec<_>>())
    }

    async fn look_at(&self, address: String, lineage: Lineage) -> Option<Said> {
        // Whoever is asked sends no links: as if this node had them all.
        let request = pb::AcquaintRequest { lineage: lineage.0.to_vec().into(), links: u64::MAX, ..Default::default() };
        let answer: Result<(_, pb::AcquaintReply), _> =
            self.peers.call_plain(&address, FrameKind::Acquaint, &request, ANSWER_WAIT).await;
        let (from, reply) = answer.ok()?;
        let log_end =
            LogPlace { term: reply.last_log_term, leader: reply.last_log_leader, index: reply.last_log_index };
        let pb::AcquaintReply { generation, mandated, length, .. } = reply;
        Some(Said { from, generation, mandated, length, log_end })
    }
}

fn judge(asking: &Asking<'_>, said: &[Said]) -> Option<Company> {
    let Asking { node, generation, length, roster, alone } = *asking;
    if let Some(later) = said.iter().find(|said| said.generation > generation) {
        return Some(Company::Later(later.from.claims));
    }
    if let Some(heir) = said.iter().find(|said| said.mandated > generation) {
        return Some(Company::Heir(heir.from.claims));
    }
    let themselves = |said: &&Said| roster.member(said.from.claims).is_some_and(|line| line.key == said.from.key);
    let (voters, reached) = (roster.voters(), said.iter().filter(themselves).map(|said| said.from.claims));
    let reached: BTreeSet<NodeId> = voters.intersection(&reached.collect()).copied().filter(|n| *n != node).collect();
    let is_most = |count: usize| count > voters.len() / 2;
    let with_this_one = reached.len() + usize::from(voters.contains(&node));
    if is_most(reached.len()) {
        return Some(Company::Voters);
    }
    let newer = said.iter().find(|said| said.length > length).map(|said| said.from.claims);
    if let Some(survivor) = reached.first().copied().or(newer).filter(|_| !voters.contains(&node)) {
        return Some(Company::Survivor(survivor));
    }
    // Whoever has carried its mandate out votes with nobody any more.
    let Some(mandate) = alone else { return is_most(with_this_one).then_some(Company::Voters) };
    let longer = |end| said.iter().filter(themselves).find(|said| said.log_end > end);
    if let Some(longer) = ended(mandate).and_then(longer) {
        return Some(Company::Longer(longer.from.claims));
    }
    reached.first().filter(|_| is_most(with_this_one)).copied().map(Company::Back)
}

/// Where the log of a survivor ended.
fn ended(mandate: &Mandate) -> Option<LogPlace> {
    match mandate.ground {
        Ground::Survivor(end) => Some(end),
        Ground::Restored(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_core::name::{Digest, DiskId, VerifyingKey};
    use claviger_core::roster::{Member, Role};
    use claviger_core::time::UnixMs;

    fn member(node: u64) -> Member {
        let key = VerifyingKey([node as u8; 32]);
        Member { node: NodeId(node), key, disk: DiskId([node as u8; 16]), role: Role::Voter }
    }

    fn says(node: u64, index: u64) -> Said {
        let from = PeerCertificate { key: member(node).key, claims: NodeId(node) };
        Said { from, generation: 1, mandated: 0, length: 4, log_end: LogPlace { term: 1, leader: 1, index } }
    }

    /// What keeps node 1 of three from going on, whose log ends at entry 10.
    fn kept(mandated: bool, said: &[Said]) -> Option<Company> {
        keeps(1, mandated, said)
    }

    /// What keeps that node from going on, of a cluster of nodes 1 to 3.
    fn keeps(node: u64, mandated: bool, said: &[Said]) -> Option<Company> {
        let roster = Roster::first([1, 2, 3].map(member).into());
        let mandate = Mandate {
            lineage: Lineage([1; 32]),
            generation: 2,
            heir: member(node),
            ground: Ground::Survivor(LogPlace { term: 1, leader: 1, index: 10 }),
            head: Digest([1; 32]),
            nonce: [1; 16],
            expires: UnixMs(1),
        };
        let alone = mandated.then_some(&mandate);
        judge(&Asking { node: NodeId(node), generation: 1, length: 4, roster: &roster, alone }, said)
    }

    #[test]
    fn a_voter_that_comes_back_keeps_the_heir_from_going_on() {
        assert_eq!(kept(false, &[]), None);
        assert_eq!(kept(false, &[says(2, 10)]), Some(Company::Voters), "the two can go on together");
        assert_eq!(kept(true, &[]), None);
        assert_eq!(kept(true, &[says(2, 10)]), Some(Company::Back(NodeId(2))), "it may have found node 3");
        assert_eq!(kept(true, &[says(2, 10), says(3, 9)]), Some(Company::Voters), "these two can go on");
    }

    #[test]
    fn who_comes_back_with_more_keeps_the_heir_from_going_on() {
        assert_eq!(kept(true, &[says(2, 11)]), Some(Company::Longer(NodeId(2))));
        let stranger = Said { from: PeerCertificate { key: VerifyingKey([9; 32]), claims: NodeId(2) }, ..says(2, 11) };
        assert_eq!(kept(true, &[stranger]), None, "whoever that is, it is not that node");
        let newcomer = Said { length: 5, ..says(5, 12) };
        assert_eq!(kept(true, &[newcomer]), None, "a survivor hears of it by the chain, and follows");
    }

    #[test]
    fn who_has_nothing_but_a_snapshot_gives_way_to_any_voter() {
        for mandated in [false, true] {
            assert_eq!(keeps(4, mandated, &[]), None);
            assert_eq!(keeps(4, mandated, &[says(5, 10)]), None, "nobody of that cluster");
            assert_eq!(keeps(4, mandated, &[says(3, 1)]), Some(Company::Survivor(NodeId(3))));
            assert_eq!(keeps(4, mandated, &[says(3, 1), says(2, 1)]), Some(Company::Voters));
            let joined_since = Said { length: 5, ..says(5, 12) };
            assert_eq!(keeps(4, mandated, &[joined_since]), Some(Company::Survivor(NodeId(5))));
        }
    }

    #[test]
    fn another_heir_and_a_later_generation_count_from_anybody() {
        let heir = Said { mandated: 2, ..says(7, 1) };
        assert_eq!(kept(true, &[heir]), Some(Company::Heir(NodeId(7))));
        let later = Said { generation: 2, ..says(7, 1) };
        assert_eq!(kept(true, &[later]), Some(Company::Later(NodeId(7))));
    }
}
