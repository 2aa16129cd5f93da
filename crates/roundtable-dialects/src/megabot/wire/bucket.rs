//! A token bucket: so many per second on average, so many at once.

use roundtable_core::time::Time;

/// A bucket that begins full.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Bucket {
    /// What was taken and has not flowed back, in tokens.
    missing: f64,
    /// When that was.
    at: Time,
}

impl Bucket {
    /// Takes `count` tokens. Without a rate there is no limit. Fails, taking nothing, with the milliseconds until there are
    /// enough; a count above the burst is taken from a full bucket.
    pub fn take(&mut self, count: u32, (rate, burst): (Option<u32>, u32), now: Time) -> Result<(), u64> {
        let Some(rate) = rate else { return Ok(()) };
        let rate = f64::from(rate.max(1));
        let passed = now.since(self.at).max(0) as f64;
        let missing = (self.missing - passed * rate / 1_000.0).max(0.0);
        let over = missing + f64::from(count.min(burst)) - f64::from(burst);
        if over > 0.0 {
            return Err((over * 1_000.0 / rate).ceil() as u64);
        }
        *self = Self { missing: missing + f64::from(count), at: now };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;
    use roundtable_core::time::Time;

    #[test]
    fn a_burst_passes_and_then_the_rate_counts() {
        let (mut bucket, limit) = (Bucket::default(), (Some(10), 20));
        let start = Time(1_000_000);
        assert!((0..20).all(|_| bucket.take(1, limit, start).is_ok()));
        assert_eq!(bucket.take(1, limit, start), Err(100));
        assert_eq!(bucket.take(1, limit, start.plus(60)), Err(40));
        assert_eq!(bucket.take(1, limit, start.plus(100)), Ok(()));
        assert_eq!(bucket.take(1, limit, start.plus(100)), Err(100));
    }

    #[test]
    fn one_each_tenth_of_a_second_is_never_refused_although_timers_jitter() {
        let (mut bucket, limit) = (Bucket::default(), (Some(10), 20));
        for n in 0..1_000_i64 {
            let jitter = if n % 2 == 0 { 15 } else { -15 };
            assert_eq!(bucket.take(1, limit, Time(n * 100 + jitter)), Ok(()), "{n}");
        }
    }

    #[test]
    fn more_than_the_burst_needs_a_full_bucket() {
        let (mut bucket, limit) = (Bucket::default(), (Some(10), 20));
        assert_eq!(bucket.take(30, limit, Time(0)), Ok(()));
        assert_eq!(bucket.take(1, limit, Time(0)), Err(1_100));
        assert_eq!(bucket.take(1, (None, 0), Time(0)), Ok(()));
    }
}
