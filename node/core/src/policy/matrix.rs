//! The matrix: RPC x role x seal state, compiled. What has no line here is denied, and a node with an RPC that has none
//! does not start.

use super::operation::Operation;
use super::permit::Denied;
use super::role::{RoleKind, Use};
use Operation::*;
use RoleKind::{Administrator, Auditor, Custodian, Operator};

/// How far the node that is asked has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealView {
    /// The cluster has not been founded.
    Unfounded,
    /// Founded; this node's keys are not in memory.
    Sealed,
    /// This node's keys are in memory.
    Open,
}

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever has a certificate of ours that is not denied.
    Anyone,
    /// The identities that the node's configuration names, and nobody by a role.
    Founders,
    /// Whoever has one of these roles.
    Stewards(&'static [RoleKind]),
    /// Whoever has one of these roles; before the founding, the identities that the node's configuration names.
    StewardsAndFounders(&'static [RoleKind]),
    /// Whoever has one of these roles, and key users for what their grants reach, whatever use these allow.
    StewardsAndUsers(&'static [RoleKind]),
    /// Key users whose grants allow this use of the key; administrators never, whatever else they are.
    Users(Use),
    /// Key users, whatever their grants reach: each item of the call is judged as the call that it stands for.
    /// Administrators never.
    KeyUsers,
}

/// When a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    Founding,
    Founded,
    Open,
}

/// One line of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The call.
    pub operation: Operation,
    /// Who may make it.
    pub who: Who,
    when: When,
}

const fn rule(operation: Operation, when: When, who: Who) -> Rule {
    Rule { operation, who, when }
}

const ADMINISTRATOR: Who = Who::Stewards(&[Administrator]);
const READER: Who = Who::Stewards(&[Administrator, Auditor]);
const CEREMONY: Who = Who::Stewards(&[Operator, Custodian, Administrator]);

/// Every call, once.
pub const MATRIX: &[Rule] = &[
    rule(GetSealStatus, When::Always, Who::Anyone),
    rule(GetClusterStatus, When::Always, Who::Anyone),
    rule(Initialize, When::Founding, Who::Founders),
    rule(AbandonInitialize, When::Founding, Who::Founders),
    rule(BeginUnseal, When::Founded, CEREMONY),
    rule(GetCeremony, When::Founded, CEREMONY),
    rule(OfferShare, When::Founded, Who::Stewards(&[Custodian])),
    // Where most voters are lost there is no quorum to ask; what decides are the custodians' signatures.
    rule(BeginRecovery, When::Always, Who::StewardsAndFounders(&[Operator, Custodian, Administrator])),
    // Whoever holds no share has nothing to sign with. A node that was restored to has no record of its custodians.
    rule(GetRecovery, When::Always, Who::Anyone),
    rule(ConsentToRecovery, When::Always, Who::Anyone),
    rule(RestoreSnapshot, When::Founding, Who::Founders),
    rule(SealNode, When::Founded, CEREMONY),
    rule(SealAll, When::Open, CEREMONY),
    rule(TransferLeader, When::Open, Who::Stewards(&[Operator, Administrator])),
    rule(CreateJoinTicket, When::Open, ADMINISTRATOR),
    rule(SetMemberRole, When::Open, ADMINISTRATOR),
    rule(RetireMember, When::Open, ADMINISTRATOR),
    // All of it is ciphertext. A sealed cluster can be kept too.
    rule(SaveSnapshot, When::Founded, Who::Stewards(&[Operator, Administrator])),
    rule(CreateKey, When::Open, ADMINISTRATOR),
    rule(UpdateKey, When::Open, ADMINISTRATOR),
    rule(EnableKey, When::Open, ADMINISTRATOR),
    rule(DisableKey, When::Open, ADMINISTRATOR),
    rule(RotateKey, When::Open, ADMINISTRATOR),
    rule(GetKey, When::Open, Who::StewardsAndUsers(&[Administrator, Auditor])),
    rule(ListKeys, When::Open, Who::StewardsAndUsers(&[Administrator, Auditor])),
    rule(Encrypt, When::Open, Who::Users(Use::Encrypt)),
    rule(Decrypt, When::Open, Who::Users(Use::Decrypt)),
    // Of the key that encrypted. Whoever re-encrypts needs leave to `Encrypt` with the other one too.
    rule(ReEncrypt, When::Open, Who::Users(Use::Decrypt)),
    rule(BatchEncrypt, When::Open, Who::KeyUsers),
    rule(BatchDecrypt, When::Open, Who::KeyUsers),
    rule(BatchReEncrypt, When::Open, Who::KeyUsers),
    rule(Pipeline, When::Open, Who::KeyUsers),
    rule(EncryptStream, When::Open, Who::Users(Use::Encrypt)),
    rule(DecryptStream, When::Open, Who::Users(Use::Decrypt)),
    rule(SetRole, When::Open, ADMINISTRATOR),
    rule(DeleteRole, When::Open, ADMINISTRATOR),
    rule(DenyCertificate, When::Open, ADMINISTRATOR),
    rule(AllowCertificate, When::Open, ADMINISTRATOR),
    rule(GetRole, When::Open, READER),
    rule(ListRoles, When::Open, READER),
    rule(ListDeniedCertificates, When::Open, READER),
    rule(TailAudit, When::Open, READER),
    rule(GetAuditHead, When::Open, READER),
];

impl Rule {
    /// The line of a call.
    pub fn of(operation: Operation) -> Option<&'static Rule> {
        MATRIX.iter().find(|rule| rule.operation == operation)
    }

    /// Whether the call is answered at all by a node that has come so far. The gate asks this before it waits for a
    /// read barrier.
    ///
    /// # Errors
    /// What the node would have to be.
    pub fn answered(&self, seal: SealView) -> Result<(), Denied> {
        match (self.when, seal) {
            (When::Always, SealView::Unfounded | SealView::Sealed | SealView::Open) => Ok(()),
            (When::Founding, SealView::Unfounded) => Ok(()),
            (When::Founding, SealView::Sealed | SealView::Open) => Err(Denied::Founded),
            (When::Founded | When::Open, SealView::Unfounded) => Err(Denied::NotFounded),
            (When::Founded, SealView::Sealed | SealView::Open) => Ok(()),
            (When::Open, SealView::Sealed) => Err(Denied::Sealed),
            (When::Open, SealView::Open) => Ok(()),
        }
    }

    /// Whether the call is answered without a quorum: status only.
    pub fn needs_no_quorum(&self) -> bool {
        self.when == When::Always
    }
}
