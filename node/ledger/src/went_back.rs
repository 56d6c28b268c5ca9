//! A disk that holds less than it once held: put back from a copy, or damaged at its end. It must neither vote nor
//! acknowledge anything again, for others have counted on what it has forgotten.

use claviger_core::mark::{Ballot, Position};
use claviger_core::name::NodeId;
use std::fmt;

/// What was found, and who knew better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WentBack {
    /// The node that knew what the disk had held; none when it was the disk's own mark.
    pub known_by: Option<NodeId>,
    /// What is not there any more.
    pub lost: Lost,
}

/// What a disk has forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Starts on it.
    Start {
        /// How often it was started on, as it says itself.
        held: u64,
        /// How often it was.
        known: u64,
    },
    /// Another life of the node, which had the same number of starts: one of the two runs on a copy.
    Life {
        /// That number.
        start: u64,
    },
    /// A vote.
    Vote {
        /// The vote that it holds.
        held: Option<Ballot>,
        /// The vote that it held.
        known: Ballot,
    },
    /// Entries of the log.
    Log {
        /// The last one that it holds.
        held: Option<Position>,
        /// The last one that it is known to have held.
        known: Position,
    },
}

impl fmt::Display for WentBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this disk went back in time: ")?;
        self.lost.fmt(f)?;
        match self.known_by {
            Some(node) => write!(f, ", node {node} knows")?,
            None => f.write_str(", its mark says")?,
        }
        f.write_str("; put the right disk back, or replace the node: it must not vote with this one")
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Start { held, known } => write!(f, "it counts {held} starts, and was started on {known} times"),
            Lost::Life { start } => write!(f, "start {start} on it was another one, of which it holds nothing"),
            Lost::Vote { held, known } => {
                let held = held.map_or(0, |held| held.term);
                write!(f, "its vote is of term {held}, and was for node {} in term {}", known.node, known.term)
            }
            Lost::Log { held: Some(held), known } => {
                write!(f, "its log ends at entry {} of term {}, and ", held.index, held.leader.term)?;
                write!(f, "held entry {} of term {}", known.index, known.leader.term)
            }
            Lost::Log { held: None, known } => write!(f, "its log is empty, and held entry {}", known.index),
        }
    }
}

/// Whether a log that ends at `held` has lost what went as far as `known`.
pub(crate) fn log_lost(held: Option<Position>, known: Option<Position>) -> Option<Lost> {
    let known = known?;
    let whole = held.is_some_and(|held| held >= known && held.index >= known.index);
    (!whole).then_some(Lost::Log { held, known })
}

/// Whether a disk that holds one vote has lost another.
pub(crate) fn vote_lost(held: Option<Ballot>, known: Option<Ballot>) -> Option<Lost> {
    known.filter(|known| held < Some(*known)).map(|known| Lost::Vote { held, known })
}
