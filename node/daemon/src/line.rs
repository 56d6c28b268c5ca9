//! What both ends of a connection between nodes have in common: messages, each behind its length, many of them written at once.
//!
//! It is not gRPC: a call of its own for every frame costs several times what the frames of consensus cost, and every read
//! waits for one.

use bytes::{Buf, BufMut, BytesMut};
use claviger_world::network::FRAME_BYTES_MAX;
use prost::Message;
use std::io;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// The application protocol that TLS must have agreed on (RFC 7301).
pub const PROTOCOL: &[u8] = b"claviger-peer/1";
/// Longest message, in bytes: a frame and little more.
pub const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX + 1_024;
/// An asker that has heard nothing for so long asks whether anybody is there, in milliseconds.
pub const KEEP_ALIVE_MS: u64 = 5_000;
/// It hears nothing for so long after that: the connection is dropped.
pub const KEEP_ALIVE_ANSWER_MS_MAX: u64 = 3_000;
/// How often each end looks whether the other one is still there, in milliseconds.
pub const LOOK_MS: u64 = 1_000;
/// The kind of frame that only asks whether anybody is there.
pub const PING: u32 = 0;

/// Messages that wait to be written on one connection.
pub const WAITING_MAX: usize = 256;
/// Messages are written in one piece until there are so many bytes of them.
const TOGETHER_BYTES: usize = 64 << 10;
/// A buffer that grew longer is not kept, in bytes.
const BUFFER_BYTES_KEPT: usize = 256 << 10;

/// The other end's messages, one after another.
pub type Incoming<S> = FramedRead<ReadHalf<S>, LengthDelimitedCodec>;

/// Both directions of a connection.
pub fn split<S: AsyncRead + AsyncWrite>(stream: S) -> (Incoming<S>, WriteHalf<S>) {
    let (read, write) = tokio::io::split(stream);
    let codec = LengthDelimitedCodec::builder().max_frame_length(MESSAGE_BYTES_MAX).new_codec();
    (FramedRead::new(read, codec), write)
}

/// Writes what comes, as much at once as has come, until nobody can send any more. `message` makes the message of it, and
/// what is to be dropped when it is written; none where nothing has to be said. `went` is called whenever some of it has
/// gone out and there is more.
///
/// # Errors
/// Those of the connection.
pub async fn write<S: AsyncWrite, T, M: Message, P>(
    to: &mut WriteHalf<S>,
    from: &mut mpsc::Receiver<T>,
    mut message: impl FnMut(T) -> Option<(M, P)>,
    went: impl Fn(),
) -> io::Result<()> {
    let (mut out, mut places) = (BytesMut::new(), Vec::new());
    while let Some(first) = from.recv().await {
        let mut next = Some(first);
        while let Some(come) = next {
            if let Some((message, place)) = message(come) {
                put(&mut out, &message)?;
                places.push(place);
            }
            next = if out.len() < TOGETHER_BYTES { from.try_recv().ok() } else { None };
        }
        while out.has_remaining() {
            if to.write_buf(&mut out).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            // What goes in one piece says nothing of the other end: the system has it.
            if out.has_remaining() {
                went();
            }
        }
        to.flush().await?;
        places.clear();
        if out.capacity() > BUFFER_BYTES_KEPT {
            out = BytesMut::new();
        }
    }
    to.shutdown().await
}

fn put(out: &mut BytesMut, message: &impl Message) -> io::Result<()> {
    let length = message.encoded_len();
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message is over its bound"));
    }
    out.reserve(4 + length);
    out.put_u32(length as u32);
    message.encode(out).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_proto::peer::v1::Ask;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn says_of_each_piece_of_a_long_message_that_it_went() {
        let (near, mut far) = tokio::io::duplex(1_024);
        let (_, mut out) = split(near);
        let (asks, mut asked) = mpsc::channel(1);
        let ask = Ask { call: 1, kind: PING, within_ms: 0, body: vec![7; 100 << 10].into() };
        asks.try_send(ask.clone()).unwrap();
        drop(asks);
        let pieces = AtomicUsize::new(0);
        let writing = write(
            &mut out,
            &mut asked,
            |ask| Some((ask, ())),
            || {
                pieces.fetch_add(1, Ordering::Relaxed);
            },
        );
        let mut came = Vec::new();
        let (written, read) = tokio::join!(writing, far.read_to_end(&mut came));
        written.unwrap();
        assert_eq!((read.unwrap(), &came[4..]), (4 + ask.encoded_len(), &ask.encode_to_vec()[..]));
        assert!(pieces.load(Ordering::Relaxed) >= 100, "a hundred pieces of a KiB");
    }
}
