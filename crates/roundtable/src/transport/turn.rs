//! Fair turns: what a connection may do before the others get their turn, and how fast it may go on at all.
//!
//! All work counts in one currency, bytes: those that are read, and for what else costs time so many as take about as long.
//! A turn is short; who has used its own waits until the shard has looked at everybody else. Who does more in a second than
//! is allowed waits with its socket unread, so that TCP slows it down and nothing of it is decoded before its time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use roundtable_dialects::pace::{Bucket, Limit};

use super::connection::{Connection, Ending};
use super::shard::Shard;
use crate::clock;

/// What a frame costs, and a packet of a post: taking it apart, its way through a session.
pub const FRAME: usize = 256;
/// What a question to the engine costs.
pub const QUESTION: usize = 256;
/// What a frame costs that is refused unread and told so.
pub const REFUSED: usize = 4 << 10;
/// What it costs to check credentials.
pub const CHECK: usize = 4 << 10;
/// What a request over HTTP costs.
const REQUEST: usize = 4 << 10;
/// What a byte costs that was inflated: it cost its sender a thousandth of one, and what it says is read too.
const INFLATED: usize = 8;
/// One turn: some hundred small frames, less than a millisecond.
const TURN: usize = 32 << 10;
/// Who has had no whole turn within this time, and has waited for more input, begins a new one.
const WINDOW_MS: u64 = 10;
/// Bytes in a second that prove life: whoever sends fewer has a pong to show.
const LEAST_RATE: u128 = 1 << 10;

/// What somebody may take.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Bytes of one message, or of one post.
    pub message: usize,
    /// Bytes that are read in one go.
    pub read: usize,
    /// Bytes that may wait for it.
    pub queue: usize,
    /// Work in a second.
    pub pace: Limit,
}

impl Allowance {
    /// Of a stranger: all of it together, with what is kept of its request, stays below 64 KiB.
    pub const STRANGER: Self = Self {
        message: 16 << 10,
        read: 16 << 10,
        queue: 6 << 10,
        pace: Limit { per_second: 64 << 10, burst: 64 << 10 },
    };
}

/// The work of one connection.
#[derive(Debug, Default)]
pub struct Meter {
    /// Work of the present turn.
    spent: Cell<usize>,
    /// When that began, in monotonic milliseconds.
    began: Cell<u64>,
    /// Work that is not in the bucket yet.
    unpaid: Cell<usize>,
    pace: Cell<Bucket>,
    /// Frames, where the dialect limits them, and when another one is read after one that was not.
    frames: Cell<Bucket>,
    frames_after: Cell<u64>,
    /// Bytes that came since somebody asked.
    received: Cell<usize>,
    /// Since when half of something is here of a stranger.
    half_since: Cell<Option<u64>>,
}

/// What a connection does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// It goes on.
    Go,
    /// It waits until the connection may take more.
    Wait,
    /// It waits until everybody else had a turn.
    Others,
    /// It waits so many milliseconds.
    Pause(u64),
    /// It is over.
    Stop,
}

impl Meter {
    /// Counts work.
    pub fn spend(&self, cost: usize) {
        self.spent.set(self.spent.get().saturating_add(cost));
        self.unpaid.set(self.unpaid.get().saturating_add(cost));
    }

    /// Counts bytes that came out of compressed ones.
    pub fn inflated(&self, bytes: usize) {
        self.spend(bytes.saturating_mul(INFLATED));
    }

    /// Counts bytes that came.
    pub fn received(&self, bytes: usize) {
        self.spend(bytes);
        self.received.set(self.received.get().saturating_add(bytes));
    }

    /// Whether its turn is over.
    pub fn is_over(&self) -> bool {
        self.spent.get() >= TURN
    }

    /// Whether a frame is within the limit of its dialect. One that is not does not count; its sender is told after how many
    /// milliseconds another one is.
    pub fn admits_frame(&self, limit: Limit) -> bool {
        let mut frames = self.frames.get();
        let taken = frames.take(1, limit, clock::monotonic_ms());
        self.frames.set(frames);
        self.frames_after.set(taken.err().unwrap_or(0));
        taken.is_ok()
    }

    /// After how many milliseconds a frame is read again, after one that was not.
    pub fn frames_after(&self) -> u64 {
        self.frames_after.get()
    }

    /// Whether bytes came fast enough in the last milliseconds to prove life; begins to count anew.
    pub fn proves_life(&self, ms: u64) -> bool {
        is_life(self.received.take(), Duration::from_millis(ms))
    }

    /// Notes whether half of something is here. Says since when.
    pub fn half(&self, is_half: bool) -> Option<u64> {
        let since = is_half.then(|| self.half_since.get().unwrap_or_else(clock::monotonic_ms));
        self.half_since.set(since);
        since
    }

    /// Since when half of something is here.
    pub fn half_since(&self) -> Option<u64> {
        self.half_since.get()
    }

    /// Waits for input.
    pub async fn rest(&self, input: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        let mut input = pin!(input);
        poll_fn(|cx| {
            let polled = input.as_mut().poll(cx);
            if polled.is_pending() {
                let now = clock::monotonic_ms();
                if now.saturating_sub(self.began.get()) >= WINDOW_MS {
                    self.begin(now);
                }
            }
            polled
        })
        .await
    }

    fn begin(&self, now: u64) {
        self.spent.set(0);
        self.began.set(now);
    }

