//! How long questions take from being asked to being handed out: counted in buckets, so that nothing is locked or kept per
//! question, and fine enough for quantiles.

use std::sync::atomic::{AtomicU64, Ordering};

/// Four buckets for each doubling: a quantile is off by an eighth at most, and less after interpolation.
const BUCKETS: usize = 104;

/// The bucket of a time in microseconds; the last one takes everything from 67 s on.
fn bucket_of(us: u64) -> usize {
    let index = match us {
        0..4 => us,
        _ => {
            let log = u64::from(us.ilog2());
            (log - 1) * 4 + ((us >> (log - 2)) & 3)
        }
    };
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The least time of a bucket, in microseconds.
const fn floor_of(bucket: usize) -> u64 {
    if bucket < 4 { bucket as u64 } else { (4 + bucket as u64 % 4) << (bucket / 4 - 1) }
}

/// Times that were counted since the process began.
#[derive(Debug)]
pub struct Latencies([AtomicU64; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Latencies {
    pub(super) fn note(&self, us: u64) {
        if let Some(bucket) = self.0.get(bucket_of(us)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is counted by now.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (count, bucket) in tally.0.iter_mut().zip(&self.0) {
            *count = bucket.load(Ordering::Relaxed);
        }
        tally
    }
}

/// Counted times at one moment, or between two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally([u64; BUCKETS]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(count, more)| *count = count.saturating_add(*more));
    }

    /// What came after an earlier one.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        self.0.iter_mut().zip(&earlier.0).for_each(|(count, less)| *count = count.saturating_sub(*less));
        self
    }

    /// The time, in milliseconds, within which that share of all was done; `None` if there was nothing.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        let wanted = all as f64 * share.clamp(0.0, 1.0);
        let mut below = 0.0;
        for (bucket, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= wanted {
                let (floor, ceiling) = (floor_of(bucket) as f64, floor_of(bucket + 1) as f64);
                return Some((floor + (ceiling - floor) * (wanted - below) / count) / 1_000.0);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BUCKETS, Latencies, Tally, bucket_of, floor_of};

    #[test]
    fn buckets_follow_one_another() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        for bucket in 0..BUCKETS - 1 {
            assert_eq!((bucket_of(floor_of(bucket)), bucket_of(floor_of(bucket + 1) - 1)), (bucket, bucket));
        }
    }

    #[test]
    fn only_what_came_between_counts() {
        let times = Latencies::default();
        (0..100).for_each(|_| times.note(900_000));
        let before = times.tally();
        assert_eq!(times.tally().since(&before).quantile_ms(0.95), None);
        (0..100).for_each(|_| times.note(1_000));
        let p95 = times.tally().since(&before).quantile_ms(0.95).unwrap();
        assert!((0.9..=1.1).contains(&p95), "{p95}");
        let mut both = Tally::default();
        both.add(&before);
        both.add(&before);
        assert_eq!(both.quantile_ms(0.5), before.quantile_ms(0.5));
    }

    proptest! {
        #[test]
        fn a_quantile_is_near_the_sorted_one(mut times in prop::collection::vec(1_u64..10_000_000, 20..300)) {
            let counted = Latencies::default();
            times.iter().for_each(|us| counted.note(*us));
            times.sort_unstable();
            let exact = times[(times.len() * 95).div_ceil(100) - 1] as f64 / 1_000.0;
            let told = counted.tally().quantile_ms(0.95).unwrap();
            prop_assert!((told - exact).abs() <= exact * 0.26 + 0.001, "{told} for {exact}");
        }
    }
}
