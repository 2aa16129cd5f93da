//! The only place where the wall clock, the monotonic clock and randomness are read.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use roundtable_core::time::Time;

/// The present, in milliseconds since 1970-01-01 UTC. A clock set before 1970 reads as 1970.
#[allow(clippy::disallowed_methods, reason = "this is the place the rule names")]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
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
