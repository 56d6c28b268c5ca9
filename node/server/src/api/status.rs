//! The one table that turns a failure into a gRPC status, with its name in `google.rpc.ErrorInfo`.

use claviger_core::failure::{Failure, Refused, RefusedKind, Why, WhyKind};
use claviger_proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of the reasons (`google.rpc.ErrorInfo.domain`).
const DOMAIN: &str = "claviger";

/// The status of a failure. Echoes nothing that the caller sent.
pub(super) fn of(failure: Failure) -> Status {
    let (code, reason) = row(&failure);
    let details = ErrorDetails::with_error_info(reason, DOMAIN, [] as [(String, String); 0]);
    Status::with_error_details(code, failure.to_string(), details)
}

/// A failure of one item among others. Echoes nothing that the caller sent.
pub(super) fn item(failure: Failure) -> v1::ItemError {
    let (code, reason) = row(&failure);
    v1::ItemError { code: code.into(), reason: reason.into(), message: failure.to_string() }
}

fn row(failure: &Failure) -> (Code, &'static str) {
    match failure {
        Failure::Unauthenticated(_) => (Code::Unauthenticated, "unauthenticated"),
        Failure::Denied => (Code::PermissionDenied, "denied"),
        Failure::Refused(refused) => (refusal(refused), refused.kind().word()),
        Failure::Unavailable(why) => (unavailability(*why), why.kind().word()),
        Failure::Broken(_) => (Code::Internal, "broken"),
    }
}

fn refusal(refused: &Refused) -> Code {
    match refused.kind() {
        RefusedKind::AlreadyExists => Code::AlreadyExists,
        RefusedKind::NotFound | RefusedKind::NoCeremony => Code::NotFound,
        RefusedKind::Stale => Code::Aborted,
        RefusedKind::TooMany => Code::ResourceExhausted,
        RefusedKind::Disabled
        | RefusedKind::BelowMinimum
        | RefusedKind::LastAdministrator
        | RefusedKind::OwnCertificate
        | RefusedKind::RolesExclude
        | RefusedKind::AlreadyFounded
        | RefusedKind::TooFewCustodians => Code::FailedPrecondition,
        RefusedKind::BadVersion
        | RefusedKind::RequestReused
        | RefusedKind::TooLong
        | RefusedKind::BadName
        | RefusedKind::BadRequest
        | RefusedKind::Undecryptable
        | RefusedKind::Share => Code::InvalidArgument,
    }
}

fn unavailability(why: Why) -> Code {
    match why.kind() {
        WhyKind::Deadline => Code::DeadlineExceeded,
        WhyKind::Overloaded => Code::ResourceExhausted,
        WhyKind::Sealed
        | WhyKind::NotFounded
        | WhyKind::NoQuorum
        | WhyKind::Stopping
        | WhyKind::Contended
        | WhyKind::Behind
        | WhyKind::BookFull
        | WhyKind::Moving
        | WhyKind::Unproven
        | WhyKind::Unknown => Code::Unavailable,
    }
}
