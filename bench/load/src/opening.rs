//! Opens many connections, a bounded number at a time, and takes each through its protocol's way into its room.
use crate::Common;
use crate::net::{Handler, Net};
use crate::target::{Protocol, Step};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A connection to be opened: who it is and which room it enters.
pub struct Seat {
    pub who: String,
    pub room: String,
}

/// Opening is given up when nothing at all has happened for this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// After this long without an answer a question is asked again, if the protocol has a server that loses some.
const AGAIN: Duration = Duration::from_secs(1);

/// How the opening went.
pub struct Opened {
    pub took: Duration,
    /// By which a client takes up its session again, for each connection; empty where a protocol has none.
    pub sessions: Vec<String>,
}

struct Opening {
    protocol: Protocol,
    steps: Vec<VecDeque<Step>>,
    /// What each connection asked last.
    asked: Vec<String>,
    /// Connections whose next step may have something to send.
    moved: Vec<usize>,
    ready: usize,
    /// The session of each connection, where a protocol has one.
    sessions: Vec<String>,
    /// The last frame that was not the expected one, for the error message.
    unexpected: String,
}

impl Handler for Opening {
    fn upgraded(&mut self, conn: usize) {
        self.moved.push(conn);
    }

    fn text(&mut self, conn: usize, payload: &[u8], _at: Instant) -> Result<(), String> {
        let steps = &mut self.steps[conn];
        let Some(step) = steps.front() else { return Ok(()) };
        // A step whose question is not sent yet cannot be answered yet.
        if step.send.is_some() || memchr::memmem::find(payload, step.expect.as_bytes()).is_none() {
            let text = String::from_utf8_lossy(&payload[..payload.len().min(200)]);
            self.unexpected = format!("waiting for {:?}, got {text}", step.expect);
            return Ok(());
        }
        steps.pop_front();
        if let Some(session) = self.protocol.session(payload) {
            self.sessions[conn] = session;
        }
        if steps.is_empty() {
            self.ready += 1;
        } else {
            self.moved.push(conn);
        }
        Ok(())
    }
}

/// Opens all seats.
pub fn open(net: &mut Net, common: &Common, seats: &[Seat]) -> Result<Opened, String> {
    let began = Instant::now();
    let mut o = Opening {
        protocol: common.protocol,
        steps: Vec::new(),
        asked: Vec::new(),
        moved: Vec::new(),
        ready: 0,
        sessions: vec![String::new(); seats.len()],
        unexpected: String::new(),
    };
    let (mut progress, mut asked_again) = ((0, Instant::now()), false);
    while o.ready < seats.len() {
        while net.len() < seats.len() && net.len() - o.ready < common.opening {
            let seat = &seats[net.len()];
            o.asked.push(String::new());
            o.steps.push(common.protocol.join(net.len(), seat, &common.auth).into());
            net.connect(common.addr, &common.protocol.path(&seat.who))?;
        }
        net.poll(Duration::from_millis(100), &mut o)?;
        for conn in std::mem::take(&mut o.moved) {
            if let Some(text) = o.steps[conn].front_mut().and_then(|s| s.send.take()) {
                net.queue(conn, &text);
                net.flush(conn)?;
                o.asked[conn] = text;
            }
        }
        if progress.0 != o.ready {
            progress = (o.ready, Instant::now());
            asked_again = false;
        } else if common.protocol.may_lose_first_event() && !asked_again && progress.1.elapsed() > AGAIN {
            asked_again = true;
            for (conn, text) in
                o.asked.iter().enumerate().filter(|(c, t)| !o.steps[*c].is_empty() && !t.is_empty())
            {
                net.queue(conn, text);
                net.flush(conn)?;
            }
        }
        if progress.1.elapsed() > PATIENCE {
            return Err(format!("only {} of {} connections opened; {}", o.ready, seats.len(), o.unexpected));
        }
    }
    Ok(Opened { took: began.elapsed(), sessions: o.sessions })
}
