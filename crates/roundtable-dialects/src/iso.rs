//! Moments as text: ISO 8601 in UTC with milliseconds and `Z`, the form of the dialects that write times as strings.

use roundtable_core::time::Time;

/// `2026-01-01T00:00:00.000Z`. A moment beyond the year 9999 reads as the last one that can be written.
pub fn iso(at: Time) -> String {
    let moment = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX);
    format!("{moment:.3}")
}

#[cfg(test)]
mod tests {
    use super::iso;
    use roundtable_core::time::Time;

    #[test]
    fn milliseconds_are_always_written() {
        assert_eq!(iso(Time(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(Time(1_767_225_600_045)), "2026-01-01T00:00:00.045Z");
        assert!(iso(Time(i64::MAX)).starts_with("9999-12-30T"));
    }
}
