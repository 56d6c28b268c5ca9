//! The machine-readable part of a refusal: `google.rpc.Status` with a `google.rpc.ErrorInfo` in it.

use prost::Message;
use tonic::Status;

/// `google.rpc.Status`, as far as we read it.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.ErrorInfo`, as far as we read it.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
/// Longest details that are looked at, in bytes.
const DETAILS_BYTES_MAX: usize = 16 << 10;

/// The server's name for what happened, as `sealed`; empty where it gave none.
pub(crate) fn reason(status: &Status) -> String {
    let bytes = status.details();
    if bytes.is_empty() || bytes.len() > DETAILS_BYTES_MAX {
        return String::new();
    }
    let Ok(rpc) = RpcStatus::decode(bytes) else { return String::new() };
    let info = rpc.details.iter().find(|any| any.type_url == ERROR_INFO);
    info.and_then(|any| ErrorInfo::decode(&any.value[..]).ok()).map(|info| info.reason).unwrap_or_default()
}

/// What a server sends, for tests.
#[cfg(test)]
pub(crate) fn status_with_reason(code: tonic::Code, message: &str, reason: &str) -> Status {
    let info = ErrorInfo { reason: reason.into(), domain: "claviger".into() };
    let any = prost_types::Any { type_url: ERROR_INFO.into(), value: info.encode_to_vec() };
    let rpc = RpcStatus { code: code as i32, message: message.into(), details: vec![any] };
    Status::with_details(code, message, rpc.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_details_give_no_reason() {
        let odd = Status::with_details(tonic::Code::Unavailable, "x", vec![0xff; 40].into());
        assert_eq!(reason(&odd), "");
        assert_eq!(reason(&status_with_reason(tonic::Code::Unavailable, "x", "sealed")), "sealed");
    }
}
