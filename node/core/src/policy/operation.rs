//! Every call that there is: as a word, as a number for the audit book, and as a type for permits.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::name::{KeyName, Segment};

/// What a permit is about: the whole cluster, one tenant, or one key.
pub trait Scope: sealed::Sealed {
    /// The tenant, and the key if it is about one.
    fn reach(&self) -> (Option<&Segment>, Option<&KeyName>);
}

/// The scope of calls that are about no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster;

impl Scope for Cluster {
    fn reach(&self) -> (Option<&Segment>, Option<&KeyName>) {
        (None, None)
    }
}

impl Scope for Segment {
    fn reach(&self) -> (Option<&Segment>, Option<&KeyName>) {
        (Some(self), None)
    }
}

impl Scope for KeyName {
    fn reach(&self) -> (Option<&Segment>, Option<&KeyName>) {
        (Some(&self.tenant), Some(self))
    }
}

/// A call as a type. There is one for each [`Operation`], in [`action`], and nobody else can make more.
pub trait Action: sealed::Sealed {
    /// The call.
    const OPERATION: Operation;
    /// What one call is about.
    type On: Scope;
}

mod sealed {
    /// Keeps [`super::Action`] and [`super::Scope`] to this file.
    pub trait Sealed {}
    impl Sealed for super::Cluster {}
    impl Sealed for crate::name::Segment {}
    impl Sealed for crate::name::KeyName {}
}

/// One line for each RPC: its number in the audit book (never used twice), its service, its name, its scope.
macro_rules! operations {
    ($($code:literal $service:ident $name:ident $on:ty;)+) => {
        /// Every RPC of `claviger.v1`, by its name there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Operation {
            $(#[doc = concat!("`claviger.v1.", stringify!($service), "/", stringify!($name), "`")] $name = $code),+
        }

        impl Operation {
            /// All of them.
            pub const ALL: &'static [Operation] = &[$(Operation::$name),+];

            /// The path of the RPC, as `claviger.v1.Keys/CreateKey`.
            pub fn rpc(self) -> &'static str {
                match self { $(Operation::$name => concat!("claviger.v1.", stringify!($service), "/", stringify!($name))),+ }
            }

            /// The RPC's own name, as `CreateKey`.
            pub fn word(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name)),+ }
            }
        }

        /// The calls as types, for [`Permit`](super::Permit). They have no values.
        pub mod action {
            use super::*;
            $(
                #[doc = concat!("`claviger.v1.", stringify!($service), "/", stringify!($name), "`")]
                #[derive(Debug)]
                pub enum $name {}
                impl sealed::Sealed for $name {}
                impl Action for $name {
                    const OPERATION: Operation = Operation::$name;
                    type On = $on;
                }
            )+
        }
    };
}

operations! {
    1  Keys    CreateKey              KeyName;
    2  Keys    GetKey                 KeyName;
    3  Keys    ListKeys               Segment;
    4  Keys    UpdateKey              KeyName;
    5  Keys    EnableKey              KeyName;
    6  Keys    DisableKey             KeyName;
    7  Keys    RotateKey              KeyName;
    8  Crypto  Encrypt                KeyName;
    9  Crypto  Decrypt                KeyName;
    10 Seal    GetSealStatus          Cluster;
    11 Seal    Initialize             Cluster;
    12 Seal    AbandonInitialize      Cluster;
    13 Seal    BeginUnseal            Cluster;
    14 Seal    GetCeremony            Cluster;
    15 Seal    OfferShare             Cluster;
    16 Seal    SealNode               Cluster;
    17 Seal    SealAll                Cluster;
    18 Cluster GetClusterStatus       Cluster;
    19 Cluster TransferLeader         Cluster;
    20 Roles   SetRole                Cluster;
    21 Roles   GetRole                Cluster;
    22 Roles   ListRoles              Cluster;
    23 Roles   DeleteRole             Cluster;
    24 Roles   DenyCertificate        Cluster;
    25 Roles   AllowCertificate       Cluster;
    26 Roles   ListDeniedCertificates Cluster;
    27 Audit   TailAudit              Cluster;
    28 Audit   GetAuditHead           Cluster;
    29 Crypto  ReEncrypt              KeyName;
    30 Crypto  BatchEncrypt           Cluster;
    31 Crypto  BatchDecrypt           Cluster;
    32 Crypto  BatchReEncrypt         Cluster;
    33 Crypto  Pipeline               Cluster;
    40 Cluster CreateJoinTicket       Cluster;
    41 Cluster SetMemberRole          Cluster;
    42 Cluster RetireMember           Cluster;
    43 Crypto  EncryptStream          KeyName;
    44 Crypto  DecryptStream          KeyName;
    45 Cluster SaveSnapshot           Cluster;
    46 Seal    BeginRecovery          Cluster;
    47 Seal    ConsentToRecovery      Cluster;
    48 Cluster RestoreSnapshot        Cluster;
    49 Seal    GetRecovery            Cluster;
}

impl Operation {
    /// The operation of that path, with or without the slash that HTTP/2 puts in front.
    pub fn from_rpc(path: &str) -> Option<Operation> {
        let path = path.strip_prefix('/').unwrap_or(path);
        Operation::ALL.iter().copied().find(|op| op.rpc() == path)
    }
}

impl Canonical for Operation {
    fn write(&self, w: &mut Writer) {
        w.u16(*self as u16);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let code = r.u16()?;
        Operation::ALL.iter().copied().find(|op| *op as u16 == code).ok_or(Malformed::Unknown)
    }
}
