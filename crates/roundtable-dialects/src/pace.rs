//! How fast somebody may go: token buckets, filled by time and emptied before the work is begun.

/// So many per second on average, so many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// On average; at least 1.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// A bucket that begins full. Times are milliseconds of any clock; one that goes back only gives nothing for a while.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Bucket {
    /// What was taken and has not flowed back, in tokens; above the burst it is a debt.
    missing: f64,
    /// When that was.
    at: u64,
}

impl Bucket {
    /// Takes `count` tokens. Fails, taking nothing, with the milliseconds until there are enough; a count above the burst is
    /// taken from a full bucket.
    pub fn take(&mut self, count: u32, limit: Limit, now: u64) -> Result<(), u64> {
        let missing = self.missing(limit, now);
        let over = missing + f64::from(count.min(limit.burst)) - f64::from(limit.burst);
        if over > 0.0 {
            return Err(ms_for(over, limit));
        }
        *self = Self { missing: missing + f64::from(count), at: now };
        Ok(())
    }

    /// Takes `count` tokens that are used already, whether they are there or not.
    pub fn charge(&mut self, count: u32, limit: Limit, now: u64) {
        *self = Self { missing: self.missing(limit, now) + f64::from(count), at: now };
    }

    /// Milliseconds until nothing is owed; 0 if nothing is.
    pub fn owes(&self, limit: Limit, now: u64) -> u64 {
        let over = self.missing(limit, now) - f64::from(limit.burst);
        if over > 0.0 { ms_for(over, limit) } else { 0 }
    }

    fn missing(&self, limit: Limit, now: u64) -> f64 {
        let passed = now.saturating_sub(self.at) as f64;
        (self.missing - passed * f64::from(limit.per_second.max(1)) / 1_000.0).max(0.0)
    }
}

fn ms_for(tokens: f64, limit: Limit) -> u64 {
    (tokens * 1_000.0 / f64::from(limit.per_second.max(1))).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Limit};

    const LIMIT: Limit = Limit { per_second: 10, burst: 20 };

    #[test]
    fn a_burst_passes_and_then_the_rate_counts() {
        let mut bucket = Bucket::default();
        let start = 1_000_000;
        assert!((0..20).all(|_| bucket.take(1, LIMIT, start).is_ok()));
        assert_eq!(bucket.take(1, LIMIT, start), Err(100));
        assert_eq!(bucket.take(1, LIMIT, start + 60), Err(40));
        assert_eq!(bucket.take(1, LIMIT, start + 100), Ok(()));
        assert_eq!(bucket.take(1, LIMIT, start + 100), Err(100));
    }

    #[test]
    fn one_each_tenth_of_a_second_is_never_refused_although_timers_jitter() {
        let mut bucket = Bucket::default();
        for n in 1..1_000_u64 {
            let at = if n % 2 == 0 { n * 100 + 15 } else { n * 100 - 15 };
            assert_eq!(bucket.take(1, LIMIT, at), Ok(()), "{n}");
        }
    }

    #[test]
    fn more_than_the_burst_needs_a_full_bucket() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(30, LIMIT, 0), Ok(()));
        assert_eq!(bucket.take(1, LIMIT, 0), Err(1_100));
    }

    #[test]
    fn what_is_used_already_is_owed_until_time_has_paid_it() {
        let mut bucket = Bucket::default();
        bucket.charge(20, LIMIT, 0);
        assert_eq!(bucket.owes(LIMIT, 0), 0, "a burst is nobody's debt");
        bucket.charge(10, LIMIT, 0);
        assert_eq!(
            (bucket.owes(LIMIT, 0), bucket.owes(LIMIT, 600), bucket.owes(LIMIT, 1_000)),
            (1_000, 400, 0)
        );
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::default();
        bucket.charge(30, LIMIT, 10_000);
        assert_eq!(bucket.owes(LIMIT, 5_000), 1_000);
    }
}
