//! The gRPC door: translates words, opens and closes pages, decides nothing. An RPC here is a straight line.
//!
//! Must not contain: rights, key states, retries, or anything that another door would need too.

mod audit;
mod cluster;
mod connection;
mod crypto;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod health;
mod keys;
mod matrix;
mod roles;
mod seal;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod words;

pub use connection::Connection;
pub use health::Health;
pub use matrix::check_matrix;

use crate::service::{Service, Visit};
use claviger_core::failure::Failure;
use claviger_core::policy::Operation;
use claviger_proto::DESCRIPTOR_SET;
use claviger_proto::v1::{
    audit_server::AuditServer, cluster_server::ClusterServer, crypto_server::CryptoServer, keys_server::KeysServer,
    roles_server::RolesServer, seal_server::SealServer,
};
use std::sync::Arc;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// What an RPC answers.
type Reply<T> = Result<Response<T>, Status>;

/// Longest message from a caller, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Longest message about founding and ceremonies, in bytes: sixty-four custodians, or a share. These calls are not counted
/// against the bound of requests in flight, so that sealing always gets through.
const SEAL_MESSAGE_BYTES_MAX: usize = 128 << 10;

/// The door: one for all services.
#[derive(Clone)]
pub struct Door {
    service: Arc<Service>,
}

impl Door {
    /// Opens a page and takes the request apart.
    fn admit<T>(&self, request: Request<T>, operation: Operation) -> (Visit, T) {
        let (_, extensions, ask) = request.into_parts();
        let caller = extensions.get::<Connection>().map_or_else(|| Connection::default().caller(), Connection::caller);
        (self.service.attempt(caller, operation), ask)
    }

    /// Closes the page; only then is there an answer.
    async fn close<T>(&self, visit: Visit, answer: Result<T, Failure>) -> Reply<T> {
        let audited = visit.close(answer).await;
        audited.into_inner().map(Response::new).map_err(status::of)
    }
}

/// All services for callers, with health and, when asked for, reflection.
pub fn routes(service: Arc<Service>, health: &Health, reflection: bool) -> Routes {
    let door = Door { service };
    let mut routes = Routes::builder();
    routes.add_service(health.server());
    macro_rules! serve {
        ($($server:ident),*) => {
            $(routes.add_service($server::new(door.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX));)*
        };
    }
    serve!(AuditServer, ClusterServer, CryptoServer, KeysServer, RolesServer);
    routes.add_service(SealServer::new(door.clone()).max_decoding_message_size(SEAL_MESSAGE_BYTES_MAX));
    if reflection {
        routes.add_service(reflect());
    }
    routes.routes()
}

fn reflect() -> impl tonic::server::NamedService
+ tonic::codegen::Service<
    tonic::codegen::http::Request<tonic::body::Body>,
    Response = tonic::codegen::http::Response<tonic::body::Body>,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptor set was made by our own build")
}
