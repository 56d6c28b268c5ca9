//! Ceremonies with true shares, and with shares of every wrong kind.

use super::*;
use crate::chance::{Chance, Fresh};
use crate::codec::Canonical;
use crate::crypto::SigningKey;
use crate::decide::paper::{CUSTODIANS, Paper, custodian, seeded, who};
use crate::kem::KemSecret;
use crate::name::Lineage;
use crate::record::{RecordKey, Table};
use proptest::prelude::*;

const NOW: UnixMs = UnixMs(5_000);
const ID: CeremonyId = CeremonyId([6; 16]);

fn key(lineage: Lineage) -> CeremonyKey {
    let public = KemSecret::from_seed(Secret32::of(Fresh::drawn([2; 32]))).public();
    CeremonyKey {
        lineage,
        generation: 1,
        seal_epoch: 0,
        ceremony: ID,
        host: NodeId(1),
        incarnation: 1,
        expires: UnixMs(10_000),
        public,
    }
}

/// A founded cluster, its ceremony, and copies of its shares.
struct Stage {
    paper: Paper,
    ceremony: Ceremony,
}

impl Stage {
    fn set() -> Stage {
        let paper = Paper::founded();
        let ceremony = Ceremony::open(key(paper.lineage), &custodians(&paper), custodian("alice"), NOW).unwrap();
        Stage { paper, ceremony }
    }

    fn share(&self, index: u8) -> Share {
        let dealt = &self.paper.found[usize::from(index) - 1];
        Share::from_payload(dealt.share.to_payload().expose()).unwrap()
    }

    fn proof(&self, share: &Share, bearer: &Identity) -> Signature {
        share.prove(&self.ceremony.key().challenge(share.index(), bearer))
    }

    /// A true share of that number by that custodian.
    fn bring(&mut self, name: &str, index: u8) -> Result<Progress, ShareRefused> {
        let (bearer, share) = (custodian(name), self.share(index));
        let proof = self.proof(&share, &bearer);
        self.ceremony.offer(NOW, &ID, &bearer, index, share, &proof)
    }

    /// Asserts the refusal, that nothing changed, and that the next true share is taken.
    fn refuses(
        mut self,
        why: ShareWhy,
        offer: impl FnOnce(&mut Stage) -> Result<Progress, ShareRefused>,
    ) -> ShareRefused {
        let before = self.ceremony.progress();
        let refused = offer(&mut self).unwrap_err();
        assert_eq!(refused.why, why);
        assert_eq!(self.ceremony.progress(), before);
        assert!(refused.to_string().contains(&refused.bearer.to_string()));
        assert!(self.bring("erin", 5).is_ok());
        refused
    }
}

fn custodians(paper: &Paper) -> Custodians {
    crate::books::read_open(&paper.records, &RecordKey::only(Table::Custodians)).unwrap().unwrap().0
}

#[test]
fn three_of_five_open() {
    let mut stage = Stage::set();
    assert!(stage.ceremony.complete().is_none());
    assert_eq!(stage.bring("bob", 2).unwrap().missing.len(), 4);
    let two = stage.bring("erin", 5).unwrap();
    assert!(!two.complete && stage.ceremony.complete().is_none());
    let three = stage.bring("carol", 3).unwrap();
    assert!(three.complete);
    let came: Vec<_> = three.accepted.iter().map(|a| (a.index, a.holder.name.as_str(), a.time)).collect();
    assert_eq!(came, [(2, "bob", NOW), (5, "erin", NOW), (3, "carol", NOW)]);
    assert_eq!(three.missing, [custodian("alice"), custodian("dave")]);
    let unsealing = stage.ceremony.complete().unwrap().unwrap();
    let others: Vec<Share> = [1, 2, 4].map(|i| stage.share(i)).into();
    let same = share::combine(&others, stage.ceremony.context(), &custodians(&stage.paper).holders).unwrap();
    assert_eq!(unsealing.expose(), same.expose());
    // Once: the shares are gone, the progress stays.
    assert!(stage.ceremony.complete().is_none());
    assert!(stage.ceremony.progress().complete);
    assert_eq!(stage.bring("alice", 1).unwrap_err().why, ShareWhy::Complete);
}

#[test]
fn refuses_a_duplicate() {
    let mut stage = Stage::set();
    stage.bring("alice", 1).unwrap();
    let refused = stage.refuses(ShareWhy::Duplicate, |stage| stage.bring("alice", 1));
    assert_eq!(refused.holder, Some(custodian("alice")));
}

#[test]
fn refuses_a_forged_share() {
    let forge = |stage: &mut Stage| {
        let bearer = custodian("alice");
        let y = Secret32::of(Fresh::drawn([1; 32]));
        let forged = Share::new(stage.ceremony.context().clone(), 1, y).unwrap();
        let proof = stage.proof(&forged, &bearer);
        stage.ceremony.offer(NOW, &ID, &bearer, 1, forged, &proof)
    };
    let refused = Stage::set().refuses(ShareWhy::Forged, forge);
    assert_eq!((refused.holder, refused.bearer), (Some(custodian("alice")), custodian("alice")));
}

#[test]
fn refuses_a_share_of_another_cluster_or_epoch() {
    for (lineage, epoch) in [(Lineage([1; 32]), 1), (Paper::founded().lineage, 2)] {
        let foreign = |stage: &mut Stage| {
            let bearer = custodian("alice");
            let context = ShareContext::new(lineage, "north".parse().unwrap(), epoch, 3, 5).unwrap();
            let mut chance = Chance::grow(Fresh::drawn([1; 32]));
            let share = share::deal(&Secret32::of(Fresh::drawn([2; 32])), &context, &mut chance).remove(0);
            let proof = stage.proof(&share, &bearer);
            stage.ceremony.offer(NOW, &ID, &bearer, 1, share, &proof)
        };
        Stage::set().refuses(ShareWhy::Foreign, foreign);
    }
}

