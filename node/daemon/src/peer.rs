//! The peers' door: takes a frame from the wire and gives it to the node with the certificate that its connection proved.

use crate::network::MESSAGE_BYTES_MAX;
use claviger_proto::peer::v1::{
    Frame as WireFrame, Reply,
    peer_server::{Peer, PeerServer},
    reply::Result as WireResult,
};
use claviger_world::network::{Frame, FrameKind, PeerCertificate, SharedListener};
use tonic::{Request, Response, Status, service::Routes};

/// Longest reason that is sent to a peer, in bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// The service that peers call.
pub fn routes(node: SharedListener) -> Routes {
    let server = PeerServer::new(Door(node));
    Routes::new(server.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX))
}

struct Door(SharedListener);

#[tonic::async_trait]
impl Peer for Door {
    async fn call(&self, request: Request<WireFrame>) -> Result<Response<Reply>, Status> {
        let from = request.extensions().get::<PeerCertificate>().copied();
        let from = from.ok_or_else(|| Status::unauthenticated("no peer's certificate"))?;
        let WireFrame { kind, body } = request.into_inner();
        let kind = FrameKind::from_number(kind)
            .ok_or_else(|| Status::unimplemented("no such kind of frame in this release"))?;
        let result = match self.0.hear(from, Frame { kind, body }).await {
            Ok(body) => WireResult::Body(body),
            Err(why) => WireResult::Refused(why.chars().take(REASON_BYTES_MAX / 4).collect()),
        };
        Ok(Response::new(Reply { result: Some(result) }))
    }
}
