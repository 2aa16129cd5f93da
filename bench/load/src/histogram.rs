//! Latencies in buckets that are at most 1.6 % wide, so that recording costs a few nanoseconds.

const STEPS: u64 = 64;

/// Counts of values in nanoseconds.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Histogram { counts: vec![0; (STEPS * 60) as usize], total: 0 }
    }

    pub fn record(&mut self, nanos: u64) {
        if let Some(c) = self.counts.get_mut(bucket(nanos)) {
            *c += 1;
            self.total += 1;
        }
    }

    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// The value in nanoseconds below which the share `q` (0 to 1) of all values lies; not a number without values.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = (self.total as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (i, c) in self.counts.iter().enumerate() {
            seen += c;
            if seen >= rank && seen > 0 {
                return lower_bound(i as u64) as f64;
            }
        }
        f64::NAN
    }
}

/// Values below STEPS have a bucket each; above, every doubling is cut in STEPS equal parts.
fn bucket(v: u64) -> usize {
    if v < STEPS {
        return v as usize;
    }
    let shift = v.ilog2() as u64 - STEPS.ilog2() as u64;
    ((shift + 1) * STEPS + ((v >> shift) - STEPS)) as usize
}

fn lower_bound(i: u64) -> u64 {
    if i < STEPS {
        return i;
    }
    let shift = i / STEPS - 1;
    (i % STEPS + STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::{Histogram, bucket, lower_bound};

    #[test]
    fn buckets_are_narrow_and_ordered() {
        for v in [0u64, 1, 63, 64, 65, 127, 128, 1000, 123_456, 9_876_543_210] {
            let low = lower_bound(bucket(v) as u64);
            assert!(low <= v && (v - low) as f64 <= v as f64 / 60.0, "{v} fell to {low}");
        }
    }

    #[test]
    fn quantiles_of_one_to_a_hundred() {
        let mut h = Histogram::new();
        (1..=100).for_each(|v| h.record(v));
        assert_eq!(h.quantile(0.5), 50.0);
        assert_eq!(h.quantile(0.99), 99.0);
    }
}
