//! Why something did not happen, and who must act next: the caller asks otherwise, asks again, or an operator looks.

use crate::ceremony::ShareRefused;
use crate::name::{BadName, TxnId};
use crate::policy::Unauthenticated;
use std::fmt;

/// The one error of the whole service. One table in the server turns it into a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody that we know: no certificate of ours with exactly one identity.
    Unauthenticated(Unauthenticated),
    /// Known, and not allowed. Says no more: absent and forbidden look alike.
    Denied,
    /// The caller must ask otherwise.
    Refused(Refused),
    /// The caller may ask again, here or at another node.
    Unavailable(Why),
    /// An operator must look.
    Broken(Cause),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unauthenticated(why) => write!(f, "not authenticated: {why}"),
            Failure::Denied => f.write_str("denied: no role of yours allows this, or there is no such thing"),
            Failure::Refused(why) => write!(f, "refused: {why}"),
            Failure::Unavailable(why) => write!(f, "unavailable: {why}"),
            Failure::Broken(cause) => write!(f, "broken: {cause}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Refused> for Failure {
    fn from(why: Refused) -> Self {
        Failure::Refused(why)
    }
}

impl From<Why> for Failure {
    fn from(why: Why) -> Self {
        Failure::Unavailable(why)
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Failure::Broken(cause)
    }
}

impl From<BadName> for Failure {
    fn from(bad: BadName) -> Self {
        Failure::Refused(Refused::BadName(bad))
    }
}

impl From<Unauthenticated> for Failure {
    fn from(why: Unauthenticated) -> Self {
        Failure::Unauthenticated(why)
    }
}

impl From<ShareRefused> for Failure {
    fn from(why: ShareRefused) -> Self {
        Failure::Refused(Refused::Share(why))
    }
}

/// What cannot be so: a record of ours that does not open, a rule of ours that does not hold. Never holds input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause(pub &'static str);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Cause {}

/// A fieldless enum with a number that is stored and a word that is shown.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $code),+ }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word that is shown.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The one that is shown by that word.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.word() == word)
            }
        }

        impl $crate::codec::Canonical for $name {
            fn write(&self, w: &mut $crate::codec::Writer) {
                w.u8(*self as u8);
            }
            fn read(r: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::Malformed> {
                let code = r.u8()?;
                let found = Self::ALL.iter().copied().find(|one| *one as u8 == code);
                found.ok_or($crate::codec::Malformed::Unknown)
            }
        }
    };
}
pub(crate) use words;

