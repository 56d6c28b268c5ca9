//! The ceiling that encryption is measured against: an empty call and an empty stream beside the node's own services, behind
//! the same TLS, accept loop and bounds, without gate, barrier and audit. Messages are as long as those of an encryption.

use crate::trouble::Told;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::client::Grpc as ClientGrpc;
use tonic::codegen::{BoxFuture, Service, http, http::uri::PathAndQuery};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// What is answered: as many bytes as a ciphertext of 32 bytes has.
const ANSWER_BYTES: usize = 160;
const PING: &str = "/claviger.bench.Ceiling/Ping";
const PASS: &str = "/claviger.bench.Ceiling/Pass";

/// What is asked and answered.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Load {
    /// Anything.
    #[prost(bytes = "bytes", tag = "1")]
    pub body: Bytes,
}

/// The node's own services, and the ceiling beside them.
pub fn beside(routes: Routes) -> Routes {
    routes.add_service(Ceiling)
}

#[derive(Clone)]
struct Ceiling;

impl NamedService for Ceiling {
    const NAME: &'static str = "claviger.bench.Ceiling";
}

impl Service<http::Request<Body>> for Ceiling {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let pings = request.uri().path() == PING;
        let mut grpc = Grpc::new(ProstCodec::<Load, Load>::default());
        Box::pin(async move {
            Ok(if pings { grpc.unary(Ping, request).await } else { grpc.streaming(Pass, request).await })
        })
    }
}

fn answer() -> Load {
    Load { body: Bytes::from_static(&[7; ANSWER_BYTES]) }
}

struct Ping;

impl UnaryService<Load> for Ping {
    type Response = Load;
    type Future = Ready<Result<Response<Load>, Status>>;
    fn call(&mut self, _: Request<Load>) -> Self::Future {
        ready(Ok(Response::new(answer())))
    }
}

struct Pass;

impl StreamingService<Load> for Pass {
    type Response = Load;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Load, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;
    fn call(&mut self, request: Request<Streaming<Load>>) -> Self::Future {
        let answers = request.into_inner().map(|asked| asked.map(|_| answer()));
        ready(Ok(Response::new(Box::pin(answers))))
    }
}

/// One empty call.
pub async fn ping(channel: &Channel, asked: Load) -> Told<()> {
    let mut grpc = ClientGrpc::new(channel.clone());
    grpc.ready().await?;
    let codec = ProstCodec::<Load, Load>::default();
    grpc.unary(Request::new(asked), PathAndQuery::from_static(PING), codec).await?;
    Ok(())
}

/// An empty stream: as many answers as there are asks.
pub async fn pass(channel: &Channel, asks: impl Stream<Item = Load> + Send + 'static) -> Told<Streaming<Load>> {
    let mut grpc = ClientGrpc::new(channel.clone());
    grpc.ready().await?;
    let codec = ProstCodec::<Load, Load>::default();
    Ok(grpc.streaming(Request::new(asks), PathAndQuery::from_static(PASS), codec).await?.into_inner())
}
