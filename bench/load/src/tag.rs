//! The mark inside every message by which a copy is recognised in any protocol, without parsing JSON.
use memchr::memmem::Finder;

const MARK: &[u8] = b"#@";
const LEN: usize = MARK.len() + 5 + 1 + 9;

/// Finds marks in frames.
pub struct Tags(Finder<'static>);

impl Tags {
    pub fn new() -> Self {
        Tags(Finder::new(MARK))
    }

    /// Sender and running number of the message in a frame; `None` if the frame holds no message of ours.
    pub fn find(&self, frame: &[u8]) -> Option<(usize, u64)> {
        let at = self.0.find(frame)?;
        let tag = frame.get(at + MARK.len()..at + LEN)?;
        let (sender, rest) = tag.split_at_checked(5)?;
        Some((digits(sender)? as usize, digits(rest.get(1..)?)?))
    }
}

fn digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// A text of `len` bytes (at least the mark's) that carries the mark.
pub fn text(sender: usize, number: u64, len: usize) -> String {
    let mut t = format!("#@{sender:05}-{number:09}");
    while t.len() < len {
        t.push_str(" the quick brown fox jumps over the lazy dog");
    }
    t.truncate(len.max(LEN));
    t
}

#[cfg(test)]
mod tests {
    use super::{Tags, text};

    #[test]
    fn round_trip_inside_json() {
        let frame = format!("42[\"msg\",{{\"text\":\"{}\"}}]", text(42, 1_234_567, 90));
        assert_eq!(Tags::new().find(frame.as_bytes()), Some((42, 1_234_567)));
        assert_eq!(Tags::new().find(b"{\"event\":\"joined\"}"), None);
        assert_eq!(Tags::new().find(b"#@0004"), None);
        assert_eq!(text(1, 1, 90).len(), 90);
    }
}
