//! Probes: whether what was sent has arrived, asked by a protocol ping or told by a client's next poll.

use std::rc::Rc;

use roundtable_dialects::websocket::Frame;

use super::connection::Connection;
use super::deliver::Frames;
use super::shard::Shard;

/// A session's question whether everything sent before has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The session.
    pub slot: u8,
    /// What it calls the question.
    pub number: u32,
}

impl Probe {
    /// As the payload of a protocol ping. Its length tells the pong from those for heartbeats, which have none.
    pub const fn payload(self) -> [u8; 5] {
        let [a, b, c, d] = self.number.to_be_bytes();
        [self.slot, a, b, c, d]
    }

    /// From the payload of a pong.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let [slot, a, b, c, d] = *payload else { return None };
        Some(Self { slot, number: u32::from_be_bytes([a, b, c, d]) })
    }
}

impl Connection {
    /// So many frames were given to a poll.
    pub fn polled(&self, taken: usize) {
        if let Some(side) = self.engine.borrow_mut().as_mut() {
            for (_, ahead) in &mut side.probes {
                *ahead = ahead.saturating_sub(taken);
            }
        }
    }
}

impl Shard {
    /// Sends a probe behind everything that waits. A client that polls proves by its next poll what the one before gave it.
    pub fn probe(self: &Rc<Self>, connection: &Rc<Connection>, probe: Probe) {
        let ahead = {
            let wire = connection.wire.borrow();
            wire.stream.is_none().then(|| wire.mailbox.len())
        };
        match (ahead, connection.engine.borrow_mut().as_mut()) {
            (Some(ahead), Some(side)) => return side.probes.push((probe, ahead)),
            (Some(_), None) => return,
            (None, _) => {}
        }
        self.put(connection, Frames::from_iter([Frame::ping(&probe.payload())]));
    }

    /// The client asks for more, so whatever an earlier poll gave it has arrived.
    pub fn prove_polled(self: &Rc<Self>, connection: &Rc<Connection>) {
        let taken = |(_, ahead): &mut (Probe, usize)| *ahead == 0;
        let proven: Vec<(Probe, usize)> = match connection.engine.borrow_mut().as_mut() {
            Some(side) => side.probes.extract_if(.., taken).collect(),
            None => return,
        };
        for (probe, _) in proven {
            self.proven(connection, probe);
        }
    }

    /// A WebSocket took over: polls gave what they gave, the rest is asked about there.
    pub fn carry_probes_over(self: &Rc<Self>, connection: &Rc<Connection>) {
        self.prove_polled(connection);
        let side = connection.engine.borrow_mut().as_mut().map(|side| std::mem::take(&mut side.probes));
        for (probe, _) in side.unwrap_or_default() {
            self.put(connection, Frames::from_iter([Frame::ping(&probe.payload())]));
        }
    }

    /// Everything sent before a probe has arrived.
    pub fn proven(self: &Rc<Self>, connection: &Rc<Connection>, probe: Probe) {
        self.with_session(connection, probe.slot, |session, scene, out| {
            session.proven(probe.number, scene, out);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Probe;

    #[test]
    fn a_pong_is_known_by_its_length() {
        let probe = Probe { slot: 3, number: 0x0102_0304 };
        assert_eq!(Probe::read(&probe.payload()), Some(probe));
        assert_eq!((Probe::read(b""), Probe::read(b"1234"), Probe::read(b"123456")), (None, None, None));
    }
}
