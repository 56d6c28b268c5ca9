//! Streams of any size through a node made of nothing.

#![allow(missing_docs, reason = "tests")]

mod fake;

use claviger_client::{Client, Error, StreamDone, StreamError};
use fake::{NAME, Node, Pki, Script, always, client, node};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tonic::Status;

fn pair(script: Script) -> (Node, Client) {
    let pki = Pki::new();
    let node = node(&pki, 1, script);
    let client = client(&pki, &[node.address.to_string()], 5_000);
    (node, client)
}

/// Gives some bytes, and then fails.
struct Broken(usize);

impl AsyncRead for Broken {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let bytes = buf.remaining().min(self.0);
        if bytes == 0 {
            return Poll::Ready(Err(io::Error::other("the disk is gone")));
        }
        buf.put_slice(&vec![7; bytes]);
        self.0 -= bytes;
        Poll::Ready(Ok(()))
    }
}

fn told<T: std::fmt::Debug>(came: Result<T, StreamError>) -> String {
    match came {
        Ok(done) => panic!("{done:?}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn all_of_it_goes_there_and_back() {
    let (_node, client) = pair(always(|| Ok(9)));
    for bytes in [0, 1, 65_536, 1_000_000] {
        let plaintext = vec![7; bytes];
        let (mut sealed, mut opened) = (Vec::new(), Vec::new());
        let done = client.encrypt_stream(NAME, &[], &plaintext[..], &mut sealed).await.unwrap();
        assert_eq!(done, StreamDone { version: 1, written_bytes: 112 + bytes as u64 });
        client.decrypt_stream(NAME, &[], &sealed[..], &mut opened).await.unwrap();
        assert!(opened == plaintext);
        assert_eq!(client.revision(), 9);
    }
}

#[tokio::test]
async fn an_opening_is_tried_again_and_nothing_else() {
    let (node, client) = pair(Arc::new(|_, before| match before {
        0 => Err(Status::unavailable("unavailable: no majority")),
        _ => Ok(1),
    }));
    let mut sealed = Vec::new();
    client.encrypt_stream(NAME, &[], &b"x"[..], &mut sealed).await.unwrap();
    assert_eq!(node.count("EncryptStream"), 2);
    let input = [vec![7; 65_536], b"!".to_vec()].concat();
    let came = client.encrypt_stream(NAME, &[], &input[..], &mut sealed).await;
    let Err(StreamError::Midway { error: Error::Refused { .. }, .. }) = came else { panic!("{came:?}") };
    assert_eq!(node.count("EncryptStream"), 3, "midway it is not tried again");
}

#[tokio::test]
async fn a_refused_opening_has_written_nothing() {
    let (_node, client) = pair(always(|| Err(Status::permission_denied("denied: x"))));
    let mut sealed = Vec::new();
    let came = client.encrypt_stream(NAME, &[], &b"x"[..], &mut sealed).await;
    assert!(matches!(came, Err(StreamError::NotBegun(Error::Denied { .. }))));
    assert!(sealed.is_empty());
}

#[tokio::test]
async fn an_input_that_fails_is_no_end() {
    let (_node, client) = pair(always(|| Ok(1)));
    let came = client.encrypt_stream(NAME, &[], Broken(100_000), Vec::new()).await;
    assert_eq!(told(came), "the input: the disk is gone");
}

#[tokio::test]
async fn a_node_that_ends_early_has_not_done_it() {
    let (_node, client) = pair(always(|| Ok(1)));
    let input = [vec![b'.'; 65_536], vec![7; 10_000_000]].concat();
    let came = client.encrypt_stream(NAME, &[], &input[..], Vec::new()).await;
    assert!(told(came).contains("before it had everything"));
}

#[tokio::test]
async fn an_output_that_takes_no_more_ends_it() {
    let (_node, client) = pair(always(|| Ok(1)));
    let mut full = [0; 200];
    let came = client.encrypt_stream(NAME, &[], &[7; 100_000][..], io::Cursor::new(&mut full[..])).await;
    assert!(told(came).starts_with("the output: "));
}
