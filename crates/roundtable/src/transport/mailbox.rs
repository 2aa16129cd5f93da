//! The mailbox: frames on their way to one connection, bounded in bytes, in order.

use std::collections::VecDeque;

use roundtable_dialects::websocket::Frame;

/// How a frame counts when the mailbox is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// Left out when the mailbox is full: worth nothing later.
    Droppable,
    /// Kept; a full mailbox ends the connection, which can resume.
    Kept,
    /// Acknowledgements, errors, pings: taken up to twice the limit, so that a full mailbox still answers. Beyond that the
    /// client asks without ever reading, and the connection ends.
    Control,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Put {
    /// It waits.
    Queued,
    /// It was left out.
    Dropped,
    /// The mailbox is full: the connection has to end.
    Overflow,
}

/// Frames towards one connection. Owns no memory while it is empty.
#[derive(Debug, Default)]
pub struct Mailbox {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Bytes of the first frame that are written already.
    written: usize,
}

impl Mailbox {
    /// Adds a frame behind the others. `limit` is in bytes; control frames may take as much again.
    pub fn put(&mut self, frame: Frame, weight: Weight, limit: usize) -> Put {
        let size = frame.wire().len();
        let limit = if weight == Weight::Control { limit.saturating_mul(2) } else { limit };
        if self.bytes + size > limit && !self.frames.is_empty() {
            return if weight == Weight::Droppable { Put::Dropped } else { Put::Overflow };
        }
        self.bytes += size;
        self.frames.push_back(frame);
        Put::Queued
    }

    /// Adds the last frame there will be, whatever waits.
    pub fn put_last(&mut self, frame: Frame) {
        self.bytes += frame.wire().len();
        self.frames.push_back(frame);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes - self.written
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// What is to be written next, as at most `N` slices; says how many.
    pub fn slices<'a, const N: usize>(&'a self, slices: &mut [std::io::IoSlice<'a>; N]) -> usize {
        let mut skip = self.written;
        let mut used = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = std::io::IoSlice::new(frame.wire().get(skip..).unwrap_or_default());
            skip = 0;
            used += 1;
        }
        used
    }

    /// Takes note that so many bytes were written.
    pub fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        while let Some(size) = self.frames.front().map(|frame| frame.wire().len()) {
            if self.written < size {
                return;
            }
            self.written -= size;
            self.bytes -= size;
            self.frames.pop_front();
        }
        // Empty: give the memory back, idle connections own none.
        self.frames = VecDeque::new();
    }

    /// The waiting frames, for a transport that carries payloads without WebSocket framing.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> + Clone {
        self.frames.iter()
    }

    /// Takes so many frames off the front.
    pub fn take(&mut self, count: usize) {
        for frame in self.frames.drain(..count.min(self.frames.len())) {
            self.bytes -= frame.wire().len();
        }
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Mailbox, Put, Weight};

    #[test]
    fn partial_writes_go_on_where_they_stopped() {
        let mut mailbox = Mailbox::default();
        for text in ["abc", "defg"] {
            assert_eq!(mailbox.put(Frame::text(text), Weight::Kept, 100), Put::Queued);
        }
        let mut wire = Vec::new();
        while !mailbox.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let used = mailbox.slices(&mut slices);
            let all: Vec<u8> = slices[..used].iter().flat_map(|s| s.to_vec()).collect();
            wire.extend_from_slice(&all[..all.len().min(2)]);
            mailbox.advance(all.len().min(2));
        }
        assert_eq!(wire, b"\x81\x03abc\x81\x04defg");
        assert_eq!(mailbox.bytes(), 0);
    }

    #[test]
    fn a_full_mailbox_drops_signals_keeps_control_and_ends_for_the_rest() {
        let mut mailbox = Mailbox::default();
        assert_eq!(mailbox.put(Frame::text(&"x".repeat(90)), Weight::Kept, 100), Put::Queued);
        assert_eq!(mailbox.put(Frame::text("0123456789"), Weight::Droppable, 100), Put::Dropped);
        assert_eq!(mailbox.put(Frame::text("0123456789"), Weight::Control, 100), Put::Queued);
        assert_eq!(mailbox.put(Frame::text("0123456789"), Weight::Kept, 100), Put::Overflow);
    }

    #[test]
    fn who_asks_without_reading_is_not_answered_for_ever() {
        let mut mailbox = Mailbox::default();
        let answers = (0..100)
            .take_while(|_| mailbox.put(Frame::text("0123456789"), Weight::Control, 100) == Put::Queued);
        assert_eq!(answers.count(), 16, "200 bytes of 12 each");
        mailbox.put_last(Frame::close(Some(1013), ""));
        assert_eq!(mailbox.len(), 17);
    }

    #[test]
    fn one_frame_larger_than_the_limit_still_fits_into_an_empty_mailbox() {
        let mut mailbox = Mailbox::default();
        assert_eq!(mailbox.put(Frame::text(&"x".repeat(500)), Weight::Kept, 100), Put::Queued);
    }
}
