//! Probes: when to ask a client's library for a sign of life, so that it is known what has arrived. Shared by the dialects
//! whose clients resume without a cursor of their own.

use roundtable_core::time::Time;

/// The account of one connection. Whoever owns it sends [`crate::session::Output::Probe`] when it is told to.
#[derive(Debug, Default)]
pub struct Probes {
    /// Something went out since the last proof, so a probe is under way or planned.
    open: bool,
    /// The number of the last one.
    number: u32,
    /// It is not answered yet.
    under_way: bool,
    /// When it went out.
    last: Time,
    /// When the next one is due.
    due: Option<Time>,
}

impl Probes {
    /// Probes that begin after a number, for sessions that may follow each other on one connection: an answer to an earlier
    /// session's probe must not count.
    pub fn after(number: u32) -> Self {
        Self { number, ..Self::default() }
    }

    /// Whether something went out that no proof covers yet: then a probe is under way or planned already.
    pub const fn open(&self) -> bool {
        self.open
    }

    /// When the next probe is due, if one is planned.
    pub const fn due(&self) -> Option<Time> {
        self.due
    }

    /// Something went out that needs a proof. True: send a probe now. Between two probes lie at least `gap_ms`.
    pub fn needed(&mut self, now: Time, gap_ms: i64) -> bool {
        self.open = true;
        !self.under_way && self.due.is_none() && self.soon(now, gap_ms)
    }

    fn soon(&mut self, now: Time, gap_ms: i64) -> bool {
        let next = self.last.plus(gap_ms);
        if next <= now {
            return true;
        }
        self.due = Some(next);
        false
    }

    /// The number of the probe that is sent now.
    pub const fn next(&mut self, now: Time) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.under_way = true;
        self.last = now;
        self.due = None;
        self.number
    }

    /// An answer came. False: not to the last probe, so it proves nothing new.
    pub const fn answered(&mut self, number: u32) -> bool {
        let known = self.under_way && number == self.number;
        if known {
            self.under_way = false;
        }
        known
    }

    /// After an answer: whether more went out meanwhile. True: send another probe now.
    pub fn settle(&mut self, more: bool, now: Time, gap_ms: i64) -> bool {
        self.open = more;
        more && self.soon(now, gap_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::Probes;
    use roundtable_core::time::Time;

    #[test]
    fn a_burst_is_proven_by_one_probe_and_the_next_one_waits() {
        let mut probes = Probes::default();
        assert!(probes.needed(Time(5_000), 1_000));
        let first = probes.next(Time(5_000));
        assert!(!probes.needed(Time(5_001), 1_000), "one is under way");
        assert!(!probes.answered(first + 1) && probes.answered(first) && !probes.answered(first));
        assert!(!probes.settle(true, Time(5_100), 1_000));
        assert_eq!((probes.open(), probes.due()), (true, Some(Time(6_000))));
        assert!(!probes.needed(Time(5_200), 1_000), "one is planned");
        let second = probes.next(Time(6_000));
        assert!(probes.answered(second) && !probes.settle(false, Time(6_001), 1_000));
        assert_eq!((probes.open(), probes.due()), (false, None));
    }
}
