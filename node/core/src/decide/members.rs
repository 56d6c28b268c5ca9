//! Who belongs: each change is a link of the header chain that names another roster. Raft's membership follows the roster,
//! and never runs ahead of it; a number, a key or a disk that left does not come back.

use super::draft::Draft;
use super::seal::{following, place};
use super::{Decision, Desk, Stamp, newest_header};
use crate::books;
use crate::chain::Chain;
use crate::chance::Chance;
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::{SigningKey, sha256, sign_as_heir};
use crate::failure::{Cause, Failure, Refused, Why};
use crate::header::{Header, HeaderLink};
use crate::keyring::KEYS_MAX;
use crate::mandate::SignedMandate;
use crate::name::{NodeId, TxnId};
use crate::policy::action::{CreateJoinTicket, RetireMember, SetMemberRole};
use crate::policy::{Action, Permit};
use crate::record::{Collection, RecordKey, Table, TenantTag, View};
use crate::roster::{MEMBERS_MAX, Member, PRESENT_MAX, Role, Roster};
use crate::secret::Secret32;
use crate::slot::Root;
use crate::ticket::{TICKET_MS_MAX, TicketRecord, ticket_digest};
use crate::time::UnixMs;
use crate::txn::{Effect, Put, Reliance, Txn};

/// What is asked of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketAsk {
    /// The number that the node will have: one that no node ever had.
    pub node: NodeId,
    /// How long it is good for, in milliseconds of cluster time, at most [`TICKET_MS_MAX`].
    pub good_for_ms: u64,
}

/// What a node is to be from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleAsk {
    /// Which.
    pub node: NodeId,
    /// Voter or learner.
    pub role: Role,
    /// A voter that becomes a learner in the same step: so that the number of votes never changes.
    pub in_place_of: Option<NodeId>,
}

/// Tickets that are over and cleared away when another one is given, at most.
const CLEARED_AT_ONCE_MAX: usize = 16;
/// Tickets that are open at once, at most: all are taken back in the one transaction that begins a generation.
const TICKETS_MAX: usize = 256;

/// Gives leave to join. The answer is the ticket's secret and when it is over; kept sealed for a request that comes again.
/// Clears away tickets that nobody used in time.
///
/// # Errors
/// `BadRequest`, `TooMany`.
pub fn create_join_ticket(
    desk: &Desk<'_>,
    permit: Permit<CreateJoinTicket>,
    ask: &TicketAsk,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<TicketGiven>, Failure> {
    let roster = roster(desk.view)?;
    if ask.node == NodeId(0) || roster.member(ask.node).is_some() {
        return Err(Refused::BadRequest("a node number that was never used").into());
    }
    if !(1..=TICKET_MS_MAX).contains(&ask.good_for_ms) {
        return Err(Refused::BadRequest("a time of a week at most").into());
    }
    room(&roster)?;
    let given = TicketGiven { secret: chance.fresh().spend(), expires: desk.now.plus_ms(ask.good_for_ms) };
    let by = permit.caller().identity().clone();
    let record = TicketRecord { node: ask.node, expires: given.expires, by };
    let over = tickets_over(desk)?;
    let mut draft = Draft::by(desk, &permit);
    let ticket = ticket_digest(&given.secret()?);
    draft.put_sealed(desk.keyring.ticket_record(&ticket), &record.to_bytes(), chance);
    over.into_iter().for_each(|over| draft.delete(over));
    let answer = given.to_bytes();
    Ok(draft.finish(stamp, &answer, given, chance))
}

/// Tickets that were not used in time. Refuses where there is no room for one more: whoever begins a generation takes all of
/// them back at once.
fn tickets_over(desk: &Desk<'_>) -> Result<Vec<RecordKey>, Failure> {
    let all = Collection { table: Table::Ticket, tenant: TenantTag::default() };
    let (mut over, open) = (Vec::new(), desk.view.members(&all, None, TICKETS_MAX));
    let full = open.len() >= TICKETS_MAX;
    for (key, record) in open {
        // One that cannot be read is no reason to give no other.
        let ticket = desk.books().value::<TicketRecord>(&key, &record);
        if ticket.is_ok_and(|ticket| ticket.expires <= desk.now) && over.len() < CLEARED_AT_ONCE_MAX {
            over.push(key);
        }
    }
    if full && over.is_empty() { Err(Refused::TooMany("open tickets").into()) } else { Ok(over) }
}

/// What the giver of a ticket gets.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketGiven {
    secret: [u8; 32],
    /// When it is over, by cluster time.
    pub expires: UnixMs,
}

