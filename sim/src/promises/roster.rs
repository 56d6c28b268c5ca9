//! Only the roster is listened to: whoever comes with another key, another disk or another number is turned away by name.

use super::{Board, Promise};
use claviger_world::network::CallFailed;
use std::sync::Arc;

/// Judges what nodes answered to those who do not belong.
pub struct Listened {
    board: Arc<Board>,
}

impl Listened {
    /// Nobody came yet.
    pub fn new(board: Arc<Board>) -> Self {
        Listened { board }
    }

    /// What came of a frame that no member sent.
    pub fn turned_away(&self, who: &str, answer: Result<(), &CallFailed>) {
        match answer {
            Ok(()) => self.board.broke(Promise::Roster, format!("{who} was listened to")),
            // Nobody was there to turn it away.
            Err(CallFailed::Refused(why)) if why == "starting" => {}
            Err(CallFailed::Unreachable | CallFailed::Late) => {}
            Err(CallFailed::Refused(_)) => self.board.checked(Promise::Roster),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promises::on_a_board;

    #[test]
    fn whoever_is_listened_to_must_belong() {
        on_a_board(|board| {
            let listened = Listened::new(board.clone());
            listened.turned_away("a stranger", Err(&CallFailed::Refused("no".into())));
            listened.turned_away("a stranger", Err(&CallFailed::Late));
            assert_eq!((board.broken().len(), board.counts()[&Promise::Roster]), (0, 1));
            listened.turned_away("a stranger", Ok(()));
            assert_eq!(board.broken().len(), 1);
        });
    }
}
