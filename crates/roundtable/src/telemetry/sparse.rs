//! Log lines that strangers can cause by the thousand: the first is written, then one now and then that counts the others.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;

/// Least distance of two lines of one kind, in milliseconds.
const PACE_MS: u64 = 10_000;

/// One kind of lines.
#[derive(Debug, Default)]
pub struct Sparse {
    /// From when on there may be another, in monotonic milliseconds.
    next: AtomicU64,
    left_out: AtomicU64,
}

impl Sparse {
    /// No line was written.
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether a line is to be written now, and how many were left out since the last one.
    pub fn turn(&self) -> Option<u64> {
        self.turn_at(clock::monotonic_ms())
    }

    fn turn_at(&self, now: u64) -> Option<u64> {
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next <= now).then_some(now.saturating_add(PACE_MS))
        });
        if taken.is_ok() {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Sparse;

    #[test]
    fn one_line_then_counts() {
        let lines = Sparse::new();
        let written: Vec<_> = (0..25_000).filter_map(|ms| lines.turn_at(ms)).collect();
        assert_eq!(written, [0, 9_999, 9_999]);
    }
}