/// Why the caller must ask otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The name is taken.
    AlreadyExists,
    /// There is no such thing. Told only to those who may know.
    NotFound,
    /// The key is disabled.
    Disabled,
    /// That version is below the lowest one that still decrypts.
    BelowMinimum,
    /// The key has no such version, or the version may not be chosen.
    BadVersion,
    /// The key is not at the revision that the caller expected.
    Stale,
    /// Somebody must remain who can give roles.
    LastAdministrator,
    /// Too few holders of shares would remain who may offer them.
    TooFewCustodians,
    /// An administrator would lock itself out.
    OwnCertificate,
    /// The request id was used for another request.
    RequestReused,
    /// Over a bound; says what there would be too many of.
    TooMany(&'static str),
    /// Over a bound; says what is too long.
    TooLong(&'static str),
    /// A name that is none.
    BadName(BadName),
    /// A field that cannot be read, is missing, or contradicts another; says what was wanted.
    BadRequest(&'static str),
    /// Administrators never use keys: the roles exclude each other.
    RolesExclude,
    /// The ciphertext is not whole, not of this key, or not of this context. Never says which.
    Undecryptable,
    /// The cluster has been founded.
    AlreadyFounded,
    /// No ceremony runs that goes by this id.
    NoCeremony,
    /// A share was refused, by name.
    Share(ShareRefused),
}

words! {
    /// What kind of refusal it was, for the audit book and for error details.
    RefusedKind {
        /// See [`Refused::AlreadyExists`].
        AlreadyExists = 1 "already_exists",
        /// See [`Refused::NotFound`].
        NotFound = 2 "not_found",
        /// See [`Refused::Disabled`].
        Disabled = 3 "disabled",
        /// See [`Refused::BelowMinimum`].
        BelowMinimum = 4 "below_minimum",
        /// See [`Refused::BadVersion`].
        BadVersion = 5 "bad_version",
        /// See [`Refused::Stale`].
        Stale = 6 "stale",
        /// See [`Refused::LastAdministrator`].
        LastAdministrator = 7 "last_administrator",
        /// See [`Refused::OwnCertificate`].
        OwnCertificate = 8 "own_certificate",
        /// See [`Refused::RequestReused`].
        RequestReused = 9 "request_reused",
        /// See [`Refused::TooMany`].
        TooMany = 10 "too_many",
        /// See [`Refused::TooLong`].
        TooLong = 11 "too_long",
        /// See [`Refused::BadName`].
        BadName = 12 "bad_name",
        /// See [`Refused::BadRequest`].
        BadRequest = 13 "bad_request",
        /// See [`Refused::RolesExclude`].
        RolesExclude = 14 "roles_exclude",
        /// See [`Refused::Undecryptable`].
        Undecryptable = 15 "undecryptable",
        /// See [`Refused::AlreadyFounded`].
        AlreadyFounded = 16 "already_founded",
        /// See [`Refused::NoCeremony`].
        NoCeremony = 17 "no_ceremony",
        /// See [`Refused::Share`].
        Share = 18 "share",
        /// See [`Refused::TooFewCustodians`].
        TooFewCustodians = 19 "too_few_custodians",
    }
}

impl Refused {
    /// What kind of refusal this is.
    pub fn kind(&self) -> RefusedKind {
        match self {
            Refused::AlreadyExists => RefusedKind::AlreadyExists,
            Refused::NotFound => RefusedKind::NotFound,
            Refused::Disabled => RefusedKind::Disabled,
            Refused::BelowMinimum => RefusedKind::BelowMinimum,
            Refused::BadVersion => RefusedKind::BadVersion,
            Refused::Stale => RefusedKind::Stale,
            Refused::LastAdministrator => RefusedKind::LastAdministrator,
            Refused::TooFewCustodians => RefusedKind::TooFewCustodians,
            Refused::OwnCertificate => RefusedKind::OwnCertificate,
            Refused::RequestReused => RefusedKind::RequestReused,
            Refused::TooMany(_) => RefusedKind::TooMany,
            Refused::TooLong(_) => RefusedKind::TooLong,
            Refused::BadName(_) => RefusedKind::BadName,
            Refused::BadRequest(_) => RefusedKind::BadRequest,
            Refused::RolesExclude => RefusedKind::RolesExclude,
            Refused::Undecryptable => RefusedKind::Undecryptable,
            Refused::AlreadyFounded => RefusedKind::AlreadyFounded,
            Refused::NoCeremony => RefusedKind::NoCeremony,
            Refused::Share(_) => RefusedKind::Share,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::AlreadyExists => "the name is taken",
            Refused::NotFound => "there is no such thing",
            Refused::Disabled => "the key is disabled",
            Refused::BelowMinimum => "the version is below the lowest one that still decrypts",
            Refused::BadVersion => "the key has no such version, or it may not be chosen",
            Refused::Stale => "the key is no longer at the expected revision; read it again",
            Refused::LastAdministrator => "this is the last administrator; make another one first",
            Refused::TooFewCustodians => "too few custodians could offer a share; nobody could open the cluster again",
            Refused::OwnCertificate => "this is the certificate that you are using",
            Refused::RequestReused => "the request id was used for another request; draw a new one",
            Refused::RolesExclude => "an administrator cannot be a key user as well",
            Refused::Undecryptable => "the ciphertext cannot be decrypted with this key and context",
            Refused::AlreadyFounded => "the cluster has been founded",
            Refused::NoCeremony => "no such ceremony runs; begin one",
            Refused::TooMany(what) => return write!(f, "there are too many {what}"),
            Refused::TooLong(what) => return write!(f, "{what} is too long"),
            Refused::BadName(bad) => return bad.fmt(f),
            Refused::BadRequest(wanted) => return write!(f, "bad request; wanted {wanted}"),
            Refused::Share(why) => return why.fmt(f),
        })
    }
}

impl std::error::Error for Refused {}

/// Why the caller may ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The node is sealed.
    Sealed,
    /// The cluster has not been founded.
    NotFounded,
    /// No majority of nodes can be reached.
    NoQuorum,
    /// The deadline passed; nothing was changed.
    Deadline,
    /// Too much is under way.
    Overloaded,
    /// The node is stopping.
    Stopping,
    /// What was read changed faster than it could be decided upon.
    Contended,
    /// The node has not applied the revision that was asked for.
    Behind,
    /// The audit book cannot be written.
    BookFull,
    /// The last change of members is still under way.
    Moving,
    /// The node took its state from another, and too few have said yet that it is the right one: it is not opened.
    Unproven,
    /// The transaction may or may not be applied: ask again with the same request id.
    Unknown(TxnId),
}

