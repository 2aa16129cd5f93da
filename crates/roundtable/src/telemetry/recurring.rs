//! A trouble that comes again and again: one line when it begins, then counts, and one line when it is over.

use crate::clock;

/// Between two counts, in milliseconds.
const EVERY_MS: u64 = 60_000;

/// One kind of trouble.
#[derive(Debug, Default)]
pub struct Recurring {
    /// Since when it is there, and when it was told last (monotonic milliseconds).
    told_at: Option<u64>,
    /// How often it came since then.
    untold: u64,
}

/// What is to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// It has begun.
    First,
    /// It came so often since the last line.
    Again(u64),
    /// Nothing: it was told a moment ago.
    Nothing,
}

impl Recurring {
    /// It has come.
    pub fn came(&mut self) -> Told {
        self.came_at(clock::monotonic_ms())
    }

    fn came_at(&mut self, now: u64) -> Told {
        self.untold += 1;
        match self.told_at {
            Some(at) if now < at.saturating_add(EVERY_MS) => Told::Nothing,
            before => {
                self.told_at = Some(now);
                let came = std::mem::take(&mut self.untold);
                if before.is_none() { Told::First } else { Told::Again(came) }
            }
        }
    }

    /// It is over: how often it came since the last line. `None` if it was not there.
    pub fn over(&mut self) -> Option<u64> {
        self.told_at.take()?;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::{EVERY_MS, Recurring, Told};

    #[test]
    fn the_first_is_told_and_the_others_are_counted() {
        let mut trouble = Recurring::default();
        assert_eq!(trouble.over(), None);
        assert_eq!(trouble.came_at(5), Told::First);
        assert!((6..106).all(|now| trouble.came_at(now) == Told::Nothing));
        assert_eq!(trouble.came_at(5 + EVERY_MS), Told::Again(101));
        assert_eq!(trouble.came_at(6 + EVERY_MS), Told::Nothing);
        assert_eq!(trouble.over(), Some(1));
        assert_eq!(trouble.over(), None);
        assert_eq!(trouble.came_at(7 + EVERY_MS), Told::First, "it begins anew");
    }
}
