//! Answers that take unusually long for this server, and go on doing so.

use std::collections::VecDeque;

use roundtable_core::alerts::{Finding, SecurityNoticed};
use roundtable_core::command::Command;
use roundtable_core::ids::AlertId;
use roundtable_core::json::Json;
use roundtable_dialects::figures::Figures;
use serde_json::json;

use crate::clock;

/// Samples that say what is usual.
const USUAL: usize = 60;
/// Fewer say nothing.
const FEWEST: usize = 20;
/// Standard deviations above the mean that are unusual (Open-A.G.I API, Security Events).
const DEVIATIONS: f64 = 2.0;
/// Unusual samples on end that make it lasting.
const LASTING: u32 = 3;
/// Below so many milliseconds nobody notices a difference.
const LEAST_MS: f64 = 20.0;

/// What is usual, and for how long it has been otherwise.
#[derive(Debug, Default)]
pub struct Anomaly {
    usual: VecDeque<f64>,
    unusual: u32,
}

/// How far from usual it is.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Deviation {
    mean: f64,
    deviation: f64,
    samples: u32,
}

impl Anomaly {
    /// Looks at a sample. Says so once when it has lasted.
    pub fn look(&mut self, figures: &Figures, sample_ms: u64) -> Option<Command> {
        let value = figures.latency_p95_ms;
        let Deviation { mean, deviation, samples } = self.deviates(value)?;
        let window = sample_ms.saturating_mul(samples.into()).div_ceil(1_000);
        Some(Command::Notice(SecurityNoticed {
            alert: AlertId::fresh(clock::now(), clock::random_u64()),
            // Below an intrusion: a slow disk looks the same as an attack.
            finding: Finding::Suspicious,
            rule: "anomaly".into(),
            source: figures.node.clone(),
            place: None,
            severity: "medium".into(),
            message: format!("95 % of the answers took {value:.0} ms, {mean:.0} ms are usual"),
            evidence: Json::from(&json!({
                "count": samples,
                "window_seconds": window,
                "metric": "latency_p95",
                "value": value,
                "mean": mean,
                "standard_deviation": deviation,
                "threshold": mean + DEVIATIONS * deviation,
            })),
            until: None,
        }))
    }

    /// What is unusual is not learned from, until it has lasted so long that it is usual now. Samples without any answer
    /// say nothing.
    fn deviates(&mut self, value: f64) -> Option<Deviation> {
        if value <= 0.0 {
            return None;
        }
        let count = self.usual.len() as f64;
        let mean = self.usual.iter().sum::<f64>() / count.max(1.0);
        let variance = self.usual.iter().map(|known| (known - mean).powi(2)).sum::<f64>() / count.max(1.0);
        let deviation = variance.sqrt();
        let unusual =
            self.usual.len() >= FEWEST && value >= LEAST_MS && value > mean + DEVIATIONS * deviation;
        let habit = self.unusual as usize >= USUAL;
        if !unusual || habit {
            self.unusual = 0;
            if habit {
                self.usual.clear();
            } else if self.usual.len() >= USUAL {
                self.usual.pop_front();
            }
            self.usual.push_back(value);
            return None;
        }
        self.unusual += 1;
        (self.unusual == LASTING).then_some(Deviation { mean, deviation, samples: self.unusual })
    }
}

#[cfg(test)]
mod tests {
    use super::{Anomaly, FEWEST, USUAL};

    fn used_to(values: impl Iterator<Item = f64>) -> Anomaly {
        let mut anomaly = Anomaly::default();
        assert!(values.map(|value| anomaly.deviates(value)).all(|found| found.is_none()));
        anomaly
    }

    #[test]
    fn what_lasts_beyond_two_deviations_is_told_once() {
        let mut anomaly = used_to((0..FEWEST).map(|n| if n % 2 == 0 { 28.0 } else { 32.0 }));
        let mut look = |value| anomaly.deviates(value);
        assert_eq!(
            [look(33.9), look(35.0), look(0.0), look(36.0)],
            [None; 4],
            "not far, not long, nothing at all"
        );
        let found = look(37.0).unwrap();
        assert_eq!(found.samples, 3);
        assert!((29.9..30.4).contains(&found.mean) && (1.9..2.3).contains(&found.deviation), "{found:?}");
        assert_eq!([look(90.0), look(90.0)], [None; 2], "once");
        assert_eq!([look(30.0), look(90.0), look(90.0)], [None; 3]);
        assert!(look(90.0).is_some(), "it was well in between");
    }

    #[test]
    fn nobody_notices_little_and_a_new_habit_is_learned() {
        let mut anomaly = used_to((0..FEWEST).map(|_| 1.0));
        assert!((0..100).all(|_| anomaly.deviates(19.0).is_none()));
        let mut anomaly = used_to((0..USUAL).map(|_| 10.0));
        let told = (0..1_000).filter(|_| anomaly.deviates(50.0).is_some()).count();
        assert_eq!(told, 1);
    }
}
