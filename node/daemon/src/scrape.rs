//! `/metrics` for Prometheus: plain HTTP/1.1 on loopback, bounded in everything.

use crate::by_age::ByAge;
use crate::listen::{Stop, stopped};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};

/// Connections at once. One more, and the oldest is dropped.
const CONNECTIONS_MAX: usize = 16;
/// A request's head, in milliseconds and in bytes.
const HEAD_MS_MAX: u64 = 2_000;
const HEAD_BYTES_MAX: usize = 8 << 10;
/// One connection as a whole, in milliseconds.
const CONNECTION_MS_MAX: u64 = 60_000;
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes all metrics in the OpenMetrics text format.
pub type Page = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves the page until `stop`.
pub async fn serve(listener: TcpListener, page: Page, stop: Stop) {
    let mut connections = ByAge::default();
    let mut stopped = std::pin::pin!(stopped(stop));
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => return,
            () = connections.ended() => {}
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.begin(CONNECTIONS_MAX, talk(stream, page.clone()));
            },
        }
    }
}

async fn talk(stream: TcpStream, page: Page) {
    let answer = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&request, &page))));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_millis(HEAD_MS_MAX));
    http.max_buf_size(HEAD_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), answer);
    // Whatever ends the connection, there is nobody to tell.
    let _ = tokio::time::timeout(Duration::from_millis(CONNECTION_MS_MAX), connection).await;
}

fn answer(request: &Request<Incoming>, page: &Page) -> Response<Full<Bytes>> {
    let plain = |status, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let mut response = plain(StatusCode::OK, page());
            response.headers_mut().insert(CONTENT_TYPE, OPENMETRICS.parse().expect("a constant of plain ASCII"));
            response
        }
        (_, "/metrics") => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, String::new());
            response.headers_mut().insert(ALLOW, "GET".parse().expect("a constant of plain ASCII"));
            response
        }
        (_, _) => plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::watch,
    };

    async fn said(address: std::net::SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap_or_default();
        answer
    }

    #[tokio::test]
    async fn tells_metrics_and_refuses_all_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, Arc::new(|| "claviger_up 1\n# EOF\n".into()), stopped));
        let ask =
            |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let good = said(address, &ask("GET", "/metrics")).await;
        assert!(good.starts_with("HTTP/1.1 200") && good.ends_with("\r\n\r\nclaviger_up 1\n# EOF\n"), "{good}");
        assert!(said(address, &ask("GET", "/")).await.starts_with("HTTP/1.1 404"));
        assert!(said(address, &ask("POST", "/metrics")).await.starts_with("HTTP/1.1 405"));
        let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        assert!(!said(address, &long).await.contains("claviger_up"));
        assert!(said(address, &ask("GET", "/metrics")).await.starts_with("HTTP/1.1 200"));
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX * 2 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(said(address, &ask("GET", "/metrics")).await.starts_with("HTTP/1.1 200"), "those who stand still");
        stop.send(true).unwrap();
        serving.await.unwrap();
    }
}