impl TicketGiven {
    /// What tells the ticket from every other.
    ///
    /// # Errors
    /// None that a 32-byte secret could have.
    pub fn secret(&self) -> Result<Secret32, Cause> {
        Secret32::copy_from(&self.secret).ok_or(Cause("a 32-byte key has another width"))
    }
}

impl Canonical for TicketGiven {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.secret).u64(self.expires.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(TicketGiven { secret: r.array()?, expires: UnixMs(r.u64()?) })
    }
}

/// What the bearer of a ticket comes to.
pub enum Joining {
    /// To be proposed: the node is a learner then, and the ticket is spent.
    Joins(Box<Txn>, TicketRecord),
    /// It has joined before: its answer was lost.
    Joined,
}

/// Lets the bearer of a ticket in, as a learner: on the word of whoever gave it.
///
/// # Errors
/// `NotFound` for a ticket that was never given, is spent, is over, or is for another number; `BadRequest` for a key or a
/// disk that served before.
pub fn join(desk: &Desk<'_>, secret: &Secret32, line: &Member, chance: &mut Chance) -> Result<Joining, Failure> {
    let before = roster(desk.view)?;
    let line = Member { role: Role::Learner, ..line.clone() };
    let known = before.member(line.node);
    if known.is_some_and(|m| m.key == line.key && m.disk == line.disk && m.role != Role::Retired) {
        return Ok(Joining::Joined);
    }
    let ticket = desk.keyring.ticket_record(&ticket_digest(secret));
    let found = desk.books().read::<TicketRecord>(desk.view, &ticket)?;
    let good = |(record, _): &(TicketRecord, _)| record.node == line.node && desk.now < record.expires;
    let Some((record, _)) = found.filter(good) else { return Err(Refused::NotFound.into()) };
    let mut after = following_roster(&before);
    after.members.push(line);
    after.members.sort_unstable_by_key(|m| m.node);
    if !before.leads_to(&after) {
        return Err(Refused::BadRequest("a node with a key, a disk and a number that never served").into());
    }
    let link = Linked::with(desk, |_| {}, &after)?;
    let mut relies = link.relies;
    relies.push(Reliance::Exact(ticket, desk.view.version(&ticket)));
    let txn = Txn {
        id: TxnId(chance.fresh().spend()),
        turn: desk.turn,
        decided_at: desk.now,
        relies,
        puts: link.puts,
        deletes: vec![ticket],
        effect: Effect::Records,
    };
    Ok(Joining::Joins(Box::new(txn), record))
}

