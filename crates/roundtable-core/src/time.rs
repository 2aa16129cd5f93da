//! Moments and spans in milliseconds; the present is always handed in, never asked for.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Milliseconds since 1970-01-01 UTC, by the wall clock or by a log's own time, which began as the wall clock of its first
/// record and goes on by monotonic clocks (see [`Moment`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

impl Time {
    /// Whole seconds since 1970.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment moved by `ms` milliseconds, never beyond what the type holds.
    pub const fn plus(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; negative if that lies ahead.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One moment by both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment {
    /// Log time: what every rule compares. Never goes backwards within a log, whatever the wall clock does.
    pub t: Time,
    /// The wall clock's stamp: shown to people, read by no rule.
    pub at: Time,
}

impl Moment {
    /// A moment of the wall clock in log time, as seen from this one: as far ahead or behind.
    pub const fn log_time_of(self, wall: Time) -> Time {
        self.t.plus(wall.since(self.at))
    }
}

/// Position in a workspace's log: 1 for the first record, dense.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The next position.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Where a client stands in a log. `epoch` changes when records that were delivered can no longer be found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// Which writing of the log.
    pub epoch: u32,
    /// The last record the client has.
    pub offset: Offset,
}

impl std::fmt::Display for Cursor {
    /// As operators write it: `epoch:offset`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset.0)
    }
}

impl std::str::FromStr for Cursor {
    type Err = Error;

    /// Reads `epoch:offset`. Fails with [`ErrorKind::InvalidField`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let read = || {
            let (epoch, offset) = text.split_once(':').filter(|(a, b)| digits(a) && digits(b))?;
            Some(Self { epoch: epoch.parse().ok()?, offset: Offset(offset.parse().ok()?) })
        };
        read().ok_or_else(|| Error::new(ErrorKind::InvalidField, "a cursor is EPOCH:OFFSET, such as 1:42"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Offset};

    #[test]
    fn cursors_are_read_as_they_are_written() {
        let cursor = Cursor { epoch: 2, offset: Offset(17) };
        assert_eq!(cursor.to_string(), "2:17");
        assert_eq!("2:17".parse::<Cursor>().unwrap(), cursor);
        for wrong in ["", "17", "2:", ":17", "2:17:1", "+2:17", "2:-1", "2-17", "9999999999:1"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
    }
}