words! {
    /// What kind of unavailability it was, for the audit book and for error details.
    WhyKind {
        /// See [`Why::Sealed`].
        Sealed = 1 "sealed",
        /// See [`Why::NotFounded`].
        NotFounded = 2 "not_founded",
        /// See [`Why::NoQuorum`].
        NoQuorum = 3 "no_quorum",
        /// See [`Why::Deadline`].
        Deadline = 4 "deadline",
        /// See [`Why::Overloaded`].
        Overloaded = 5 "overloaded",
        /// See [`Why::Stopping`].
        Stopping = 6 "stopping",
        /// See [`Why::Contended`].
        Contended = 7 "contended",
        /// See [`Why::Behind`].
        Behind = 8 "behind",
        /// See [`Why::BookFull`].
        BookFull = 9 "book_full",
        /// See [`Why::Unknown`].
        Unknown = 10 "unknown",
        /// See [`Why::Moving`].
        Moving = 11 "members_moving",
        /// See [`Why::Unproven`].
        Unproven = 12 "unproven",
    }
}

impl Why {
    /// What kind of unavailability this is.
    pub fn kind(self) -> WhyKind {
        match self {
            Why::Sealed => WhyKind::Sealed,
            Why::NotFounded => WhyKind::NotFounded,
            Why::NoQuorum => WhyKind::NoQuorum,
            Why::Deadline => WhyKind::Deadline,
            Why::Overloaded => WhyKind::Overloaded,
            Why::Stopping => WhyKind::Stopping,
            Why::Contended => WhyKind::Contended,
            Why::Behind => WhyKind::Behind,
            Why::BookFull => WhyKind::BookFull,
            Why::Moving => WhyKind::Moving,
            Why::Unproven => WhyKind::Unproven,
            Why::Unknown(_) => WhyKind::Unknown,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Sealed => "the node is sealed; custodians must open it",
            Why::NotFounded => "the cluster has not been founded; initialize it",
            Why::NoQuorum => "no majority of nodes can be reached",
            Why::Deadline => "the deadline passed; nothing was changed",
            Why::Overloaded => "too much is under way",
            Why::Stopping => "the node is stopping; ask another",
            Why::Contended => "others keep changing the same thing",
            Why::Behind => "the node has not come to that revision yet",
            Why::BookFull => "the audit book cannot be written",
            Why::Moving => "the last change of members is still under way; ask again when the status shows it done",
            Why::Unproven => {
                "the node took a snapshot, and too few nodes say yet that they have the same state: it is not opened; \
                 start the others, or open another node first"
            }
            Why::Unknown(id) => {
                return write!(f, "transaction {id} may or may not happen; repeat with the same request id");
            }
        })
    }
}

impl std::error::Error for Why {}
