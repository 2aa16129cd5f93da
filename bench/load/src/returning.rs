//! Clients that were there before come back, all at once and each again when it is refused, until each has what it is due.
use crate::histogram::Histogram;
use crate::net::{Handler, Net};
use crate::opening::Seat;
use crate::target::{Before, Step};
use crate::{Common, tag};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A pause before somebody who was refused tries again.
const AGAIN: Duration = Duration::from_millis(500);

/// Coming back is given up when nobody has got any further for this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those who come back.
pub struct Returning<'a> {
    common: &'a Common,
    seats: &'a [Seat],
    before: &'a [Before],
    clients: Vec<Client>,
    tags: tag::Tags,
    began: Instant,
    /// Connections whose next step may have something to send.
    moved: Vec<usize>,
    /// Those who were refused, and when they try again.
    again: VecDeque<(Instant, usize)>,
    missing: usize,
    /// Steps taken and messages due that came, in all.
    arrived: u64,
    /// How long each took.
    pub times: Histogram,
    /// Messages that came although they had come before.
    pub repeated: u64,
    /// Why the last one was refused.
    pub reason: String,
}

struct Client {
    steps: VecDeque<Step>,
    /// Number of the message that comes next, and the one after the last that it is due.
    next: u64,
    end: u64,
    refused: u64,
    missing: bool,
    /// Was refused, and waits before it tries again.
    waiting: bool,
}

impl<'a> Returning<'a> {
    /// Nobody is missing yet; `before` is what each client kept.
    pub fn new(common: &'a Common, seats: &'a [Seat], before: &'a [Before]) -> Self {
        let client = |_: &Seat| Client {
            steps: VecDeque::new(),
            next: 0,
            end: 0,
            refused: 0,
            missing: false,
            waiting: false,
        };
        Returning {
            common,
            seats,
            before,
            clients: seats.iter().map(client).collect(),
            tags: tag::Tags::new(),
            began: Instant::now(),
            moved: Vec::new(),
            again: VecDeque::new(),
            missing: 0,
            arrived: 0,
            times: Histogram::new(),
            repeated: 0,
            reason: String::new(),
        }
    }

    /// From now on this client is due the messages with these numbers, in order.
    pub fn due(&mut self, conn: usize, numbers: Range<u64>) {
        let c = &mut self.clients[conn];
        (c.next, c.end) = (numbers.start, numbers.end);
        self.missing += usize::from(!std::mem::replace(&mut c.missing, true));
    }

    /// Those with these numbers connect now, in the place of their connections of before.
    pub fn come(&mut self, net: &mut Net, who: Range<usize>) -> Result<(), String> {
        self.began = Instant::now();
        for conn in who {
            let c = &mut self.clients[conn];
            self.missing += usize::from(!std::mem::replace(&mut c.missing, true));
            self.connect(net, conn)?;
        }
        Ok(())
    }

    fn connect(&mut self, net: &mut Net, conn: usize) -> Result<(), String> {
        let (protocol, seat, before) = (self.common.protocol, &self.seats[conn], &self.before[conn]);
        self.clients[conn].waiting = false;
        self.clients[conn].steps = protocol.join_again(conn, seat, &self.common.auth, before).into();
        match net.connect_again(conn, self.common.addr, &protocol.path_again(&seat.who, before)) {
            Ok(()) => Ok(()),
            Err(e) => self.failed(conn, e),
        }
    }

    /// Goes on until everybody has what it is due; how long that took since they came.
    pub fn wait(&mut self, net: &mut Net) -> Result<Duration, String> {
        let mut progress = (self.arrived, Instant::now());
        while self.missing > 0 {
            net.poll(Duration::from_millis(20), self)?;
            for conn in std::mem::take(&mut self.moved) {
                if let Some(text) = self.clients[conn].steps.front_mut().and_then(|s| s.send.take()) {
                    net.queue(conn, &text);
                    if let Err(e) = net.flush(conn) {
                        net.cut(conn);
                        self.failed(conn, e)?;
                    }
                }
            }
            while self.again.front().is_some_and(|(at, _)| *at <= Instant::now()) {
                let Some((_, conn)) = self.again.pop_front() else { break };
                // A refusal in words leaves the connection open.
                net.cut(conn);
                self.connect(net, conn)?;
            }
            if progress.0 != self.arrived {
                progress = (self.arrived, Instant::now());
            }
            if progress.1.elapsed() > PATIENCE {
                let of = self.clients.len();
                return Err(format!("{} of {of} clients do not come back; {}", self.missing, self.reason));
            }
        }
        Ok(self.began.elapsed())
    }

    /// Attempts that were refused, and the most of one client.
    pub fn refused(&self) -> (u64, u64) {
        let each = || self.clients.iter().map(|c| c.refused);
        (each().sum(), each().max().unwrap_or(0))
    }

    fn look(&mut self, conn: usize, at: Instant) {
        let c = &mut self.clients[conn];
        if c.missing && c.steps.is_empty() && c.next >= c.end {
            c.missing = false;
            self.missing -= 1;
            self.times.record(at.saturating_duration_since(self.began).as_nanos() as u64);
        }
    }
}

impl Handler for Returning<'_> {
    fn upgraded(&mut self, conn: usize) {
        self.moved.push(conn);
    }

    fn text(&mut self, conn: usize, payload: &[u8], at: Instant) -> Result<(), String> {
        let c = &mut self.clients[conn];
        if let Some((_, number)) = self.tags.find(payload) {
            match number {
                n if n < c.next => self.repeated += 1,
                n if n > c.next => {
                    return Err(format!("connection {conn} got message {n} instead of {}", c.next));
                }
                _ => {
                    c.next += 1;
                    self.arrived += 1;
                }
            }
        } else if let Some(step) = c.steps.front() {
            if self.common.protocol.refuses(payload) {
                let text = String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned();
                return self.failed(conn, text);
            }
            // A step whose question is not sent yet cannot be answered yet.
            if step.send.is_some() || memchr::memmem::find(payload, step.expect.as_bytes()).is_none() {
                return Ok(());
            }
            c.steps.pop_front();
            self.arrived += 1;
            self.moved.push(conn);
        }
        self.look(conn, at);
        Ok(())
    }

    fn failed(&mut self, conn: usize, reason: String) -> Result<(), String> {
        let c = &mut self.clients[conn];
        if !c.missing {
            return Err(format!("connection {conn}, which was back: {reason}"));
        }
        // Words of refusal and the end of the connection are one refusal.
        if !std::mem::replace(&mut c.waiting, true) {
            c.refused += 1;
            self.again.push_back((Instant::now() + AGAIN, conn));
        }
        self.reason = reason;
        Ok(())
    }
}
