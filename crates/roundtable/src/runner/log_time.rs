//! Log time: the time of a workspace's log, which every rule uses. It goes on by the monotonic clock, whatever the wall clock does.

use roundtable_core::time::{Moment, Time};

/// The longest stop that is believed, in milliseconds: three days, a long weekend. A machine that starts with its clock far
/// ahead ends with it no more than that: no direct message that is younger than four days, for one.
pub const MAX_STOP_MS: i64 = 3 * 24 * 3_600_000;

/// A point of log time, and when that was by the monotonic clock of this process, in milliseconds. Clock values come in from
/// outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogTime {
    t: Time,
    monotonic: u64,
}

impl LogTime {
    /// It is `t` now: a record of that time was applied.
    pub const fn at(t: Time, monotonic: u64) -> Self {
        Self { t, monotonic }
    }

    /// Where it goes on after a stop, from the end of the log: its time and the newest stamp in it. Only the wall clock knows
    /// how long the stop was: what it says beyond that stamp, never less than nothing and never more than [`MAX_STOP_MS`]. A
    /// log that is empty begins with the wall clock.
    pub fn after_a_stop(end: Option<Moment>, wall: Time, monotonic: u64) -> Self {
        let t = end.map_or(wall, |end| end.t.plus(wall.since(end.at).clamp(0, MAX_STOP_MS)));
        Self::at(t, monotonic)
    }

    /// What it is now.
    pub fn now(self, monotonic: u64) -> Time {
        self.t.plus(i64::try_from(monotonic.saturating_sub(self.monotonic)).unwrap_or(i64::MAX))
    }

    /// When a log time comes, by the monotonic clock; the past is as good as now.
    pub fn monotonic_of(self, t: Time) -> u64 {
        self.monotonic.saturating_add(u64::try_from(t.since(self.t)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::{LogTime, MAX_STOP_MS, Moment, Time};

    const HOUR: i64 = 3_600_000;

    fn log(t: i64, stamp: i64) -> Option<Moment> {
        Some(Moment { t: Time(t), at: Time(stamp) })
    }

    #[test]
    fn it_goes_on_by_the_monotonic_clock_and_a_deadline_keeps_its_place() {
        let time = LogTime::at(Time(1_000), 50);
        assert_eq!((time.now(50), time.now(75), time.now(20)), (Time(1_000), Time(1_025), Time(1_000)));
        assert_eq!((time.monotonic_of(Time(1_025)), time.monotonic_of(Time(0))), (75, 50));
        assert_eq!(LogTime::at(Time(i64::MAX), 0).now(u64::MAX), Time(i64::MAX));
    }

    #[test]
    fn a_stop_is_as_long_as_the_stamps_allow_to_believe() {
        let after = |end, wall| LogTime::after_a_stop(end, Time(wall), 7).now(7);
        assert_eq!(after(log(5_000, 5_000), 9_000), Time(9_000));
        assert_eq!(after(log(5_000, 8_000), 9_000), Time(6_000), "the newest stamp counts, not log time");
        assert_eq!(
            after(log(5_000, 5_000 + HOUR), 9_000),
            Time(5_000),
            "a clock that was ahead and is set right"
        );
        assert_eq!(after(log(HOUR, HOUR), 0), Time(HOUR), "a clock that begins in 1970");
        assert_eq!(after(log(0, 0), 99 * MAX_STOP_MS), Time(MAX_STOP_MS), "one that is years ahead");
        assert_eq!(after(log(i64::MAX, i64::MIN), i64::MAX), Time(i64::MAX));
        assert_eq!(after(None, 4_711), Time(4_711));
    }
}
