//! Jumps of the wall clock: no rule follows them, but whoever runs the server has to know why stamps jump.

use roundtable_core::alerts::{AlertRaised, Level};
use roundtable_core::command::Command;
use roundtable_core::ids::AlertId;
use roundtable_core::json::Json;
use roundtable_core::state::State;
use roundtable_core::time::{Moment, Time};
use serde_json::json;

use crate::clock;

/// The alert's source.
const SOURCE: &str = "clock";
/// From so many milliseconds between two samples on it is a jump and no drift.
const LEAST_MS: i64 = 2_000;
/// The alert ends after so long without another.
const QUIET_MS: i64 = 10 * 60_000;

/// Compares the wall clock with one that nobody sets.
#[derive(Debug)]
pub struct Jumps {
    /// By how much the wall clock was ahead of the other at the last look.
    ahead: i64,
    /// When it jumped last, by the other.
    last: Time,
}

impl Jumps {
    /// Begins at a moment of the steady clock (`t`) and the wall clock (`at`).
    pub fn new(now: Moment) -> Self {
        Self { ahead: now.at.since(now.t), last: now.t }
    }

    /// A log whose newest stamp lies ahead was written by a clock that was ahead, or this one is behind.
    pub fn of_the_log(stamp: Time, now: Moment) -> Option<Command> {
        let behind = stamp.since(now.at);
        (behind >= LEAST_MS).then(|| {
            tracing::warn!(behind_ms = behind, "the wall clock is behind the newest stamp in the log");
            raise(behind.saturating_neg(), "The clock is behind its log")
        })
    }

    /// Looks at both clocks. `active`: the alert is.
    pub fn look(&mut self, now: Moment, active: bool) -> Option<Command> {
        let ahead = now.at.since(now.t);
        let by = ahead.saturating_sub(std::mem::replace(&mut self.ahead, ahead));
        if by.saturating_abs() < LEAST_MS {
            let over = active && now.t.since(self.last) >= QUIET_MS;
            return over.then(|| Command::ClearAlert(SOURCE.into()));
        }
        self.last = now.t;
        tracing::warn!(by_ms = by, "the wall clock jumped");
        Some(raise(by, "The clock jumped"))
    }

    /// Whether the alert is active.
    pub fn told(state: &State) -> bool {
        state.alert(SOURCE).is_some()
    }
}

fn raise(by_ms: i64, title: &str) -> Command {
    let way = if by_ms < 0 { "back" } else { "ahead" };
    let seconds = by_ms as f64 / 1000.0;
    Command::RaiseAlert(AlertRaised {
        alert: AlertId::fresh(clock::now(), clock::random_u64()),
        source: SOURCE.into(),
        level: Level::Warning,
        title: title.into(),
        message: format!("the wall clock is {:.1} s {way} of what was expected", seconds.abs()),
        value: Some(seconds),
        threshold: None,
        details: Json::from(&json!({"component": SOURCE, "by_ms": by_ms})),
        feed: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(t: i64, at: i64) -> Moment {
        Moment { t: Time(t), at: Time(at) }
    }

    fn value(command: Option<Command>) -> Option<f64> {
        match command {
            Some(Command::RaiseAlert(alert)) => alert.value,
            _ => None,
        }
    }

    #[test]
    fn a_jump_is_told_once_each_way_and_is_over_after_a_while() {
        let mut jumps = Jumps::new(at(0, 1_000_000));
        assert_eq!(jumps.look(at(5_000, 1_005_100), false), None, "a tenth of a second is drift");
        assert_eq!(value(jumps.look(at(10_000, 4_610_100), false)), Some(3_600.0));
        assert_eq!(jumps.look(at(15_000, 4_615_100), true), None);
        assert_eq!(value(jumps.look(at(20_000, 1_020_100), true)), Some(-3_600.0));
        assert_eq!(jumps.look(at(20_000 + QUIET_MS - 1, 1_020_099 + QUIET_MS), true), None);
        let over = jumps.look(at(20_000 + QUIET_MS, 1_020_100 + QUIET_MS), true);
        assert_eq!(over, Some(Command::ClearAlert("clock".into())));
        assert_eq!(jumps.look(at(30_000 + QUIET_MS, 1_030_100 + QUIET_MS), false), None);
        assert!(jumps.look(at(i64::MAX, i64::MIN), false).is_some(), "no jump is too far");
    }

    #[test]
    fn a_log_from_the_future_is_told() {
        assert_eq!(value(Jumps::of_the_log(Time(9_000), at(0, 5_000))), Some(-4.0));
        assert_eq!(Jumps::of_the_log(Time(9_000), at(0, 8_000)), None);
    }
}