    /// Puts what was done into the bucket.
    fn settle(&self, limit: Limit) -> Next {
        let now = clock::monotonic_ms();
        let mut pace = self.pace.get();
        pace.charge(u32::try_from(self.unpaid.take()).unwrap_or(u32::MAX), limit, now);
        self.pace.set(pace);
        match pace.owes(limit, now) {
            0 if self.is_over() => Next::Others,
            0 => Next::Go,
            ms => Next::Pause(ms),
        }
    }
}

/// Whether so many bytes in so much time are a sign of life.
pub fn is_life(bytes: usize, time: Duration) -> bool {
    bytes as u128 >= time.as_millis() * LEAST_RATE / 1_000
}

/// Connections whose turn is over, and who want another.
#[derive(Default)]
pub struct Line(Cell<VecDeque<Waker>>);

impl Line {
    fn push(&self, waker: Waker) {
        let mut line = self.0.take();
        line.push_back(waker);
        self.0.set(line);
    }

    /// Lets the first one go. Says whether there was one.
    pub fn next(&self) -> bool {
        let mut line = self.0.take();
        let first = line.pop_front();
        self.0.set(line);
        first.map(Waker::wake).is_some()
    }
}

impl Shard {
    /// What a connection may take.
    pub fn allowance(&self, connection: &Connection) -> Allowance {
        let settings = &self.hub.settings;
        let engine = connection.engine.borrow().is_some();
        let message = if engine { settings.engine.max_payload } else { settings.max_message };
        if !connection.known.get() {
            return Allowance { message: settings.strangers.message.min(message), ..settings.strangers };
        }
        Allowance { message, read: usize::MAX, queue: settings.mailbox_bytes, pace: settings.pace }
    }

    /// Whether what it asked has to be answered, and the answers have to be taken, before more is read of it.
    pub fn must_wait(&self, connection: &Connection) -> bool {
        let checked = connection.checking.get() > 0 && !connection.known.get();
        let asked = connection.unfinished.get() >= self.hub.settings.max_unfinished;
        let full = || connection.waiting_bytes() >= self.allowance(connection).queue.saturating_mul(2);
        connection.lives() && (checked || asked || full())
    }

    /// Waits until it is a connection's turn. Says `false` when it is over.
    pub async fn its_turn(&self, connection: &Connection) -> bool {
        loop {
            let next = match connection.ending.get() {
                Ending::Gone => Next::Stop,
                _ if self.must_wait(connection) => Next::Wait,
                _ => connection.meter.settle(self.allowance(connection).pace),
            };
            match next {
                Next::Go => return true,
                Next::Stop => return false,
                Next::Wait => connection.relief.notified().await,
                Next::Others => {
                    self.others_first().await;
                    connection.meter.begin(clock::monotonic_ms());
                }
                Next::Pause(ms) => {
                    // Whatever comes first: that time, or the end of the connection.
                    let _ =
                        tokio::time::timeout(Duration::from_millis(ms), connection.relief.notified()).await;
                }
            }
        }
    }

    /// Waits until it is the turn of an HTTP connection that wants something.
    pub async fn begin_request(&self, meter: &Meter) {
        meter.spend(REQUEST);
        if meter.is_over() {
            self.others_first().await;
            meter.begin(clock::monotonic_ms());
        }
    }

    /// Waits until the shard has handled its news and its deadlines, has written, and has let everybody go on who was ready.
    pub async fn others_first(&self) {
        let mut waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.line.push(cx.waker().clone());
            self.work.notify_one();
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowance, FRAME, INFLATED, Limit, Line, Meter, Next, TURN};

    const PACE: Limit = Limit { per_second: 1 << 20, burst: 1 << 20 };

    #[test]
    fn a_turn_ends_with_frames_with_bytes_and_with_what_was_inflated() {
        let works: [fn(&Meter); 3] = [
            |meter| (0..TURN / FRAME).for_each(|_| meter.spend(FRAME)),
            |meter| meter.received(TURN),
            |meter| meter.inflated(TURN / INFLATED),
        ];
        for work in works {
            let meter = Meter::default();
            assert_eq!(meter.settle(PACE), Next::Go);
            work(&meter);
            assert!(meter.is_over());
            assert_eq!(meter.settle(PACE), Next::Others);
            meter.begin(1);
            assert_eq!(meter.settle(PACE), Next::Go);
        }
    }

    #[test]
    fn who_is_too_fast_has_to_pause() {
        let meter = Meter::default();
        meter.inflated(1 << 20);
        assert!(matches!(meter.settle(PACE), Next::Pause(6_000..=7_000)));
    }

    #[test]
    fn life_is_a_least_rate() {
        let meter = Meter::default();
        meter.received(20 << 10);
        assert!(meter.proves_life(20_000));
        assert!(!meter.proves_life(20_000), "what came before does not count twice");
        meter.received(19 << 10);
        assert!(!meter.proves_life(20_000));
    }

    #[test]
    fn half_of_something_is_timed_from_its_beginning() {
        let meter = Meter::default();
        let since = meter.half(true);
        assert!(since.is_some() && meter.half(true) == since);
        assert_eq!((meter.half(false), meter.half_since()), (None, None));
    }

    #[test]
    fn nobody_waits_in_an_empty_line() {
        let line = Line::default();
        assert!(!line.next());
        line.push(std::task::Waker::noop().clone());
        assert!(line.next() && !line.next());
    }

    #[test]
    fn a_stranger_fits_into_64_kib() {
        let Allowance { message, read, queue, .. } = Allowance::STRANGER;
        // A message that is not whole, as vectors grow, or bytes that wait to be decoded; answers take twice the queue.
        let most = (2 * message).max(read) + 2 * queue + crate::transport::MAX_KEPT_HEAD;
        assert!(most <= 52 << 10, "{most}: the rest is for the connection itself");
    }
}
