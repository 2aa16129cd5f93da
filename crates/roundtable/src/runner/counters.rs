//! What a runner counts, once per batch, for whoever watches the server.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use super::latency::Latencies;

/// Upper bounds of the buckets of batch sizes, in questions; the last is the largest batch.
const SIZES: [u64; 8] = [1, 4, 16, 64, 256, 512, 1_024, 2_048];
/// Upper bounds of the buckets of sync times, in microseconds: from a fast disk to one that hangs.
const TIMES_US: [u64; 8] = [250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 500_000];

/// Values sorted into buckets. Grows only; a reader may see a value in one figure and not yet in the next.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64; 8],
    buckets: [AtomicU64; 8],
    count: AtomicU64,
    sum: AtomicU64,
}

impl Histogram {
    const fn new(bounds: &'static [u64; 8]) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; 8],
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    fn note(&self, value: u64) {
        let within = self.bounds.iter().zip(&self.buckets).find(|(bound, _)| value <= **bound);
        if let Some((_, bucket)) = within {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Each upper bound with how many values were at most as large; values above the last bound are in the count alone.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().zip(&self.buckets).scan(0, |below, (bound, bucket)| {
            *below += bucket.load(Ordering::Relaxed);
            Some((*bound, *below))
        })
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// The counters of one workspace since the process began.
#[derive(Debug)]
pub struct Counters {
    /// Questions of each batch that was decided.
    pub batch_sizes: Histogram,
    /// How long each append took until it was synced, in microseconds.
    pub sync_us: Histogram,
    /// How long each question took until its answer was on its way to the shards.
    pub latencies: Latencies,
    asked: AtomicU64,
    answered: AtomicU64,
    messages: AtomicU64,
    refusals: AtomicU64,
    refused_appends: AtomicU64,
    /// Why the last append that was refused was, and whether the log has taken one since.
    trouble: Mutex<(Option<String>, bool)>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            batch_sizes: Histogram::new(&SIZES),
            sync_us: Histogram::new(&TIMES_US),
            latencies: Latencies::default(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            refused_appends: AtomicU64::new(0),
            trouble: Mutex::default(),
        }
    }
}

impl Counters {
    /// A batch is decided.
    pub(super) fn batch(&self, questions: usize) {
        self.batch_sizes.note(questions as u64);
    }

    /// A question is asked.
    pub(super) fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Questions that were asked at these times are answered now. All times monotonic, in microseconds.
    pub(super) fn answered(&self, asked_at: &[u64], now: u64) {
        asked_at.iter().for_each(|at| self.latencies.note(now.saturating_sub(*at)));
        self.answered.fetch_add(asked_at.len() as u64, Ordering::Relaxed);
    }

    /// Messages were said.
    pub(super) fn said(&self, messages: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages said so far, those that are kept nowhere included.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Questions that wait for their answer.
    pub fn waiting(&self) -> u64 {
        let answered = self.answered.load(Ordering::Relaxed);
        self.asked.load(Ordering::Relaxed).saturating_sub(answered)
    }

    /// Questions were answered with an error.
    pub(super) fn refused(&self, questions: u64) {
        self.refusals.fetch_add(questions, Ordering::Relaxed);
    }

    /// The log took an append.
    pub(super) fn took(&self, sync_us: u64) {
        self.sync_us.note(sync_us);
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
    }

    /// The log refused an append.
    pub(super) fn refused_append(&self, why: String) {
        self.refused_appends.fetch_add(1, Ordering::Relaxed);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = (Some(why), false);
    }

    /// Questions that were answered with an error.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Appends that the log refused.
    pub fn refused_appends(&self) -> u64 {
        self.refused_appends.load(Ordering::Relaxed)
    }

    /// Why the log refused the last append; `None` if it took it, or if there was none yet.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.0.clone().filter(|_| !trouble.1)
    }

    /// Why the last append that was refused was, however long ago.
    pub fn last_refusal(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn values_are_in_the_first_bucket_that_holds_them_and_in_all_above() {
        let counters = Counters::default();
        for size in [1, 4, 5, 9_999] {
            counters.batch(size);
        }
        let sizes: Vec<(u64, u64)> = counters.batch_sizes.cumulative().collect();
        assert_eq!(sizes.first(), Some(&(1, 1)));
        assert_eq!(sizes.get(1), Some(&(4, 2)));
        assert_eq!(sizes.last(), Some(&(2_048, 3)), "what is larger than all is in the count alone");
        assert_eq!((counters.batch_sizes.count(), counters.batch_sizes.sum()), (4, 10_009));
    }

    #[test]
    fn trouble_lasts_until_the_log_takes_something() {
        let counters = Counters::default();
        assert_eq!(counters.trouble(), None);
        counters.refused_append("the disk is full".into());
        assert_eq!(counters.trouble().as_deref(), Some("the disk is full"));
        counters.took(300);
        assert_eq!(counters.last_refusal().as_deref(), Some("the disk is full"));
        assert_eq!((counters.trouble(), counters.refused_appends(), counters.sync_us.sum()), (None, 1, 300));
    }
}
