//! The only place where the wall clock, the monotonic clock and randomness are read.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use roundtable_core::time::Time;

/// Names a file for tests: the number in it, milliseconds, is by how much the wall clock of this process is wrong. It is read
/// anew each time, so a test sets the clock while the server runs.
pub const TEST_WALL_CLOCK: &str = "ROUNDTABLE_TEST_WALL_CLOCK";

/// The present by the wall clock, in milliseconds since 1970-01-01 UTC: shown to people, and asked how long a stop was. Rules
/// use log time ([`crate::runner::log_time`]) or [`steady`]. A clock set before 1970 reads as 1970.
#[allow(clippy::disallowed_methods, reason = "this is the place the rule names")]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    wrong_by().map_or(now, |ms| now.plus(ms).max(Time(0)))
}

/// By how much a test has the wall clock be wrong.
fn wrong_by() -> Option<i64> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os(TEST_WALL_CLOCK).map(PathBuf::from)).as_ref()?;
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The present for windows and time-outs of this process: the wall clock of its beginning and what the monotonic clock
/// counted since. Never goes backwards, and no setting of the wall clock moves it.
pub fn steady() -> Time {
    static START: OnceLock<(Time, u64)> = OnceLock::new();
    let (began, at) = START.get_or_init(|| (now(), monotonic_ms()));
    began.plus(i64::try_from(monotonic_ms().saturating_sub(*at)).unwrap_or(i64::MAX))
}

/// What the wall clock shows at a moment of the steady clock, for people.
pub fn shown(moment: Time) -> Time {
    now().plus(moment.since(steady()))
}

/// Milliseconds since the first call in this process. Never goes backwards; for spans, not for moments.
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1_000
}

/// Microseconds since the first call in this process. Never goes backwards; for spans, not for moments.
#[allow(clippy::disallowed_methods, reason = "this is the place the rule names")]
pub fn monotonic_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// 64 random bits, unguessable.
pub fn random_u64() -> u64 {
    u64::from_le_bytes(random_bytes())
}

/// 128 random bits, unguessable.
pub fn random_u128() -> u128 {
    u128::from_le_bytes(random_bytes())
}

/// As many random bytes, unguessable. Ends the process when the system gives none: every secret and id rests on them,
/// and none of them may ever be predictable.
#[allow(clippy::disallowed_methods, reason = "this is the place the rule names")]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "the system gives no random bytes");
        std::process::abort();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{monotonic_us, now, random_bytes, random_u64, random_u128};

    #[test]
    fn time_passes_forward() {
        let (first, then) = (now(), monotonic_us());
        assert!(first.0 > 1_700_000_000_000, "the clock counts milliseconds since 1970");
        assert!(monotonic_us() >= then);
    }

    #[test]
    fn random_values_differ() {
        assert_ne!(random_u64(), random_u64());
        assert_ne!(random_u128(), random_u128());
        assert_ne!(random_bytes::<32>(), [0; 32]);
    }
}
