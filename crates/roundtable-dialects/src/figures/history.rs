//! Figures over the last day: a mean for every minute, in a ring of fixed size.

use std::collections::VecDeque;

use roundtable_core::time::Time;

use super::{Figures, GAUGE_COUNT, GAUGES};

const MINUTE_MS: i64 = 60_000;
/// Minutes that are kept: a day of them.
const MINUTES: usize = 24 * 60;

/// Means of all gauges over one span of time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mean {
    /// Where the span begins.
    pub at: Time,
    /// The means, in the order of [`GAUGES`].
    pub values: [f64; GAUGE_COUNT],
    samples: u32,
}

impl Mean {
    const fn starting(at: Time) -> Self {
        Self { at, values: [0.0; GAUGE_COUNT], samples: 0 }
    }

    /// Takes more samples in, by their own mean.
    fn add(&mut self, values: &[f64; GAUGE_COUNT], samples: u32) {
        self.samples = self.samples.saturating_add(samples);
        let share = f64::from(samples) / f64::from(self.samples.max(1));
        for (mean, value) in self.values.iter_mut().zip(values) {
            *mean += (value - *mean) * share;
        }
    }
}

/// What was measured in the last 24 hours.
#[derive(Clone, Debug, Default)]
pub struct History {
    minutes: VecDeque<Mean>,
}

impl History {
    /// Takes a sample in.
    pub fn take(&mut self, figures: &Figures) {
        let minute = floor(figures.at, MINUTE_MS);
        // What a clock stamped that was ahead and is set right.
        while self.minutes.back().is_some_and(|last| last.at > minute) {
            self.minutes.pop_back();
        }
        if self.minutes.back().is_none_or(|last| last.at < minute) {
            self.minutes.push_back(Mean::starting(minute));
            if self.minutes.len() > MINUTES {
                self.minutes.pop_front();
            }
        }
        if let Some(last) = self.minutes.back_mut() {
            last.add(&GAUGES.map(|gauge| (gauge.of)(figures)), 1);
        }
    }

    /// Means of spans of `step_ms` (at least a minute) that begin in `from..to`, oldest first; spans without a sample are
    /// left out.
    pub fn read(&self, (from, to): (Time, Time), step_ms: i64) -> Vec<Mean> {
        let step = step_ms.max(MINUTE_MS);
        let mut means: Vec<Mean> = Vec::new();
        for minute in
            self.minutes.iter().filter(|minute| minute.at >= floor(from, MINUTE_MS) && minute.at < to)
        {
            let at = floor(minute.at, step);
            if means.last().is_none_or(|last| last.at != at) {
                means.push(Mean::starting(at));
            }
            if let Some(last) = means.last_mut() {
                last.add(&minute.values, minute.samples);
            }
        }
        means
    }
}

const fn floor(at: Time, step: i64) -> Time {
    Time(at.0.saturating_sub(at.0.rem_euclid(step)))
}

#[cfg(test)]
mod tests {
    use super::{History, MINUTE_MS, MINUTES};
    use crate::figures::Figures;
    use roundtable_core::time::Time;

    #[test]
    fn minutes_are_means_and_coarser_steps_are_means_of_samples() {
        let mut history = History::default();
        for (at, cpu_percent) in [(0, 10.0), (30_000, 30.0), (60_000, 50.0), (3_600_000, 7.0)] {
            history.take(&Figures { at: Time(at), cpu_percent, ..Figures::default() });
        }
        let read = |from, to, step| {
            let means = history.read((Time(from), Time(to)), step);
            means.iter().map(|mean| (mean.at.0, mean.values[0])).collect::<Vec<_>>()
        };
        assert_eq!(read(0, 9_999_999, 60_000), [(0, 20.0), (60_000, 50.0), (3_600_000, 7.0)]);
        assert_eq!(read(0, 9_999_999, 3_600_000), [(0, 30.0), (3_600_000, 7.0)]);
        assert_eq!(read(30_000, 60_000, 60_000), [(0, 20.0)], "the minute that has begun counts");
        assert_eq!(read(60_000, 60_000, 60_000), []);
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let mut history = History::default();
        for (at, cpu_percent) in [(0, 1.0), (3_600_000, 2.0), (60_000, 3.0), (120_000, 4.0)] {
            history.take(&Figures { at: Time(at), cpu_percent, ..Figures::default() });
        }
        let means = history.read((Time(i64::MIN), Time(i64::MAX)), MINUTE_MS);
        assert_eq!(means.iter().map(|mean| mean.values[0]).collect::<Vec<_>>(), [1.0, 3.0, 4.0]);
    }

    #[test]
    fn a_day_is_kept() {
        let mut history = History::default();
        for minute in 0..MINUTES as i64 + 5 {
            history.take(&Figures { at: Time(minute * 60_000), ..Figures::default() });
        }
        let means = history.read((Time(0), Time(i64::MAX)), 60_000);
        assert_eq!((means.len(), means[0].at), (MINUTES, Time(300_000)));
    }
}
