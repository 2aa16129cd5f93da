//! Cursors as clients carry them: the same in every dialect, so that one goes on where another left off.

use roundtable_core::time::{Cursor, Offset};

/// Numbers of watched frames per record of the log: a record's own number is its offset times this, answers take the
/// numbers in between. Ten bits leave JavaScript 43 for the offset (Hive notes §2).
pub const NUMBERS_PER_RECORD: u64 = 1_024;

/// Reads what a client gives as `since`: `epoch:offset`, or the number of a watched frame, which is of the present epoch.
pub fn read(text: &str, epoch: u32) -> Option<Cursor> {
    match text.parse::<u64>() {
        Ok(number) => Some(Cursor { epoch, offset: Offset(number / NUMBERS_PER_RECORD) }),
        Err(_) => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Offset, read};

    #[test]
    fn both_forms_name_the_same_place() {
        let place = Some(Cursor { epoch: 2, offset: Offset(7) });
        assert_eq!((read("2:7", 2), read("7168", 2), read("7171", 2)), (place, place, place));
        assert_eq!((read("7", 2).unwrap().offset, read("x", 2), read("2-7", 2)), (Offset(0), None, None));
    }
}
