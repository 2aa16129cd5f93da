//! Pages of lists: bounded in items and in bytes, and nothing is made of what does not fit.

use roundtable_core::ids::Principal;
use roundtable_core::rooms::Room;
use roundtable_core::state::State;
use serde::Serialize;
use serde_json::value::RawValue;

/// Most items of one page.
pub const MOST_ITEMS: usize = 200;
/// Most bytes of one page; a single item may be larger.
pub const MOST_BYTES: usize = 1 << 20;

/// Most members of a room that a document names.
pub const MOST_MEMBERS: usize = 1_000;
/// Most members that are looked at to find those who are here.
const MOST_LOOKED_AT: usize = 10_000;

/// The members of a room who are here, as far as a document names them.
pub fn here<'a>(room: &'a Room, state: &'a State) -> impl Iterator<Item = &'a Principal> {
    let members = room.members.keys().take(MOST_LOOKED_AT);
    members.filter(|who| state.online(who)).take(MOST_MEMBERS)
}

/// A page that is being filled with items as JSON.
#[derive(Debug)]
pub struct Filling {
    items: Vec<Box<RawValue>>,
    bytes: usize,
    most: usize,
}

impl Filling {
    /// An empty page of at most so many items, and never more than [`MOST_ITEMS`].
    pub fn of(most: usize) -> Self {
        Self { items: Vec::new(), bytes: 0, most: most.min(MOST_ITEMS) }
    }

    /// Puts an item in. Says whether there was room: the first one has room in any case.
    pub fn take(&mut self, item: &impl Serialize) -> bool {
        if self.items.len() >= self.most {
            return false;
        }
        let text = serde_json::to_string(item).unwrap_or_else(|_| "null".into());
        let bytes = self.bytes + text.len();
        if bytes > MOST_BYTES && !self.items.is_empty() {
            return false;
        }
        let Ok(item) = RawValue::from_string(text) else { return false };
        self.bytes = bytes;
        self.items.push(item);
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What was put in, in that order.
    pub fn items(self) -> Vec<Box<RawValue>> {
        self.items
    }
}

/// The first items that a page has room for, and whether there are more. Those after them are not made.
pub fn fill<T: Serialize>(items: impl IntoIterator<Item = T>, most: usize) -> (Vec<Box<RawValue>>, bool) {
    let mut page = Filling::of(most);
    let more = items.into_iter().any(|item| !page.take(&item));
    (page.items(), more)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{MOST_BYTES, fill};

    #[test]
    fn a_page_is_full_by_items_or_by_bytes_and_the_rest_is_not_made() {
        let made = Cell::new(0);
        let item = |size: usize| {
            made.set(made.get() + 1);
            "x".repeat(size)
        };
        let lengths = |sizes: &[usize], most| {
            let (page, more) = fill(sizes.iter().map(|size| item(*size)), most);
            (page.len(), more)
        };
        assert_eq!(lengths(&[1; 5], 5), (5, false));
        assert_eq!(lengths(&[1; 9], 5), (5, true));
        assert_eq!(lengths(&[1; 500], 1_000), (200, true));
        assert_eq!(lengths(&[2 * MOST_BYTES, 1], 5), (1, true), "the first comes whatever its size");
        made.set(0);
        assert_eq!(lengths(&[400_000; 50], 50), (2, true));
        assert_eq!(made.get(), 3);
        assert_eq!(lengths(&[], 5), (0, false));
    }
}
