//! More than a node should bear: connections that never speak, streams that never end.

use crate::pki::Credentials;
use crate::trouble::{About, Told};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Opens connections and says nothing on them. Raises this process's limit of open files first.
pub async fn half_open(node: SocketAddrV4, count: usize) -> Told<Vec<TcpStream>> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Some(u64::try_from(count).unwrap_or(u64::MAX) + 1_000);
    let current = limit.current.max(wanted);
    setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum.max(current) })
        .about("limit of open files")?;
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.push(TcpStream::connect(node).await.about("connect")?);
    }
    Ok(held)
}

/// What became of a flood of streams.
#[derive(Debug, Default)]
pub struct Flood {
    /// Streams that the node reset as refused (RFC 9113 §7, REFUSED_STREAM).
    pub refused: usize,
    /// Whether it ended the connection (GOAWAY).
    pub gone: bool,
}

/// Opens streams on one connection without ever ending a request, as no client library would, and counts refusals.
pub async fn streams(node: SocketAddrV4, ca: &Path, who: &Credentials, count: usize) -> Told<Flood> {
    let mut tls = connect(node, ca, who).await?;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    let headers = request_headers(node);
    for number in 0..count {
        let stream = u32::try_from(2 * number + 1).about("stream number")?;
        frame(&mut bytes, HEADERS, END_HEADERS, stream, &headers);
    }
    tls.write_all(&bytes).await?;
    tls.flush().await?;
    Ok(listen(&mut tls).await)
}

async fn connect(node: SocketAddrV4, ca: &Path, who: &Credentials) -> Told<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).about(ca.display())?).about("authority")?;
    let cert = CertificateDer::from_pem_file(&who.cert).about("certificate")?;
    let key = PrivateKeyDer::from_pem_file(&who.key).about("key")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().about("TLS")?;
    let mut config = config.with_root_certificates(roots).with_client_auth_cert(vec![cert], key).about("key")?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(node).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress((*node.ip()).into()), stream).await?)
}

/// Reads frames until the node has been silent for a second about refusals, or time is up.
async fn listen(tls: &mut TlsStream<TcpStream>) -> Flood {
    let (mut flood, end) = (Flood::default(), Instant::now() + ANSWER_WITHIN);
    let mut quiet = end;
    while let Ok(Ok((kind, payload))) = timeout_at(quiet.min(end), next_frame(tls)).await {
        let code = payload.first_chunk::<4>().map(|b| u32::from_be_bytes(*b));
        match kind {
            RST_STREAM if code == Some(REFUSED_STREAM) => {
                flood.refused += 1;
                quiet = Instant::now() + Duration::from_secs(1);
            }
            GOAWAY => {
                flood.gone = true;
                break;
            }
            _ => {}
        }
    }
    flood
}

async fn next_frame(tls: &mut TlsStream<TcpStream>) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    tls.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    tls.read_exact(&mut payload).await?;
    Ok((head[3], payload))
}

/// RFC 9113 §4.1.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("our frames are short");
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A gRPC request's headers, literal and without Huffman coding (RFC 7541 §6.2.2).
fn request_headers(node: SocketAddrV4) -> Vec<u8> {
    const METHOD_POST: u8 = 0x83;
    const SCHEME_HTTPS: u8 = 0x87;
    let mut block = vec![METHOD_POST, SCHEME_HTTPS];
    let fields = [
        (":path", "/claviger.v1.Crypto/Encrypt"),
        (":authority", &node.to_string()),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("shorter than 127 bytes"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
