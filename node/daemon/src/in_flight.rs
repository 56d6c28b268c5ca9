//! A bound on the requests under way: one more is told to come again, at once and at little cost.

use crate::{
    listen::{Request, Response},
    traffic::{Held, Traffic},
};
use bytes::Bytes;
use futures_util::{FutureExt, future::Either};
use hyper::body::{Body, Frame, SizeHint};
use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Services that always get in: who would stop or look at a flooded node must be able to.
const ALWAYS: [&str; 2] = ["/grpc.health.v1.Health/", "/claviger.v1.Seal/"];

/// Makes the bound, shared by all connections that it is layered over.
#[derive(Clone)]
pub struct InFlight {
    room: Arc<Semaphore>,
    traffic: Traffic,
}

impl InFlight {
    /// At most so many requests, counted in `traffic`.
    pub fn new(most: usize, traffic: Traffic) -> Self {
        InFlight { room: Arc::new(Semaphore::new(most)), traffic }
    }

    /// A place for one more, until it is dropped. None where there are too many: that is counted.
    pub fn enter(&self) -> Option<Place> {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            self.traffic.requests_turned_away.inc();
            return None;
        };
        Some(Place { _room: Some(room), _counted: Held::new(&self.traffic.requests) })
    }
}

impl<S> tower::Layer<S> for InFlight {
    type Service = Bounded<S>;
    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, bound: self.clone() }
    }
}

/// A service behind the bound.
#[derive(Clone)]
pub struct Bounded<S> {
    inner: S,
    bound: InFlight,
}

impl<S> tower::Service<Request> for Bounded<S>
where
    S: tower::Service<Request, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Holding<S::Future>, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let always = ALWAYS.iter().any(|service| request.uri().path().starts_with(service));
        let room = self.bound.room.clone().try_acquire_owned().ok();
        if room.is_none() && !always {
            self.bound.traffic.requests_turned_away.inc();
            return ready(Ok(full())).right_future();
        }
        let place = Place { _room: room, _counted: Held::new(&self.bound.traffic.requests) };
        Holding { answer: Box::pin(self.inner.call(request)), place: Some(place) }.left_future()
    }
}

fn full() -> Response {
    Status::resource_exhausted("too many requests are under way in this node; ask again").into_http()
}

/// A call that gives its place to the body of its answer, which may be long.
pub struct Holding<F> {
    answer: Pin<Box<F>>,
    /// None once the body has it.
    place: Option<Place>,
}

/// A request's place under the bound, and in the count.
pub struct Place {
    /// None for what always gets in.
    _room: Option<OwnedSemaphorePermit>,
    _counted: Held,
}

impl<F: Future<Output = Result<Response, E>>, E> Future for Holding<F> {
    type Output = Result<Response, E>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(self.answer.as_mut().poll(cx));
        let place = self.place.take();
        Poll::Ready(answer.map(|a| a.map(|body| tonic::body::Body::new(HeldBody { body, _place: place }))))
    }
}

struct HeldBody {
    body: tonic::body::Body,
    _place: Option<Place>,
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = Status;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::{Layer, Service};

    /// Answers at once; what it says is read later, or never.
    #[derive(Clone)]
    struct Prompt;
    impl Service<Request> for Prompt {
        type Response = Response;
        type Error = std::convert::Infallible;
        type Future = Ready<Result<Response, Self::Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request) -> Self::Future {
            let body = http_body_util::Full::new(Bytes::from_static(b"long"));
            ready(Ok(Response::new(tonic::body::Body::new(body))))
        }
    }

    fn asking(path: &str) -> Request {
        tonic::codegen::http::Request::builder().uri(path).body(tonic::body::Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn refuses_one_more_until_an_answer_is_through() {
        let traffic = Traffic::default();
        let mut service = InFlight::new(2, traffic.clone()).layer(Prompt);
        let status = |r: &Response| r.headers().get("grpc-status").map(|s| s.to_str().unwrap().to_owned());
        let first = service.call(asking("/claviger.v1.Crypto/Encrypt")).await.unwrap();
        let second = service.call(asking("/claviger.v1.Crypto/Encrypt"));
        let refused = service.call(asking("/claviger.v1.Crypto/Encrypt")).await.unwrap();
        assert_eq!(status(&refused).as_deref(), Some("8"), "RESOURCE_EXHAUSTED");
        assert_eq!((traffic.requests.get(), traffic.requests_turned_away.get()), (2, 1));
        for always in ["/grpc.health.v1.Health/Check", "/claviger.v1.Seal/Seal"] {
            assert_eq!(status(&service.call(asking(always)).await.unwrap()), None);
        }
        drop(first);
        assert_eq!(status(&service.call(asking("/claviger.v1.Crypto/Encrypt")).await.unwrap()), None);
        drop(second);
        assert_eq!((traffic.requests.get(), traffic.requests_turned_away.get()), (0, 1));
    }
}
