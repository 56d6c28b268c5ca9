//! Below the threshold nothing opens; true holders, as many as it takes, do open.

use super::{Board, Promise};
use claviger_core::ceremony::ShareWhy;
use claviger_core::failure::{Failure, Refused};
use claviger_core::name::CeremonyId;
use claviger_server::service::Offered;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Follows every ceremony.
pub struct Threshold {
    board: Arc<Board>,
    threshold: usize,
    ceremonies: Mutex<BTreeMap<CeremonyId, Came>>,
}

/// What came to one ceremony.
#[derive(Default)]
struct Came {
    /// How often each true share was brought, whatever became of it.
    brought: BTreeMap<u8, u64>,
    /// True shares that were accepted, as their bearers were told.
    accepted: BTreeSet<u8>,
    /// Whether anybody was told that it has enough.
    opened: bool,
}

impl Threshold {
    /// Of a sharing that so many open.
    pub fn new(board: Arc<Board>, threshold: u8) -> Self {
        Threshold { board, threshold: threshold.into(), ceremonies: Mutex::default() }
    }

    /// What came of shares below the threshold, put together by hand: nothing may.
    pub fn below(&self, shares: &[u8], opened: bool) {
        self.board.expect(Promise::Threshold, !opened, || {
            format!("shares {shares:?} are fewer than {} and open the root key", self.threshold)
        });
    }

    /// A true share is on its way. Whether it may be the last that is needed.
    pub fn brings(&self, ceremony: CeremonyId, index: u8) -> bool {
        let mut ceremonies = self.ceremonies.lock();
        let came = ceremonies.entry(ceremony).or_default();
        *came.brought.entry(index).or_default() += 1;
        came.brought.len() >= self.threshold
    }

    /// Of those who were told that their share was accepted, as many as it takes, the last was told that it is enough.
    pub fn at_the_end(&self) {
        for (ceremony, came) in &*self.ceremonies.lock() {
            let enough = came.accepted.len() >= self.threshold;
            self.board.expect(Promise::Threshold, came.opened || !enough, || {
                format!(
                    "ceremony {ceremony} took {} true shares of {}, and did not open",
                    came.accepted.len(),
                    self.threshold
                )
            });
        }
    }

    /// What came of a true share.
    pub fn brought(&self, ceremony: CeremonyId, index: u8, answer: &Result<Offered, Failure>) {
        match answer {
            Ok(offered) => self.accepted(ceremony, index, offered),
            Err(Failure::Broken(cause)) => {
                let what = format!("true share {index} was brought to ceremony {ceremony}, which broke: {cause}");
                self.board.broke(Promise::Threshold, what);
            }
            Err(Failure::Refused(Refused::Share(refused))) => {
                let over = matches!(refused.why, ShareWhy::Complete | ShareWhy::Expired | ShareWhy::WrongCeremony);
                let times = self.ceremonies.lock().get(&ceremony).and_then(|c| c.brought.get(&index).copied());
                let again = refused.why == ShareWhy::Duplicate && times > Some(1);
                self.board.expect(Promise::Threshold, over || again, || {
                    format!("true share {index} was refused by ceremony {ceremony}: {refused}")
                });
            }
            Err(_) => {}
        }
    }

    fn accepted(&self, ceremony: CeremonyId, index: u8, offered: &Offered) {
        let opens = offered.progress.complete || !offered.opened_nodes.is_empty();
        let (brought, first) = {
            let mut ceremonies = self.ceremonies.lock();
            let came = ceremonies.entry(ceremony).or_default();
            came.opened |= opens;
            (came.brought.len(), came.accepted.insert(index))
        };
        let enough = brought >= self.threshold;
        self.board.expect(Promise::Threshold, enough || !opens, || {
            format!("ceremony {ceremony} opened with {brought} true shares of {}", self.threshold)
        });
        self.board
            .expect(Promise::Threshold, first, || format!("share {index} was accepted twice by ceremony {ceremony}"));
    }

    /// What came of a share that nobody was dealt, or that was brought before.
    pub fn bad(&self, what: &str, answer: &Result<Offered, Failure>) {
        self.board.expect(Promise::Threshold, answer.is_err(), || format!("{what} was accepted"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promises::on_a_board;
    use claviger_core::ceremony::{Accepted, Progress};
    use claviger_core::name::NodeId;
    use claviger_core::time::UnixMs;

    fn offered(complete: bool) -> Result<Offered, Failure> {
        let who = "spiffe://sim/claviger/custodian/a".parse().expect("a good identity");
        let progress = Progress {
            id: CeremonyId([1; 16]),
            host: NodeId(1),
            threshold: 2,
            opener: who,
            opened: UnixMs(1),
            expires: UnixMs(9),
            accepted: Vec::<Accepted>::new(),
            missing: Vec::new(),
            complete,
        };
        Ok(Offered { progress, opened_nodes: Vec::new() })
    }

    #[test]
    fn two_true_shares_open_and_one_does_not() {
        on_a_board(|board| {
            let (threshold, ceremony) = (Threshold::new(board.clone(), 2), CeremonyId([1; 16]));
            for (index, complete) in [(1, false), (2, true)] {
                threshold.brings(ceremony, index);
                threshold.brought(ceremony, index, &offered(complete));
            }
            assert_eq!(board.broken(), []);
            let other = CeremonyId([2; 16]);
            threshold.brings(other, 1);
            threshold.brought(other, 1, &offered(true));
            threshold.bad("a share of random bytes", &offered(false));
            threshold.below(&[1], true);
            assert_eq!(board.broken().len(), 3);
            threshold.at_the_end();
            assert_eq!(board.broken().len(), 3);
            let dull = CeremonyId([3; 16]);
            for index in [1, 2] {
                threshold.brings(dull, index);
                threshold.brought(dull, index, &offered(false));
            }
            threshold.at_the_end();
            assert_eq!(board.broken().len(), 4);
        });
    }
}
