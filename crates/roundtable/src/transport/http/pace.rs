//! How long the parts of an exchange over HTTP may take, kept at the socket: a head, the pause before the next request, an
//! answer that nobody reads. And whose end of sending is no end of listening.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::clock;
use crate::shares::Share;
use crate::transport::stream::Stream;

/// How long a reader may take no byte of an answer.
const STALL_MS: u64 = 30_000;
/// Bytes of an answer that its reader takes in a second, at least, on average.
const LEAST_RATE: u64 = 16 << 10;
/// What a half head is answered when its time is up.
const TOO_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What is awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The first byte of all.
    First,
    /// The rest of a request's head.
    Head,
    /// The body of a request, or its answer.
    Asked,
    /// The next request.
    Idle,
}

#[derive(Debug)]
struct Moment {
    stage: Stage,
    /// Since when, in monotonic milliseconds.
    since: u64,
    /// A client that sends no more has all the same an answer to get.
    listens: bool,
    /// Who looks at the socket while its end is not told.
    waiting: Option<Waker>,
    /// The turn at which the answer was made: its address has it until the answer was read.
    turn: Option<Share>,
}

/// What the socket and whoever answers tell one another.
#[derive(Debug)]
pub struct Pace {
    moment: Mutex<Moment>,
    /// Told when the client has sent its last byte.
    end: Notify,
    patience: u64,
    keep_alive: u64,
}

impl Pace {
    /// A connection whose heads may take `patience` milliseconds, the first one `spent` less; after an answer it is kept for
    /// `keep_alive`.
    pub fn new(patience: u64, spent: u64, keep_alive: u64) -> Arc<Self> {
        let since = clock::monotonic_ms().saturating_sub(spent);
        let moment = Moment { stage: Stage::First, since, listens: false, waiting: None, turn: None };
        Arc::new(Self { moment: Mutex::new(moment), end: Notify::new(), patience, keep_alive })
    }

    fn moment(&self) -> MutexGuard<'_, Moment> {
        self.moment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come. A client that sends no more waits for its answer.
    pub fn asked(&self) {
        self.moment().go(Stage::Asked, true);
    }

    /// Resolves when the client has sent its last byte and all before it was passed on.
    pub async fn ended(&self) {
        self.end.notified().await;
    }

    /// What is answered goes on as long as the client does: its end must be seen.
    pub fn open_ended(&self) {
        self.moment().show_end();
    }

    /// The answer is whole; what of it still has to be written keeps the turn.
    pub fn answered(&self, turn: Option<Share>) {
        let mut moment = self.moment();
        moment.go(Stage::Idle, false);
        moment.turn = turn;
    }

    /// Something came from the client.
    fn came(&self) {
        let mut moment = self.moment();
        match moment.stage {
            Stage::First => moment.stage = Stage::Head,
            Stage::Idle => moment.go(Stage::Head, false),
            Stage::Head | Stage::Asked => {}
        }
    }

    /// The client took some of an answer.
    fn took(&self) {
        let mut moment = self.moment();
        if moment.stage == Stage::Idle {
            moment.since = clock::monotonic_ms();
        }
    }

    /// How many milliseconds are left for what is awaited now; `None`: as long as it takes.
    fn left(&self) -> Option<u64> {
        let moment = self.moment();
        let most = match moment.stage {
            Stage::First | Stage::Head => self.patience,
            Stage::Idle => self.keep_alive,
            Stage::Asked => return None,
        };
        Some((moment.since + most).saturating_sub(clock::monotonic_ms()))
    }
}

impl Moment {
    fn go(&mut self, stage: Stage, listens: bool) {
        (self.stage, self.since, self.listens) = (stage, clock::monotonic_ms(), listens);
        if !listens {
            self.show_end();
        }
    }

    fn show_end(&mut self) {
        self.listens = false;
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// A socket at that pace.
pub struct Paced {
    stream: Stream,
    pace: Arc<Pace>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Until when a reader that is behind must have taken something, in monotonic milliseconds.
    write_by: Option<u64>,
    ended: bool,
}

impl Paced {
    /// At the beginning.
    pub fn new(stream: Stream, pace: Arc<Pace>) -> Self {
        Self { stream, pace, timer: None, write_by: None, ended: false }
    }

    /// The bare socket.
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Ready when so many milliseconds are over; else the task is woken then.
    fn passed(&mut self, ms: u64, cx: &mut Context<'_>) -> Poll<()> {
        if ms == 0 {
            return Poll::Ready(());
        }
        let mut timer = Box::pin(tokio::time::sleep(Duration::from_millis(ms)));
        let passed = timer.as_mut().poll(cx);
        self.timer = Some(timer);
        passed
    }

    /// What to say of the end of what the client sends.
    fn end(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ended, true) {
            self.pace.end.notify_one();
        }
        let mut moment = self.pace.moment();
        if !moment.listens {
            return Poll::Ready(Ok(()));
        }
        moment.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wrote(&mut self, done: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let now = clock::monotonic_ms();
        match done {
            Poll::Ready(Ok(count)) => {
                let more = count as u64 * 1_000 / LEAST_RATE;
                self.write_by = self.write_by.map(|by| (by + more).min(now + STALL_MS));
                self.pace.took();
                Poll::Ready(Ok(count))
            }
            Poll::Pending => {
                let by = *self.write_by.get_or_insert(now + STALL_MS);
                match self.passed(by.saturating_sub(now), cx) {
                    Poll::Ready(()) => Poll::Ready(Err(ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
            failed => failed,
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended {
            return this.end(cx);
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() == before => this.end(cx),
            Poll::Ready(Ok(())) => {
                this.pace.came();
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                let Some(left) = this.pace.left() else { return Poll::Pending };
                if this.passed(left, cx).is_pending() {
                    return Poll::Pending;
                }
                if this.pace.moment().stage == Stage::Head {
                    // Nothing else is being written. A client that does not even take this learns it from the end.
                    let _ = this.stream.try_write(TOO_LATE);
                }
                this.end(cx)
            }
            failed => failed,
        }
    }
}

impl AsyncWrite for Paced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(done, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            this.write_by = None;
            let turn = this.pace.moment().turn.take();
            drop(turn);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