#[test]
fn refuses_a_share_that_somebody_else_holds() {
    let refused = Stage::set().refuses(ShareWhy::NotTheHolder, |stage| stage.bring("alice", 2));
    assert_eq!((refused.holder, refused.bearer), (Some(custodian("bob")), custodian("alice")));
    Stage::set().refuses(ShareWhy::NotACustodian, |stage| stage.bring("mallory", 2));
}

#[test]
fn refuses_a_wrong_number() {
    let offer = |claimed: u8, inside: u8| {
        move |stage: &mut Stage| {
            let (bearer, share) = (custodian("alice"), stage.share(inside));
            let proof = stage.proof(&share, &bearer);
            stage.ceremony.offer(NOW, &ID, &bearer, claimed, share, &proof)
        }
    };
    for (claimed, inside) in [(0, 1), (6, 1), (255, 1), (1, 2)] {
        Stage::set().refuses(ShareWhy::WrongIndex, offer(claimed, inside));
    }
}

#[test]
fn refuses_proofs_made_for_something_else() {
    type Prove = fn(&Stage, &Share) -> Signature;
    let wrong: [Prove; 5] = [
        |stage, share| stage.proof(share, &custodian("bob")),
        |stage, share| {
            share.prove(
                &CeremonyKey { incarnation: 2, ..stage.ceremony.key().clone() }.challenge(1, &custodian("alice")),
            )
        },
        |stage, share| share.prove(&stage.ceremony.key().challenge(2, &custodian("alice"))),
        |stage, _| stage.share(2).prove(&stage.ceremony.key().challenge(1, &custodian("alice"))),
        |_, _| Signature([0; 64]),
    ];
    for prove in wrong {
        Stage::set().refuses(ShareWhy::WrongProof, |stage| {
            let (bearer, share) = (custodian("alice"), stage.share(1));
            let proof = prove(stage, &share);
            stage.ceremony.offer(NOW, &ID, &bearer, 1, share, &proof)
        });
    }
}

#[test]
fn refuses_what_comes_late_or_for_another_ceremony() {
    let at = |now: UnixMs, id: CeremonyId| {
        move |stage: &mut Stage| {
            let (bearer, share) = (custodian("alice"), stage.share(1));
            let proof = stage.proof(&share, &bearer);
            stage.ceremony.offer(now, &id, &bearer, 1, share, &proof)
        }
    };
    Stage::set().refuses(ShareWhy::Expired, at(UnixMs(10_000), ID));
    Stage::set().refuses(ShareWhy::WrongCeremony, at(NOW, CeremonyId([0; 16])));
}

#[test]
fn a_custodian_trusts_a_key_that_a_member_signed() {
    let paper = Paper::founded();
    let chain = paper.chain();
    let (host, lineage): (SigningKey, Lineage) = (seeded(1), paper.lineage);
    let signed = key(lineage).sign(&host);
    assert_eq!(SignedCeremonyKey { ..signed.clone() }.trusted(&chain, None, &lineage, NOW), Ok(()));
    let trusted = |key: CeremonyKey| key.sign(&host).trusted(&chain, None, &lineage, NOW);
    assert_eq!(trusted(CeremonyKey { lineage: Lineage([1; 32]), ..key(lineage) }), Err(Distrust::OtherCluster));
    assert_eq!(trusted(CeremonyKey { host: NodeId(2), ..key(lineage) }), Err(Distrust::UnknownHost));
    assert_eq!(trusted(CeremonyKey { expires: NOW, ..key(lineage) }), Err(Distrust::Expired));
    assert_eq!(key(lineage).sign(&seeded(2)).trusted(&chain, None, &lineage, NOW), Err(Distrust::NotSigned));
    assert_eq!(signed.trusted(&chain, None, &Lineage([2; 32]), NOW), Err(Distrust::OtherCluster));
    let changed = SignedCeremonyKey { key: CeremonyKey { seal_epoch: 1, ..key(lineage) }, ..signed };
    assert_eq!(changed.trusted(&chain, None, &lineage, NOW), Err(Distrust::NotSigned));
}

#[test]
fn a_refusal_names_holder_and_bearer() {
    let stage = Stage::set();
    let refused = stage.ceremony.refuse(2, &custodian("alice"), ShareWhy::NotTheHolder);
    assert_eq!(
        refused.to_string(),
        "share 2 brought by spiffe://example.org/claviger/custodian/alice, held by \
         spiffe://example.org/claviger/custodian/bob: the share of that number is somebody else's"
    );
    assert_eq!(stage.ceremony.expect(NOW, &ID, &custodian("bob"), 2).unwrap().keys.identity, custodian(CUSTODIANS[1]));
    assert_ne!(who(&custodian("bob").to_string()), custodian("alice"));
}

proptest! {
    #[test]
    fn a_statement_is_read_as_written(cut in 1usize..1_300, generation: u64, host: u64, epoch: u64) {
        let key = CeremonyKey { generation, host: NodeId(host), seal_epoch: epoch, ..key(Lineage([1; 32])) };
        let bytes = key.to_bytes();
        let cut = cut.min(bytes.len());
        prop_assert!(CeremonyKey::from_bytes(&bytes[..bytes.len() - cut]).is_err());
        prop_assert!(CeremonyKey::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        prop_assert_eq!(CeremonyKey::from_bytes(&bytes), Ok(key));
    }
}
