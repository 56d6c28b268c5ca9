//! The peers' door: takes frames from the wire and gives them to the node with the certificate that their connection proved.

use crate::{
    in_flight::{InFlight, Place},
    line::{self, Incoming},
    listen::{Door, Guest, Stop, admitted, stopped},
};
use bytes::{Bytes, BytesMut};
use claviger_proto::peer::v1::{Ask, Reply, reply::Result as WireResult};
use claviger_world::network::{FRAME_BYTES_MAX, Frame, FrameKind, PEER_CALL_MS_MAX, PeerCertificate, SharedListener};
use futures_util::{StreamExt, stream::FuturesUnordered};
use prost::Message;
use std::{
    collections::VecDeque,
    io,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// Longest reason that is sent to a peer, in bytes.
const REASON_BYTES_MAX: usize = 1_024;
/// An answer as long as this, in bytes, holds its place until it is written: as many as there are places can wait. The place
/// of a shorter one is free as soon as it is made, so that whoever reads no answers keeps no others out.
const SHORT_BYTES_MAX: usize = 4 << 10;
/// The other end takes nothing of what is written to it for so long: the connection is dropped, in milliseconds.
const TAKES_MS_MAX: u64 = line::KEEP_ALIVE_MS + line::KEEP_ALIVE_ANSWER_MS_MAX;
/// A connection on which nothing was asked, and no answer taken, for so long is dropped, in milliseconds: who dialled would
/// have asked whether anybody is there.
const SILENCE_MS_MAX: u64 = 30_000;

/// Answers peers until `stop`, and then those whose frames are under way.
pub async fn serve(
    listener: TcpListener,
    door: Door<PeerCertificate>,
    node: SharedListener,
    bound: InFlight,
    stop: Stop,
) {
    let most = door.limits.streams_per_connection as usize;
    let (mut guests, accepting) = admitted(listener, door, stop.clone());
    let (mut lines, mut end) = (JoinSet::new(), pin!(stopped(stop.clone())));
    loop {
        tokio::select! {
            biased;
            () = &mut end => break,
            Some(_) = lines.join_next() => {}
            Some(guest) = guests.recv() => {
                let line = Line { node: node.clone(), bound: bound.clone(), most, stop: stop.clone() };
                lines.spawn(line.answer(guest));
            }
        }
    }
    accepting.abort();
    while lines.join_next().await.is_some() {}
}

/// An answer, and its place among the requests under way, which it has until it is written.
struct Answered {
    reply: Reply,
    place: Option<Place>,
}

/// One connection.
struct Line {
    node: SharedListener,
    bound: InFlight,
    /// Frames of it that are under way at once.
    most: usize,
    stop: Stop,
}

impl Line {
    /// Ends with the connection, or when it is time to stop and everything is answered.
    async fn answer(self, guest: Guest<PeerCertificate>) {
        let from = *guest.info();
        let (asks, mut out) = line::split(guest);
        let (answers, mut answered) = mpsc::channel(line::WAITING_MAX);
        let taking = Taking::default();
        let message = |Answered { reply, place }| Some((reply, (place, taking.begins())));
        let writing = line::write(&mut out, &mut answered, message, || taking.goes_on());
        if let Err(why) = tokio::try_join!(self.hear_all(from, asks, answers, &taking), writing) {
            tracing::debug!(peer = from.claims.0, %why, "a peer's connection ended");
        }
    }

    /// What is under way when the connection breaks is dropped.
    async fn hear_all(
        &self,
        from: PeerCertificate,
        mut asks: Incoming<Guest<PeerCertificate>>,
        answers: mpsc::Sender<Answered>,
        taking: &Taking,
    ) -> io::Result<()> {
        let (mut hearing, mut stops) = (FuturesUnordered::new(), pin!(stopped(self.stop.clone())));
        let (mut done, mut last, mut stopping) = (VecDeque::new(), Instant::now(), false);
        let mut look = interval(Duration::from_millis(line::LOOK_MS));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(stopping && hearing.is_empty() && done.is_empty()) {
            tokio::select! {
                biased;
                // Before all else: somebody who asks without a pause does not keep the node from ending.
                () = &mut stops, if !stopping => stopping = true,
                Some(answered) = hearing.next() => done.push_back(answered),
                room = answers.reserve(), if !done.is_empty() => {
                    last = Instant::now();
                    let room = room.map_err(|_| io::ErrorKind::BrokenPipe)?;
                    if let Some(answered) = done.pop_front() {
                        room.send(answered);
                    }
                }
                ask = asks.next(), if !stopping && hearing.len() + done.len() < self.most => {
                    last = Instant::now();
                    hearing.push(self.hear(from, read(ask)?));
                }
                _ = look.tick() => {
                    taking.look()?;
                    still_there(last, hearing.is_empty())?;
                }
            }
        }
        Ok(())
    }

    async fn hear(&self, from: PeerCertificate, Ask { call, kind, within_ms, body }: Ask) -> Answered {
        let answered = |result, place| Answered { reply: Reply { call, result }, place };
        if kind == line::PING {
            return answered(Some(WireResult::Body(Bytes::new())), None);
        }
        let place = self.bound.enter();
        let result = if place.is_some() { self.judge(from, kind, within_ms, body).await } else { Some(full()) };
        let long = matches!(&result, Some(WireResult::Body(body)) if body.len() > SHORT_BYTES_MAX);
        answered(result, place.filter(|_| long))
    }

    /// None where nobody waits for the answer any more.
    async fn judge(&self, from: PeerCertificate, kind: u32, within_ms: u32, body: Bytes) -> Option<WireResult> {
        let Some(kind) = FrameKind::from_number(kind) else {
            return Some(WireResult::Refused("no such kind of frame in this release".into()));
        };
        let limit = Duration::from_millis(u64::from(within_ms).min(PEER_CALL_MS_MAX));
        let heard = timeout(limit, self.node.hear(from, Frame { kind, body })).await.ok()?;
        Some(match heard {
            // It would end the connection, and with it what others wait for.
            Ok(body) if body.len() > FRAME_BYTES_MAX => WireResult::Refused("the answer is over its bound".into()),
            Ok(body) => WireResult::Body(body),
            Err(why) => WireResult::Refused(why.chars().take(REASON_BYTES_MAX / char::MAX.len_utf8()).collect()),
        })
    }
}

/// Since when the other end has taken nothing of what is being written to it. None where nothing is.
#[derive(Default)]
struct Taking(Mutex<Option<Instant>>);

impl Taking {
    /// Until what is given back is dropped.
    fn begins(&self) -> Written<'_> {
        self.goes_on();
        Written(self)
    }

    fn goes_on(&self) {
        *self.since() = Some(Instant::now());
    }

    fn look(&self) -> io::Result<()> {
        let stuck = self.since().is_some_and(|since| since.elapsed() > Duration::from_millis(TAKES_MS_MAX));
        if stuck { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is being written.
struct Written<'a>(&'a Taking);

impl Drop for Written<'_> {
    fn drop(&mut self) {
        *self.0.since() = None;
    }
}

fn full() -> WireResult {
    WireResult::Refused("too many requests are under way in this node; ask again".into())
}

/// A message that is no frame ends the connection: what follows cannot be trusted to begin where it seems to.
fn read(ask: Option<io::Result<BytesMut>>) -> io::Result<Ask> {
    let ask = ask.ok_or(io::ErrorKind::UnexpectedEof)??;
    Ask::decode(ask.freeze()).map_err(io::Error::other)
}

/// Where something is under way, or the other end has just taken an answer, its silence says nothing.
fn still_there(last: Instant, idle: bool) -> io::Result<()> {
    let silent = idle && last.elapsed() > Duration::from_millis(SILENCE_MS_MAX);
    if silent { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Traffic;
    use claviger_core::name::{NodeId, VerifyingKey};
    use claviger_world::{disk::BoxFuture, network::Listener};
    use std::sync::Arc;
    use tokio::{sync::watch, time::advance};

    /// Answers with as many bytes as the frame has.
    struct Echo;

    impl Listener for Echo {
        fn hear(&self, _: PeerCertificate, frame: Frame) -> BoxFuture<'static, Result<Bytes, String>> {
            Box::pin(async move { Ok(frame.body) })
        }
    }

    #[tokio::test]
    async fn only_a_long_answer_keeps_its_place_until_it_is_written() {
        let bound = InFlight::new(1, Traffic::default());
        let (_running, stop) = watch::channel(false);
        let line = Line { node: Arc::new(Echo), bound: bound.clone(), most: 1, stop };
        let from = PeerCertificate { key: VerifyingKey([1; 32]), claims: NodeId(1) };
        let ask =
            |bytes: usize| Ask { call: 1, kind: FrameKind::Raft as u32, within_ms: 1_000, body: vec![7; bytes].into() };
        let short = line.hear(from, ask(SHORT_BYTES_MAX)).await;
        assert!(bound.enter().is_some(), "whoever does not read it keeps nobody out");
        let long = line.hear(from, ask(SHORT_BYTES_MAX + 1)).await;
        assert!(bound.enter().is_none());
        let turned_away = line.hear(from, ask(1)).await;
        assert!(matches!(turned_away.reply.result, Some(WireResult::Refused(why)) if why.contains("too many")));
        assert!(matches!(short.reply.result, Some(WireResult::Body(_))));
        drop(long);
        assert!(bound.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_given_up() {
        let (taking, almost) = (Taking::default(), Duration::from_millis(TAKES_MS_MAX));
        advance(2 * almost).await;
        assert!(taking.look().is_ok(), "nothing is written");
        let written = taking.begins();
        advance(almost).await;
        assert!(taking.look().is_ok());
        taking.goes_on();
        advance(almost).await;
        assert!(taking.look().is_ok(), "it took something");
        advance(Duration::from_millis(1)).await;
        assert!(taking.look().is_err());
        drop(written);
        assert!(taking.look().is_ok(), "all of it is written");
    }
}
