//! The mailbox: frames on their way to one connection, in order; how much there may be is for the shard to see to.

use std::collections::VecDeque;

use roundtable_dialects::websocket::Frame;

/// Frames towards one connection. Owns no memory while it is empty.
#[derive(Debug, Default)]
pub struct Mailbox {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Bytes of the first frame that are written already.
    written: usize,
}

impl Mailbox {
    /// Adds a frame behind the others. Whether there is room for it is asked before.
    pub fn put(&mut self, frame: Frame) {
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

    /// Takes so many frames off the front; says how many bytes they have.
    pub fn take(&mut self, count: usize) -> usize {
        let before = self.bytes;
        for frame in self.frames.drain(..count.min(self.frames.len())) {
            self.bytes -= frame.wire().len();
        }
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
        before - self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Mailbox};

    #[test]
    fn partial_writes_go_on_where_they_stopped() {
        let mut mailbox = Mailbox::default();
        for text in ["abc", "defg"] {
            mailbox.put(Frame::text(text));
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
    fn what_a_poll_takes_is_counted() {
        let mut mailbox = Mailbox::default();
        for text in ["abc", "defg", "h"] {
            mailbox.put(Frame::text(text));
        }
        assert_eq!((mailbox.bytes(), mailbox.take(2), mailbox.bytes(), mailbox.len()), (14, 11, 3, 1));
        assert_eq!((mailbox.take(9), mailbox.is_empty()), (3, true));
    }
}
