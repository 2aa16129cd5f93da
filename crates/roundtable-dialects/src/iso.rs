//! Moments as text: ISO 8601 in UTC with milliseconds and `Z`, the form of the dialects that write times as strings.

use roundtable_core::time::Time;

/// `2026-01-01T00:00:00.000Z`. A moment beyond the year 9999 reads as the last one that can be written, one before the year
/// 0 as the first.
pub fn iso(at: Time) -> String {
    /// The last millisecond of the year 9999, and the first of the year 0.
    const LAST: i64 = 253_402_300_799_999;
    const FIRST: i64 = -62_167_219_200_000;
    let within = at.0.clamp(FIRST, LAST);
    let moment = jiff::Timestamp::from_millisecond(within).unwrap_or(jiff::Timestamp::MAX);
    format!("{moment:.3}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::iso;
    use roundtable_core::time::Time;

    #[test]
    fn milliseconds_are_always_written() {
        assert_eq!(iso(Time(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(Time(1_767_225_600_045)), "2026-01-01T00:00:00.045Z");
        assert!(iso(Time(i64::MAX)).starts_with("9999-12-30T"));
        assert_eq!(iso(Time(i64::MIN)), "0000-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn every_moment_has_one_form_and_later_ones_sort_later(a: i64, b: i64) {
            let (earlier, later) = (iso(Time(a.min(b))), iso(Time(a.max(b))));
            for text in [&earlier, &later] {
                prop_assert_eq!((text.len(), text.get(10..11), text.get(23..)), (24, Some("T"), Some("Z")), "{}", text);
            }
            prop_assert!(earlier <= later);
        }
    }
}
