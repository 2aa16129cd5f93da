//! Pages of the operator's lists: at most so many items and bytes, and what the next page comes after.

use roundtable_core::error::{Error, ErrorKind};
use roundtable_dialects::pages::{Filling, MOST_ITEMS};
use serde::{Deserialize, Serialize};

/// What of a list is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct PageQuery {
    /// The workspace it is about, if it is about one.
    pub workspace: Option<String>,
    /// Only what comes after this: the `next` of the page before.
    pub after: Option<String>,
    /// At most so many.
    #[serde(default)]
    limit: Limit,
}

/// At most so many items, 1 to [`MOST_ITEMS`]. Anything else is no query, whatever else stands in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "usize")]
struct Limit(usize);

impl Default for Limit {
    fn default() -> Self {
        Self(MOST_ITEMS)
    }
}

impl TryFrom<usize> for Limit {
    type Error = &'static str;

    fn try_from(items: usize) -> Result<Self, Self::Error> {
        if (1..=MOST_ITEMS).contains(&items) { Ok(Self(items)) } else { Err("limit must be 1 to 200") }
    }
}

impl PageQuery {
    /// What the page comes after, read as an id. Fails with `CannotResume`: it is not the `next` of another page.
    pub fn after<T, E>(&self, read: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, Error> {
        let unknown = |_: E| Error::new(ErrorKind::CannotResume, "after must be the next of another page");
        self.after.as_deref().map(read).transpose().map_err(unknown)
    }

    /// What the page comes after, read as a number.
    pub fn after_number(&self) -> Result<Option<u64>, Error> {
        self.after(str::parse)
    }

    /// The page of what comes after it, and what the next page comes after, if there is one.
    pub fn of<T: Serialize>(
        &self,
        items: impl IntoIterator<Item = T>,
        key: impl FnOnce(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        let (mut filling, mut page, mut more) = (Filling::of(self.limit.0), Vec::new(), false);
        for item in items {
            if !filling.take(&item) {
                more = true;
                break;
            }
            page.push(item);
        }
        let next = page.last().filter(|_| more).map(key);
        (page, next)
    }
}
