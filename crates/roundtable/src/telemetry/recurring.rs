//! A trouble that comes again and again: one line when it begins, then counts, and one line when it is over.

use crate::clock;

/// Between two counts, in milliseconds.
const EVERY_MS: u64 = 60_000;
/// Trouble that may flicker is over when it has not come for so long, in milliseconds.
const CALM_MS: u64 = 1_000;

/// One kind of trouble.
#[derive(Debug, Default)]
pub struct Recurring {
    /// Since when it is there, and when it was told last (monotonic milliseconds).
    told_at: Option<u64>,
    /// When it came last.
    came_at: u64,
    /// How often it came since it was told.
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
        self.comes(clock::monotonic_ms())
    }

    fn comes(&mut self, now: u64) -> Told {
        self.untold += 1;
        self.came_at = now;
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

    /// It did not come, but may again in a moment: the same once it has stayed away for a while.
    pub fn stays_away(&mut self) -> Option<u64> {
        self.told_at?;
        self.ends(clock::monotonic_ms())
    }

    fn ends(&mut self, now: u64) -> Option<u64> {
        if now < self.came_at.saturating_add(CALM_MS) {
            return None;
        }
        self.over()
    }
}

#[cfg(test)]
mod tests {
    use super::{CALM_MS, EVERY_MS, Recurring, Told};

    #[test]
    fn the_first_is_told_and_the_others_are_counted() {
        let mut trouble = Recurring::default();
        assert_eq!(trouble.over(), None);
        assert_eq!(trouble.comes(5), Told::First);
        assert!((6..106).all(|now| trouble.comes(now) == Told::Nothing && trouble.ends(now).is_none()));
        assert_eq!(trouble.comes(5 + EVERY_MS), Told::Again(101));
        assert_eq!(trouble.comes(6 + EVERY_MS), Told::Nothing);
        let calm = 6 + EVERY_MS + CALM_MS;
        assert_eq!(trouble.ends(calm - 1), None, "it flickers");
        assert_eq!(trouble.ends(calm), Some(1));
        assert_eq!(trouble.ends(calm), None);
        assert_eq!(trouble.comes(calm), Told::First, "it begins anew");
    }
}
