//! Answers to one connection, each with a number above everything sent to it before (Hive notes §3).

use roundtable_core::ids::ConnectionId;
use roundtable_core::time::Offset;
use serde_json::{Value, json};

use super::errors::Fault;
use super::wire::{Frame, Priority, number_of, uuid};
use crate::cursor::NUMBERS_PER_RECORD;
use crate::session::{Message, Scene};

/// Answers that may wait for a number; a client that asks for more in that time is cut off.
const MAX_HELD: usize = 256;

/// An answer that has no number yet.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    name: &'static str,
    data: Value,
    correlation: Option<String>,
    priority: Priority,
    pong: Option<Value>,
}

impl Draft {
    /// An answer of a name.
    pub fn new(name: &'static str, data: Value) -> Self {
        Self { name, data, correlation: None, priority: Priority::Normal, pong: None }
    }

    /// An error.
    pub fn error(fault: &Fault) -> Self {
        Self { priority: Priority::High, ..Self::new("error", fault.data()) }
    }

    /// An error for a client that gives a place the log has not come to: with that place and the number of the last record.
    pub fn ahead(since: &Value, last: u64) -> Self {
        let message = "since is ahead of the log; numbers go on after last_sequence";
        let data = json!({"error": message, "code": "CANNOT_RESUME", "since": since, "last_sequence": last});
        Self { priority: Priority::High, ..Self::new("error", data) }
    }

    /// The answer to a ping with this number.
    pub fn pong(sequence_id: Value, data: Value) -> Self {
        Self { pong: Some(sequence_id), ..Self::new("pong", data) }
    }

    /// The same with what the requester called its request.
    #[must_use]
    pub fn to(self, correlation: Option<String>) -> Self {
        Self { correlation, ..self }
    }

    /// As a message with this number.
    pub fn message(&self, connection: ConnectionId, sequence: u64, scene: Scene<'_>) -> Message {
        let parts = [connection.0.to_be_bytes(), sequence.to_be_bytes()];
        let [connection, number] = &parts;
        let frame = Frame {
            name: self.name,
            data: self.data.clone(),
            at: scene.at,
            message_id: uuid("answer", &[scene.state.domain_key_hash.as_bytes(), connection, number]),
            sequence,
            correlation_id: self.correlation.as_deref(),
            priority: self.priority,
            pong: self.pong.as_ref(),
        };
        frame.message()
    }
}

/// What becomes of an answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Turn {
    /// Send it with this number.
    Send(u64),
    /// It waits. With `true` the log must be asked for numbers now.
    Wait(bool),
    /// Too many wait.
    Refuse,
}

/// The numbers of one connection.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    last: u64,
    begun: bool,
    asked: bool,
    held: Vec<Draft>,
}

impl Numbers {
    /// The log was asked for the first number.
    pub fn expect(&mut self) {
        self.asked = true;
    }

    /// From here on numbers rise from `last`, which was sent.
    pub fn begin(&mut self, last: u64) {
        (self.last, self.begun, self.asked) = (last, true, false);
    }

    /// Whether the event of a record has a number above everything sent.
    pub fn follows(&self, offset: Offset) -> bool {
        number_of(offset) > self.last
    }

    /// The event of a record was sent.
    pub fn sent(&mut self, offset: Offset) {
        self.last = self.last.max(number_of(offset));
    }

    /// A position was taken in the log, after the record of the last number and before whatever comes next: the numbers
    /// of the record after the last one are free.
    pub fn renew(&mut self) {
        self.last = (self.last / NUMBERS_PER_RECORD + 1) * NUMBERS_PER_RECORD;
        self.asked = false;
    }

    /// The next number for an answer.
    pub fn turn(&mut self, draft: &Draft) -> Turn {
        let exhausted = self.last % NUMBERS_PER_RECORD == NUMBERS_PER_RECORD - 1;
        if self.begun && !self.asked && !exhausted {
            self.last += 1;
            return Turn::Send(self.last);
        }
        if self.held.len() >= MAX_HELD {
            return Turn::Refuse;
        }
        self.held.push(draft.clone());
        Turn::Wait(!std::mem::replace(&mut self.asked, true))
    }

    /// The answers that waited, in order.
    pub fn take_held(&mut self) -> Vec<Draft> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::{Draft, Numbers, Turn};
    use roundtable_core::time::Offset;
    use serde_json::json;

    #[test]
    fn numbers_rise_until_the_record_has_none_left() {
        let draft = Draft::new("pong", json!({}));
        let mut numbers = Numbers::default();
        numbers.expect();
        assert_eq!(numbers.turn(&draft), Turn::Wait(false));
        numbers.begin(3 * 1024);
        assert_eq!(numbers.take_held().len(), 1);
        for expected in 1..1024 {
            assert_eq!(numbers.turn(&draft), Turn::Send(3 * 1024 + expected));
        }
        assert_eq!(numbers.turn(&draft), Turn::Wait(true));
        assert_eq!(numbers.turn(&draft), Turn::Wait(false));
        numbers.renew();
        assert!(numbers.follows(Offset(5)) && !numbers.follows(Offset(4)));
        assert_eq!(numbers.take_held().len(), 2);
        assert_eq!(numbers.turn(&draft), Turn::Send(4 * 1024 + 1));
        numbers.sent(Offset(9));
        assert_eq!(numbers.turn(&draft), Turn::Send(9 * 1024 + 1));
    }

    #[test]
    fn few_answers_wait() {
        let draft = Draft::new("pong", json!({}));
        let mut numbers = Numbers::default();
        numbers.expect();
        (0..256).for_each(|_| assert_eq!(numbers.turn(&draft), Turn::Wait(false)));
        assert_eq!(numbers.turn(&draft), Turn::Refuse);
    }
}
