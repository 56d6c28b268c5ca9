//! Which revision an answer reflects: how one caller never sees time go back.

use claviger_proto::v1;

/// An answer with its revision; 0 where it reflects none.
pub(crate) trait Dated {
    fn revision(&self) -> u64;
}

macro_rules! dated {
    ($($answer:ident),* $(,)?) => {
        $(impl Dated for v1::$answer {
            fn revision(&self) -> u64 {
                self.revision
            }
        })*
    };
}

macro_rules! undated {
    ($($answer:ident),* $(,)?) => {
        $(impl Dated for v1::$answer {
            fn revision(&self) -> u64 {
                0
            }
        })*
    };
}

dated!(CreateKeyResponse, GetKeyResponse, ListKeysResponse, UpdateKeyResponse, EnableKeyResponse, DisableKeyResponse);
dated!(RotateKeyResponse, EncryptResponse, DecryptResponse, InitializeResponse, SealAllResponse);
dated!(ReEncryptResponse, BatchEncryptResponse, BatchDecryptResponse, BatchReEncryptResponse);
dated!(SetRoleResponse, GetRoleResponse, ListRolesResponse, DeleteRoleResponse);
dated!(CreateJoinTicketResponse, SetMemberRoleResponse, RetireMemberResponse);
dated!(DenyCertificateResponse, AllowCertificateResponse, ListDeniedCertificatesResponse);
undated!(
    GetSealStatusResponse,
    AbandonInitializeResponse,
    BeginUnsealResponse,
    GetCeremonyResponse,
    OfferShareResponse
);
undated!(SealNodeResponse, TransferLeaderResponse, GetAuditHeadResponse);
undated!(BeginRecoveryResponse, GetRecoveryResponse, ConsentToRecoveryResponse);
// What a node says of itself needs no quorum, and its revision may be ahead of what a reading elsewhere would wait for.
undated!(GetClusterStatusResponse);