/// Makes a node a voter or a learner. The outcome is the roster's epoch from then on.
///
/// # Errors
/// `NotFound`, `BadRequest`.
pub fn set_member_role(
    desk: &Desk<'_>,
    permit: Permit<SetMemberRole>,
    ask: &RoleAsk,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<u64>, Failure> {
    let before = roster(desk.view)?;
    let mut after = following_roster(&before);
    turn(&mut after, ask.node, ask.role)?;
    if let Some(old) = ask.in_place_of {
        if ask.role != Role::Voter || before.member(old).is_some_and(|m| m.role != Role::Voter) {
            return Err(Refused::BadRequest("a learner that votes in place of a voter").into());
        }
        turn(&mut after, old, Role::Learner)?;
    }
    if after.voters().is_empty() {
        return Err(Refused::BadRequest("a change that leaves somebody to vote").into());
    }
    linked(desk, &permit, |_| {}, &after, None, stamp, chance)
}

/// Retires a learner for ever: its key, disk and number never serve again. The transaction key and the audit key are drawn
/// anew, so that what the node may have kept signs nothing any more. The outcome is the roster's epoch from then on.
///
/// # Errors
/// `NotFound`; `BadRequest` for a voter: it becomes a learner first.
pub fn retire_member(
    desk: &Desk<'_>,
    permit: Permit<RetireMember>,
    node: NodeId,
    root: &Root,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<u64>, Failure> {
    let before = roster(desk.view)?;
    if before.member(node).is_some_and(|m| m.role == Role::Voter) {
        return Err(Refused::BadRequest("a learner: a voter becomes one first").into());
    }
    if !desk.keyring.renewable() {
        return Err(Refused::TooMany("audit keys").into());
    }
    let mut after = following_roster(&before);
    turn(&mut after, node, Role::Retired)?;
    let renewed = desk.keyring.renewed(chance);
    let sealed = renewed.seal(root, &desk.lineage, chance.fresh());
    let renew = |header: &mut Header| {
        header.txn_key = renewed.txn_key();
        header.keyring = sha256(&[&sealed]);
    };
    linked(desk, &permit, renew, &after, Some(&sealed), stamp, chance)
}

/// Begins the generation that custodians have given a mandate for: its heir is left alone, everybody else has left for ever,
/// and whatever they may have kept signs nothing any more. `heir` is its identity key.
///
/// # Errors
/// `BadRequest` for a mandate that does not follow from the newest header link; `TooMany`.
pub fn succeed(
    desk: &Desk<'_>,
    mandate: SignedMandate,
    heir: &SigningKey,
    chain: &Chain,
    root: &Root,
    chance: &mut Chance,
) -> Result<Txn, Failure> {
    if !mandate.follows(chain) {
        return Err(Refused::BadRequest("a mandate that follows from the newest header").into());
    }
    let after = left_alone(chain, &mandate.mandate.heir)?;
    if !desk.keyring.renewable() {
        return Err(Refused::TooMany("audit keys").into());
    }
    let renewed = desk.keyring.renewed(chance);
    let sealed = renewed.seal(root, &desk.lineage, chance.fresh());
    let begin = |header: &mut Header| {
        header.generation = mandate.mandate.generation;
        (header.txn_key, header.keyring) = (renewed.txn_key(), sha256(&[&sealed]));
        header.mandate = Some(Box::new(mandate));
    };
    let mut link = Linked::signed(desk, begin, &after, |link| sign_as_heir(heir, link))?;
    let keyring = RecordKey::only(Table::Keyring);
    link.relies.push(Reliance::Exact(keyring, desk.view.version(&keyring)));
    link.puts.push(Put { key: keyring, value: sealed });
    // Leave to join what is left behind is no leave to join what begins.
    let all = Collection { table: Table::Ticket, tenant: TenantTag::default() };
    let open = desk.view.members(&all, None, TICKETS_MAX);
    link.relies.push(Reliance::Members(all, desk.view.members_version(&all)));
    link.relies.extend(open.iter().map(|(ticket, record)| Reliance::Exact(*ticket, record.version)));
    Ok(Txn {
        id: TxnId(chance.fresh().spend()),
        turn: desk.turn,
        decided_at: desk.now,
        relies: link.relies,
        puts: link.puts,
        deletes: open.into_iter().map(|(ticket, _)| ticket).collect(),
        effect: Effect::Records,
    })
}

/// The roster in which that node is left alone, if that can come to be: looked at before custodians are asked for anything.
///
/// # Errors
/// `BadRequest` for a node that could not be its heir; `TooMany` where there is no room for another key, or for the node.
pub fn left_alone(chain: &Chain, heir: &Member) -> Result<Roster, Failure> {
    let (head, before) = chain.head().zip(chain.roster()).ok_or(Why::NotFounded)?;
    let after = before.left_to(heir);
    if !before.leads_to(&after) {
        return Err(Refused::BadRequest("a node of the cluster, or one whose number, key and disk never served").into());
    }
    // Both keys are only ever renewed together.
    let keys = usize::try_from(head.header.txn_key.number).unwrap_or(usize::MAX);
    match (keys >= KEYS_MAX, after.members.len() > MEMBERS_MAX) {
        (true, _) => Err(Refused::TooMany("audit keys").into()),
        (_, true) => Err(Refused::TooMany("nodes").into()),
        (false, false) => Ok(after),
    }
}

/// The newest roster.
///
/// # Errors
/// It is missing or cannot be read.
pub fn roster(view: &dyn View) -> Result<Roster, Cause> {
    let found = books::read_open(view, &RecordKey::only(Table::Roster))?;
    found.map(|(roster, _)| roster).ok_or(Cause("an open node has no roster"))
}

fn following_roster(before: &Roster) -> Roster {
    Roster { epoch: before.epoch + 1, members: before.members.clone(), before: before.voters() }
}

fn turn(roster: &mut Roster, node: NodeId, role: Role) -> Result<(), Refused> {
    let found = roster.members.iter_mut().find(|m| m.node == node && m.role != Role::Retired);
    let member = found.ok_or(Refused::NotFound)?;
    if member.role == role {
        return Err(Refused::BadRequest("a role that the node does not have already"));
    }
    member.role = role;
    Ok(())
}

fn room(roster: &Roster) -> Result<(), Refused> {
    let full = roster.members.len() >= MEMBERS_MAX || roster.present().len() >= PRESENT_MAX;
    if full { Err(Refused::TooMany("nodes")) } else { Ok(()) }
}

/// A link of the header chain and what it names, with everything that they rely on.
struct Linked {
    puts: Vec<Put>,
    relies: Vec<Reliance>,
}

impl Linked {
    fn with(desk: &Desk<'_>, change: impl FnOnce(&mut Header), roster: &Roster) -> Result<Linked, Failure> {
        Linked::signed(desk, change, roster, |link| link)
    }

    /// Signed by more than the transaction key.
    fn signed(
        desk: &Desk<'_>,
        change: impl FnOnce(&mut Header),
        roster: &Roster,
        sign: impl FnOnce(HeaderLink) -> HeaderLink,
    ) -> Result<Linked, Failure> {
        let (newest, _) = newest_header(desk.view)?.ok_or(Cause("an open node has no header"))?;
        let mut header = Header { roster: sha256(&[&roster.to_bytes()]), ..following(&newest) };
        change(&mut header);
        let (old, new, record) = (place(newest.header.number), place(header.number), RecordKey::only(Table::Roster));
        let puts = vec![
            Put { key: new, value: sign(desk.keyring.sign_header(header)).to_bytes() },
            Put { key: record, value: roster.to_bytes() },
        ];
        let relies = [old, new, record].map(|key| Reliance::Exact(key, desk.view.version(&key)));
        Ok(Linked { puts, relies: relies.to_vec() })
    }
}

fn linked<A: Action>(
    desk: &Desk<'_>,
    permit: &Permit<A>,
    change: impl FnOnce(&mut Header),
    roster: &Roster,
    keyring: Option<&[u8]>,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<u64>, Failure> {
    let link = Linked::with(desk, change, roster)?;
    let mut draft = Draft::by(desk, permit);
    link.relies.into_iter().for_each(|reliance| draft.also(reliance));
    link.puts.into_iter().for_each(|put| draft.put(put));
    if let Some(sealed) = keyring {
        draft.put(Put { key: RecordKey::only(Table::Keyring), value: sealed.to_vec() });
    }
    let mut answer = Writer::default();
    answer.u64(roster.epoch);
    Ok(draft.finish(stamp, answer.as_slice(), roster.epoch, chance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::paper::{ADMIN, Paper, request, seeded, who};
    use crate::name::DiskId;
    use crate::policy::Cluster;
    use crate::txn::Conflict;

    fn line(n: u8) -> Member {
        Member { node: NodeId(n.into()), key: seeded(n).public(), disk: DiskId([n; 16]), role: Role::Learner }
    }

    fn given(paper: &mut Paper, node: u64) -> Secret32 {
        let mut luck = paper.luck();
        let ask = TicketAsk { node: NodeId(node), good_for_ms: 1_000 };
        let decision =
            create_join_ticket(&paper.desk(), paper.permit(Cluster), &ask, Stamp::default(), &mut luck).unwrap();
        paper.apply(&decision.txn).unwrap();
        decision.outcome.secret().unwrap()
    }

    fn joins(paper: &mut Paper, secret: &Secret32, line: &Member) -> Result<bool, Failure> {
        let mut luck = paper.luck();
        match join(&paper.desk(), secret, line, &mut luck)? {
            Joining::Joined => Ok(false),
            Joining::Joins(txn, record) => {
                assert_eq!(record.by, who(ADMIN));
                paper.apply(&txn).unwrap();
                Ok(true)
            }
        }
    }

    fn becomes(paper: &mut Paper, node: u64, role: Role, in_place_of: Option<u64>) -> Result<u64, Failure> {
        let mut luck = paper.luck();
        let ask = RoleAsk { node: NodeId(node), role, in_place_of: in_place_of.map(NodeId) };
        let decision = set_member_role(&paper.desk(), paper.permit(Cluster), &ask, Stamp::default(), &mut luck)?;
        paper.apply(&decision.txn).unwrap();
        Ok(decision.outcome)
    }

    #[test]
    fn a_node_joins_votes_in_the_place_of_another_and_that_one_is_retired() {
        let mut paper = Paper::founded();
        let ticket = given(&mut paper, 2);
        assert!(joins(&mut paper, &ticket, &line(2)).unwrap());
        assert_eq!(becomes(&mut paper, 2, Role::Voter, Some(1)).unwrap(), 3);
        let now = roster(&paper.records).unwrap();
        assert_eq!((now.voters(), now.before.clone()), ([NodeId(2)].into(), [NodeId(1)].into()));
        let before = paper.keyring.txn_key();
        let root = Root::new(1, Secret32::copy_from(&[7; 32]).unwrap());
        let mut luck = paper.luck();
        let permit = paper.permit(Cluster);
        let decision = retire_member(&paper.desk(), permit, NodeId(1), &root, request(1, "retire"), &mut luck).unwrap();
        assert_eq!(decision.outcome, 4);
        paper.apply(&decision.txn).unwrap();
        let head = paper.chain().head().unwrap().header.clone();
        assert_eq!(head.txn_key.number, before.number + 1, "the chain follows, and names another transaction key");
        let sealed = paper.records.record(&RecordKey::only(Table::Keyring)).unwrap().value;
        let renewed = crate::keyring::Keyring::open(&root, &paper.lineage, &sealed).unwrap();
        assert_eq!((renewed.txn_key(), sha256(&[&sealed])), (head.txn_key, head.keyring));
        assert_ne!(renewed.audit_tag(b"x").0, paper.keyring.audit_tag(b"x").0);
        assert_eq!(
            renewed.key_record(&crate::decide::paper::name("a")),
            paper.keyring.key_record(&crate::decide::paper::name("a"))
        );
        assert_eq!(roster(&paper.records).unwrap().member(NodeId(1)).map(|m| m.role), Some(Role::Retired));
    }

    #[test]
    fn refuses_tickets_that_are_spent_over_or_for_somebody_else() {
        let mut paper = Paper::founded();
        let ticket = given(&mut paper, 2);
        let nobody = Secret32::copy_from(&[1; 32]).unwrap();
        assert_eq!(joins(&mut paper, &nobody, &line(2)), Err(Refused::NotFound.into()));
        assert_eq!(joins(&mut paper, &ticket, &line(3)), Err(Refused::NotFound.into()), "another number");
        let thief = Member { key: seeded(1).public(), ..line(2) };
        assert!(
            matches!(joins(&mut paper, &ticket, &thief), Err(Failure::Refused(Refused::BadRequest(_)))),
            "a known key"
        );
        let late = paper.now;
        paper.now = late.plus_ms(1_000);
        assert_eq!(joins(&mut paper, &ticket, &line(2)), Err(Refused::NotFound.into()), "over");
        paper.now = late;
        assert_eq!((joins(&mut paper, &ticket, &line(2)), joins(&mut paper, &ticket, &line(2))), (Ok(true), Ok(false)));
        let other_disk = Member { disk: DiskId([9; 16]), ..line(2) };
        assert_eq!(joins(&mut paper, &ticket, &other_disk), Err(Refused::NotFound.into()), "spent");
    }

    #[test]
    fn a_ticket_that_nobody_used_is_cleared_away_when_another_one_is_given() {
        let mut paper = Paper::founded();
        let unused = given(&mut paper, 2);
        let kept = |paper: &Paper, ticket: &Secret32| {
            paper.records.record(&paper.keyring.ticket_record(&ticket_digest(ticket))).is_some()
        };
        let second = given(&mut paper, 3);
        assert!(kept(&paper, &unused) && kept(&paper, &second), "both are good");
        paper.now = paper.now.plus_ms(1_000);
        let third = given(&mut paper, 2);
        assert!(!kept(&paper, &unused) && !kept(&paper, &second) && kept(&paper, &third));
    }

    #[test]
    fn no_more_tickets_are_open_than_one_transaction_takes_back() {
        let mut paper = Paper::founded();
        for _ in 0..TICKETS_MAX {
            given(&mut paper, 2);
        }
        let one_more = |paper: &mut Paper| {
            let (mut luck, ask) = (paper.luck(), TicketAsk { node: NodeId(2), good_for_ms: 1_000 });
            create_join_ticket(&paper.desk(), paper.permit(Cluster), &ask, Stamp::default(), &mut luck).map(drop)
        };
        assert_eq!(one_more(&mut paper), Err(Refused::TooMany("open tickets").into()));
        paper.now = paper.now.plus_ms(1_000);
        assert_eq!(one_more(&mut paper), Ok(()), "those are over");
    }

    #[test]
    fn refuses_changes_that_change_nothing_or_leave_nobody_to_vote() {
        let mut paper = Paper::founded();
        let bad = |done: Result<u64, Failure>| matches!(done, Err(Failure::Refused(Refused::BadRequest(_))));
        assert!(bad(becomes(&mut paper, 1, Role::Voter, None)) && bad(becomes(&mut paper, 1, Role::Learner, None)));
        assert_eq!(becomes(&mut paper, 9, Role::Voter, None), Err(Refused::NotFound.into()));
        let mut luck = paper.luck();
        let root = Root::new(1, Secret32::copy_from(&[7; 32]).unwrap());
        let retired =
            retire_member(&paper.desk(), paper.permit(Cluster), NodeId(1), &root, Stamp::default(), &mut luck);
        assert!(bad(retired.map(|decision| decision.outcome)), "a voter becomes a learner first");
        for ask in [TicketAsk { node: NodeId(1), good_for_ms: 1 }, TicketAsk { node: NodeId(2), good_for_ms: 0 }] {
            let given = create_join_ticket(&paper.desk(), paper.permit(Cluster), &ask, Stamp::default(), &mut luck);
            assert!(bad(given.map(|_| 0)), "{ask:?}");
        }
    }

    #[test]
    fn of_two_changes_of_one_roster_one_is_accepted() {
        let mut paper = Paper::founded();
        let (first, second) = (given(&mut paper, 2), given(&mut paper, 3));
        let mut luck = paper.luck();
        let Joining::Joins(one, _) = join(&paper.desk(), &first, &line(2), &mut luck).unwrap() else { panic!() };
        let Joining::Joins(other, _) = join(&paper.desk(), &second, &line(3), &mut luck).unwrap() else { panic!() };
        paper.apply(&one).unwrap();
        assert!(matches!(paper.apply(&other), Err(Conflict::Record(..))));
    }
}
